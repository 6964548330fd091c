"""Both ends of an exchange without sockets: an engine, clients that speak raw bytes, fakes for its ports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mesimqtt.engine.engine import Engine
from mesimqtt.engine.properties import NO_PROPERTIES
from mesimqtt.hooks import Decision, Identity
from mesimqtt.settings import Limits

ALLOW = Decision(allow=True, rule="open")
CONNACK, PINGREQ = b"\x20\x02\x00\x00", b"\xc0\x00"
PINGRESP, DISCONNECT = ("PINGRESP",), b"\xe0\x00"


def length(number: int) -> bytes:
    """A remaining length, encoded as the specification's own pseudo code does it."""
    encoded = bytearray()
    while True:
        number, digit = divmod(number, 128)
        encoded.append(digit | (128 if number else 0))
        if not number:
            return bytes(encoded)


def text(value: str | bytes) -> bytes:
    """A string of the protocol."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def packet(first: int, body: bytes = b"") -> bytes:
    return bytes([first]) + length(len(body)) + body


def connect(
    client_id="c", *, clean=True, user=None, password=None, will=None, keep_alive=60, level=4, flags=0
) -> bytes:
    """A CONNECT; `will` is (topic, payload, qos, retain)."""
    bits, tail = flags | (2 if clean else 0), text(client_id)
    if will is not None:
        bits |= 4 | will[2] << 3 | (0x20 if will[3] else 0)
        tail += text(will[0]) + text(will[1])
    if user is not None:
        bits |= 0x80
        tail += text(user)
    if password is not None:
        bits |= 0x40
        tail += text(password)
    return packet(0x10, text("MQTT") + bytes([level, bits]) + keep_alive.to_bytes(2, "big") + tail)


def publish(topic, payload=b"", *, qos=0, packet_id=1, retain=False, dup=False) -> bytes:
    identifier = packet_id.to_bytes(2, "big") if qos else b""
    return packet(0x30 | dup << 3 | qos << 1 | retain, text(topic) + identifier + payload)


def subscribe(*filters, packet_id=1) -> bytes:
    """A SUBSCRIBE of (filter, qos) pairs."""
    return packet(0x82, packet_id.to_bytes(2, "big") + b"".join(text(name) + bytes([qos]) for name, qos in filters))


def unsubscribe(*filters, packet_id=1) -> bytes:
    return packet(0xA2, packet_id.to_bytes(2, "big") + b"".join(map(text, filters)))


def ack(kind: str, packet_id: int) -> bytes:
    return bytes([{"PUBACK": 0x40, "PUBREC": 0x50, "PUBREL": 0x62, "PUBCOMP": 0x70}[kind], 2]) + packet_id.to_bytes(2)


@dataclass(frozen=True)
class Message:
    """A PUBLISH that a client received."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    retain: bool = False
    dup: bool = False


_NAMES = {4: "PUBACK", 5: "PUBREC", 6: "PUBREL", 7: "PUBCOMP", 11: "UNSUBACK"}


