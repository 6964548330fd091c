"""Deadlines: CONNECT in time, 1.5 times the keep alive, the server's own cap; a clock that jumps."""

from __future__ import annotations

import pytest

from unit.engine.both_ends import PINGREQ, Network, connect, publish


@pytest.mark.parametrize("data", [b"", b"\x10", connect()[:-1]])
def test_who_does_not_connect_in_time_is_closed(network, data):
    """Ten seconds for a whole CONNECT, however slowly it drips."""
    client = network.client()
    if data:
        client.send(data)
    network.pass_time(9.5)

    assert not client.closed
    network.pass_time(1)

    assert "CONNECT deadline" == client.closed


def test_authentication_counts_for_the_connect_deadline(network):
    """A gate that never answers does not hold a connection for ever."""
    network.gate.verdict = None
    client = network.client()
    client.send(connect())
    network.pass_time(10.5)

    assert "CONNECT deadline" == client.closed


def test_silence_is_closed_after_one_and_a_half_keep_alives(network):
    """A client that sends no packet within 1.5 times its keep alive is closed [MQTT-3.1.2-24]."""
    client = network.connected("c", keep_alive=2)
    network.pass_time(2.9)

    assert not client.closed
    client.send(PINGREQ)
    network.pass_time(2.9)

    assert not client.closed
    network.pass_time(0.6)

    assert "keep alive timeout" == client.closed


def test_half_a_packet_is_silence(network):
    """Bytes that never become a packet do not keep a connection alive."""
    client = network.connected("c", keep_alive=2)
    data = publish("a", bytes(1000))
    for position in range(8):
        client.send(data[position : position + 1])
        network.pass_time(0.5)

    assert "keep alive timeout" == client.closed


@pytest.mark.parametrize("keep_alive", [0, 65535])
def test_the_server_caps_the_keep_alive(keep_alive):
    """Keep alive 0, or one above the cap, is the cap."""
    network = Network(keep_alive_max_s=20)
    client = network.connected("c", keep_alive=keep_alive)
    network.pass_time(29.5)

    assert not client.closed
    network.pass_time(1)

    assert client.closed


def test_a_clock_that_stood_still_closes_nobody_twice(network):
    """After a long suspension, all that is overdue is closed in one tick, and new connections live."""
    old = [network.connected(f"c{number}") for number in range(10)]
    network.now += 100_000
    network.engine.tick(network.now)

    assert all(client.closed for client in old)
    fresh = network.connected("fresh")
    network.pass_time(30)

    assert not fresh.closed


def test_the_connections_of_a_user_are_known(network):
    """All of his, none of another's, and none that was closed."""
    alice = [network.connected(f"a{number}", user="alice") for number in range(3)]
    bob = network.connected("b", user="bob")
    for client in (alice[0], alice[2]):
        client.connection.close("token revoked")

    assert ["token revoked", "", "token revoked"] == [client.closed for client in alice]
    assert [alice[1].connection] == network.engine.connections_of("alice")
    assert [bob.connection] == network.engine.connections_of("bob")
    assert [] == network.engine.connections_of("nobody")
