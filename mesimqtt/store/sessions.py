"""Persistent sessions for free topics: the engine's Keeper."""

from __future__ import annotations

import logging
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from mesimqtt.engine.letter import Letter
from mesimqtt.engine.retained import RetainedMessage
from mesimqtt.engine.session import RELEASED, Queued, Session
from mesimqtt.store import seals, wills
from mesimqtt.store.committer import Health
from mesimqtt.store.ends import END
from mesimqtt.store.integrity import letter_holds, of_letter
from mesimqtt.store.parameters import Blob

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from mesimqtt.engine.restored import RestoredSession, RestoredWill
    from mesimqtt.engine.will import Will
    from mesimqtt.hooks import Identity
    from mesimqtt.store.batch import Batch
    from mesimqtt.store.store import Store

log = logging.getLogger(__name__)
_INSERT = "INSERT OR REPLACE INTO session (id, user, client_id, next_n, seen_at, expiry_s) VALUES (?,?,?,?,?,?)"
_SEEN = "UPDATE session SET seen_at = ?, expiry_s = ? WHERE id = ?"
_HERE = 0  # `seen_at` of a session whose client is connected
_ALL_LEFT = f"UPDATE session SET seen_at = ? WHERE seen_at = {_HERE}"
_INSERT_SUBSCRIPTION = "INSERT OR REPLACE INTO subscription (session_id, topic_filter, qos) VALUES (?,?,?)"
_DELETE_SUBSCRIPTION = "DELETE FROM subscription WHERE session_id = ? AND topic_filter = ?"
# A session that is dropped in the same batch leaves nothing behind: its key may be another's after a restart.
_ENQUEUE = """INSERT OR REPLACE INTO queued (session_id, n, topic, payload, qos, released, properties, expires_at,
    checksum)
    SELECT id, ?, ?, ?, ?, 0, ?, ?, ? FROM session WHERE id = ?"""
_PAGE = """SELECT n, topic, payload, qos, released, properties, expires_at, checksum FROM queued
    WHERE session_id = ? AND n > ? ORDER BY n LIMIT ?"""
_DAMAGED = Letter(b"damaged", b"", 1, False, b"", 1e-9)  # expired: it is passed over and forgotten
_RETAIN_IN_QOS = 4  # in the column `qos`: it goes out with RETAIN 1
_SHARED_IN_QOS = 8  # … it came by a shared subscription
_LAST_KEY = f"SELECT coalesce(max(id), 0) FROM session WHERE id < {END}"
_NEXT_N = "UPDATE session SET next_n = ? WHERE id = ? AND next_n < ?"
_RELEASED = "UPDATE queued SET released = 1, checksum = 0 WHERE session_id = ? AND n BETWEEN ? AND ?"
_DEQUEUE = "DELETE FROM queued WHERE session_id = ? AND n BETWEEN ? AND ?"
_INCOMING = "INSERT OR IGNORE INTO incoming (session_id, packet_id) SELECT id, ? FROM session WHERE id = ?"
_FORGET_INCOMING = "DELETE FROM incoming WHERE session_id = ? AND packet_id = ?"
_RETAIN = "INSERT OR REPLACE INTO retained (topic, payload, qos, properties, expires_at, checksum) VALUES (?,?,?,?,?,?)"
_UNRETAIN = "DELETE FROM retained WHERE topic = ?"
_WILLS_UNSURE_MAX = 1_000  # that are kept while the store cannot write: what is to be written then is in memory
_DROP = (
    "DELETE FROM session WHERE id = ?",
    "DELETE FROM subscription WHERE session_id = ?",
    "DELETE FROM queued WHERE session_id = ?",
    "DELETE FROM incoming WHERE session_id = ?",
)


_Numbers = list[int]  # the values of a statement: a session's key, first and last `n`; the last one may still grow
_Row = tuple[int, bytes, bytes, int, int, bytes, int, int]


class _Changed:
    """Rows of the open batch that can be added to, by session: a statement for each message costs more than the rest.

    After the batch is sealed nothing is added any more: what is written is read in another thread.
    """

    __slots__ = ("batch", "gone", "next_n", "released")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.gone: dict[int, list[_Numbers]] = {}
        self.released: dict[int, list[_Numbers]] = {}
        self.next_n: dict[int, list[int]] = {}


