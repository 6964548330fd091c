"""What `mesimqtt check` finds in a database: nothing in a good one, and each damage by its name."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest

from mesimqtt.domain.findings import Level
from mesimqtt.store import inspection
from mesimqtt.store.database import FILE_NAME, open_reader
from mesimqtt.store.inspection_base import View
from mesimqtt.store.inspection_lanes import fault_of
from mesimqtt.testing import wire
from unit.messaging.world import START_MS, YEAR_S, World
from unit.store.rows import unsealed

DAY_MS = 86_400_000


@pytest.fixture
def life(tmp_path):
    """A data folder with something of everything: read, waiting and scheduled messages, a group, work, a session."""
    world = World(tmp_path / "data")
    world.user("alice", "bob", "carol")
    world.group("team", "alice", "bob", "carol")
    world.do("group_add", address="desk", kind="round-robin")
    world.do("group_join", address="desk", users=["alice", "bob"])
    alice, bob = world.listener("alice"), world.listener("bob", filters=("u/#", "g/team/#"))
    for number in range(5):
        alice.publish(f"u/bob/{number}", f"message {number}")
    bob.publish("u/alice/1", "answer")
    ((newest,),) = world.rows("SELECT max(id) FROM message")
    bob.publish("read/u/alice", f"<={newest:016x}")
    alice.publish("g/team/g1", "all")
    bob.subscribe("free/#")
    bob.lose()
    alice.send(wire.publish("free/door", b"open", qos=1, packet_id=99, retain=True))
    alice.publish("g/desk/w1", "work")
    alice.publish("u/bob/later/when=3600", "later")
    alice.publish("u/carol/c1", "waits")
    alice.publish("u/carol/c2/expiry=600", "expires")
    world.advance(2)
    world.close()
    return tmp_path / "data"


def change(folder, *statements):
    """Change a database as no server does."""
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as connection:
        unsealed(connection)
        for each in statements:
            connection.execute(re.sub(r"\$[A-Z]+", lambda name: NAMES[name[0]], each))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def look(folder, *, at_ms=START_MS + 60_000, quick=False, default_s=YEAR_S, live=False):
    """Return what an inspection says, as {check: [(level, what)]}, and that each trouble is explained."""
    view = View(now_ms=at_ms, expiry_default_s=default_s, is_live=live)
    found = {}
    with closing(open_reader(folder / FILE_NAME)) as connection:
        for each in inspection.inspect(connection, view, quick=quick):
            assert each.level is Level.OK or (each.means and each.mend), each
            found.setdefault(each.check, []).append((each.level, each.what))
    return found


def troubles(found):
    """Return what is not OK."""
    return {name: each for name, each in found.items() if each[0][0] is not Level.OK}


def test_a_good_database_is_good(life):
    """Everything is looked at, each look says OK; the quick way looks at less."""
    whole, quick = look(life), look(life, quick=True)

    assert {} == troubles(whole)
    wanted = ["file", "schema", "sequences", "sessions", "clock", "references", "cursors", "verdicts", "statuses"]
    assert [*wanted, "checksums"] == list(whole)
    assert wanted[:5] == list(quick)


NAMES = {
    "$PAIR": "(SELECT id FROM conversation WHERE kind = 0 AND last_seq = 6)",  # of alice and bob
    "$TEAM": "(SELECT conversation_id FROM message WHERE payload = CAST('all' AS BLOB))",
    "$ONE": "payload = CAST('message 2' AS BLOB)",
    "$STEP": "SELECT sender_id, 10000, conversation_id, recipient_id, first_seq, last_seq",
}
DAMAGES = (
    ("sequences", "that nobody has removed: 1 of conversation", "DELETE FROM message WHERE $ONE"),
    ("sequences", "beyond the last one", "UPDATE conversation SET last_seq = 2 WHERE id = $PAIR"),
    ("sequences", "noted as removed, and are there", "INSERT INTO gap SELECT $PAIR, 1, 1"),
    ("sequences", "that nobody has removed", "UPDATE conversation SET last_seq = last_seq + 3 WHERE kind = 0"),
    ("sessions", "use numbers of waiting messages", "UPDATE session SET next_n = 1"),
    ("references", "rows of message belong to a conversation", "DELETE FROM conversation WHERE kind = 1"),
    ("references", "rows of member belong to a user", "DELETE FROM user WHERE address = 'carol'"),
    ("references", "lack what one of them has", "DELETE FROM lane WHERE conversation_id = $PAIR"),
    ("references", "rows of subscription belong to a session", "DELETE FROM session"),
    ("references", "column change of step has come to its end",
     "UPDATE step SET change = change + 4611686018427387904 WHERE change = 1"),
    ("cursors", "acked of user", "UPDATE lane SET acked = 999"),
    ("cursors", "is no set of seqs: 'three'", "UPDATE lane SET delivered_above = 'three'"),
    ("cursors", r"is no set of seqs: '\\xff'", "UPDATE lane SET acked_above = CAST(x'ff' AS TEXT)"),
    ("cursors", "is not in order", "UPDATE lane SET acked = 5, acked_above = '4-5'"),
    ("cursors", "the cursor of device", "UPDATE cursor SET acked = 999"),
    ("cursors", "which there is not", "DELETE FROM device WHERE client_id = 'phone'"),
    ("cursors", "which ends at", "UPDATE lane SET floor = 999, acked = 0, delivered = 0, read = 0"),
    ("cursors", "more statuses than there are", "UPDATE device SET status_change = 10000"),
    ("statuses", "went from 3 to 2 ", "INSERT INTO step $STEP, 2, ts, '', '' FROM step WHERE status = 3"),
    ("statuses", "went from 3 to 132 ", "INSERT INTO step $STEP, 132, ts, '', '' FROM step WHERE status = 3"),
    ("statuses", "were told as delivered, and are not",
     "UPDATE lane SET delivered = 0, delivered_above = '', read = 0 WHERE conversation_id = $TEAM"),
    ("verdicts", "wait for users who were deleted", "UPDATE user SET active = -1 WHERE address = 'carol'"),
    ("verdicts", "without a deadline", "UPDATE message SET deadline = NULL WHERE deadline IS NOT NULL"),
    ("verdicts", "neither taken nor waiting", "DELETE FROM work"),
    ("checksums", "1 messages are not what was stored", "UPDATE message SET payload = 'forged' WHERE $ONE"),
    ("checksums", "1 messages that wait for their time", "UPDATE scheduled SET payload = 'forged'"),
    ("checksums", "1 queued messages", "UPDATE queued SET payload = 'forged'"),
    ("checksums", "1 retained messages", "UPDATE retained SET payload = 'forged'"),
    ("checksums", "between whom 1 conversations are is not", "UPDATE conversation SET b = 99 WHERE id = $PAIR"),
    ("checksums", "a third one has a place in 1 conversations of two",
     "UPDATE lane SET user_id = 99 WHERE conversation_id = $PAIR AND user_id = 1"),
    ("checksums", "members of groups have no place",
     "UPDATE lane SET user_id = 99 WHERE conversation_id = $TEAM AND user_id = 1"),
    ("checksums", "places of users in groups are not", "UPDATE lane SET floor = 1 WHERE conversation_id = $TEAM"),
    ("checksums", "1 rows of token are not what was stored: token", "UPDATE token SET user_id = 2 WHERE user_id = 1"),
    ("checksums", "1 rows of user are not what was stored: user 3 (", "UPDATE user SET rules = '' WHERE id = 3"),
    ("checksums", "3 rows of member are not what was stored: what user",
     "UPDATE member SET role = 'owner' WHERE group_id = 1"),
    ("schema", "index message_deadline is missing", "DROP INDEX message_deadline"),
    ("schema", "table extra is not ours", "CREATE TABLE extra (x)"),
)  # fmt: skip


@pytest.mark.parametrize(("check", "words", "statement"), DAMAGES)
def test_each_damage_has_its_name(life, check, words, statement):
    """What no server does to its data is found, and said in words; what it means and what mends it stand beside."""
    change(life, statement)
    found = troubles(look(life))

    assert check in found, (found, statement)
    assert words in " ".join(what for _, what in found[check])


def test_a_page_of_the_file_is_zeroed(life):
    """SQLite's own check finds it, and what cannot be read because of it is a finding, not an error."""
    path = life / FILE_NAME
    change(life)
    with path.open("r+b") as file:
        for number in range(2, path.stat().st_size // 4096):
            file.seek(number * 4096)
            file.write(bytes(4096))
    found = troubles(look(life))

    assert "file" in found


def test_what_is_no_database(tmp_path):
    """A file of something else is damaged, as far as anybody can tell."""
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    with closing(open_reader(tmp_path / FILE_NAME)) as connection:
        first = next(iter(inspection.inspect(connection, View(0, 0))))

    assert ("file", Level.FAILURE) == (first.check, first.level)


def test_data_of_other_versions(life):
    """Older data is a warning, because the next start renews it; newer data is a failure. Neither is looked into."""
    change(life, "PRAGMA user_version = 2")
    older = look(life)
    change(life, "PRAGMA user_version = 99")
    newer = look(life)

    assert ["file", "schema"] == list(older) == list(newer)
    assert (Level.WARNING, Level.FAILURE) == (older["schema"][0][0], newer["schema"][0][0])


def test_a_clock_that_went_back(life):
    """A message from the future says so."""
    assert "clock" in troubles(look(life, at_ms=START_MS - DAY_MS))


def test_a_verdict_that_is_late(life):
    """On a running server what expired long ago should have its verdict; on a stopped one it comes at the start."""
    at_ms = START_MS + DAY_MS

    assert {} == troubles(look(life, at_ms=at_ms))
    late = troubles(look(life, at_ms=at_ms, live=True))
    assert "for ten minutes and more" in late["verdicts"][0][1]


def test_what_retention_removed_is_no_hole(life):
    """A gap that is written down is legal."""
    change(
        life,
        "DELETE FROM message WHERE $ONE",
        "INSERT INTO gap SELECT $PAIR, 3, 3",
    )

    assert "sequences" not in troubles(look(life))


@pytest.mark.parametrize(
    ("upto", "above", "words"),
    [
        (5, "", ""), (5, "7-8,10", ""), (-1, "1-3", ""), (5, "6", "not in order"), (5, "8-7", "not in order"),
        (5, "7,8", "not in order"), (5, "9,7", "not in order"), (11, "", "goes up to 11"), (5, "7-12", "goes up to 12"),
        (5, "7-", ""), (5, "x", "no set"), (5, ",", "no set"),
    ],
)  # fmt: skip
def test_sets_of_seqs(upto, above, words):
    """Runs are in order and apart, and nothing is in the set that was not given."""
    assert words in fault_of(upto, above, last=10)
    assert bool(words) == bool(fault_of(upto, above, last=10))
