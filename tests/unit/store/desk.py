"""A committer on a real file, whose turns, commits and faults the test decides."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from mesimqtt.domain.messages import PAIR, Conversation, Message, Step
from mesimqtt.domain.status import Status
from mesimqtt.store.committer import Committer
from mesimqtt.store.database import Database
from mesimqtt.testing.faults import FaultyDatabase, HeldRunner

ALICE, BOB, CAROL = 1, 2, 3
NOW_MS = 1_790_000_000_000
ROW = "INSERT OR REPLACE INTO retained (topic, payload, qos) VALUES (?, x'01', 0)"


class Desk:
    """One committer. `happened` is what it called, in order; `turn` is the end of a turn of the loop."""

    def __init__(self, folder, *, batch_max=2_000):
        real = Database(folder)
        real.open()
        self.database = FaultyDatabase(real)
        self.runner = HeldRunner()
        self.scheduled: deque[Any] = deque()
        self.happened: list[Any] = []
        self.fatal: list[str] = []
        self.committed: list[Any] = []
        self.failed: list[Any] = []
        self.committer = Committer(
            self.database,
            self.runner,
            schedule=self.scheduled.append,
            on_fatal=self.fatal.append,
            batch_max=batch_max,
            now=time.monotonic,
        )
        self.committer.on_seal = lambda batch: self.happened.append("seal")
        self.committer.on_committed = self._committed
        self.committer.on_failed = self._failed
        self.refused: list[Any] = []
        self.committer.on_refused = self._refused
        self._last_mid = 0

    @property
    def batch(self):
        return self.committer.batch

    def _committed(self, batch):
        self.happened.append("committed")
        self.committed.append(batch)

    def _failed(self, batch, health):
        self.happened.append(f"failed: {health}")
        self.failed.append(batch)

    def _refused(self, part):
        self.happened.append("refused")
        self.refused.append(part)

    def after(self, name):
        """Note a call that waits for the commit."""
        self.batch.after.append(lambda ok: self.happened.append((name, ok)))

    def message(self, name, conversation, *, sender=ALICE, payload=b"hi", digest=b"d", kind=0, cid=""):
        """Give one message to the open batch."""
        self._last_mid += 1
        message = Message(
            self._last_mid, conversation, sender, "phone", cid or name, NOW_MS, NOW_MS + 1000, None, 3, "", payload,
            digest, kind,
        )  # fmt: skip
        self.batch.accepts.append(message)
        return message

    def accept(self, *cids, conversation, **values):
        """Commit these messages, in one transaction if they fit."""
        found = [self.message(cid, conversation, **values) for cid in cids]
        self.commit()
        return found

    def step(self, conversation, seq, status=Status.DELIVERED, *, sender=ALICE, recipient=BOB, last=0, ts=NOW_MS):
        """Give a status change to the open batch."""
        step = Step(sender, conversation, recipient, seq, status, ts)
        step.last_seq = last or seq
        self.batch.steps.append(step)
        return step

    def turn(self):
        """Do what was scheduled."""
        while self.scheduled:
            self.scheduled.popleft()()

    def commit(self):
        """Wake the committer and let it work."""
        self.committer.wake()
        self.turn()

    def fail(self, code):
        """Commit while COMMIT fails with `code`."""
        self.database.code = code
        self.commit()
        self.database.code = 0

    def all(self, sql, *values):
        """Read from the file."""
        return self.database.connection().execute(sql, values).fetchall()

    def close(self):
        self.database.close()


def pair(one=ALICE, other=BOB):
    """A conversation that has not begun."""
    return Conversation(0, PAIR, min(one, other), max(one, other))
