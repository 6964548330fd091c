"""Edits, recalls, schedules, ages, lost links and kills in any order: what must hold afterwards, for many seeds."""

from __future__ import annotations

import random

import pytest

from mesimqtt.domain.status import may_step
from unit.messaging.world import mid_of, seq_of

STEPS = 60


class Story:
    """Alice does one thing after another to bob, who has two devices that come and go."""

    def __init__(self, world, seed):
        self.world = world
        self.random = random.Random(seed)
        self.alice = world.listener("alice")
        self.bobs = {"phone": None, "tablet": None}
        self.mids: dict[str, str] = {}  # cid -> mid
        self.told: dict[str, int] = {}  # cid -> newest status
        self.recalled: dict[str, str] = {}  # mid -> its text
        self.faults: list[str] = []
        self.number = 0
        for name in self.bobs:
            self.come(name)

    def come(self, name):
        self.bobs[name] = self.world.listener("bob", name)

    def online(self):
        return [bob for bob in self.bobs.values() if bob is not None]

    def look(self):
        """Take what has arrived, and note what must not be."""
        for status in self.alice.statuses():
            cid, code = status["cid"], status["status"]
            self.mids.setdefault(cid, status["mid"])
            before = self.told.get(cid, 0)
            if code != before and not may_step(before, code) and (before, code) != (0, 0x21):
                self.faults.append(f"{cid}: {before} -> {code}")
            self.told[cid] = code
        for bob in self.online():
            last = 0
            for message in bob.received("u/"):
                seq = seq_of(message)
                if seq <= last:
                    self.faults.append(f"{bob.device}: seq {seq} after {last}")
                last = seq
                if mid_of(message) in self.recalled and message.payload:
                    self.faults.append(f"{bob.device}: got {message.payload!r} after its recall")

    def publish(self, params, payload):
        self.number += 1
        level = f"/{params}" if params else ""
        self.alice.publish(f"u/bob/{self.number}{level}", payload)
        self.look()

    def send(self):
        self.publish(self.random.choice(["", "", "age=3", "age=2&age-from=delivered", "when=2", "when=5"]), "text")

    def edit(self):
        if self.mids:
            self.publish(f"edit={self.random.choice(list(self.mids.values()))}", "text")

    def recall(self):
        if self.mids:
            mid = self.random.choice(list(self.mids.values()))
            self.publish(f"recall={mid}", b"")
            if self.told.get(str(self.number)) in (1, 2):
                self.recalled[mid] = "text"

    def read(self):
        for bob in self.online()[:1]:
            if self.mids:
                prefix = self.random.choice(["", "<="])
                bob.publish("read/u/alice", prefix + self.random.choice(list(self.mids.values())))
                self.look()

    def lose(self):
        name = self.random.choice(list(self.bobs))
        if self.bobs[name] is None:
            self.come(name)
        else:
            self.bobs[name].auto_ack = self.random.random() < 0.5
            self.send()
            self.bobs[name].lose()
            self.bobs[name] = None
        self.look()

    def wait(self):
        self.world.advance(self.random.choice([0.25, 1, 3]))
        self.look()

    def kill(self):
        self.look()
        self.world.restart(kill=self.random.random() < 0.7)
        self.alice = self.world.listener("alice")
        for name, bob in self.bobs.items():
            if bob is not None:
                self.come(name)
        self.look()

    def end(self):
        """Let everybody come, and time pass until nothing is left to happen."""
        for name, bob in self.bobs.items():
            if bob is None:
                self.come(name)
            elif not bob.auto_ack:
                bob.lose()
                self.come(name)
        for _ in range(3):
            self.world.advance(5)
            self.look()


@pytest.mark.parametrize("seed", range(12))
def test_what_holds_in_the_end(world, seed):
    """Legal steps, seq order, nothing after its recall; every message has its verdict, and nothing waits."""
    story = Story(world, seed)
    acts = [story.send] * 4 + [story.edit, story.recall, story.recall, story.read, story.lose, story.wait, story.kill]
    for _ in range(STEPS):
        story.random.choice(acts)()
    story.end()

    assert [] == story.faults
    open_ones = {cid: code for cid, code in story.told.items() if code == 1}
    amends = {str(row[0]) for row in world.rows("SELECT cid FROM scheduled WHERE amends IS NOT NULL")}
    assert set(open_ones) <= amends, "only what changed a scheduled message ends with SENT"
    assert [(0,)] == world.rows("SELECT count(*) FROM scheduled WHERE due IS NOT NULL")
    assert 0 == world.do("inbox", address="bob")["messages"]
    assert [] == world.rows("SELECT id FROM message WHERE state <> 0 AND (payload <> x'' OR params <> '')")
    assert [] == world.rows("SELECT message_id FROM vanishing WHERE message_id NOT IN (SELECT id FROM message)")
    told = {cid: code for cid, code in story.told.items() if code < 0x80}
    for cid, code in told.items():
        (status,) = world.do("status", mid=story.mids[cid])["status"]
        assert (cid, code) == (cid, status["status"])
