"""The virtual server of `mesimqtt.testing` on a store that a test can hold back or let fail."""

from __future__ import annotations

from mesimqtt.testing import world
from mesimqtt.testing.faults import FaultyDatabase, HeldRunner
from mesimqtt.testing.peer import Peer, mid_of, seq_of
from mesimqtt.testing.world import SECRET, START_MS, YEAR_S, FakeLoop
from spoken import assert_spoken, channels_of

__all__ = ["SECRET", "START_MS", "YEAR_S", "FakeLoop", "Peer", "World", "mid_of", "seq_of"]


class SpokenPeer(Peer):
    """A client's end that looks every topic up in the AsyncAPI document."""

    def read_out(self):
        packets = super().read_out()
        for packet in packets:
            topic = getattr(packet, "topic", "")
            if topic.startswith("m/"):
                assert 1 == len(channels_of(topic)), f"the AsyncAPI document does not know {topic}"
        return packets

    def publish(self, rest, *arguments, **options):
        assert_spoken(rest if rest.startswith("m/") else f"m/{self.user}/out/{rest}")
        return super().publish(rest, *arguments, **options)


class World(world.World):
    """A server whose commits (`commits`) and reads (`reads`) can be held, and whose `database` can fail."""

    peer_type = SpokenPeer

    def open_store(self):
        store = super().open_store()
        committer = store.committer
        self.database = committer._database = FaultyDatabase(committer._database)
        self.commits = committer._runner = HeldRunner()
        self.reads = store._reader = HeldRunner()
        return store


class CheckedWorld(World):
    """A server that checks its store at its start, as `serve` does."""

    def open_store(self):
        store = super().open_store()
        store.check(self.now)
        return store
