"""MQTT 5.0, sections 3.15 and 4.12: enhanced authentication by the method OAUTH2-JWT, and its renewal."""

from __future__ import annotations

import pytest

from mesimqtt.hooks import Identity, Refusal
from mesimqtt.testing.wire5 import (
    PINGREQ,
    PINGRESP,
    auth,
    connack,
    connect,
    disconnect,
    one,
    packet,
    properties,
    publish,
    suback,
    subscribe,
    will,
)

pytestmark = pytest.mark.stateless  # the store has no part in it

METHOD = {"authentication_method": "OAUTH2-JWT"}
TOKEN = {**METHOD, "authentication_data": b"token of alice"}
ALICE, BOB = Identity("alice", jti="1"), Identity("bob", jti="2")


@pytest.fixture
def gate(world):
    """The gate: it knows alice."""
    world.network.gate.verdict = ALICE
    return world.network.gate


def entered(five, client_id="c", **options):
    """Connect with a token as Authentication Data."""
    return five.connected(client_id, told=METHOD, **TOKEN, **options)


def test_the_token_is_authentication_data(gate, five):
    """The token travels as Authentication Data instead of a password; CONNACK names the method.

    [MQTT-3.1.4-2] [MQTT-4.12.0-5]
    """
    entered(five, user="alice").leave()

    assert b"token of alice" == gate.requests[-1].password
    assert "alice" == gate.requests[-1].username


def test_authentication_data_outranks_a_password(gate, five):
    """With a method the password means nothing: it is the data that is verified [MQTT-4.12.0-5]."""
    entered(five, user="alice", password=b"other").leave()

    assert b"token of alice" == gate.requests[-1].password


def test_without_a_method_there_is_none(gate, five):
    """Who names no method gets none in CONNACK, and no AUTH [MQTT-4.12.0-6]."""
    peer = five.connected("c", password=b"token of alice")

    assert peer.connack.authentication_method is None
    peer.expect_nothing()


@pytest.mark.parametrize("method", ["", "PLAIN", "SCRAM-SHA-256", "oauth2-jwt", "OAUTH2-JWT "])
def test_an_unknown_method_is_refused(gate, five, method):
    """Another method gets CONNACK 0x8C, without asking anybody; nothing behind it is processed.

    [MQTT-3.1.4-6] [MQTT-3.2.2-7] [MQTT-4.12.0-1]
    """
    peer = five.open().send(connect(authentication_method=method, authentication_data=b"x"), PINGREQ)

    peer.expect_closed(connack(0x8C))
    assert [] == gate.requests


def test_data_without_a_method_is_a_protocol_error(gate, five):
    """Authentication Data needs a method [MQTT-3.1.4-1] [MQTT-4.13.1-1]."""
    five.open().send(connect(authentication_data=b"x")).expect_closed(connack(0x82))


@pytest.mark.parametrize("code", [0x86, 0x87])
def test_a_bad_token_is_refused(gate, five, code):
    """A token that does not pass gets a CONNACK that says so, without a method [MQTT-3.1.4-2] [MQTT-4.12.0-4]."""
    gate.verdict = Refusal(4 if code == 0x86 else 5, "bad token")

    five.open().send(connect(**TOKEN)).expect_closed(connack(code))


def test_a_renewal(gate, five):
    """AUTH 0x19 with a fresh token is answered AUTH 0x00 with the same method; the connection goes on.

    [MQTT-3.15.2-1] [MQTT-4.12.0-5] [MQTT-4.12.1-1]
    """
    peer = entered(five)
    gate.verdict = Identity("alice", jti="3")
    peer.send(auth(0x19, **METHOD, authentication_data=b"fresh")).expect(auth(0, **METHOD))

    assert b"fresh" == gate.requests[-1].password
    peer.expect_nothing()


def test_a_renewal_while_messages_flow(gate, five):
    """Renewal stops nothing: what was sent before and after it is processed in order [MQTT-4.9.0-3] [MQTT-4.12.1-1]."""
    peer = entered(five)
    peer.send(subscribe(("a", 0)), publish("a", b"1"), auth(0x19, **TOKEN), publish("a", b"2"), PINGREQ)
    peer.expect(suback(0), publish("a", b"1"), auth(0, **METHOD), publish("a", b"2"), PINGRESP)


def test_a_renewal_may_come_again(gate, five):
    """Any number of renewals, with Reason String and User Properties or without [MQTT-4.12.1-1]."""
    peer = entered(five)
    for _ in range(3):
        peer.send(auth(0x19, **TOKEN, reason_string="again", user_property=[("n", "v")])).expect(auth(0, **METHOD))


