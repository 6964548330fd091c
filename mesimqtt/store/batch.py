"""One transaction of the committer: what goes into it and how it is written (runs in the committer's thread)."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.messages import Change, Conversation, Message, MessageKind, Outcome, Step
from mesimqtt.domain.status import Status
from mesimqtt.store import conversations
from mesimqtt.store.integrity import of_fresh
from mesimqtt.store.messages import RUN_MAX
from mesimqtt.store.parameters import Blob
from mesimqtt.store.sifting import is_environment, sift, taken_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mesimqtt.domain.events import Event
    from mesimqtt.store.recorder import Recorder

_COUNTERS_MAX = 100_000

INSERT_MESSAGE = """INSERT INTO message (id, conversation_id, seq, kind, sender_id, device, cid, ts, expires_at,
    flags, params, payload, checksum) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"""
INSERT_MORTAL = INSERT_MESSAGE.replace("checksum)", "checksum, deadline)").replace("(?,", "(?,?,")
INSERT_WORK = "INSERT INTO work (conversation_id, seq, message_id) VALUES (?,?,?)"
CLAIM_CID = "INSERT OR IGNORE INTO cid (sender_id, cid, message_id, digest) VALUES (?,?,?,?)"
FIND_CID = "SELECT message_id, digest FROM cid WHERE sender_id = ? AND cid = ?"
INSERT_STEP = """INSERT INTO step (sender_id, change, conversation_id, recipient_id, first_seq, last_seq, status,
    ts, device, reason) VALUES (?,?,?,?,?,?,?,?,?,?)"""
UPDATE_SEQ = "UPDATE conversation SET last_seq = ?, last_at = ? WHERE id = ?"
# Floor and end of a lane are the membership's (members.py): a state from before the user left, or left and came back,
# must not undo them.
UPSERT_LANE = """INSERT INTO lane (conversation_id, user_id, floor, until, acked, acked_above, delivered,
    delivered_above, read, read_above, failed, read_payload, read_change) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)
    ON CONFLICT DO UPDATE SET acked = excluded.acked, acked_above = excluded.acked_above,
    delivered = excluded.delivered, delivered_above = excluded.delivered_above, read = excluded.read,
    read_above = excluded.read_above, failed = excluded.failed, read_payload = excluded.read_payload,
    read_change = excluded.read_change WHERE floor = excluded.floor"""
UPSERT_CURSOR = "INSERT OR REPLACE INTO cursor (device_id, conversation_id, acked, acked_above) VALUES (?,?,?,?)"


class Batch:
    """What the next transaction holds. `rows` and the states are tried again after a failure, the rest fails.

    `lanes` and `cursors` are keyed, so that a later value of the same batch replaces an earlier one. `events` are for
    webhooks and nothing else; `recorded` says afterwards what was written for them: (endpoint, events, bytes).
    """

    __slots__ = (
        "_early", "accepts", "after", "cursors", "events", "fragile", "functions", "lanes", "recorded",
        "refused", "riders", "rows", "steps", "touched",
    )  # fmt: skip

    def __init__(self) -> None:
        self._early = (0, 0, 0, 0)
        self.accepts: list[Message] = []
        self.steps: list[Step] = []
        self.lanes: dict[tuple[int, int], tuple[Any, ...]] = {}
        self.cursors: dict[tuple[int, int], tuple[Any, ...]] = {}
        self.rows: list[tuple[str, Sequence[Any]]] = []
        self.fragile: list[tuple[str, tuple[Any, ...]]] = []
        self.functions: list[Function] = []
        self.after: list[Callable[[bool], None]] = []
        self.touched: Iterable[int] = ()  # conversations that got messages, once it is written
        self.events: list[Event] = []
        self.recorded: list[tuple[int, int, int]] = []
        self.riders: list[Rider] = []
        self.refused: list[Batch] = []  # a message each that cannot be written, with what rides on it

    def __bool__(self) -> bool:
        return bool(
            self.accepts or self.steps or self.lanes or self.cursors or self.rows or self.fragile or self.functions
            or self.after or self.events
        )  # fmt: skip

    def split(self, accepts_max: int) -> Batch:
        """Return the batch after this one: empty, or with the messages that are too many for one transaction.

        What waits for the commit (`after`), and what it waits for, then goes with the second part, and stays
        there when the messages before it fit, so that under load it is not put off for ever.
        """
        rest = Batch()
        if len(self.accepts) > accepts_max:
            rest.accepts = self.accepts[accepts_max:]
            del self.accepts[accepts_max:]
            later = set(map(id, rest.accepts))
            rest.riders = [rider for rider in self.riders if id(rider.message) in later]
            self.riders = [rider for rider in self.riders if id(rider.message) not in later]
            # The first so many of each were put off before, by a split that left the first so many accepts.
            accepts, after, functions, fragile = self._early
            if accepts > accepts_max:
                rest._early = (accepts - accepts_max, after, functions, fragile)
                after = functions = fragile = 0
            rest.after, self.after = self.after[after:], self.after[:after]
            rest.functions, self.functions = self.functions[functions:], self.functions[:functions]
            rest.fragile, self.fragile = self.fragile[fragile:], self.fragile[:fragile]
            if accepts <= accepts_max:
                rest._early = (len(rest.accepts), len(rest.after), len(rest.functions), len(rest.fragile))
        return rest

    def take_state(self, failed: Batch) -> None:
        """Put the state of a batch that could not be committed before what has come since."""
        self.steps[:0] = failed.steps
        self.lanes = {**failed.lanes, **self.lanes}
        self.cursors = {**failed.cursors, **self.cursors}
        self.rows[:0] = failed.rows
        self.events[:0] = failed.events


class Rider:
    """What is written in the same transaction as a message, if that one is stored (and not a resend).

    `steps` are those that it returned: they are numbered after all others of the batch.
    """

    __slots__ = ("message", "steps")

    message: Message

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def write(self, connection: sqlite3.Connection) -> list[Step]:
        """Write in the committer's thread; return the statuses that come of it."""
        raise NotImplementedError

    def done(self, ok: bool) -> None:
        """Take note, on the loop, of the COMMIT (or its failure), after the message itself was answered."""
        raise NotImplementedError

    def refused(self) -> None:
        """Take note that the message can never be written."""
        self.done(ok=False)