class SessionKeeper:
    """Keeps the sessions of free topics. Every write joins the next commit (see engine/ports.py)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._committer = store.committer
        self._last_key = self._last_will = 0
        self._wills_unsure = 0
        # Acknowledged and still in the store, by session: a dict for each batch that is not committed yet.
        self._gone: list[dict[int, list[_Numbers]]] = []
        self._changed = _Changed(self._committer.batch)

    def restore(self) -> Iterator[RestoredSession]:
        """Yield every kept session, as `Engine.restore` takes them; who was connected is away from now on."""
        connection = self._store.read
        subscriptions: dict[int, dict[str, int]] = {}
        for row in connection.execute(f"SELECT {seals.columns('subscription')} FROM subscription").fetchall():
            if seals.is_whole(connection, "subscription", row):
                _, key, topic_filter, grant = row
                subscriptions.setdefault(key, {})[topic_filter] = grant
            else:
                self._store.damaged += 1
        incoming: dict[int, list[int]] = {}
        for key, packet_id in connection.execute("SELECT session_id, packet_id FROM incoming"):
            incoming.setdefault(key, []).append(packet_id)
        self._last_key = connection.execute(_LAST_KEY).fetchone()[0]
        now_ms = self._store.now_ms()
        rows = connection.execute(
            f"SELECT next_n, seen_at, expiry_s, {seals.columns('session')} FROM session"
        ).fetchall()
        if any(row[1] == _HERE for row in rows):
            self._committer.batch.rows.append((_ALL_LEFT, (now_ms,)))
            self._committer.lazily(self._store.now())
        for next_n, seen_at, expiry_s, *row in rows:
            if not seals.is_whole(connection, "session", tuple(row)):
                self._store.damaged += 1
                continue
            _, key, user, client_id = row
            away_s = max(0, now_ms - seen_at) / 1000 if seen_at else 0.0
            yield user, client_id, key, subscriptions.get(key, {}), next_n, incoming.get(key, []), away_s, expiry_s

    def restore_retained(self) -> list[RetainedMessage]:
        """Return all retained messages."""
        rows = self._store.read.execute(
            "SELECT topic, payload, qos, properties, expires_at, checksum FROM retained"
        ).fetchall()
        found = []
        for topic, payload, qos, properties, expires_at, checksum in rows:
            name = topic.encode() if isinstance(topic, str) else None
            if letter_holds(checksum, name, payload, properties, qos, expires_at):
                found.append(RetainedMessage(topic, payload, qos, properties, self._engine_time(expires_at)))
            else:
                self._damaged("the retained message of %r", topic)
        return found

    def save_session(self, session: Session) -> None:
        """Keep a session from now on and give it its key at once."""
        self._last_key += 1
        session.key = self._last_key
        self._row(_INSERT, session.key, session.user, session.client_id, session.next_n, _HERE, int(session.expiry_s))

    def resumed(self, session: Session) -> None:
        """Keep that a session's client is back."""
        self._committer.batch.rows.append((_SEEN, (_HERE, int(session.expiry_s), session.key)))
        self._committer.lazily(self._store.now())

    def left(self, session: Session) -> None:
        """Keep when a session's client went away."""
        self._committer.batch.rows.append((_SEEN, (self._store.now_ms(), int(session.expiry_s), session.key)))
        self._committer.lazily(self._store.now())

    def drop_session(self, session: Session) -> None:
        """Forget a session and all that belongs to it."""
        for sql in _DROP:
            self._row(sql, session.key)
        session.key = 0

    def save_subscription(self, session: Session, topic_filter: str, grant: int) -> None:
        """Keep or replace one subscription; the column `qos` holds the whole grant."""
        self._row(_INSERT_SUBSCRIPTION, session.key, topic_filter, grant)

    def drop_subscription(self, session: Session, topic_filter: str) -> None:
        """Forget one subscription."""
        self._row(_DELETE_SUBSCRIPTION, session.key, topic_filter)

    def enqueue(self, session: Session, first: int, *letters: Letter) -> None:
        """Keep messages for a session; they are not tried again when the commit fails."""
        fragile, key = self._committer.batch.fragile, session.key
        for n, letter in enumerate(letters, first):
            topic, payload, qos, retain, properties, expires_at, is_shared, _ = letter
            qos |= (_RETAIN_IN_QOS if retain else 0) | (_SHARED_IN_QOS if is_shared else 0)
            until = self._wall_ms(expires_at) if expires_at else 0
            checksum = of_letter(topic, payload, properties, qos, until, key, n)
            row = (n, Blob(topic), Blob(payload), qos, Blob(properties), until, checksum, key)
            fragile.append((_ENQUEUE, row))
        next_n = self._open().next_n.get(session.key)
        if next_n is None:
            # What a failed commit leaves behind may come after this row: hence its guard.
            next_n = self._changed.next_n[session.key] = [0, session.key, 0]
            self._committer.batch.rows.append((_NEXT_N, next_n))
        next_n[0] = next_n[2] = first + len(letters)

    def released(self, session: Session, first: int, last: int) -> None:
        """Keep that PUBREC came for these."""
        self._add(self._open().released.setdefault(session.key, []), _RELEASED, session.key, first, last)
        self._committer.wake()

    def dequeue(self, session: Session, first: int, last: int) -> None:
        """Forget acknowledged messages."""
        gone = self._open().gone
        if not gone:
            self._note(gone)
        self._add(gone.setdefault(session.key, []), _DEQUEUE, session.key, first, last)
        self._committer.lazily(self._store.now())

    def _open(self) -> _Changed:
        """Return what of the open batch can still be added to."""
        if self._changed.batch is not self._committer.batch:
            self._changed = _Changed(self._committer.batch)
        return self._changed

    def _add(self, runs: list[_Numbers], sql: str, key: int, first: int, last: int) -> None:
        """Make the last row longer, or begin a new one; clients acknowledge in order, so it is one row per commit."""
        if runs and runs[-1][2] == first - 1:
            runs[-1][2] = last
        else:
            runs.append([key, first, last])
            self._committer.batch.rows.append((sql, runs[-1]))

    def _note(self, gone: dict[int, list[_Numbers]]) -> None:
        self._gone.append(gone)
        self._committer.batch.after.append(partial(self._forgotten, gone))

    def _forgotten(self, gone: dict[int, list[_Numbers]], ok: bool) -> None:
        """Take the outcome of a commit with acknowledgements; if it failed, they are in the next one."""
        self._gone = [one for one in self._gone if one is not gone]
        if not ok:
            self._note(gone)

    def page(self, session: Session, after: int, limit: int, done: Callable[[list[Queued]], None]) -> None:
        """Read queued messages with number > `after` in order, then call `done` on the loop."""
        key = session.key
        gone: set[int] = set()  # of the rows behind `after`: during a drain all lie before it
        for batch in self._gone:
            for _, first, last in batch.get(key, ()):
                if first <= after + 1 <= last:
                    after = last
                elif first > after:
                    gone.update(range(first, last + 1))

        def read(connection: sqlite3.Connection) -> list[Queued]:
            rows: Iterable[_Row] = connection.execute(_PAGE, (key, after, limit + len(gone)))
            if gone:
                rows = islice((row for row in rows if row[0] not in gone), limit)
            return self._queued(key, rows)

        self._store.read_later(read, done)

    def _queued(self, key: int, rows: Iterable[_Row]) -> list[Queued]:
        found = []
        for n, topic, payload, qos, released, properties, expires_at, checksum in rows:
            if released and not checksum:
                found.append(Queued(n, RELEASED, released=True))
            elif not letter_holds(checksum, topic, payload, properties, qos, expires_at, key, n):
                self._damaged("a queued message of session %d", key)
                found.append(Queued(n, _DAMAGED))
            elif qos < _RETAIN_IN_QOS and not expires_at:  # nearly always
                found.append(Queued(n, Letter(topic, payload, qos, False, properties)))
            else:
                retain, shared = bool(qos & _RETAIN_IN_QOS), bool(qos & _SHARED_IN_QOS)
                letter = Letter(topic, payload, qos & 3, retain, properties, self._engine_time(expires_at), shared)
                found.append(Queued(n, letter))
        return found

    def _damaged(self, what: str, *values: object) -> None:
        self._store.damaged += 1
        log.error(f"store: {what} is damaged; nobody gets it", *values)  # noqa: G004 - a constant of this file

    def _wall_ms(self, at: float) -> int:
        """Return engine time as milliseconds since 1970, which mean something after a restart; 0 stays 0."""
        return self._store.now_ms() + int((at - self._store.now()) * 1000) if at else 0

    def _engine_time(self, wall_ms: int) -> float:
        """Return milliseconds since 1970 as engine time; 0 stays 0."""
        return self._store.now() + (wall_ms - self._store.now_ms()) / 1000 if wall_ms else 0.0

    def incoming(self, session: Session, packet_id: int) -> None:
        """Keep the packet id of a QoS 2 PUBLISH that awaits PUBREL."""
        self._committer.batch.fragile.append((_INCOMING, (packet_id, session.key)))

    def forget_incoming(self, session: Session, packet_id: int) -> None:
        """Forget it: PUBREL came, or its message was refused, perhaps in the batch that is to keep the id."""
        row = (session.key, packet_id)
        self._committer.batch.rows.append((_FORGET_INCOMING, row))
        self._committer.batch.fragile.append((_FORGET_INCOMING, row))  # which is written after `rows`
        self._committer.lazily(self._store.now())

    def restore_wills(self) -> Iterator[RestoredWill]:
        """Yield the wills of who may still speak, as `Engine.restore` takes them; forget the others.

        The delay of who was connected begins now, and goes on over the next restart.
        """
        is_any = False
        for row in self._store.read.execute(wills.SELECT):
            self._last_will, is_any = max(self._last_will, row[0] if row[0] < END else 0), True
            found = wills.of_row(row)
            if found is None:
                self._damaged("will %d, of %r with client id %r,", row[0], row[1], row[2])
            elif wills.may_speak(self._store.read, found[0]):
                yield *found, self._engine_time(row[-1]) if type(row[-1]) is int else 0.0
                continue
            self.drop_will(row[0])
        if is_any:
            self._committer.batch.rows.append((wills.ALL_LEFT, (self._store.now_ms(),)))
            self._committer.lazily(self._store.now())

    def keep_will(self, session: Session, identity: Identity, will: Will) -> int:
        """Keep a will from now on and return its key; 0: too many wait for a store that cannot write now."""
        self._wills_unsure = self._wills_unsure + 1 if self._committer.health is not Health.OK else 0
        if self._wills_unsure > _WILLS_UNSURE_MAX:
            return 0
        self._last_will += 1
        self._row(wills.INSERT, *wills.row_of(self._last_will, session.client_id, identity, will))
        return self._last_will

    def will_left(self, key: int, at: float) -> None:
        """Keep when a will whose client went away is due."""
        self._committer.batch.rows.append((wills.LEFT, (self._wall_ms(at), key)))
        self._committer.lazily(self._store.now())

    def drop_will(self, key: int) -> None:
        """Forget a will that is not to be published."""
        self._row(wills.DROP, key)

    def will_published(self, key: int) -> None:
        """Forget a will where the messages of it are kept, however a large batch is divided."""
        batch = self._committer.batch
        batch.fragile.append((wills.DROP, (key,)))
        batch.after.append(lambda ok: None if ok else self.drop_will(key))
        self._committer.wake()

    def retain(self, message: RetainedMessage) -> None:
        """Keep, replace or (empty payload) remove a retained message."""
        topic, payload, qos, properties, expires_at = message
        if payload:
            until = self._wall_ms(expires_at)
            checksum = of_letter(topic.encode(), payload, properties, qos, until)
            self._row(_RETAIN, topic, payload, qos, properties, until, checksum)
        else:
            self._row(_UNRETAIN, topic)

    def after_commit(self, call: Callable[[bool], None]) -> None:
        """Call with True once everything given so far is committed, with False if that failed."""
        self._committer.batch.after.append(call)
        self._committer.wake()

    def _row(self, sql: str, *values: object) -> None:
        self._committer.batch.rows.append((sql, values))
        self._committer.wake()
