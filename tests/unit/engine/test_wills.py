"""Wills: checked at CONNECT and at firing, fired on every end but DISCONNECT."""

from __future__ import annotations

import pytest

from mesimqtt.hooks import Decision
from unit.engine.both_ends import DISCONNECT, Message, connect, publish, subscribe

WILL = ("w/topic", b"gone", 1, False)


@pytest.mark.parametrize(
    "end",
    [
        lambda network, client: client.lose(),
        lambda network, client: client.send(b"\0\0"),
        lambda network, client: network.pass_time(100),
        lambda network, client: network.connected("c"),
        lambda network, client: client.connection.close("token revoked"),
        lambda network, client: network.engine.goodbye([client.connection]),
    ],
    ids=["lost", "malformed", "keep alive", "taken over", "closed by the server", "the server stops"],
)
def test_a_will_fires_at_every_end_but_disconnect(network, end):
    """The will is published when the connection ends in any other way than by DISCONNECT [MQTT-3.1.2-8]."""
    watcher = network.subscribed(("w/+", 1), client_id="watcher", keep_alive=0)
    client = network.connected("c", will=WILL)
    end(network, client)

    assert [Message("w/topic", b"gone", 1, 1)] == watcher.received()


def test_disconnect_discards_the_will(network):
    """After DISCONNECT no will is published [MQTT-3.1.2-10], [MQTT-3.14.4-3]."""
    watcher = network.subscribed(("w/+", 1), client_id="watcher")
    client = network.connected("c", will=WILL)
    client.send(DISCONNECT)
    client.lose()

    assert [] == watcher.received()


def test_a_retained_will_is_retained(network):
    """A will with RETAIN is kept for later subscribers [MQTT-3.1.2-17]."""
    network.connected("c", will=("w", b"gone", 0, True)).lose()
    watcher = network.subscribed(("w", 0))

    assert [Message("w", b"gone", retain=True)] == watcher.rest


def test_a_denied_will_refuses_the_connect(network):
    """A will that the client might not publish is answered 5, and no session is touched."""
    network.gate.denied.add(("will", "w/topic"))
    client = network.client()

    assert [("CONNACK", 0, 5)] == client.send(connect("c", will=WILL))
    assert {} == network.engine.sessions
    assert [("will", "w/topic", "no")] == network.gate.audits


def test_a_will_is_checked_again_when_it_fires(network):
    """A right that was lost since CONNECT silences the will, and that is audited."""
    watcher = network.subscribed(("w/+", 1), client_id="watcher")
    client = network.connected("c", will=WILL)
    network.gate.denied.add(("will", "w/topic"))
    client.lose()

    assert [] == watcher.received()
    assert [("will", "w/topic", "no")] == network.gate.audits


def test_a_will_may_wait_for_the_gate_at_connect_and_at_firing(network):
    """Where the gate does not know at once, CONNECT and firing wait for `resume`."""
    watcher = network.subscribed(("w/+", 1), client_id="watcher")
    network.gate.unknown.add(("will", "w/topic"))
    client = network.client()

    assert [] == client.send(connect("c", will=WILL), subscribe(("a", 0)))
    assert client.connection.paused

    network.gate.unknown.clear()
    client.connection.resume(network.now)

    assert [("CONNACK", 0, 0), ("SUBACK", 1, [0])] == client.received()
    network.gate.unknown.add(("will", "w/topic"))
    client.lose()

    assert [] == watcher.received()
    network.gate.unknown.clear()
    client.connection.resume(network.now)
    client.connection.resume(network.now)

    assert [Message("w/topic", b"gone", 1, 1)] == watcher.received()


def test_a_claimed_will_belongs_to_the_claim(claimed):
    """A will under the root is decided and fired by the claim; the gate is not asked."""
    claimed.gate.denied.add(("will", "m/open/out/u/bob"))
    claimed.connected("c", will=("m/open/out/u/bob", b"bye", 1, True)).lose()

    assert ("will", "open", b"m/open/out/u/bob", b"bye", 1) == claimed.claim.calls[-1]
    claimed.claim.will_rule = Decision(allow=False, rule="folder")
    client = claimed.client()

    assert [("CONNACK", 0, 5)] == client.send(connect("c", will=("m/bob/out/u/x", b"", 0, False)))


def test_a_will_over_the_topic_limits_is_refused(network):
    """A will topic that could not be published is refused at CONNECT."""
    for topic in ("x" * 513, "/" * 32):
        client = network.client()

        assert [("CONNACK", 0, 5)] == client.send(connect("c", will=(topic, b"", 0, False)))


def test_the_will_of_a_fired_connection_fires_once(network):
    """Closing and then losing a connection publishes its will once."""
    watcher = network.subscribed(("w/+", 0), client_id="watcher")
    client = network.connected("c", will=WILL)
    client.send(publish("a#"))
    client.lose()
    client.lose()

    assert [Message("w/topic", b"gone")] == watcher.received()