@pytest.mark.parametrize("verdict", [BOB, Refusal(4, "bad"), Refusal(5, "revoked")])
def test_a_failed_renewal_closes(gate, five, verdict):
    """Another user's token, or a bad one, costs the connection with 0x87 [MQTT-4.12.1-2] [MQTT-4.13.2-1]."""
    peer = entered(five)
    gate.verdict = verdict

    peer.send(auth(0x19, **TOKEN)).expect_closed(disconnect(0x87))


def test_a_failed_renewal_publishes_the_will(gate, five):
    """The connection did not end normally [MQTT-3.1.2-8] [MQTT-4.12.1-2]."""
    watcher = five.subscribed(("w", 0))
    peer = entered(five, will=will("w", b"gone"))
    gate.verdict = Refusal(4, "bad")
    peer.send(auth(0x19, **TOKEN)).expect_closed(disconnect(0x87))

    watcher.hear("w", b"gone")


@pytest.mark.parametrize("method", ["", "PLAIN", "oauth2-jwt"])
def test_a_renewal_by_another_method_is_a_protocol_error(gate, five, method):
    """AUTH must name the method of CONNECT [MQTT-4.12.0-5] [MQTT-4.12.1-1] [MQTT-4.13.1-1]."""
    entered(five).send(auth(0x19, authentication_method=method, authentication_data=b"x")).expect_closed(
        disconnect(0x82)
    )


def test_a_renewal_without_a_method_is_a_protocol_error(gate, five):
    """AUTH without Authentication Method is a Protocol Error [MQTT-4.12.0-5] [MQTT-4.13.1-1]."""
    entered(five).send(auth(0x19, authentication_data=b"x")).expect_closed(disconnect(0x82))


def test_a_renewal_without_data_fails(gate, five):
    """AUTH without a token renews nothing [MQTT-4.12.1-2]."""
    entered(five).send(auth(0x19, **METHOD)).expect_refused(0x82, 0x87)


@pytest.mark.parametrize(
    "raw", [auth(), auth(0x00, **TOKEN), auth(0x18, **TOKEN), auth(0x01, **TOKEN), auth(0x80, **TOKEN)]
)
def test_other_codes_of_auth_are_protocol_errors(gate, five, raw):
    """A client may renew, and there is nothing to continue [MQTT-3.15.2-1] [MQTT-4.12.0-3] [MQTT-4.13.1-1]."""
    entered(five).send(raw).expect_refused(0x81, 0x82)


@pytest.mark.parametrize("code", [0x18, 0x19])
def test_auth_without_a_method_at_connect(gate, five, code):
    """Who connected without a method may not send AUTH [MQTT-4.12.0-7] [MQTT-4.13.1-1]."""
    five.connected(password=b"token of alice").send(auth(code, **TOKEN)).expect_closed(disconnect(0x82))


@pytest.mark.parametrize("first", [auth(0x18, **TOKEN), auth(0x19, **TOKEN), auth()])
def test_auth_before_connect(gate, five, first):
    """AUTH is no first packet [MQTT-3.1.0-1] [MQTT-3.1.2-30]."""
    five.open().send(first).peer.expect_closed()


def test_the_server_needs_no_second_round(gate, five):
    """The one method asks for nothing more: no AUTH 0x18 ever comes [MQTT-4.12.0-2] [MQTT-4.12.0-3]."""
    peer = five.open().send(connect(**TOKEN))

    assert "CONNACK" == peer.take().kind
    peer.peer.is_entered = True
    peer.expect_nothing()


def test_only_auth_and_disconnect_before_connack(gate, five):
    """What a client sends before it knows is processed after CONNACK, or not at all [MQTT-3.1.2-30] [MQTT-3.2.0-1]."""
    peer = five.open().send(connect(**TOKEN), PINGREQ)

    assert "CONNACK" == peer.take().kind
    peer.expect(PINGRESP)


@pytest.mark.parametrize(
    "body", [b"\x19", b"\x19\x05", b"\x19" + properties(one("authentication_method", "OAUTH2-JWT")) + b"x"]
)
def test_a_malformed_auth(gate, five, body):
    """AUTH that ends early or has bytes behind its properties is malformed [MQTT-4.13.1-1]."""
    entered(five).send(packet(0xF0, body)).expect_refused(0x81, 0x82)


def test_auth_is_not_3_1_1(five):
    """To a client of 3.1.1 packet type 15 does not exist [MQTT-3.15.1-1]."""
    five.world.connected("old").send(auth(0x19, **TOKEN)).expect_closed()


def test_the_session_is_the_same_with_a_method(gate, five):
    """However its user proved who he is, a session is that user's [MQTT-3.1.3-2]."""
    entered(five, "k", session_expiry_interval=60).cut()

    five.connected("k", resumed=True, clean=False, password=b"token of alice", session_expiry_interval=60).leave()
