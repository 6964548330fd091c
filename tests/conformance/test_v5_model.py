"""MQTT 5.0: long random stories of publishers, subscribers, lost connections and limits, and what must come of them."""

from __future__ import annotations

import random
from itertools import count

import pytest

from conformance.peer5 import Five
from conformance.receiver5 import Receiver
from conformance.store5 import FakeStoreWorld, StoreWorld
from mesimqtt.testing.wire5 import publish, pubrel, suback, subscribe

TOPICS = ("a/b", "a/c", "d")
MATCHING = {"a/+": {"a/b", "a/c"}, "#": set(TOPICS), "a/b": {"a/b"}, "d": {"d"}}


class Publisher:
    """A client whose every message arrives at the server once, whatever becomes of its connection."""

    def __init__(self, five, name, numbers):
        self.five, self.name, self.numbers, self.packet_id = five, name, numbers, 0
        self.sent = []  # (topic, payload, QoS)
        self.peer = five.connected(name, session_expiry_interval=3600)

    def go(self):
        """Lose the connection."""
        self.peer.cut()

    def come(self):
        """Connect again."""
        self.peer = self.five.back(self.name)

    def publish(self, chance):
        """Publish; now and then the connection is lost in the middle of the exchange, and resumed."""
        topic, qos = chance.choice(TOPICS), chance.randrange(3)
        payload = f"{self.name}:{next(self.numbers)}".encode()
        self.packet_id = self.packet_id % 65535 + 1
        self.sent.append((topic, payload, qos))
        raw = {"qos": qos, "packet_id": self.packet_id}
        self.peer.send(publish(topic, payload, **raw))
        if qos == 0:
            return
        assert self.peer.take().code in {0, 0x10}
        if qos == 2 and chance.random() < 0.3:
            self.go()
            self.come()
            self.peer.send(publish(topic, payload, dup=True, **raw))
            assert self.peer.take().kind == "PUBREC"
        if qos == 2:
            assert self.peer.send(pubrel(self.packet_id)).take().code == 0


def begin(five, chance):
    """Three subscribers with drawn subscriptions; returns them with the QoS that each topic has for them."""
    found = []
    for number in range(3):
        receiver = Receiver(five, chance, f"s{number}")
        receiver.come(resumed=False)
        granted = dict.fromkeys(TOPICS, -1)
        for identifier, name in enumerate(chance.sample(sorted(MATCHING), 2), start=1):
            qos = chance.randrange(3)
            receiver.identifiers.add(identifier)
            receiver.peer.send(subscribe((name, qos), subscription_identifier=identifier)).expect(suback(qos))
            granted.update({topic: max(granted[topic], qos) for topic in MATCHING[name]})
        found.append((receiver, granted))
    return found


def share(five, chance):
    """Three members of one group, each with a QoS of its own."""
    found = []
    for number in range(3):
        member, qos = Receiver(five, chance, f"m{number}"), chance.choice((1, 2))
        member.come(resumed=False)
        member.peer.send(subscribe(("$share/g/#", qos))).expect(suback(qos))
        found.append((member, dict.fromkeys(TOPICS, qos)))
    return found


def play(five, seed, *, steps=80, restart=None, start=begin):
    """Play a story to its end, where everybody is connected and nothing is left to say."""
    chance, numbers = random.Random(seed), count()
    receivers = start(five, chance)
    publishers = [Publisher(five, name, numbers) for name in ("p", "q")]
    for _ in range(steps):
        what, (receiver, _) = chance.random(), chance.choice(receivers)
        if what < 0.5:
            chance.choice(publishers).publish(chance)
        elif what < 0.8:
            receiver.read(holds=True)
        elif what < 0.87:
            receiver.go()
        elif what < 0.9:
            receiver.take_over()
        elif what < 0.95 or restart is None:
            if receiver.peer is None:
                receiver.come()
        else:
            for gone in [*(one for one, _ in receivers), *publishers]:
                gone.go()
            restart()
            for publisher in publishers:
                publisher.come()
    for receiver, _ in receivers:
        if receiver.peer is None:
            receiver.come()
        while receiver.read(holds=False):
            five.world.settle()
    return publishers, receivers


