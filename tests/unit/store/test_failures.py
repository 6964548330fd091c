"""Commits that fail: nothing of them is acknowledged, their messages fail once, their states are written later."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from mesimqtt.domain.errors import StoreError
from mesimqtt.domain.messages import Outcome
from mesimqtt.domain.status import Status
from mesimqtt.store.committer import Health
from unit.store.desk import ALICE, BOB, CAROL, ROW, pair

FULL, IO, BUSY = sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_BUSY
CAUSES = [(FULL, Health.FULL), (sqlite3.SQLITE_IOERR_SHMSIZE, Health.FULL), (BUSY, Health.LOCKED)]
CAUSES += [(sqlite3.SQLITE_LOCKED, Health.LOCKED), (IO, Health.IO_ERROR), (sqlite3.SQLITE_READONLY, Health.IO_ERROR)]


@pytest.mark.parametrize(("code", "health"), CAUSES)
def test_a_failed_commit_acknowledges_nothing(desk, code, health):
    """`on_failed` with the cause, then False to all that waits; nothing is in the file, nothing is called twice."""
    desk.message("1", pair())
    desk.after("puback")
    desk.fail(code)

    assert ["seal", f"failed: {health}", ("puback", False)] == desk.happened
    assert (health, 0, []) == (desk.committer.health, desk.committer.commits, desk.all("SELECT * FROM message"))
    desk.happened.clear()
    desk.commit()
    desk.commit()

    assert "committed" not in desk.happened
    assert not [each for each in desk.happened if "puback" in each]


def test_health_is_good_again_with_the_next_commit(desk, caplog):
    """The failure and the recovery are one log line each, however often it is tried in between."""
    desk.committer.row(ROW, "a")
    for _ in range(5):
        desk.fail(FULL)
    desk.commit()

    assert Health.OK is desk.committer.health
    assert [1, 1] == [caplog.text.count(text) for text in ("cannot commit (disk-full", "writing again after disk-full")]


def test_messages_of_a_failed_commit_are_not_kept_in_secret(desk):
    """A message fails once: it is not in a later commit, and its cid is free for the resend."""
    conversation = pair()
    desk.message("1", conversation)
    desk.fail(FULL)
    (again,) = desk.accept("1", conversation=conversation)

    assert [1, 0] == [len(desk.failed), len(desk.committed) - 1]
    assert (Outcome.STORED, 1) == (again.outcome, again.seq)
    assert [(again.mid,)] == desk.all("SELECT id FROM message")


def test_counters_stay_dense_over_a_failure(desk):
    """Neither a seq nor a change number is lost, and a conversation that failed to begin begins anew."""
    conversation = pair()
    desk.message("1", conversation)
    desk.fail(FULL)
    assert 0 == conversation.id
    desk.accept("2", "3", conversation=conversation)
    desk.message("4", conversation)
    desk.fail(IO)
    assert 1 == conversation.id
    desk.accept("5", conversation=conversation)

    assert [("2", 1), ("3", 2), ("5", 3)] == desk.all("SELECT cid, seq FROM message ORDER BY seq")
    assert [(1, 1, 2), (2, 3, 3)] == desk.all("SELECT change, first_seq, last_seq FROM step ORDER BY change")
    assert [(1, 3)] == desk.all("SELECT id, last_seq FROM conversation")


@pytest.mark.parametrize("at", ["INSERT OR REPLACE INTO lane", "INSERT INTO conversation", "SELECT max(c.last_seq"])
def test_a_conversation_that_failed_to_begin_is_nobodys(desk, at):
    """A disk that fails in the midst of a conversation's beginning leaves it without a number: that is the next one's.

    Found by the trial `disk-faults`, number 114: a message to carol came to alice.
    """
    to_carol, to_bob = pair(ALICE, CAROL), pair(ALICE, BOB)
    desk.message("1", to_carol)
    desk.database.at = at
    desk.fail(IO)
    desk.accept("2", conversation=to_bob)
    desk.accept("3", conversation=to_carol)

    assert to_bob.id != to_carol.id
    assert [("2", to_bob.id), ("3", to_carol.id)] == desk.all("SELECT cid, conversation_id FROM message ORDER BY cid")


def test_states_of_failed_commits_are_written_once_and_in_order(desk):
    """Steps and rows of two failed batches come before those of the third; newer lanes and cursors win."""
    conversation = pair()
    desk.accept("1", "2", "3", conversation=conversation)
    number, note = conversation.id, "INSERT INTO retained (topic, payload, qos) SELECT ?, x'01', count(*) FROM retained"
    for round_, code in enumerate((FULL, BUSY, 0), 1):
        desk.step(conversation, round_)
        desk.batch.lanes[number, BOB] = (number, BOB, 0, None, round_, "", 0, "", 0, "", "", "", 0)
        desk.batch.cursors[7, number] = (7, number, round_, "")
        desk.batch.lanes[number, ALICE] = desk.batch.lanes.get(
            (number, ALICE), (number, ALICE, 0, None, 10 + round_, "", 0, "", 0, "", "", "", 0)
        )
        desk.committer.row(note, f"round{round_}")
        desk.fail(code)

    assert [(2, 1), (3, 2), (4, 3)] == desk.all("SELECT change, first_seq FROM step WHERE status = 2 ORDER BY change")
    assert [(ALICE, 11), (BOB, 3)] == desk.all("SELECT user_id, acked FROM lane ORDER BY user_id")
    assert [(3,)] == desk.all("SELECT acked FROM cursor")
    assert [("round1", 0), ("round2", 1), ("round3", 2)] == desk.all("SELECT topic, qos FROM retained ORDER BY qos")
    desk.commit()

    assert 4 == len(desk.all("SELECT * FROM step"))
    assert [1, 2, 3] == [step.first_seq for step in desk.committed[-1].steps]


def test_what_came_during_the_failing_commit_is_behind_it(desk):
    """Changes given while a commit fails are newer than what it leaves behind."""
    conversation = pair()
    desk.accept("1", conversation=conversation)
    key = (conversation.id, BOB)
    desk.runner.hold()
    desk.batch.lanes[key] = (*key, 0, None, 1, "", 0, "", 0, "", "", "", 0)
    desk.batch.cursors[key] = (*key, 1, "")
    desk.step(conversation, 1, Status.DELIVERED)
    desk.committer.row(ROW, "old")
    desk.commit()
    desk.batch.lanes[key] = (*key, 0, None, 2, "", 0, "", 0, "", "", "", 0)
    desk.batch.cursors[key] = (*key, 2, "")
    desk.step(conversation, 1, Status.READ)
    desk.committer.row("UPDATE retained SET payload = x'02' WHERE topic = ?", "old")
    desk.database.code = FULL
    desk.runner.release()
    desk.database.code = 0
    desk.commit()

    assert [(2, 2)] == desk.all("SELECT c.acked, l.acked FROM cursor c JOIN lane l WHERE user_id = ?", BOB)
    assert [(2, Status.DELIVERED), (3, Status.READ)] == desk.all("SELECT change, status FROM step WHERE status > 1")
    assert [(b"\2",)] == desk.all("SELECT payload FROM retained")


def test_fragile_rows_are_not_tried_again(desk):
    """What is acknowledged to a client only after its commit, and resent otherwise, is not written behind its back."""
    desk.batch.fragile.append((ROW, ("fragile",)))
    desk.committer.row(ROW, "state")
    desk.fail(FULL)
    desk.commit()

    assert [("state",)] == desk.all("SELECT topic FROM retained")


def test_a_repeat_in_a_failed_commit_keeps_its_own_mid(desk):
    """A resend that met a failing commit is refused under its own mid; the message it repeats is as it was."""
    conversation = pair()
    desk.accept("1", conversation=conversation)
    message = desk.message("1", conversation)
    before = message.mid
    desk.fail(FULL)

    assert before == message.mid


def test_states_are_tried_again_at_every_tick(desk):
    """While the store cannot write each tick tries again; once it can, nothing is left."""
    desk.committer.row(ROW, "a")
    desk.fail(FULL)
    desk.database.code = FULL
    for _ in range(3):
        desk.committer.tick(0.0, 1.0)
        desk.turn()
    assert 4 == len(desk.failed)
    desk.database.code = 0
    desk.committer.tick(0.0, 1.0)
    desk.turn()

    assert [("a",)] == desk.all("SELECT topic FROM retained")
    assert desk.committer.is_idle


def test_three_io_errors_in_a_row_are_fatal(desk):
    """After the third failed sync the server is told to stop, once, in a sentence that says what to do."""
    desk.committer.row(ROW, "a")
    for count in range(1, 6):
        desk.fail(IO)
        assert int(count >= 3) == len(desk.fatal)

    assert ["store: disk I/O error three times in a row; check the disk, then start the server again"] == desk.fatal


@pytest.mark.parametrize("between", [0, FULL, BUSY])
def test_io_errors_are_counted_in_a_row(desk, between):
    """A commit that succeeds begins the count anew; a full disk or a lock in between does not add to it."""
    desk.committer.row(ROW, "a")
    for code in (IO, IO, between):
        desk.committer.row(ROW, "b")
        desk.fail(code)

    assert [] == desk.fatal
    desk.committer.row(ROW, "c")
    desk.fail(IO)

    assert int(between != 0) == len(desk.fatal)


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("INSERT INTO retained (topic, payload, qos) VALUES (?, NULL, 0)", ("x",)),
        ("INSERT INTO retained (topic, payload, qos) VALUES ('taken', x'', ?)", (0,)),
        (ROW, (2**70,)),
        (ROW, ("\ud800",)),
        (ROW, (object(),)),
        (ROW, ("too", "many")),
        ("UPDATE nothing SET x = ?", (1,)),
    ],
)
def test_a_change_that_cannot_be_written_is_dropped_once(desk, caplog, sql, values):
    """It fails its batch, for nobody may be told that it was kept; then it is gone, and everything else is written."""
    desk.committer.row(ROW, "taken")
    desk.commit()
    desk.committer.row(ROW, "before")
    desk.committer.row(sql, *values)
    desk.committer.row(ROW, "behind")
    desk.after("suback")
    desk.commit()

    assert ["failed: fault", ("suback", False)] == desk.happened[-2:]
    for _ in range(5):
        desk.committer.tick(0.0, 1.0)
        desk.turn()

    assert [("before",), ("behind",), ("taken",)] == desk.all("SELECT topic FROM retained ORDER BY topic")
    assert (1, Health.OK, []) == (caplog.text.count("dropped a change"), desk.committer.health, desk.fatal)


def test_a_state_that_cannot_be_written_is_dropped_once(desk):
    """The same holds for steps, lanes and cursors: one bad one does not stop the others for ever."""
    conversation = pair()
    desk.accept("1", conversation=conversation)
    desk.step(conversation, None)
    desk.step(conversation, 1)
    desk.batch.lanes["bad"] = (None,) * 13
    desk.batch.lanes["good"] = (conversation.id, BOB, 0, None, 1, "", 1, "", 0, "", "", "", 0)
    desk.batch.cursors["bad"] = (7, None, 1, "")
    desk.batch.cursors["good"] = (7, 1, 1, "")
    desk.commit()
    desk.committer.tick(0.0, 1.0)
    desk.turn()

    assert [(1, 1), (2, 2)] == desk.all("SELECT change, status FROM step ORDER BY change")
    assert [(1,)] == desk.all("SELECT acked FROM lane WHERE user_id = ?", BOB)
    assert [(7, 1, 1, "")] == desk.all("SELECT * FROM cursor")


def test_a_function_fails_with_its_commit(desk):
    """The future of a function whose transaction failed raises StoreError, and nothing of it is kept."""

    async def story():
        future = desk.committer.run(lambda connection: connection.execute(ROW, ("a",)))
        desk.fail(FULL)
        with pytest.raises(StoreError, match=r"cannot write now \(disk-full\); nothing was changed"):
            await future
        assert [] == desk.all("SELECT * FROM retained")
        kept = desk.committer.run(lambda connection: connection.execute(ROW, ("b",)) and "done")
        desk.commit()
        assert "done" == await kept

    asyncio.run(story())

    assert [("b",)] == desk.all("SELECT topic FROM retained")


def test_a_function_that_meets_a_full_disk_fails_the_whole_batch(desk):
    """SQLite may have rolled back everything: nothing of that batch is acknowledged."""

    async def story():
        desk.committer.row(ROW, "row")
        future = desk.committer.run(raising(FULL))
        desk.after("puback")
        desk.commit()
        with pytest.raises(StoreError):
            await future

    asyncio.run(story())

    assert ["failed: disk-full", ("puback", False)] == desk.happened[-2:]


def raising(code):
    def call(connection):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = code
        raise error

    return call


def test_a_rollback_that_failed_is_made_up_for(desk):
    """A transaction that an earlier failure left open does not stop the next one."""
    connection = desk.database.connection()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(ROW, ("left over",))
    desk.committer.row(ROW, "a")
    desk.commit()

    assert [("a",)] == desk.all("SELECT topic FROM retained")
