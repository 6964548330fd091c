"""The power goes after every change of the disk in turn."""

from __future__ import annotations

from mesimqtt.proof.powercut.every_write import MESSAGES, EveryWrite, place_of, tell


def test_a_cut_after_each_of_many_changes(tmp_path):
    """The trial itself, in its short form, at the beginning and far into the story."""
    for seed in (1, 900):
        outcome = EveryWrite().run(15, seed=seed, folder=tmp_path, progress=lambda _: None)

        assert (15, 0, ()) == (outcome.tried, outcome.failed, outcome.failures)


def test_every_change_has_its_turn(tmp_path):
    """Numbers go through a story change by change, and on into the next one."""
    failures, length = tell(1, tmp_path, 0)

    assert [] == failures
    assert length > 10 * MESSAGES
    assert [(1, 1), (1, length), (2, 1)] == [place_of(number, tmp_path) for number in (1, length, length + 1)]
