"""The committer in fair weather: what goes into one transaction, and what is called around it, in which order."""

from __future__ import annotations

import asyncio
import sqlite3
import time

import pytest

from mesimqtt.store.batch import Batch
from mesimqtt.store.committer import Committer, Health
from mesimqtt.store.database import Database
from mesimqtt.store.runner import InlineRunner, ThreadRunner
from unit.store.desk import ROW, Desk, pair


def topics(desk):
    return [row[0] for row in desk.all("SELECT topic FROM retained ORDER BY topic")]


def test_a_turn_is_one_transaction(desk):
    """However often the committer is woken in a turn, all of that turn is committed once."""
    for topic in ("a", "b", "c"):
        desk.committer.row(ROW, topic)
        desk.committer.wake()

    assert 1 == len(desk.scheduled)
    desk.turn()

    assert (["a", "b", "c"], 1) == (topics(desk), desk.committer.commits)


def test_what_arrives_during_a_commit_goes_into_the_next(desk):
    """A hundred changes of many turns, given while a commit runs, are one further transaction."""
    desk.runner.hold()
    desk.committer.row(ROW, "first")
    desk.commit()
    for number in range(100):
        desk.committer.row(ROW, f"later{number:02}")
        desk.commit()
    assert [] == topics(desk)
    desk.runner.release()

    assert (2, 101) == (desk.committer.commits, len(topics(desk)))


def test_nothing_to_write_is_no_transaction(desk):
    """Waking a committer that has nothing commits nothing."""
    desk.commit()

    assert (0, ["seal"]) == (desk.committer.commits, desk.happened)


def test_the_order_of_the_calls(desk):
    """Seal, then the commit, then `on_committed`, then what waits, in the order given; the next batch seals anew."""
    desk.committer.row(ROW, "a")
    desk.after("first")
    desk.after("second")
    desk.commit()
    desk.committer.row(ROW, "b")
    desk.commit()

    assert ["seal", "committed", ("first", True), ("second", True), "seal", "committed"] == desk.happened


def test_calls_see_what_is_committed(desk):
    """When `on_committed` and the waiting calls run, another connection sees the rows."""
    other = sqlite3.connect(desk.database.path)
    seen = []
    desk.committer.on_committed = lambda batch: seen.append(other.execute("SELECT count(*) FROM retained").fetchone())
    desk.batch.after.append(lambda ok: seen.append(other.execute("SELECT count(*) FROM retained").fetchone()))
    desk.committer.row(ROW, "a")
    desk.commit()
    other.close()

    assert [(1,), (1,)] == seen


def test_seal_is_called_once_per_batch(desk):
    """States that changed often since the last commit are written once, by what `on_seal` puts into the batch."""
    desk.committer.on_seal = lambda batch: batch.rows.append((ROW, (f"sealed {desk.committer.commits}",)))
    desk.runner.hold()
    desk.commit()
    for _ in range(10):
        desk.committer.row(ROW, "a")
        desk.commit()
    desk.runner.release()

    assert ["a", "sealed 0", "sealed 1"] == topics(desk)


def test_a_call_that_raises_stops_no_other(desk, caplog):
    """One waiting call that fails is logged; the others are called and the next batch is written."""
    desk.after("first")
    desk.batch.after.append(lambda ok: 1 / 0)
    desk.after("second")
    desk.commit()
    desk.committer.on_committed = lambda batch: 1 / 0
    desk.after("third")
    desk.commit()

    assert [("first", True), ("second", True), ("third", True)] == [each for each in desk.happened if len(each) == 2]
    assert 2 == caplog.text.count("a call around a commit failed")
    assert desk.committer.is_idle


def test_states_of_a_batch_are_written_once_each(desk):
    """A later lane or cursor of the same key replaces the earlier one."""
    (message,) = desk.accept("1", conversation=pair())
    key = (message.conversation.id, 2)
    for acked in (1, 2, 3):
        desk.batch.lanes[key] = (*key, 0, None, acked, "", 0, "", 0, "", "", "", 0)
        desk.batch.cursors[7, key[0]] = (7, key[0], acked, "")
    desk.commit()

    assert [(3,)] == desk.all("SELECT acked FROM lane WHERE user_id = 2")
    assert [(3,)] == desk.all("SELECT acked FROM cursor")


def test_a_lane_keeps_its_floor_and_its_end(desk):
    """A state from before a user left does not undo that he left."""
    (message,) = desk.accept("1", conversation=pair())
    number = message.conversation.id
    desk.all("UPDATE lane SET until = 1 WHERE user_id = 2")
    desk.batch.lanes[number, 2] = (number, 2, 0, None, 1, "", 1, "", 1, "", "", "mid", 4)
    desk.commit()

    assert [(0, 1, 1, 1, 1, "mid", 4)] == desk.all(
        "SELECT floor, until, acked, delivered, read, read_payload, read_change FROM lane WHERE user_id = 2"
    )