def check(publishers, receiver, granted):
    """Compare what a subscriber heard with what was published: QoS 0 at most once, 1 at least once, 2 exactly once."""
    for publisher in publishers:
        for topic in TOPICS:
            for said in range(3):
                qos = min(said, granted[topic])
                sent = [body for name, body, level in publisher.sent if (name, level) == (topic, said)]
                heard = [(body, level) for name, body, level in receiver.heard if name == topic and body in sent]
                once = list(dict.fromkeys(body for body, _ in heard))

                assert {qos} >= {level for _, level in heard}
                assert once == [body for body in sent if body in once], "out of order"
                if qos >= 1:
                    assert sent == once, "lost"
                if qos in {0, 2}:
                    assert len(once) == len(heard), "twice"
                if qos < 0:
                    assert [] == heard


@pytest.mark.parametrize("seed", range(25))
def test_a_story(five, seed):
    """Whatever happens, what was promised arrives, in order, within the limits.

    [MQTT-3.1.2-26] [MQTT-3.3.4-2] [MQTT-3.3.4-9] [MQTT-4.3.2-3] [MQTT-4.3.3-6] [MQTT-4.3.3-10] [MQTT-4.4.0-1]
    [MQTT-4.5.0-1] [MQTT-4.6.0-5]
    """
    publishers, receivers = play(five, seed)
    for receiver, granted in receivers:
        check(publishers, receiver, granted)

    assert any(receiver.heard for receiver, _ in receivers)


@pytest.mark.parametrize("seed", range(100, 125))
def test_a_story_with_restarts(tmp_path, seed):
    """The same where the server's process ends now and then.

    [MQTT-3.1.2-23] [MQTT-4.3.2-3] [MQTT-4.3.3-10] [MQTT-4.4.0-1] [MQTT-4.6.0-5]
    """
    tell(FakeStoreWorld(tmp_path), seed)


@pytest.mark.parametrize("seed", range(200, 204))
def test_a_story_on_disk(tmp_path, seed):
    """The same on the real store.

    [MQTT-3.1.2-23] [MQTT-4.3.2-3] [MQTT-4.3.3-10] [MQTT-4.4.0-1] [MQTT-4.6.0-5]
    """
    tell(StoreWorld(tmp_path / "data"), seed)


def tell(world, seed):
    """Play a story with restarts, and check it."""
    publishers, receivers = play(Five(world), seed, restart=world.restart)
    for receiver, granted in receivers:
        check(publishers, receiver, granted)
    world.finish()

    assert any(receiver.heard for receiver, _ in receivers)


def tell_shared(five, seed, *, restart=None):
    """Play the story of a group, and check it: each message to one member, at QoS 1 perhaps again, never lost."""
    publishers, members = play(five, seed, restart=restart, start=share)
    heard = [(member.client_id, *one) for member, _ in members for one in member.heard]
    for publisher in publishers:
        for topic, body, said in publisher.sent:
            got = [(name, qos) for name, where, what, qos in heard if (where, what) == (topic, body)]

            assert said == 0 or got, "lost"
            assert len(got) <= 1 or {1} == {qos for _, qos in got}, "QoS 2 twice"


@pytest.mark.parametrize("seed", range(300, 325))
def test_a_story_of_a_group(five, seed):
    """Each message for a shared subscription goes to one member, whoever comes and goes.

    [MQTT-4.8.2-3] [MQTT-4.8.2-4] [MQTT-4.8.2-5] [MQTT-4.4.0-1] [MQTT-3.3.4-9]
    """
    tell_shared(five, seed)


@pytest.mark.parametrize("seed", range(400, 415))
def test_a_story_of_a_group_with_restarts(tmp_path, seed):
    """The same where the server's process ends now and then [MQTT-3.1.2-23] [MQTT-4.8.2-4]."""
    world = FakeStoreWorld(tmp_path)
    tell_shared(Five(world), seed, restart=world.restart)
    world.finish()
