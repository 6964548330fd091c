"""Random stories of clients of both versions, a gate that is late and a store that fails: nothing breaks, all ends."""

from __future__ import annotations

import random

import pytest

from mesimqtt.hooks import Identity, Refusal
from mesimqtt.testing import wire5
from mesimqtt.testing.parse5 import parse_from_server, split
from unit.engine import both_ends as wire4
from unit.engine.both_ends import FakeClaim, Message, Network, decode
from unit.engine.fake_keeper import FakeKeeper

TOPICS = ("t", "a/b", "a/c", "m/x", "$x/y", "long/" + "z" * 30)
FILTERS = ("t", "a/+", "#", "+/b", "$share/g/t", "$share/g/a/+", "$share/h/#", "m/x", "$share/x", "a/#", "long/#")
ACTIONS = ("publish", "receive", "subscribe", "will")
TOKEN = {"authentication_method": "OAUTH2-JWT", "authentication_data": b"token"}
PROPERTIES = {
    "message_expiry_interval": (0, 1, 100),
    "content_type": ("c",),
    "response_topic": ("r",),
    "user_property": ([("a", "b")],),
    "topic_alias": (1, 2, 17),
}


def connecting(chance, name):
    """Return a CONNECT, its version, and the limits that it names."""
    who = {"clean": chance.random() < 0.5, "keep_alive": chance.choice((0, 1, 60)), "user": chance.choice((None, "u"))}
    qos, retain = chance.randint(0, 2), chance.random() < 0.3
    if chance.random() < 0.3:
        will = (chance.choice(TOPICS), b"w", qos, retain) if chance.random() < 0.4 else None
        return wire4.connect(name, will=will, **who), 4, {}
    options = {"session_expiry_interval": (0, 1, 5, 100), "receive_maximum": (1, 2, 20)}
    options |= {
        "maximum_packet_size": (4, 10, 30, 100),
        "topic_alias_maximum": (1, 2),
        "request_problem_information": (0,),
    }
    chosen = {key: chance.choice(values) for key, values in options.items() if chance.random() < 0.4}
    will = wire5.will(
        chance.choice(TOPICS), b"w", qos=qos, retain=retain, will_delay_interval=chance.choice((0, 1, 99))
    )
    more = TOKEN if chance.random() < 0.4 else {}
    return wire5.connect(name, will=will if chance.random() < 0.5 else None, **who, **chosen, **more), 5, chosen


def saying(chance, version):
    """Return a packet that a client might send."""
    wire, what = (wire5 if version == 5 else wire4), chance.random()
    packet_id, qos = chance.randint(1, 6), chance.randint(0, 2)
    if what < 0.5:
        some = {name: chance.choice(of) for name, of in PROPERTIES.items() if version == 5 and chance.random() < 0.3}
        retain, payload = chance.random() < 0.15, bytes(chance.choice((1, 5, 70)))
        topic = chance.choice(TOPICS)
        return wire.publish(topic, payload, qos=qos, packet_id=packet_id, retain=retain, **some) * chance.choice((1, 3))
    if what < 0.65:
        bits = chance.choice((0, 4, 8, 0x10, 0x20)) if version == 5 else 0
        return wire.subscribe(*((chance.choice(FILTERS), qos | bits) for _ in range(2)), packet_id=packet_id)
    if what < 0.7:
        return wire.unsubscribe(chance.choice(FILTERS), packet_id=packet_id)
    if what < 0.8:
        return wire.ack("PUBREL", packet_id)
    if what < 0.85:
        return wire.ack(chance.choice(("PUBACK", "PUBREC", "PUBCOMP")), 9999)  # of nothing that is in flight
    if what < 0.9 and version == 5:
        return wire5.auth(0x19, **TOKEN)
    if what < 0.95:
        return wire5.disconnect() if chance.random() < 0.3 else wire5.PINGREQ
    return bytes((chance.choice((0x10, 0x20, 0x36, 0x60, 0x90, 0xC1, 0xF1)),)) + chance.randbytes(4)


class Peer:
    """A client that looks at all that it gets, and acknowledges it when told to."""

    def __init__(self, network, name, chance):
        self.network, self.chance = network, chance
        self.connect, self.version, self.limits = connecting(chance, name)
        self.far = network.client()
        self.in_flight, self.answers, self.aliases = set(), [], set()

    @property
    def connection(self):
        """Return the server's end."""
        return self.far.connection

    def send(self, data):
        """Send bytes, in one segment, two or many."""
        sizes = (len(data), self.chance.randint(1, len(data)), 1) if data else ()
        step = self.chance.choice(sizes) if data else 1
        for start in range(0, len(data), step):
            self.connection.receive(data[start : start + step], self.network.now)

    def look(self):
        """Look at all that came: it is MQTT, and within this client's limits."""
        for raw in split(self.far.raw()):
            assert len(raw) <= self.limits.get("maximum_packet_size", len(raw))
            packet = parse_from_server(raw) if self.version == 5 else decode(raw)[0]
            if isinstance(packet, Message) or getattr(packet, "kind", "") == "PUBLISH":
                self._take(packet)
            elif raw[0] == 0x62:
                self.answers.append(wire4.ack("PUBCOMP", int.from_bytes(raw[2:4])))

    def _take(self, message):
        if self.version == 5 and message.topic_alias:
            assert message.topic_alias <= self.limits["topic_alias_maximum"]
            assert message.topic or message.topic_alias in self.aliases
            self.aliases.add(message.topic_alias)
        if message.qos:
            assert message.packet_id not in self.in_flight, "one packet id twice"
            self.in_flight.add(message.packet_id)
            assert len(self.in_flight) <= self.limits.get("receive_maximum", 0xFFFF)
            self.answers.append(wire4.ack("PUBACK" if message.qos == 1 else "PUBREC", message.packet_id))

    def answer(self):
        """Send one acknowledgement."""
        if self.answers:
            raw = self.answers.pop(0)
            if raw[0] != 0x50:
                self.in_flight.discard(int.from_bytes(raw[2:]))
            self.send(raw)