def test_a_state_of_an_earlier_membership_is_nothing_to_the_next(desk):
    """A lane of before the user left and came back does not lower what he begins with."""
    (message,) = desk.accept("1", conversation=pair())
    number = message.conversation.id
    desk.all("UPDATE lane SET floor = 9, acked = 9 WHERE user_id = 2")
    desk.batch.lanes[number, 2] = (number, 2, 0, 5, 4, "", 4, "", 4, "", "", "", 0)
    desk.commit()

    assert [(9, None, 9)] == desk.all("SELECT floor, until, acked FROM lane WHERE user_id = 2")


def test_lazy_changes_wait_for_the_next_commit(desk):
    """A change that may wait goes with the next commit, or after its delay; then nothing is left to wait for."""
    desk.committer.row(ROW, "lazy")
    desk.committer.lazily(100.0)
    desk.committer.lazily(100.9)
    for now in (100.0, 100.99):
        desk.committer.tick(now, 1.0)
        desk.turn()
    assert (0, False) == (desk.committer.commits, desk.committer.is_idle)
    desk.committer.tick(101.0, 1.0)
    desk.turn()

    assert (["lazy"], True) == (topics(desk), desk.committer.is_idle)


def test_idle_means_nothing_is_under_way(desk):
    """Idle is false from the first change to the end of its commit."""
    states = [desk.committer.is_idle]
    desk.runner.hold()
    desk.committer.row(ROW, "a")
    states.append(desk.committer.is_idle)
    desk.committer.wake()
    states.append(desk.committer.is_idle)
    desk.turn()
    states.append(desk.committer.is_idle)
    desk.runner.release()
    states.append(desk.committer.is_idle)

    assert [True, False, False, False, True] == states


@pytest.mark.parametrize("count", [4, 5, 23])
def test_a_long_queue_is_written_in_parts(tmp_path, count):
    """No transaction has more messages than `batch_max`, none is lost, and their order holds."""
    desk = Desk(tmp_path / "data", batch_max=4)
    desk.runner.hold()
    found = desk.accept(*map(str, range(count)), conversation=pair())
    desk.runner.release()
    sizes = [len(batch.accepts) for batch in desk.committed]

    assert (count, 4) == (sum(sizes), max(sizes))
    assert list(range(1, count + 1)) == [message.seq for message in found]
    desk.close()


def test_what_waits_is_called_after_the_messages_before_it(tmp_path):
    """A call given after ten messages comes after their commit, though they take three transactions."""
    desk = Desk(tmp_path / "data", batch_max=4)
    for number in range(10):
        desk.message(str(number), pair())
    desk.batch.after.append(lambda ok: desk.happened.append((ok, desk.all("SELECT count(*) FROM message"))))
    desk.commit()

    assert ["seal", "committed", "seal", "committed", "seal", "committed", (True, [(10,)])] == desk.happened
    desk.close()


def test_what_waits_is_not_put_off_for_ever():
    """While messages come faster than they are written, what waits goes with the messages that came before it."""
    batch, written, waited = Batch(), 0, {}
    for turn in range(20):
        batch.accepts += [turn] * 6
        batch.after.append(turn)
        batch.fragile.append(turn)
        rest = batch.split(4)
        written += len(batch.accepts)
        assert batch.after == batch.fragile
        waited.update(dict.fromkeys(batch.after, written))
        batch = rest

    assert list(range(len(waited))) == list(waited)
    assert len(waited) > 10
    for turn, after in waited.items():
        assert 6 * (turn + 1) <= after, f"what waited at turn {turn} came before its messages"


def test_two_objects_of_one_conversation_are_one_row(desk):
    """A conversation that began under another object is found, not made twice; its lanes stay."""
    first, second = desk.message("1", pair()), desk.message("2", pair())
    desk.commit()
    desk.all("UPDATE lane SET acked = 2")
    (third,) = desk.accept("3", conversation=pair())

    assert [1, 2, 3] == [message.seq for message in (first, second, third)]
    assert [(1, 3)] == desk.all("SELECT id, last_seq FROM conversation")
    assert [(2,), (2,)] == desk.all("SELECT acked FROM lane")


# ---- on a real loop and a real thread ---------------------------------------------------------------------------


def committing(folder, story, *, inline=False):
    """Run a story with a committer on this loop."""

    async def main():
        database = Database(folder)
        database.open()
        loop = asyncio.get_running_loop()
        runner = InlineRunner() if inline else ThreadRunner("committer", loop)
        committer = Committer(
            database, runner, schedule=loop.call_soon, on_fatal=print, batch_max=100, now=time.monotonic
        )
        try:
            await asyncio.wait_for(story(committer, database), 120)
        finally:
            committer.close()
            database.close()

    asyncio.run(main())


