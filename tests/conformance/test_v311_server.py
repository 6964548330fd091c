"""MQTT 3.1.1, sections 4.8 and 7: transient errors, and the server as an operator starts it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from conformance.peer import EngineWorld, SocketWire, World
from conformance.wire311 import (
    PINGREQ,
    PINGRESP,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    suback,
    subscribe,
    unsuback,
    unsubscribe,
)
from integration.server import Server

HOME = Path(__file__).resolve().parents[2]
FETCHES = "mesimqtt/messaging/fetch.py"  # of files by HTTP, which is no MQTT connection


class ProcessWorld(World):
    """Connections to `mesimqtt serve --open`, a process of its own whose sessions are on disk."""

    def __init__(self, server):
        super().__init__()
        self.server = server

    def _wire(self):
        return SocketWire(self.server.port)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("conformance") / "data", options=("--open",)) as running:
        yield running


@pytest.fixture
def process(server):
    found = ProcessWorld(server)
    yield found
    found.finish()


@pytest.mark.parametrize("qos", [1, 2])
def test_a_transient_error_closes(qos):
    """A message that the store cannot take is not acknowledged: the connection is closed, so that it is sent again.

    [MQTT-4.8.0-2] [MQTT-4.3.2-2] [MQTT-4.3.3-2]
    """
    world = EngineWorld(is_stored=True)
    receiver = world.subscribed(("a", qos), clean=False)
    world.keeper.is_instant = False
    sender = world.connected("p").send(publish("a", b"x", qos=qos)).expect_nothing_yet()
    world.keeper.commit(ok=False)
    sender.expect_closed()
    sender = world.connected("p").send(publish("a", b"x", qos=qos)).expect_nothing_yet()
    world.keeper.commit()

    sender.expect(puback(1) if qos == 1 else pubrec(1))
    receiver.expect_publish("a", b"x", qos=qos)
    world.keeper.is_instant = True
    world.finish()


def test_a_client_needs_nothing_but_the_specification(process):
    """Everything works over TCP with a plain client, without a name, a password or an extension.

    [MQTT-7.0.0-2] [MQTT-7.1.1-1]
    """
    peer = process.connected("plain")
    peer.send(subscribe(("room/+", 2))).expect(suback(2))
    peer.send(publish("room/1", b"0"), PINGREQ).expect(publish("room/1", b"0"), PINGRESP)
    peer.send(publish("room/1", b"2", qos=2, packet_id=5))
    answers = sorted([peer.take(), peer.take()])
    number = int.from_bytes(answers[0][10:12])
    assert [publish("room/1", b"2", qos=2, packet_id=number), pubrec(5)] == answers
    peer.send(pubrel(5), pubrec(number)).expect_any_order(pubcomp(5), pubrel(number))

    peer.send(pubcomp(number), unsubscribe("room/+")).expect(unsuback())


def test_bytes_are_ordered_and_complete(process):
    """A megabyte in pieces of any size arrives as it was sent [MQTT-7.1.1-1]."""
    receiver, sender = process.subscribed(("bulk", 0), client_id="r"), process.connected("p")
    packets = [publish("bulk", number.to_bytes(4) + b"x" * (number * 7 % 5000)) for number in range(400)]
    stream = b"".join(packets)
    for start in range(0, len(stream), 9973):
        sender.send(stream[start : start + 9973])

    receiver.expect(stream).expect_nothing()


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_acknowledged_is_not_sent_again(process, qos):
    """A client that acknowledges, says goodbye and is back at once does not get the message, or its PUBREL, again.

    [MQTT-4.4.0-1] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
    """
    name = f"quick{qos}"
    receiver = process.subscribed((name, qos), client_id=name, clean=False)
    sender = process.connected("p")
    for payload in (b"1", b"2", b"3"):
        sender.send(publish(name, payload, qos=qos)).expect(puback(1) if qos == 1 else pubrec(1))
        if qos == 2:
            sender.send(pubrel(1)).expect(pubcomp(1))
        number = receiver.expect_publish(name, payload, qos=qos)
        if qos == 1:
            receiver.send(puback(number))
        else:
            receiver.send(pubrec(number)).expect(pubrel(number)).send(pubcomp(number))
        receiver.leave()
        receiver = process.connected(name, clean=False, resumed=True)


def test_sessions_and_retained_messages_survive_a_restart(process):
    """What waits for a client, its subscriptions and what is retained are there after the server was stopped.

    [MQTT-4.1.0-1] [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-7]
    """
    receiver = process.subscribed(("keep/+", 1), client_id="keeper", clean=False)
    sender = process.connected("p").send(publish("keep/1", b"1", qos=1, retain=True)).expect(puback(1))
    first = receiver.expect_publish("keep/1", b"1", qos=1)
    receiver.leave()
    sender.send(publish("keep/2", b"2", qos=2)).expect(pubrec(1)).send(pubrel(1)).expect(pubcomp(1)).leave()
    process.server.restart()
    receiver = process.connected("keeper", clean=False, resumed=True)
    receiver.expect(publish("keep/1", b"1", qos=1, packet_id=first, dup=True))
    second = receiver.take()

    assert {second} <= {publish("keep/2", b"2", qos=1, packet_id=first + 1, dup=dup) for dup in (False, True)}
    receiver.send(puback(first), puback(first + 1)).send(PINGREQ).expect(PINGRESP)
    late = process.connected("late").send(subscribe(("keep/#", 0))).expect(suback(0))
    late.expect(publish("keep/1", b"1", retain=True))


def test_the_server_opens_no_connection_to_other_servers():
    """It is not a client of other servers, so it has to conform as a server alone [MQTT-7.0.0-1]."""
    opening = {"open_connection", "create_connection", "open_unix_connection", "create_unix_connection"}
    found = [
        f"{path.relative_to(HOME).as_posix()}:{node.lineno}"
        for folder in ("engine", "messaging", "store", "broker", "domain")
        for path in sorted((HOME / "mesimqtt" / folder).rglob("*.py"))
        if path != HOME / FETCHES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in opening
    ]

    assert [] == found
