"""Upgrades that lose the power: the data is of one version or of the next, whole, and the next start completes it."""

from __future__ import annotations

from mesimqtt.proof.powercut import upgrades
from mesimqtt.proof.powercut.upgrades import Upgrades, cut_upgrade, length_of, place_of, refuses_newer
from mesimqtt.store.migrations import VERSION


def test_cuts_all_over_the_upgrades(tmp_path):
    """The trial itself, in its short form; newer data is refused and not touched."""
    outcome = Upgrades().run(60, seed=100, folder=tmp_path, progress=lambda _: None)

    assert (60, 0, ()) == (outcome.tried, outcome.failed, outcome.failures)
    assert [] == refuses_newer(tmp_path)


def test_every_change_of_every_upgrade_has_its_turn(tmp_path):
    """Numbers go through the versions change by change, and then begin anew with other chances."""
    lengths = [length_of(version, tmp_path) for version in range(VERSION)]

    assert min(lengths) > 20
    assert [(0, 1), (0, lengths[0]), (1, 1)] == [place_of(n, tmp_path) for n in (1, lengths[0], lengths[0] + 1)]
    assert (0, 1) == place_of(sum(lengths) + 1, tmp_path)


def test_the_moment_of_the_commit(tmp_path):
    """A cut in the last sync leaves the old version or the new one, by what the disk had written until then."""
    last = length_of(VERSION - 1, tmp_path)
    left = set()
    for seed in range(40):
        failures, version = cut_upgrade(VERSION - 1, last, seed, tmp_path)
        assert [] == failures
        left.add(version)

    assert {VERSION - 1, VERSION} == left


def test_it_is_not_blind(tmp_path, monkeypatch):
    """A migration whose version is written before its last statement is found out."""
    early = upgrades.MIGRATIONS
    middle = len(early[-1]) // 2
    version = (f"PRAGMA user_version = {VERSION}", "COMMIT", "BEGIN IMMEDIATE")
    broken = (*early[:-1], (*early[-1][:middle], *version, *early[-1][middle:]))
    monkeypatch.setattr("mesimqtt.store.migrations.MIGRATIONS", broken)
    found = []
    for change in range(1, length_of(VERSION - 1, tmp_path)):
        found += cut_upgrade(VERSION - 1, change, change, tmp_path)[0]
        if found:
            break

    assert found
