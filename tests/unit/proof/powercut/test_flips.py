"""Altered files: the trial finds nothing that comes out altered, and would see it."""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3

import pytest

from mesimqtt.proof.powercut import places, rights
from mesimqtt.proof.powercut.flips import (
    KILLED,
    LAPSED,
    QUIET,
    SILENT,
    STOPPED,
    STUMBLED,
    Flips,
    Listening,
    alter,
    image_of,
    is_forgiven,
    judge,
    rows_of,
)
from mesimqtt.store import integrity
from mesimqtt.store.integrity import reseal

CIDS = (b"alice-u-1", b"carol-u-39", b"alice-g-20")


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
    image = images[QUIET]
    for statement, outcome in (
        ("UPDATE message SET payload = x'00' WHERE id = ?", "altered"),
        ("UPDATE message SET state = 34 WHERE id = ?", "silent_elsewhere"),
    ):
        (tmp_path / "mesimqtt.db").write_bytes(image.files["mesimqtt.db"])
        with contextlib.closing(sqlite3.connect(tmp_path / "mesimqtt.db", isolation_level=None)) as connection:
            (mid,) = connection.execute("SELECT max(id) FROM message WHERE kind = 0").fetchone()
            connection.execute(statement, (mid,))
            reseal(connection, mid)
        found, failures = judge(image, {"mesimqtt.db": (tmp_path / "mesimqtt.db").read_bytes()}, tmp_path / "x")

        assert (outcome, 1) == (found, len(failures))


def test_the_same_number_is_the_same_alteration(tmp_path):
    """A number repeats what it found, on any machine, and the kinds all have their turn."""
    image = image_of(KILLED, tmp_path)
    first = [alter(image, random.Random(number)) for number in range(40)]

    assert first == [alter(image, random.Random(number)) for number in range(40)]
    assert {"bit", "message bytes", "message row", "zero", "cut", "swap"} == {
        what.partition(" at ")[0] for what, _ in first
    }


def test_the_rows_of_messages_are_found(images):
    """Every message has its row, up to where its bytes begin, and what stands there is its own: its cid, say."""
    for image in images.values():
        found = rows_of(image.files)
        heads = [image.files[name][span.start : span.stop] for name, span in found]

        assert 120 < len(found)
        assert all(image.files[name][span.stop :].startswith(b"says|") for name, span in found)
        assert {b"alice-u-1", b"carol-u-39", b"alice-g-20"} <= {cid for head in heads for cid in CIDS if cid in head}


@pytest.mark.parametrize("column", ["sender_id", "seq", "cid", "ts", "flags", "kind", "state", "params"])
def test_no_column_of_a_message_is_altered_in_silence(images, tmp_path, column):
    """Whichever column of a message's row is another: it is found and said."""
    image = images[QUIET]
    (tmp_path / "mesimqtt.db").write_bytes(image.files["mesimqtt.db"])
    with contextlib.closing(sqlite3.connect(tmp_path / "mesimqtt.db", isolation_level=None)) as connection:
        (mid,) = connection.execute("SELECT min(id) FROM message WHERE kind = 0").fetchone()
        connection.execute(f"UPDATE message SET {column} = 77 WHERE id = ?", (mid,))  # noqa: S608 - names of ours

    files = {"mesimqtt.db": (tmp_path / "mesimqtt.db").read_bytes()}
    assert ("found", []) == judge(image, files, tmp_path / "x")


@pytest.mark.parametrize("number", range(1, 5))
def test_who_takes_part_is_not_altered_in_silence(images, tmp_path, number):
    """Between whom a conversation is, whose a place in it is, and since when: found, and no stranger's."""
    image = images[QUIET]
    what, files = places.alter(image.files, random.Random(number), tmp_path / "places")

    assert what.startswith("party ")
    assert files != image.files
    assert ("found", []) == judge(image, files, tmp_path / "x")


@pytest.mark.parametrize("number", range(1, 5))
def test_who_may_do_what_is_not_altered_in_silence(images, tmp_path, number):
    """Who somebody is, whose a token, what a member may do, whom somebody blocks: found, and nobody gains by it."""
    image = images[QUIET]
    what, files = rights.alter(image.files, random.Random(number), tmp_path / "places")

    assert what.startswith("right ")
    assert files != image.files
    assert ("found", []) == judge(image, files, tmp_path / "x")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE token SET user_id = 2 WHERE digest IS NOT NULL", "bob came in by alice's short token"),
        ("UPDATE token SET revoked_at = NULL", "bob came in"),
        ("UPDATE user SET active = 1", "eve came in"),
        ("UPDATE member SET denied = 0", "got forbidden|carol|g/team"),
        ("UPDATE member SET role = 'owner'", "bob has changed the group"),
        ("DELETE FROM tie", "bob got forbidden|dora|u/bob"),
        ("UPDATE user SET address = CASE id WHEN 1 THEN 'x' ELSE address END", "as one of x"),
    ],
)
def test_what_is_gained_would_be_seen(images, tmp_path, statement, words):
    """Altered with its checksum, as no damage does, each of these lets somebody do what he may not: it is told."""
    image = images[QUIET]

    def alter_it():
        with contextlib.closing(sqlite3.connect(tmp_path / "places" / "mesimqtt.db", isolation_level=None)) as store:
            integrity.prepare(store)
            store.execute(statement)
        return ""

    _, files = places.within(image.files, tmp_path / "places", alter_it)
    found, failures = judge(image, files, tmp_path / "x")

    assert "gained" == found
    assert words in failures[0], failures


def test_a_stranger_would_be_seen():
    """A message says for whom it is: one that somebody else gets, of two or of a group, is told."""
    seen = [
        ("bob", "says|1|x|alice|u/bob"), ("alice", "says|1|x|alice|u/bob"), ("bob", "says|2|x|alice|g/team"),
        ("carol", "says|1|x|alice|u/bob"), ("dora", "says|2|x|alice|g/team"), ("door", "says|free|5"),
    ]  # fmt: skip
    assert seen[3:5] == places.strangers([each for each in seen if each[0] != "door"], ("alice", "bob", "carol"))


def test_only_what_is_no_messages_own_is_forgiven():
    """A silent loss by a bit in a message's row is a failure, and so is one that only a mistake of ours tells of."""
    outcomes = (SILENT, STUMBLED, "altered", "refused")
    forgiven = {
        what: [each for each in outcomes if is_forgiven(what, each)]
        for what in ("bit", "message row", "party b", "right x")
    }

    assert {"bit": [SILENT, STUMBLED], "message row": [], "party b": [], "right x": []} == forgiven


def test_of_what_was_gained_only_a_block_that_lost_its_key_is_forgiven():
    """And that only if it was found: whom it was against, nobody can tell any more."""
    altered = ("right user_id of tie (2, 3, 'dora')", "right peer of tie (2, 3, 'dora')", "right user_id of token x")
    forgiven = {(what, outcome) for what in altered for outcome in ("gained", LAPSED) if is_forgiven(what, outcome)}

    assert {(what, LAPSED) for what in altered[:2]} == forgiven


def test_a_mistake_of_ours_is_not_taken_for_a_finding():
    """What the log says with an exception that nobody meant to raise is no sentence about damage."""
    log, listening = logging.getLogger("mesimqtt.of-a-test"), Listening()
    log.addHandler(listening)
    for error in (TypeError("no number"), sqlite3.DatabaseError("malformed"), None):
        log.error("a read failed", exc_info=error)
    log.removeHandler(listening)

    assert (2, 1) == (len(listening.told), len(listening.stumbles))
    assert "TypeError" in listening.stumbles[0]
