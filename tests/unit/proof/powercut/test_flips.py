"""Altered files: the trial finds nothing that comes out altered, and would see it."""

from __future__ import annotations

import random

import pytest

from mesimqtt.proof.powercut.flips import KILLED, QUIET, STOPPED, Flips, alter, image_of, judge


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    return {state: image_of(state, folder) for state in (STOPPED, QUIET)}


def test_nothing_altered_comes_out(tmp_path):
    """The trial itself, in its short form: each alteration is refused, found or harmless."""
    outcome = Flips().run(12, seed=1, folder=tmp_path, progress=lambda _: None)

    assert (12, 0, ()) == (outcome.tried, outcome.failed, outcome.failures)
    assert {"found_alterations", "refused_alterations"} <= set(outcome.figures)


def test_an_image_that_is_not_altered_is_whole(images, tmp_path):
    """Read twice, an image gives the same, and nothing is said of damage: what the others are measured by."""
    for image in images.values():
        assert ("harmless", []) == judge(image, image.files, tmp_path / "x")
        assert sum(image.whole.delivered.values()) > 50
        assert any(place == "u/alice" for _, place, _ in image.whole.delivered)
        assert any(place.startswith("free/") for _, place, _ in image.whole.delivered)


def test_it_is_not_blind(images, tmp_path):
    """A payload that is other than it was, and holds by its checksum, would be called altered; a lost one, lost."""
    import contextlib
    import sqlite3

    from mesimqtt.store.integrity import reseal

    image = images[QUIET]
    for statement, outcome in (
        ("UPDATE message SET payload = x'00' WHERE id = ?", "altered"),
        ("UPDATE message SET state = 34 WHERE id = ?", "silent_elsewhere"),
    ):
        (tmp_path / "mesimqtt.db").write_bytes(image.files["mesimqtt.db"])
        with contextlib.closing(sqlite3.connect(tmp_path / "mesimqtt.db", isolation_level=None)) as connection:
            (mid,) = connection.execute("SELECT max(id) FROM message").fetchone()
            connection.execute(statement, (mid,))
            reseal(connection, mid)
        found, failures = judge(image, {"mesimqtt.db": (tmp_path / "mesimqtt.db").read_bytes()}, tmp_path / "x")

        assert (outcome, 1) == (found, len(failures))


def test_the_same_number_is_the_same_alteration(tmp_path):
    """A number repeats what it found, on any machine, and the kinds all have their turn."""
    image = image_of(KILLED, tmp_path)
    first = [alter(image, random.Random(number)) for number in range(40)]

    assert first == [alter(image, random.Random(number)) for number in range(40)]
    assert {"bit", "message", "zero", "cut", "swap"} == {what.split()[0] for what, _ in first}
