"""A small server's random life, first part: links that come and go, sends, acknowledgements, time and crashes."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, settings, target
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from unit.messaging import five
from unit.messaging.chat_laws import StoreLaws
from unit.messaging.chat_model import Checker, Send
from unit.messaging.world import World, mid_of

USERS = ("alice", "bob", "carol")
DEVICES = [("alice", "a1"), ("alice", "a2"), ("bob", "b1"), ("bob", "b2"), ("carol", "c1")]
DEVICE = st.sampled_from(DEVICES)
TARGET = st.sampled_from(["u/alice", "u/bob", "u/carol", "g/team"])
FIVE = st.sampled_from([None, None, {}, {"receive_maximum": 1}, {"receive_maximum": 3}, {"expiry": 0}])  # None: 3.1.1
PARAMS = st.sampled_from(["", "", "", "/expiry=4", "/type=3", "/when=2", "/when=3&expiry=4"])
PICK = st.randoms(use_true_random=False)
_LOOK_MS = 250
LONG = int(os.environ.get("MACHINE_EXAMPLES", "0"))  # `make machines`


def chat_settings(*, max_examples, **more):
    """Return settings of the suite, or of the long form."""
    return settings(
        max_examples=LONG or max_examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        **more,
    )


@cache
def template() -> tuple[str, dict[str, str]]:
    """Return a folder with the three users and the group, made once."""
    folder = tempfile.mkdtemp(prefix="mesimqtt-model-")
    atexit.register(shutil.rmtree, folder)
    world = World(Path(folder) / "data")
    world.user(*USERS)
    world.group("team", *USERS)
    world.advance(2)
    tokens = world.tokens
    world.close()
    return folder, tokens


def life(**sections) -> tuple[str, World]:
    """Return a folder of its own, and a world on it that goes on where the template's ended."""
    folder, tokens = template()
    copied = tempfile.mkdtemp(prefix="mesimqtt-model-")
    shutil.copytree(Path(folder) / "data", Path(copied) / "data")
    world = World(Path(copied) / "data", **sections)
    world.ms += 3_000
    world.chance.draw(10_000)  # what the template has drawn is not drawn again
    world.tokens = dict(tokens)
    world.tick()
    return copied, world


class ChatBase(RuleBasedStateMachine):
    """Senders, phones that sleep, links that break, and a server that is killed."""

    @initialize()
    def begin(self):
        self.folder, self.world = life(store={"page_messages": 3})
        self.checker = Checker(self.world)
        self.laws = StoreLaws(self.world)
        self.peers = {}
        self.unacked = {}
        self.enrolled = set()
        self.members = set(USERS)
        self.disabled = set()
        self.number = 0
        self.is_held = False
        self.backlog = 0

    def look(self):
        """Let every client read; what it does not acknowledge now it may acknowledge later."""
        heard = [(key, peer, self.checker.heard(peer)) for key, peer in list(self.peers.items())]
        for key, peer, messages in heard:  # a status may tell of what another has been heard of just now
            self.checker.told(peer, messages)
            self.unacked[key] += messages
            if peer.is_closed:
                del self.peers[key], self.unacked[key]

    @rule(key=DEVICE, clean=st.booleans(), five_options=FIVE, qos=st.sampled_from([1, 1, 1, 0]))
    def connect(self, key, clean, five_options=None, qos=1):
        if key in self.peers or key[0] in self.disabled:
            return
        if five_options is None:
            peer = self.world.connect(*key, clean=clean)
        else:
            peer = five.connect(self.world, *key, clean=clean, **five_options)
        peer.auto_ack = False
        self.checker.connected(key)
        self.peers[key], self.unacked[key] = peer, []
        peer.subscribe("#", qos=qos)
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

    def here(self, key):
        """Return a device's connection, made if there is none; None where it may not enter."""
        if key not in self.peers:
            self.connect(key, clean=False)
        return self.peers.get(key)

    @rule(key=DEVICE, to=TARGET, params=PARAMS)
    def send(self, key, to, params):
        self.say(key, to, params)

    def say(self, key, to, params):
        """Send something new; return the send, None where it could not be tried."""
        kind, name = to.split("/")
        peer = self.here(key) if name != key[0] else None
        if peer is None:
            return None
        self.number += 1
        cid = f"c{self.number}"
        recipients = self.members - {key[0]} if kind == "g" else {name}
        send = Send(
            key[0], f"{to}/{cid}{params}", cid, f"text {self.number}", frozenset(recipients), frozenset(self.enrolled)
        )  # fmt: skip
        self.checker.sends[send.payload] = send
        self.attempt(peer, send)
        return send

    @rule(key=DEVICE, pick=PICK)
    def retry(self, key, pick):
        sends = [send for send in self.checker.sends.values() if send.sender == key[0]]
        peer = self.here(key) if sends else None
        if peer is not None:
            self.attempt(peer, pick.choice(sends))

    @rule(user=st.sampled_from(USERS), pick=PICK, times=st.integers(2, 4), held=st.booleans())
    def retry_on_all_links(self, user, pick, times, held):
        """Send the same again on several links at once: in one commit, if it is held back."""
        sends = [send for send in self.checker.sends.values() if send.sender == user]
        peers = [peer for key in DEVICES if key[0] == user and (peer := self.here(key)) is not None]
        if not sends or not peers:
            return
        send = pick.choice(sends)
        if held and not self.is_held:
            self.hold(answers=pick.random() < 0.5)
        for number in range(times):
            self.attempt(peers[number % len(peers)], send)
        if held and self.is_held:
            self.release()

    def attempt(self, peer, send):
        """Publish a send, the first time or again."""
        if peer.is_closed or (send.is_group and send.sender not in self.members):
            return
        if send.is_group and not send.is_accepted:
            send.recipients = frozenset(self.members - {send.sender})
        send.tried_at.add(self.world.ms)
        topic, values = send.topic, {}
        if isinstance(peer, five.Peer5) and "=" in topic:  # the same parameters, the other way
            topic, _, level = topic.rpartition("/")
            values["user"] = [tuple(pair.split("=")) for pair in level.split("&")]
        peer.publish(topic, send.body, **values)
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
        self.pass_time(round(seconds * 1000))

    def pass_time(self, ms):
        """Let time pass in small steps, so that what comes is seen when it comes."""
        end = self.world.ms + ms
        while self.world.ms < end:
            self.world.advance(min(_LOOK_MS, end - self.world.ms) / 1000)
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
            self.laws.killed()
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

    @invariant()
    def what_is_stored_obeys_its_laws(self):
        if hasattr(self, "world"):
            self.laws.check()
            self.backlog = max(self.backlog, self.laws.backlog)

    def teardown(self):
        if not hasattr(self, "world"):
            return
        try:
            target(float(self.backlog), label="the longest backlog")
            self.settle()
            self.checker.finish()
            self.laws.check()
        finally:
            self.world.close()
            shutil.rmtree(self.folder)

    def settle(self):
        """Let everybody come, acknowledge everything, and time pass until nothing is left to happen."""
        if self.is_held:
            self.release()
        for key in DEVICES:
            if key in self.peers:
                self.lose(key)
            self.connect(key, clean=False)
        for _ in range(40):
            self.pass_time(1_000)
            for key in DEVICES:
                self.acknowledge(key, 1000, 0)
        self.pass_time(45_000)
