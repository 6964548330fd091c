"""Both ends of an exchange without sockets: an engine, clients that speak raw bytes, fakes for its ports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mesimqtt.engine.engine import Engine
from mesimqtt.engine.properties import NO_PROPERTIES
from mesimqtt.hooks import Decision, Identity
from mesimqtt.settings import Limits
from mesimqtt.testing.wire import (
    CONNACK,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    Message,
    ack,
    connect,
    decode,
    length,
    packet,
    publish,
    subscribe,
    text,
    unsubscribe,
)

__all__ = [
    "CONNACK",
    "DISCONNECT",
    "PINGREQ",
    "PINGRESP",
    "Client",
    "FakeClaim",
    "FakeGate",
    "Message",
    "Network",
    "ack",
    "connect",
    "decode",
    "length",
    "packet",
    "publish",
    "subscribe",
    "text",
    "unsubscribe",
]

ALLOW = Decision(allow=True, rule="open")


@dataclass
class FakeGate:
    """Lets everybody in as their user name (or 'open'), and allows what no rule denies.

    `denied` and `unknown` hold (action, topic): the latter are answered by None until they are removed.
    """

    denied: set[tuple[str, str]] = field(default_factory=set)
    unknown: set[tuple[str, str]] = field(default_factory=set)
    audits: list[tuple[str, str, str]] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)  # (client id, topic) of what was answered by None
    verdict: Any = "by name"

    def authenticate(self, connection, request):
        self.requests.append(request)
        if self.verdict == "by name":
            return Identity(request.username or "open")
        return self.verdict

    def decide(self, connection, action, topic):
        if (action.value, topic) in self.unknown:
            self.asked.append((connection.client_id, topic))
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

    def will(self, identity, will, again):
        self.calls.append(("will", identity.user, will.raw, will.payload, will.qos))
        self.again = again

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
        self.engine.restore(restored, self.keeper.retained.values(), self.keeper.restore_wills())
        self.engine.tick(self.now)

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