def decode(data: bytes) -> list[Any]:
    """Decode what the server sent, independently of the server's own code; trailing bytes are an error."""
    packets, at = [], 0
    while at < len(data):
        first, size, shift, at = data[at], 0, 0, at + 1
        while True:
            size |= (data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 128:
                break
        body, at = data[at : at + size], at + size
        assert len(body) == size, "the server sent half a packet"
        packets.append(_decode_one(first, body))
    return packets


def _decode_one(first: int, body: bytes) -> Any:
    kind = first >> 4
    if kind == 3:
        end, qos = 2 + int.from_bytes(body[:2]), first >> 1 & 3
        number = int.from_bytes(body[end : end + 2]) if qos else 0
        payload = body[end + 2 :] if qos else body[end:]
        return Message(body[2:end].decode(), payload, qos, number, bool(first & 1), bool(first & 8))
    if kind == 2:
        assert (0x20, 2) == (first, len(body))
        return ("CONNACK", body[0], body[1])
    if kind == 9:
        return ("SUBACK", int.from_bytes(body[:2]), list(body[2:]))
    if kind == 13:
        assert (0xD0, b"") == (first, body)
        return PINGRESP
    assert first & 15 == (2 if kind == 6 else 0)
    assert len(body) == 2
    return (_NAMES[kind], int.from_bytes(body))


@dataclass
class FakeGate:
    """Lets everybody in as their user name (or 'open'), and allows what no rule denies.

    `denied` and `unknown` hold (action, topic): the latter are answered by None until they are removed.
    """

    denied: set[tuple[str, str]] = field(default_factory=set)
    unknown: set[tuple[str, str]] = field(default_factory=set)
    audits: list[tuple[str, str, str]] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    verdict: Any = "by name"

    def authenticate(self, connection, request):
        self.requests.append(request)
        if self.verdict == "by name":
            return Identity(request.username or "open")
        return self.verdict

    def decide(self, connection, action, topic):
        if (action.value, topic) in self.unknown:
            return None
        return Decision(allow=False, rule="no") if (action.value, topic) in self.denied else ALLOW

    def audit(self, connection, action, topic, rule):
        self.audits.append((action.value, topic, rule))


class FakeClaim:
    """Owns `m/`; `calls` records what it was told. Acknowledges at once unless `is_slow`."""

    root = b"m"

    def __init__(self):
        self.calls: list[tuple[Any, ...]] = []
        self.is_slow = False
        self.will_rule = ALLOW
        self.refused_filters: set[str] = set()
        self.properties: list[Any] = []

    def connected(self, connection):
        self.calls.append(("connected", connection.client_id))

    def disconnected(self, connection):
        self.calls.append(("disconnected", connection.client_id))

    def publish(self, connection, topic, payload, qos, packet_id, dup, properties=NO_PROPERTIES):
        self.calls.append(("publish", topic, payload, qos, packet_id, dup))
        if properties is not NO_PROPERTIES:
            self.properties.append(properties)
        return not self.is_slow

    def oversized(self, connection, topic, size):
        self.calls.append(("oversized", topic, size))

    def will_decision(self, connection, identity, topic):
        return self.will_rule

    def will(self, identity, topic, payload, qos, properties=NO_PROPERTIES):
        self.calls.append(("will", identity.user, topic, payload, qos))

    def subscribe(self, connection, topic_filter, qos, identifier=0):
        self.calls.append(("subscribe", topic_filter, qos))
        return 0x80 if topic_filter in self.refused_filters else min(qos, 1)

    def subscribed(self, connection, filters):
        self.calls.append(("subscribed", filters))

    def unsubscribe(self, connection, topic_filter):
        self.calls.append(("unsubscribe", topic_filter))
        return True

    def reauthenticated(self, connection):
        self.calls.append(("reauthenticated", connection.identity.jti))

    def acked(self, connection, tokens):
        self.calls.append(("acked", tokens))

    def writable(self, connection):
        self.calls.append(("writable", connection.client_id))


class Client:
    """The far end of one connection: sends raw packets, decodes what comes."""

    def __init__(self, network, connection):
        self.network = network
        self.connection = connection

    def send(self, *packets: bytes):
        """Send packets as one segment; return what the server answered."""
        self.connection.receive(b"".join(packets), self.network.now)
        return self.received()

    def raw(self) -> bytes:
        """Return the bytes that the server wrote since the last look."""
        out = self.connection.out
        data = b"".join(out)
        out.clear()
        if self.connection in self.network.engine.dirty:
            self.network.engine.dirty.remove(self.connection)
        return data

    def received(self):
        """Return the packets that the server wrote since the last look."""
        return decode(self.raw())

    @property
    def closed(self) -> str:
        """Why the server closed; '' if it did not."""
        return self.connection.close_reason if self.connection.closing else ""

    def lose(self):
        self.connection.lost(self.network.now)


class Network:
    """An engine, its fakes and a clock that stands still."""

    def __init__(self, *, claim=None, keeper=None, observer=None, now=1000.0, **limits):
        self.now = now
        self.gate = FakeGate()
        self.claim = claim
        self.keeper = keeper
        self.limits = Limits(**limits)
        self.observer = observer
        self.wakes = 0
        self.engine = self._engine()

    def _engine(self):
        engine = Engine(
            self.limits, gate=self.gate, claim=self.claim, keeper=self.keeper, observer=self.observer, now=self.now
        )
        engine.wake = self._woken
        return engine

    def _woken(self):
        self.wakes += 1

    def restart(self):
        """Begin anew with what the keeper committed."""
        restored = self.keeper.crash()
        self.engine = self._engine()
        self.engine.restore(restored)
        self.engine.restore_retained(self.keeper.retained.values())

    def client(self) -> Client:
        """Open a connection that has not said anything yet."""
        return Client(self, self.engine.open("192.0.2.1", "default", self.now))

    def connected(self, client_id="c", **options) -> Client:
        """Open a connection and connect; the CONNACK is taken."""
        client = self.client()
        answer = client.send(connect(client_id, **options))
        assert ("CONNACK", 0) == (answer[0][0], answer[0][2])
        client.rest = answer[1:]
        client.session_present = answer[0][1]
        return client

    def subscribed(self, *filters, client_id="s", **options) -> Client:
        """Connect and subscribe to (filter, qos) pairs; the answers are taken."""
        client = self.connected(client_id, **options)
        answer = client.send(subscribe(*filters))
        if self.keeper is not None and not answer:
            self.keeper.commit()
            answer = client.received()
        assert ("SUBACK", 1, [qos for _, qos in filters]) == answer[0]
        client.rest = answer[1:]
        return client

    def pass_time(self, seconds):
        """Let time pass, with the ticks that belong to it."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 0.25, end)
            self.engine.tick(self.now)
