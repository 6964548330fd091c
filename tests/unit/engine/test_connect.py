"""CONNECT: what is refused, what is closed, take-over, and that nothing is touched before authentication."""

from __future__ import annotations

import pytest

from mesimqtt.engine.packets import MalformedError, check_text, read_text
from mesimqtt.hooks import Identity, Refusal
from mesimqtt.settings import Mqtt
from unit.engine.both_ends import (
    CONNACK,
    PINGREQ,
    PINGRESP,
    Message,
    Network,
    connect,
    packet,
    publish,
    subscribe,
    text,
)


def test_a_refusal_is_a_connack_and_the_end(network):
    """A refused client gets the gate's return code without session present, and is closed [MQTT-3.2.2-5]."""
    network.gate.verdict = Refusal(5, "no such user")
    client = network.client()

    assert [("CONNACK", 0, 5)] == client.send(connect(), PINGREQ)
    assert "no such user" == client.closed


def test_the_gate_sees_what_the_client_sent(network):
    """User name, password, client id and clean session reach the gate as they were sent; absent is None."""
    network.connected("id", user="ünï", password=b"\0\xff")
    network.connected("id2")
    first, second = network.gate.requests

    assert ("id", "ünï", b"\0\xff", True, 4) == (
        first.client_id, first.username, first.password, first.clean_start, first.version,
    )  # fmt: skip
    assert (None, None) == (second.username, second.password)


def test_an_empty_client_id_gets_a_name(network):
    """With clean session 1 the server makes up an id that no other session has [MQTT-3.1.3-6]."""
    clients = [network.connected(""), network.connected("")]

    assert all(client.connection.client_id_assigned for client in clients)
    assert 2 == len({client.connection.client_id for client in clients})


def test_authentication_may_take_its_time(network):
    """While the gate thinks nothing is processed; what came meanwhile is processed after CONNACK, in order."""
    network.gate.verdict = None
    client = network.client()

    assert [] == client.send(connect(), subscribe(("a", 0)))
    assert [] == client.send(publish("a", b"hi"), PINGREQ)
    assert {} == network.engine.sessions

    client.connection.authenticated(Identity("alice"), network.now)

    assert [("CONNACK", 0, 0), ("SUBACK", 1, [0]), Message("a", b"hi"), PINGRESP] == client.received()
    assert [("alice", "c")] == list(network.engine.sessions)


def test_input_before_authentication_is_bounded(network):
    """Who sends more than 8 KiB while the gate thinks is closed."""
    network.gate.verdict = None
    client = network.client()
    client.send(connect())
    for _ in range(9):
        client.send(bytes(1000))

    assert client.closed


def test_a_late_verdict_for_a_closed_connection_does_nothing(network):
    """If the client is gone when the gate answers, no session is made."""
    network.gate.verdict = None
    client = network.client()
    client.send(connect())
    client.lose()
    client.connection.authenticated(Identity("alice"), network.now)

    assert {} == network.engine.sessions
    assert 0 == network.engine.counters.connected


def test_taking_over_closes_the_older_connection(network):
    """A second CONNECT with the same user and client id closes the first connection [MQTT-3.1.4-2]."""
    first = network.subscribed(("a", 0), client_id="c")
    second = network.connected("c")

    assert "taken over" == first.closed
    assert [] == second.send(publish("a", b"x"))  # the clean session of the first is gone
    assert [second.connection] == network.engine.connections_of("open")


def test_a_wrong_password_touches_nothing(network):
    """A refused CONNECT with a victim's client id neither closes the victim nor takes its subscriptions."""
    victim = network.subscribed(("a", 0), client_id="c", user="victim")
    network.gate.verdict = Refusal(4, "wrong password")
    thief = network.client()

    assert [("CONNACK", 0, 4)] == thief.send(connect("c", user="victim", will=("a", b"w", 0, False)))
    network.gate.verdict = "by name"

    assert not victim.closed
    assert [Message("a", b"x")] == victim.send(publish("a", b"x"))


def test_the_same_client_id_under_another_user_is_another_session(network):
    """Sessions are keyed by user and client id."""
    alice = network.subscribed(("a", 0), client_id="c", user="alice")
    bob = network.connected("c", user="bob")
    bob.send(publish("a", b"x"))

    assert [Message("a", b"x")] == alice.received()
    assert [] == bob.received()


