"""The real keeper of sessions on a real file, as the engine's tests use their fake one."""

from __future__ import annotations

import sqlite3

from mesimqtt.engine.letter import Letter
from mesimqtt.engine.session import Session
from mesimqtt.settings import Store as StoreSettings
from mesimqtt.store.sessions import SessionKeeper
from mesimqtt.store.store import Store
from mesimqtt.testing.faults import FaultyDatabase
from unit.messaging.world import FakeLoop
from unit.store.desk import NOW_MS


class RealKeeper:
    """The real keeper on a real file, with the handles of the engine's FakeKeeper: commits when the test says so."""

    def __init__(self, folder):
        self.folder = folder
        self.is_instant = False
        self.open()

    def open(self):
        self.loop = FakeLoop()
        self.store = Store(
            self.folder, StoreSettings(ballast_bytes=0), loop=self.loop, now=lambda: 0.0, now_ms=lambda: NOW_MS,
            on_fatal=print, inline=True,
        )  # fmt: skip
        committer = self.store.committer
        self.database = committer._database = FaultyDatabase(committer._database)
        self.keeper = SessionKeeper(self.store)
        self.restored = list(self.keeper.restore())

    def __getattr__(self, name):
        return getattr(self.keeper, name)

    def after_commit(self, call):
        self.keeper.after_commit(call)
        if self.is_instant:
            self.commit()

    def commit(self, *, ok=True):
        """Commit, or fail to commit, everything given so far."""
        self.database.code = 0 if ok else sqlite3.SQLITE_FULL
        self.store.committer.wake()
        self.loop.run()
        self.database.code = 0

    @property
    def retained(self):
        return {message.topic: message for message in self.keeper.restore_retained()}

    def crash(self):
        """Forget what was not committed; return what a restarted server restores."""
        self.close()
        self.open()
        return self.restored

    def close(self):
        self.store._database.close()

    def pages(self, session, limit=100):
        """Read the whole queue of a session, page by page."""
        found, pages = [], []
        while not pages or pages[-1]:
            self.keeper.page(session, found[-1].n if found else 0, limit, pages.append)
            found += pages[-1]
        return found

    def count(self, table):
        return self.store.read.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own tables


def session_of(keeper, client_id="kept", user="alice"):
    session = Session(user, client_id, clean=False)
    keeper.save_session(session)
    return session


def fill(keeper, session, count, first=1):
    """Enqueue messages first … first + count - 1."""
    for number in range(first, first + count):
        keeper.enqueue(session, number, Letter(b"t", b"%d" % number, 1))
        session.next_n = number + 1
