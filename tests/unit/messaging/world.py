"""The virtual server of `mesimqtt.testing` on a store that a test can hold back or let fail."""

from __future__ import annotations

from mesimqtt.testing import world
from mesimqtt.testing.peer import Peer, mid_of, seq_of
from mesimqtt.testing.world import SECRET, START_MS, YEAR_S, FakeLoop
from unit.messaging.faults import FaultyDatabase, HeldRunner

__all__ = ["SECRET", "START_MS", "YEAR_S", "FakeLoop", "Peer", "World", "mid_of", "seq_of"]


class World(world.World):
    """A server whose commits (`commits`) and reads (`reads`) can be held, and whose `database` can fail."""

    def open_store(self):
        store = super().open_store()
        committer = store.committer
        self.database = committer._database = FaultyDatabase(committer._database)
        self.commits = committer._runner = HeldRunner()
        self.reads = store._reader = HeldRunner()
        return store