class Function:
    """A piece of work of its own inside the transaction, under its own SAVEPOINT.

    What it returns may have `steps`, or be a list of tuples of what has: webhooks are told these, too.
    """

    __slots__ = ("call", "error", "result")

    def __init__(self, call: Callable[[sqlite3.Connection], Any]) -> None:
        self.call = call
        self.result: Any = None
        self.error: BaseException | None = None


class Writer:
    """Writes batches. Owns the counters that no other thread may touch: seq per conversation, change per sender.

    `recorder` is None unless somebody has a webhook.
    """

    def __init__(self) -> None:
        self._seqs: dict[int, int] = {}
        self._changes: dict[int, int] = {}
        self._repeated: list[tuple[Message, int]] = []
        self._made: list[Conversation] = []
        self._sent: list[Step] = []
        self.recorder: Recorder | None = None

    def forget(self) -> None:
        """Forget the counters; they are read again from the tables."""
        self._seqs.clear()
        self._changes.clear()

    def write(self, connection: sqlite3.Connection, batch: Batch) -> None:
        """Write and COMMIT a batch; on any error roll back and raise it.

        Messages that cannot be written, whatever the disk does, are `refused`, and the rest is committed. Of a state
        that the tables refuse the batch fails, and is without it: the rest of its state can be written again.
        """
        try:
            self._write(connection, batch)
        except Exception as error:
            if is_environment(error) or not self._sift(connection, batch):
                raise
            batch.recorded.clear()
            with taken_back(batch):
                self._write(connection, batch)

    def _write(self, connection: sqlite3.Connection, batch: Batch) -> None:
        if connection.in_transaction:  # the last ROLLBACK failed too
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        self._made.clear()
        self._repeated.clear()
        self._sent = []
        try:
            for function in batch.functions:
                self._call(connection, function)
            if batch.accepts:
                self._accept(connection, batch)
            self._number(connection, batch.steps)
            for rider in batch.riders:
                self._ride(connection, rider)
            self._rows(connection, batch)
            if self.recorder is not None:
                self.recorder.record(connection, batch)
            connection.execute("COMMIT")
        except BaseException:
            self._undo()
            with contextlib.suppress(sqlite3.Error):  # SQLite rolls back by itself on a full disk
                connection.execute("ROLLBACK")
            raise
        if len(self._seqs) > _COUNTERS_MAX or len(self._changes) > _COUNTERS_MAX:
            self.forget()

    def _call(self, connection: sqlite3.Connection, function: Function) -> None:
        function.result = function.error = None
        connection.execute("SAVEPOINT function")
        try:
            function.result = function.call(connection)
        except Exception as error:
            if is_environment(error):
                raise  # the disk or the lock, not the caller: the whole batch fails
            connection.execute("ROLLBACK TO function")
            function.error = error
        connection.execute("RELEASE function")
        self.forget()  # it may have written messages or removed them

    def _ride(self, connection: sqlite3.Connection, rider: Rider) -> None:
        rider.steps = rider.write(connection) if rider.message.outcome is Outcome.STORED else []
        self._number(connection, rider.steps)

    def _accept(self, connection: sqlite3.Connection, batch: Batch) -> None:
        fresh = self._deduplicated(connection, batch.accepts)
        seqs = self._seqs
        touched: dict[int, Message] = {}
        messages: list[tuple[Any, ...]] = []
        steps: list[Step] = []
        runs: dict[tuple[int, int], Step] = {}
        for message in fresh:
            conversation = message.conversation
            if message.kind and not self._is_done(connection, message):
                continue
            if not conversation.id:
                conversations.create(connection, conversation)
                self._made.append(conversation)
            number = conversation.id
            seq = seqs.get(number)
            if seq is None:
                seq = conversations.last_seq(connection, number)
            seqs[number] = message.seq = seq = seq + 1
            touched[number] = message
            sender = message.sender_id
            row = (
                message.mid, number, seq, message.kind, sender, message.device, message.cid, message.ts,
                message.expires_at, message.flags, message.params, Blob(message.payload),
            )  # fmt: skip
            messages.append((*row, of_fresh(row), message.deadline))
            if message.kind == MessageKind.WORK:
                connection.execute(INSERT_WORK, (number, seq, message.mid))
            if message.kind == MessageKind.EVENT or message.change:  # no SENT; a scheduled message has had its own
                continue
            run = runs.get((number, sender))
            if run is not None and run.last_seq == seq - 1 and seq - run.first_seq < RUN_MAX:
                run.last_seq = seq
                run.messages.append(message)
            else:
                recipient = conversations.peer_of(conversation, sender)
                run = Step(sender, conversation, recipient, seq, Status.SENT, message.ts)
                run.messages.append(message)
                runs[number, sender] = run
                steps.append(run)
        connection.executemany(INSERT_MESSAGE, [row[:-1] for row in messages if row[-1] is None])  # nearly all
        connection.executemany(INSERT_MORTAL, [row for row in messages if row[-1] is not None])
        connection.executemany(UPDATE_SEQ, [(last.seq, last.ts, number) for number, last in touched.items()])
        batch.touched = touched
        self._number(connection, steps)
        self._sent = steps
        for step in steps:
            for message in step.messages:
                message.change = step.change

    def _is_done(self, connection: sqlite3.Connection, message: Message) -> bool:
        """Write what an event tells of, at the seq that it is going to have; False if it was refused."""
        if not isinstance(message, Change):
            return True
        conversation = message.conversation
        is_new = not conversation.id
        seq = 0 if is_new else self._seqs.get(conversation.id) or conversations.last_seq(connection, conversation.id)
        message.error = None
        message.outcome = Outcome.STORED
        connection.execute("SAVEPOINT change")
        try:
            message.work(connection, seq + 1)
        except Exception as error:
            conversation.id = 0 if is_new else conversation.id
            if is_environment(error):
                raise
            connection.execute("ROLLBACK TO change")
            message.error, message.outcome = error, Outcome.REFUSED
        connection.execute("RELEASE change")
        if is_new and conversation.id:
            self._made.append(conversation)
        return message.error is None

    def _deduplicated(self, connection: sqlite3.Connection, accepts: list[Message]) -> list[Message]:
        """Claim the cids; return the messages whose cid was free. The others' outcome says what it stood for."""
        rows = [(one.sender_id, one.cid, one.mid, Blob(one.digest)) for one in accepts if one.digest]
        claimed = connection.executemany(CLAIM_CID, rows)
        if claimed.rowcount == len(rows):  # nearly always: no look-up at all
            return accepts
        fresh: list[Message] = []
        for message in accepts:
            message.outcome = Outcome.STORED
            if message.digest:
                mid, digest = connection.execute(FIND_CID, (message.sender_id, message.cid)).fetchone()
                if mid != message.mid:
                    message.outcome = Outcome.REPEATED if digest == message.digest else Outcome.REUSED
                    if message.outcome is Outcome.REPEATED:
                        self._repeated.append((message, message.mid))
                        message.mid = mid
                    continue
            fresh.append(message)
        return fresh

    def _number(self, connection: sqlite3.Connection, steps: list[Step]) -> None:
        changes = self._changes
        for step in steps:
            sender = step.sender_id
            change = changes.get(sender)
            if change is None:
                change = conversations.last_change(connection, sender)
            changes[sender] = step.change = change + 1
        if steps:
            insert_steps(connection, steps)

    def _rows(self, connection: sqlite3.Connection, batch: Batch) -> None:
        if batch.lanes:
            connection.executemany(UPSERT_LANE, batch.lanes.values())
        if batch.cursors:
            connection.executemany(UPSERT_CURSOR, batch.cursors.values())
        for statements in (batch.rows, batch.fragile):
            start = 0
            while start < len(statements):
                sql, end = statements[start][0], start + 1
                while end < len(statements) and statements[end][0] is sql:
                    end += 1
                connection.executemany(sql, [row for _, row in statements[start:end]])
                start = end

    def _sift(self, connection: sqlite3.Connection, batch: Batch) -> bool:
        """Drop from the batch what cannot be written; tell whether the rest can be written now, and nobody misled."""
        upserts = (UPSERT_LANE, UPSERT_CURSOR)
        try:
            return sift(connection, batch, accept=self._apart, number=self._number, upserts=upserts)
        finally:
            self._undo()

    def _apart(self, connection: sqlite3.Connection, part: Batch) -> None:
        """Write one message with what rides on it. Its number is nobody's then: another one may be refused."""
        part.accepts[0].outcome = Outcome.STORED  # what it repeated may be refused
        try:
            self._accept(connection, part)
            for rider in part.riders:
                self._ride(connection, rider)
        finally:
            self._undo()

    def _undo(self) -> None:
        """Make everything in memory as it was before a transaction that is not kept."""
        for conversation in self._made:
            conversation.id = 0
        for message, mid in self._repeated:
            message.mid = mid
        for step in self._sent:
            for message in step.messages:
                message.change = 0
        self._made.clear()
        self._repeated.clear()
        self._sent = []
        self.forget()


def insert_steps(connection: sqlite3.Connection, steps: list[Step]) -> None:
    """Insert statuses that have their numbers."""
    connection.executemany(
        INSERT_STEP,
        [
            (s.sender_id, s.change, s.conversation.id, s.recipient_id, s.first_seq, s.last_seq, int(s.status), s.ts,
             s.device, s.reason)
            for s in steps
        ],
    )  # fmt: skip
