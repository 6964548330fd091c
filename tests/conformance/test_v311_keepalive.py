"""MQTT 3.1.1, section 3.1.2.10: keep alive, in virtual time."""

from __future__ import annotations

import pytest

from conformance.wire311 import (
    PINGREQ,
    PINGRESP,
    connect,
    puback,
    pubcomp,
    publish,
    pubrel,
    suback,
    subscribe,
    unsuback,
    unsubscribe,
)

TICK_S = 0.25  # how often the server looks at its clock


@pytest.mark.parametrize("keep_alive", [1, 2, 3, 7, 10, 60, 600])
def test_a_silent_client_is_cut_after_one_and_a_half_times(world, keep_alive):
    """Just before one and a half times the keep alive a silent client is there, just after it is cut.

    [MQTT-3.1.2-24]
    """
    peer = world.connected("c", keep_alive=keep_alive)
    world.pass_time(1.5 * keep_alive - TICK_S)
    assert not peer.wire.is_closed
    world.pass_time(2 * TICK_S)

    peer.expect_closed()


def test_a_silent_client_is_lost_as_by_the_network(world):
    """It is treated as if the network had failed: its will is published, its session kept.

    [MQTT-3.1.2-24] [MQTT-3.1.2-8]
    """
    watcher = world.subscribed(("w", 0), keep_alive=0)
    peer = world.connected("c", clean=False, keep_alive=10, will=("w", b"gone", 0, False))
    world.pass_time(16)
    peer.expect_closed()
    watcher.expect(publish("w", b"gone"))

    world.connected("c", clean=False, resumed=True)


@pytest.mark.parametrize(
    ("packets", "answer"),
    [
        (PINGREQ, PINGRESP),
        (publish("a", b"x"), b""),
        (publish("a", b"x", qos=1), puback(1)),
        (puback(9), b""),
        (b"\x50\x02\x00\x09", pubrel(9)),
        (pubrel(9), pubcomp(9)),
        (pubcomp(9), b""),
        (subscribe(("b", 0)), suback(0)),
        (unsubscribe("b"), unsuback()),
    ],
    ids=lambda one: one[:1].hex(),
)
def test_any_packet_keeps_alive(world, packets, answer):
    """Whatever control packet a client sends, it begins the time anew [MQTT-3.1.2-24]."""
    peer = world.connected("c", keep_alive=10)
    for _ in range(3):
        world.pass_time(14)
        peer.send(packets).expect(answer)
    world.pass_time(14)
    assert not peer.wire.is_closed
    world.pass_time(1 + 2 * TICK_S)

    peer.expect_closed()


def test_what_a_client_receives_does_not_keep_it_alive(world):
    """Only what a client sends counts, not what it is sent [MQTT-3.1.2-24]."""
    peer = world.subscribed(("a", 0), keep_alive=10)
    sender = world.connected("p", keep_alive=0)
    for _ in range(3):
        world.pass_time(5)
        sender.send(publish("a", b"x"))
    world.pass_time(2 * TICK_S)

    peer.expect_closed(publish("a", b"x") * 3)


def test_half_a_packet_does_not_keep_alive(world):
    """A byte now and then is no control packet [MQTT-3.1.2-24]."""
    peer = world.connected("c", keep_alive=10)
    for byte in publish("a", b"x" * 10)[:7]:
        peer.send(bytes([byte]))
        world.pass_time(2)
    world.pass_time(1 + 2 * TICK_S)

    peer.expect_closed()


def test_each_connection_has_its_own_keep_alive(world):
    """The keep alive of one client is nothing to another, nor to the same client's next connection [MQTT-3.1.2-24]."""
    quick, slow = world.connected("quick", keep_alive=1), world.connected("slow", keep_alive=100)
    world.pass_time(2)
    quick.expect_closed()
    slow.expect_nothing()
    again = world.connected("quick", keep_alive=100)
    world.pass_time(60)

    again.expect_nothing()


@pytest.mark.extra
def test_keep_alive_0_is_not_a_keep_alive(world):
    """With keep alive 0 a client may be silent for long: half an hour is nothing (section 3.1.2.10)."""
    peer = world.connected("c", keep_alive=0)
    world.pass_time(1790)

    peer.expect_nothing()


@pytest.mark.extra
@pytest.mark.limits(keep_alive_max_s=65_535)
def test_the_longest_keep_alive(world):
    """A keep alive of 65535 is 18 hours, 12 minutes and 15 seconds, where the server's own limit allows it."""
    peer = world.connected("c", keep_alive=65_535)
    world.pass_time(3000)

    peer.expect_nothing()


@pytest.mark.extra
def test_a_connection_that_says_nothing_is_closed(world):
    """Without a CONNECT, or with half of one, a connection is closed after a while, without CONNACK (section 3.1.4)."""
    silent, half = world.open(), world.open().send(connect("c")[:-1])
    world.pass_time(5)
    assert not silent.wire.is_closed
    world.pass_time(6)

    silent.expect_closed()
    half.expect_closed()