@pytest.mark.parametrize("inline", [True, False])
def test_run_gives_the_result_after_the_commit(tmp_path, inline):
    """Functions of one turn share a transaction; each future has its own result."""

    async def story(committer, database):
        def insert(connection, topic):
            connection.execute(ROW, (topic,))
            return topic * 2

        found = await asyncio.gather(*(committer.run(lambda c, t=topic: insert(c, t)) for topic in "abc"))

        assert ["aa", "bb", "cc"] == found
        assert 1 == committer.commits
        assert [(3,)] == database.connection().execute("SELECT count(*) FROM retained").fetchall()

    committing(tmp_path, story, inline=inline)


def test_one_function_that_fails_undoes_itself_alone(tmp_path):
    """What a failed function wrote is undone, its error reaches its caller; the others and the rows are kept."""

    async def story(committer, database):
        def bad(connection):
            connection.execute(ROW, ("bad",))
            connection.execute("INSERT INTO retained (topic, payload, qos) VALUES ('bad', x'', 0)")

        def wrong(connection):
            connection.execute(ROW, ("wrong",))
            connection.execute("SELECT * FROM nothing")

        def ours(connection):
            raise ValueError("no such user")

        committer.row(ROW, "row")
        found = await asyncio.gather(
            committer.run(lambda c: c.execute(ROW, ("before",)) and None), committer.run(bad), committer.run(wrong),
            committer.run(ours), committer.run(lambda c: c.execute(ROW, ("behind",)) and None), return_exceptions=True,
        )  # fmt: skip
        rows = database.connection().execute("SELECT topic FROM retained ORDER BY topic").fetchall()

        assert [type(None), sqlite3.IntegrityError, sqlite3.OperationalError, ValueError, type(None)] == [
            *map(type, found)
        ]
        assert ([("before",), ("behind",), ("row",)], Health.OK, 1) == (rows, committer.health, committer.commits)

    committing(tmp_path, story)


def test_a_function_may_write_messages(desk):
    """The counters are read again after a function, which may have given seqs of its own."""
    conversation = pair()
    desk.accept("1", conversation=conversation)
    desk.batch.functions.append(_function(lambda c: c.execute("UPDATE conversation SET last_seq = 10")))
    (message,) = desk.accept("2", conversation=conversation)

    assert 11 == message.seq


def _function(call):
    from mesimqtt.store.batch import Function

    return Function(call)


def test_drain_waits_for_lazy_changes_too(tmp_path):
    """After `drain` all that was given is in the file, also what was in no hurry."""

    async def story(committer, database):
        sealed = []
        committer.on_seal = lambda batch: batch.rows.append((ROW, ("sealed",))) if not sealed else None
        committer.on_committed = sealed.append
        committer.lazily(0.0)
        await committer.drain()

        assert [("sealed",)] == database.connection().execute("SELECT topic FROM retained").fetchall()
        assert committer.is_idle

    committing(tmp_path, story)


def test_drain_of_an_idle_committer_returns_at_once(tmp_path):
    """Nothing to do takes no commit."""

    async def story(committer, database):
        await committer.drain()

        assert 0 == committer.commits

    committing(tmp_path, story)


def test_drain_gives_up_while_the_store_cannot_write(tmp_path):
    """Where the lock is another's, drain tries once and returns; nothing is lost from the batch."""

    async def story(committer, database):
        other = sqlite3.connect(database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        committer.row(ROW, "a")
        await committer.drain()
        other.execute("ROLLBACK")
        other.close()

        assert (Health.LOCKED, 0) == (committer.health, committer.commits)
        await committer.drain()

        assert [("a",)] == database.connection().execute("SELECT topic FROM retained").fetchall()

    committing(tmp_path, story)


def test_a_lock_of_some_seconds_is_survived(tmp_path):
    """While another process writes for longer than we wait, nothing is acknowledged; then everything goes on."""

    async def story(committer, database):
        heard, failed = [], []
        committer.on_failed = lambda batch, health: failed.append((health, len(batch.accepts)))
        other = sqlite3.connect(database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        end = time.monotonic() + 60
        committer.row(ROW, "state")
        committer.batch.after.append(heard.append)
        committer.wake()
        while not heard and time.monotonic() < end:
            committer.tick(time.monotonic(), 1.0)
            await asyncio.sleep(0.02)

        assert ([False], [(Health.LOCKED, 0)]) == (heard, failed[:1])
        assert [] == database.connection().execute("SELECT topic FROM retained").fetchall()
        other.execute("COMMIT")
        other.close()
        while committer.health is not Health.OK:
            committer.tick(time.monotonic(), 1.0)
            await asyncio.sleep(0.02)

        assert [("state",)] == database.connection().execute("SELECT topic FROM retained").fetchall()

    committing(tmp_path, story)