class Story:
    """What happens to a server and its clients, by chance."""

    def __init__(self, seed):
        self.chance = chance = random.Random(seed)
        self.keeper = FakeKeeper() if chance.random() < 0.7 else None
        limits = {"inflight_max": chance.choice((1, 2, 64)), "qos2_incoming_max": chance.choice((2, 1000))}
        limits |= {"queue_messages_max": chance.choice((3, 50)), "sessions_per_user_max": chance.choice((2, 50))}
        limits |= {"payload_max": 60, "packet_max": 400, "queue_bytes_max": 2000, "retained_max": 4, "filters_max": 8}
        self.network = Network(claim=FakeClaim(), keeper=self.keeper, session_expiry_s=50, **limits)
        self.peers, self.asked = [], []

    def step(self):
        """Let one thing happen."""
        chance, network, gate = self.chance, self.network, self.network.gate
        peer = chance.choice(self.peers) if self.peers else None
        what = chance.random()
        if peer is None or not peer.connection.is_open or what < 0.05:
            self._come(f"c{chance.randrange(5)}")
        elif what < 0.5:
            gate.verdict = None if chance.random() < 0.1 else "by name"
            self.asked.append(peer.connection)
            peer.send(b"".join(saying(chance, peer.version) for _ in range(chance.randint(1, 4))))
        elif what < 0.75:
            peer.answer()
        elif what < 0.8:
            peer.connection.set_congested(chance.random() < 0.4)
        elif what < 0.84:
            chance.choice((gate.unknown, gate.denied)).add((chance.choice(ACTIONS), chance.choice(TOPICS)))
            network.engine.permissions_changed()
        elif what < 0.88:
            gate.unknown.clear()
            for one in self.peers:
                one.connection.resume(network.now)
        elif what < 0.9 and self.asked:
            verdict = chance.choice((Identity("u"), Identity("open", packet_max=50), Refusal(5, "no")))
            self.asked.pop(0).authenticated(verdict, network.now)
        elif what < 0.94 and self.keeper is not None:
            self.keeper.commit(ok=chance.random() < 0.7)
        elif what < 0.97:
            network.pass_time(chance.choice((0.3, 2, 60)))
        else:
            peer.connection.lost(network.now)

    def _come(self, name):
        peer = Peer(self.network, name, self.chance)
        self.network.gate.verdict = None if self.chance.random() < 0.1 else "by name"
        self.asked.append(peer.connection)
        self.peers.append(peer)
        peer.send(peer.connect)

    def look(self):
        """Let everybody look at what came, and look at the server's books."""
        for peer in self.peers:
            peer.look()
        engine = self.network.engine
        assert engine.held_bytes == sum(session.held_bytes for session in engine.sessions.values())
        assert engine.counters.connected == sum(session.connection is not None for session in engine.sessions.values())
        for session in engine.sessions.values():
            assert bool(session.key) is not session.clean
            assert session.connection is None or session.connection.session is session
        self.peers = [peer for peer in self.peers if not peer.connection.closing]

    def end(self):
        """Let everybody go, and time pass until nothing is left to wait for."""
        self.network.gate.unknown.clear()
        for peer in self.peers:
            peer.connection.resume(self.network.now)
            peer.connection.lost(self.network.now)
        if self.keeper is not None:
            self.keeper.is_instant = True
            self.keeper.commit()
        self.network.pass_time(121)


@pytest.mark.parametrize("seed", range(60))
def test_a_story_of_both_versions(seed):
    """No input, in whatever pieces, with whatever answers of gate and store, breaks the engine or a client's limits."""
    story = Story(seed)
    for _ in range(120):
        story.step()
        story.look()
    story.end()
    engine = story.network.engine

    assert 0 == engine.held_bytes == engine.counters.connected
    assert [] == [*engine.sessions, *engine.kept_of, *engine.shares, *engine.replays, *engine.wills]


@pytest.mark.parametrize("seed", range(60))
def test_pieces_make_no_difference(seed):
    """What a client sends means the same in one segment and byte by byte, to it and to others."""
    chance = random.Random(seed)
    version = chance.choice((4, 5))
    wire = wire5 if version == 5 else wire4
    said = b"".join(saying(chance, version) for _ in range(8))
    seen = []
    for step in (1, 3, len(said)):
        network = Network(claim=FakeClaim(), payload_max=60)
        watcher = network.subscribed(("#", 2), client_id="watcher")
        client = network.client()
        network.gate.denied.add(("publish", "a/c"))
        client.connection.receive(wire.connect("c"), network.now)
        for start in range(0, len(said), step):
            client.connection.receive(said[start : start + step], network.now)
        own, others = split(client.raw()), split(watcher.raw())
        own = sorted(raw if raw[0] != 0xE0 else raw[2:3] for raw in own)  # Reason Strings are for people
        seen.append((own, others, bool(client.closed), sorted(network.claim.calls, key=repr)))

    assert seen[0] == seen[1] == seen[2]
