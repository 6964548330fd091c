"""Random lives of a small server against what users may rely on (see chat_model.py)."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from unit.messaging import five
from unit.messaging.chat_model import Checker, Send
from unit.messaging.world import World, mid_of

DEVICES = [("alice", "a1"), ("alice", "a2"), ("bob", "b1"), ("bob", "b2"), ("carol", "c1")]
DEVICE = st.sampled_from(DEVICES)
TARGET = st.sampled_from(["u/alice", "u/bob", "u/carol", "g/team"])
FIVE = st.sampled_from([None, None, {}, {"receive_maximum": 1}, {"receive_maximum": 3}, {"expiry": 0}])  # None: 3.1.1
PARAMS = st.sampled_from(["", "", "", "/expiry=4", "/type=3"])


@cache
def template() -> tuple[str, dict[str, str]]:
    """Return a folder with the three users and the group, made once."""
    folder = tempfile.mkdtemp(prefix="mesimqtt-model-")
    atexit.register(shutil.rmtree, folder)
    world = World(Path(folder) / "data")
    world.user("alice", "bob", "carol")
    world.group("team", "alice", "bob", "carol")
    world.advance(2)
    tokens = world.tokens
    world.close()
    return folder, tokens


class Chat(RuleBasedStateMachine):
    """Senders, phones that sleep, links that break, a server that is killed, and members who come and go."""

    @initialize()
    def begin(self):
        folder, tokens = template()
        self.folder = tempfile.mkdtemp(prefix="mesimqtt-model-")
        shutil.copytree(Path(folder) / "data", Path(self.folder) / "data")
        self.world = World(Path(self.folder) / "data", store={"page_messages": 3})
        self.world.tokens = dict(tokens)
        self.checker = Checker(self.world)
        self.peers = {}
        self.unacked = {}
        self.enrolled = set()
        self.members = {"alice", "bob", "carol"}
        self.number = 0
        self.is_held = False

    def look(self):
        """Let every client read; what it does not acknowledge now it may acknowledge later."""
        for key, peer in list(self.peers.items()):
            self.unacked[key] += self.checker.saw(peer)
            if peer.is_closed:
                del self.peers[key], self.unacked[key]

    @rule(key=DEVICE, clean=st.booleans(), five_options=FIVE)
    def connect(self, key, clean, five_options=None):
        if key in self.peers:
            return
        if five_options is None:
            peer = self.world.connect(*key, clean=clean)
        else:
            peer = five.connect(self.world, *key, clean=clean, **five_options)
        peer.auto_ack = False
        self.checker.connected(key)
        self.peers[key], self.unacked[key] = peer, []
        peer.subscribe("#")
        if not self.is_held:
            self.enrolled.add(key)
        self.look()

    @rule(key=DEVICE)
    def lose(self, key):
        if key in self.peers:
            self.look()
        if key in self.peers:
            self.peers.pop(key).lose()
            del self.unacked[key]

    @rule(key=DEVICE, to=TARGET, params=PARAMS)
    def send(self, key, to, params):
        kind, name = to.split("/")
        if name == key[0]:
            return
        if key not in self.peers:
            self.connect(key, clean=False)
        peer = self.peers[key]
        self.number += 1
        cid = f"c{self.number}"
        recipients = self.members - {key[0]} if kind == "g" else {name}
        send = Send(
            key[0], f"{to}/{cid}{params}", cid, f"text {self.number}", frozenset(recipients),
            frozenset(self.enrolled), expires="expiry" in params,
        )  # fmt: skip
        self.checker.sends[send.payload] = send
        self._try(peer, send)

    @rule(key=DEVICE, pick=st.randoms(use_true_random=False))
    def retry(self, key, pick):
        sends = [send for send in self.checker.sends.values() if send.sender == key[0]]
        if sends:
            if key not in self.peers:
                self.connect(key, clean=False)
            self._try(self.peers[key], pick.choice(sends))

    def _try(self, peer, send):
        if send.topic.startswith("g/") and send.sender not in self.members:
            return
        if send.topic.startswith("g/") and not send.is_accepted:
            send.recipients = frozenset(self.members - {send.sender})
        topic, values = send.topic, {}
        if isinstance(peer, five.Peer5) and "=" in topic:  # the same parameters, the other way
            topic, _, level = topic.rpartition("/")
            values["user"] = [tuple(level.split("="))]
        peer.publish(topic, send.payload, **values)
        self.look()

    @rule(key=DEVICE, count=st.integers(1, 5), skip=st.integers(0, 2))
    def acknowledge(self, key, count, skip):
        peer = self.peers.get(key)
        if peer is None:
            return
        self.look()
        if key not in self.peers:
            return
        chosen = self.unacked[key][skip : skip + count]
        self.unacked[key] = [message for message in self.unacked[key] if message not in chosen]
        chosen = [message for message in chosen if message.qos]
        self.checker.acknowledged(peer, chosen)
        if chosen:
            peer.ack(*chosen)
        self.look()

    @rule(key=DEVICE, upto=st.booleans())
    def read(self, key, upto):
        self.look()
        got = [message for message in self.unacked.get(key, []) if message.topic.split("/")[3] in ("u", "g")]
        if key in self.peers and got:
            levels = got[-1].topic.split("/")
            self.peers[key].publish(f"read/{levels[3]}/{levels[4]}", ("<=" if upto else "") + mid_of(got[-1]))
            self.look()

    @rule(seconds=st.sampled_from([0.5, 1.5, 3, 40]))
    def wait(self, seconds):
        self.world.advance(seconds)
        self.look()

    @rule(kill=st.booleans())
    def restart(self, kill):
        if self.is_held and not kill:
            self.release()
        self.look()
        self.world.restart(kill=kill)
        self.is_held = False
        if kill:
            self.checker.killed()
        self.peers.clear()
        self.unacked.clear()

    @precondition(lambda self: not self.is_held)
    @rule(answers=st.booleans())
    def hold(self, answers):
        (self.world.commits.hold_answers if answers else self.world.commits.hold)()
        self.is_held = True

    @precondition(lambda self: self.is_held)
    @rule()
    def release(self):
        self.world.commits.release()
        self.world.turn()
        self.is_held = False
        self.look()

    @precondition(lambda self: not self.is_held)
    @rule(name=st.sampled_from(["bob", "carol"]))
    def come_or_go(self, name):
        if name in self.members:
            self.world.do("group_leave", address="team", users=[name])
            self.members.discard(name)
        else:
            self.world.do("group_join", address="team", users=[name])
            self.members.add(name)
        self.checker.left |= {send.payload for send in self.checker.sends.values() if send.topic.startswith("g/")}
        self.look()

    def teardown(self):
        if not hasattr(self, "world"):
            return
        try:
            if self.is_held:
                self.release()
            for key in DEVICES:
                if key in self.peers:
                    self.lose(key)
                self.connect(key, clean=False)
            for _ in range(40):
                self.world.advance(1)
                for key in DEVICES:
                    self.acknowledge(key, 1000, 0)
            self.world.advance(45)
            self.look()
            self.checker.finish()
        finally:
            self.world.close()
            shutil.rmtree(self.folder)


TestChat = Chat.TestCase
TestChat.__doc__ = "Nothing accepted is lost, doubled or out of order, and every status is a legal step."
TestChat.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
