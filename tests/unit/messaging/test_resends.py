"""P4: a retry of the same send is not a second message, however often, over however many links and doors it comes."""

from __future__ import annotations

import asyncio
import shutil

from hypothesis import given
from hypothesis import strategies as st

from unit.api.asking import Asker
from unit.messaging import five
from unit.messaging.chat_base import chat_settings, life
from unit.messaging.world import mid_of, seq_of

DOORS = ("mqtt", "mqtt 5", "message", "plain", "cid")
CUT = ("before it is written", "before it is answered", "after the answer")


class Resending:
    """Alice sends one message to bob, loses the connection, and tries again by every door at once."""

    def __init__(self, cut):
        self.folder, self.world = life()
        self.ask = Asker(self.world)
        self.bob = self.world.listener("bob")
        self.mids = set()  # as anybody was told them
        self.sent = 0
        first = self.world.listener("alice", "a1")
        if cut != CUT[2]:
            (self.world.commits.hold if cut == CUT[0] else self.world.commits.hold_answers)()
        is_acked = first.publish("u/bob/c1", "hi")
        assert is_acked == (cut == CUT[2])
        self.note(first)
        first.lose()

    def note(self, peer):
        """Take what a device of alice's was told."""
        for status in peer.statuses():
            assert "c1" == status["cid"]
            assert status["status"] in (1, 2)
            self.mids.add(status["mid"])

    def restart(self):
        """Kill the server: what was not committed is gone, what waits for an answer gets none."""
        self.world.commits.jobs.clear()
        self.world.restart()
        self.ask = Asker(self.world)
        self.bob = self.world.listener("bob")

    async def again(self, doors):
        """Try again by each of these doors; the commits go on when all of them have tried."""
        asked = [asyncio.ensure_future(self.door(door, number)) for number, door in enumerate(doors)]
        for _ in range(20):
            await asyncio.sleep(0)
        self.world.commits.release()
        for reply in await asyncio.gather(*asked):
            if reply is not None:
                assert reply.status == 201
                self.mids.add(reply.json["mid"])

    async def door(self, door, number):
        """Send the same once more."""
        self.sent += 1
        if door == "message":
            body = {"to": "bob", "text": "hi"}
            return await self.ask.ask("POST", "/v1/messages", body, user="alice", idempotency_key="c1")
        if door == "plain":
            return await self.ask.ask("PUT", "/v1/send/bob", body=b"hi", user="alice", idempotency_key="c1")
        if door == "cid":
            return await self.ask.ask("POST", "/v1/messages", {"to": "bob", "text": "hi", "cid": "c1"}, user="alice")
        join = self.world.connect if door == "mqtt" else lambda *who: five.connect(self.world, *who)
        peer = join("alice", f"d{number}")
        peer.subscribe("#")  # granted after the commit
        peer.publish("u/bob/c1", "hi")
        while self.world.commits.jobs:  # noqa: ASYNC110 - virtual time: the turns are what is waited for
            await asyncio.sleep(0)
        self.world.turn()
        self.note(peer)
        return None


@chat_settings(max_examples=24)
@given(
    cut=st.sampled_from(CUT), doors=st.lists(st.sampled_from(DOORS), min_size=1, max_size=5), is_killed=st.booleans(),
    is_late=st.booleans(),
)  # fmt: skip
def test_it_is_one_message(cut, doors, is_killed, is_late):
    """Exactly one row, one mid and one seq, whatever was lost, and everybody is told that one."""
    story = Resending(cut)
    try:
        if is_killed:
            story.restart()
        story.world.run(story.again(doors))
        if is_late:
            story.world.jump(6 * 86_400)
            story.world.run(story.again(doors))
        story.world.advance(2)
        rows = story.world.rows("SELECT printf('%016x', id), seq FROM message WHERE payload = ?", b"hi")
        got = story.bob.received("u/")
        told = story.world.rows("SELECT printf('%016x', message_id) FROM cid WHERE cid = 'c1'")
    finally:
        story.world.close()
        shutil.rmtree(story.folder)

    assert 1 == len(rows)
    assert [(rows[0][0], 1)] == [(mid_of(message), seq_of(message)) for message in got] or is_killed
    assert {(rows[0][0], 1)} >= {(mid_of(message), seq_of(message)) for message in got}
    assert ({rows[0][0]}, [(rows[0][0],)]) == (story.mids, told)
    assert len(doors) * (1 + is_late) == story.sent