def test_a_draining_server_is_unavailable(network):
    """While the server stops, a CONNECT is answered 3."""
    network.engine.draining = True
    client = network.client()

    assert [("CONNACK", 0, 3)] == client.send(connect())


def test_the_protocol_name_and_level_decide(network):
    """Levels 4 and 5 of MQTT are spoken; other levels and 3.1 are answered 1 [MQTT-3.1.2-2], other names are closed."""
    for level in (0, 3, 6, 9, 0x84):
        client = network.client()

        assert [("CONNACK", 0, 1)] == client.send(connect(level=level))
        assert client.closed
    old, other = network.client(), network.client()

    assert [("CONNACK", 0, 1)] == old.send(packet(0x10, text("MQIsdp") + b"\3\2\0\0" + text("c")))
    assert [] == other.send(packet(0x10, text("MQTX") + b"\4\2\0\0" + text("c")))
    assert other.closed


@pytest.mark.parametrize("size", [4097, 8000])
def test_a_long_password_is_never_looked_at(network, size):
    """A password over the limit is refused before the gate hashes anything."""
    client = network.client()

    assert [("CONNACK", 0, 4)] == client.send(connect(user="u", password=bytes(size)))
    assert [] == network.gate.requests


def test_a_second_connect_closes(network):
    """A second CONNECT is a protocol violation; other sessions are unharmed [MQTT-3.1.0-2]."""
    client = network.connected("c")
    client.send(connect("d"))

    assert "second CONNECT" == client.closed
    assert {} == network.engine.sessions


def test_a_first_packet_that_is_not_connect_is_closed_by_its_first_byte(network):
    """A single byte suffices to close what is not MQTT [MQTT-3.1.0-1]."""
    for first in (b"G", b"\x16", b"\x30", b"\xc0", b"\xe0", b"\x11", b"\0"):
        client = network.client()
        client.send(first)

        assert client.closed


def test_a_connect_is_bounded_by_its_length(network):
    """A CONNECT longer than 8 KiB is closed when its length is known, before its body came."""
    client = network.client()
    client.send(b"\x10\xff\xff\x7f")

    assert "packet too large before authentication" == client.closed


def test_a_packet_that_no_client_sends_is_not_waited_for(network):
    """Once connected, too, the first byte suffices, as soon as the next one or a part of the body is missing."""
    for first in (b"\x0a", b"\x0a\xc0", b"\x00\x05abc", b"\x20", b"\x90\x03\0", b"\xf0\x05\x19", b"\x10\x20", b"\x60"):
        client = network.connected("c")
        client.send(first)

        assert client.closed
    for first in (b"\x30", b"\x82\xc0", b"\xe0", b"\x62\x02\0", b"\x3d\x05"):
        client = network.connected("c")
        client.send(first)

        assert not client.closed


def test_a_connect_byte_by_byte():
    """A CONNECT may come in as many pieces as it has bytes."""
    network = Network()
    client = network.client()
    data = connect("c", user="u", password=b"p", will=("a", b"b", 1, True))
    for byte in data[:-1]:
        assert [] == client.send(bytes([byte]))
    client.send(data[-1:])

    assert client.connection.is_open


def test_connack_is_the_first_packet(network):
    """Everything else comes after CONNACK, also in one segment."""
    client = network.client()
    client.connection.receive(connect() + PINGREQ, network.now)

    assert client.raw().startswith(CONNACK)


@pytest.mark.parametrize(
    "raw", [b"", b"phone", b"a b~", b"caf\xc3\xa9", b"a\x1f", b"a\x7f", b"\0", b"\xc3", b"\xc2\x85"]
)
def test_a_string_is_read_as_it_is_checked(raw):
    """The short way for what is printable ASCII says of any string what the long way says of it."""

    def checked() -> object:
        try:
            return check_text(raw), 2 + len(raw)
        except MalformedError:
            return MalformedError

    def read() -> object:
        try:
            return read_text(len(raw).to_bytes(2, "big") + raw + b"rest", 0, 2 + len(raw))
        except MalformedError:
            return MalformedError

    assert checked() == read()


def test_response_information_names_the_user_as_rules_do(network):
    """%u is the user percent-encoded, %c the client id as it is; what either holds is not filled in again."""
    network.engine.mqtt = Mqtt(response_information="answers/%u/%c/")
    network.gate.verdict = Identity("door/7 %c")
    client = network.connected("%u")

    assert "answers/door%2F7%20%25c/%u/" == network.engine.response_information(client.connection)
