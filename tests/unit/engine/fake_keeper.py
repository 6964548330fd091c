"""A keeper for tests of the engine: commits when the test says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.engine.session import Queued

if TYPE_CHECKING:
    from mesimqtt.engine.retained import RetainedMessage


class FakeKeeper:
    """A store whose commits happen when the test says so, or at once while `is_instant`.

    What is written becomes readable at the commit. `crash` returns what a restarted engine restores.
    """

    def __init__(self):
        self.is_instant = False
        self.sessions: dict[int, dict[str, Any]] = {}
        self.retained: dict[str, RetainedMessage] = {}
        self.waiting: list[tuple[Any, ...]] = []
        self.pages = 0
        self.wills: dict[int, Any] = {}
        self.due: dict[int, float] = {}
        self.last_will = 0

    def save_session(self, session):
        session.key = len(self.sessions) + 1
        who = (session.user, session.client_id)
        record = {"who": who, "filters": {}, "queue": {}, "next_n": 1, "incoming": set(), "expiry_s": session.expiry_s}
        self.sessions[session.key] = record

    def resumed(self, session):
        self.sessions[session.key]["expiry_s"] = session.expiry_s

    left = resumed

    def drop_session(self, session):
        self.sessions[session.key] = {"who": None}

    def save_subscription(self, session, topic_filter, qos):
        self.waiting.append(("filter", session.key, topic_filter, qos))

    def drop_subscription(self, session, topic_filter):
        self.waiting.append(("no filter", session.key, topic_filter))

    def enqueue(self, session, first, *letters):
        self.waiting += [("enqueue", session.key, Queued(n, letter)) for n, letter in enumerate(letters, first)]

    def released(self, session, first, last):
        self.waiting += [("released", session.key, n) for n in range(first, last + 1)]

    def dequeue(self, session, first, last):
        self.waiting += [("dequeue", session.key, n) for n in range(first, last + 1)]

    def page(self, session, after, limit, done):
        self.pages += 1
        queue = self.sessions[session.key]["queue"]
        gone = {values[0] for what, key, *values in self.waiting if (what, key) == ("dequeue", session.key)}
        done([queue[n] for n in sorted(queue) if n > after and n not in gone][:limit])

    def incoming(self, session, packet_id):
        self.waiting.append(("incoming", session.key, packet_id))

    def forget_incoming(self, session, packet_id):
        self.waiting.append(("no incoming", session.key, packet_id))

    def keep_will(self, session, identity, will):
        self.last_will += 1
        kept = (identity, session.client_id, will._replace(key=self.last_will))
        self.waiting.append(("will", 0, self.last_will, kept))
        return self.last_will

    def will_left(self, key, at):
        self.waiting.append(("will left", 0, key, at))

    def drop_will(self, key):
        self.waiting.append(("no will", 0, key))

    will_published = drop_will

    def restore_wills(self):
        """Return the wills that a restarted engine restores."""
        return [(*self.wills[key], self.due.get(key, 0.0)) for key in sorted(self.wills)]

    def retain(self, message):
        self.waiting.append(("retain", 0, message))

    def after_commit(self, call):
        self.waiting.append(("call", 0, call))
        if self.is_instant:
            self.commit()

    def commit(self, *, ok=True):
        """Commit, or fail to commit, everything that waits, then call back.

        After a failure messages and their packet ids are forgotten, since their senders send them again;
        everything else is tried again with the next commit, as the store does it.
        """
        waiting, self.waiting = self.waiting, []
        if not ok:
            self.waiting = [entry for entry in waiting if entry[0] not in ("enqueue", "incoming", "call")]
        if ok:
            for what, key, *values in waiting:
                if what != "call" and (key == 0 or self.sessions[key]["who"]):
                    self._apply(what, self.sessions.get(key, {}), *values)
        for what, _, *values in waiting:
            if what == "call":
                values[0](ok)

    def _apply(self, what, record, *values):
        if what == "filter":
            record["filters"][values[0]] = values[1]
        elif what == "no filter":
            record["filters"].pop(values[0], None)
        elif what == "enqueue":
            record["queue"][values[0].n] = values[0]
            record["next_n"] = values[0].n + 1
        elif what == "released":
            record["queue"][values[0]] = record["queue"][values[0]]._replace(released=True)
        elif what == "dequeue":
            record["queue"].pop(values[0], None)
        elif what == "will":
            self.wills[values[0]] = values[1]
        elif what == "will left":
            self.due[values[0]] = values[1]
        elif what == "no will":
            self.wills.pop(values[0], None)
        elif what == "incoming":
            record["incoming"].add(values[0])
        elif what == "no incoming":
            record["incoming"].discard(values[0])
        else:
            self.retained[values[0].topic] = values[0]

    def crash(self):
        """Forget what was not committed; return what is restored."""
        self.waiting.clear()
        return [
            (
                *(*record["who"], key, record["filters"], record["next_n"], record["incoming"]),
                *(record.get("away_s", 0.0), record["expiry_s"]),
            )
            for key, record in self.sessions.items()
            if record["who"]
        ]

    def waits(self, what):
        return [tuple(values) for kind, _, *values in self.waiting if kind == what]
