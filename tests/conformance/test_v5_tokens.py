"""MQTT 5.0, section 4.12, with real tokens: OAUTH2-JWT on the whole server in virtual time (contract section 5)."""

from __future__ import annotations

import pytest

from conformance.peer import World
from conformance.peer5 import Five
from mesimqtt.testing.wire5 import auth, connack, connect, disconnect
from unit.messaging.world import World as Server

METHOD = {"authentication_method": "OAUTH2-JWT"}
ENDED = {0x87, 0x98, 0xA0}  # not authorized, administrative action, maximum connect time


class TokenWire:
    """Straight into the engine of a whole server."""

    def __init__(self, server):
        self._server = server
        self.connection = server.engine.open("192.0.2.1", "default", server.now())

    @property
    def is_closed(self):
        return self.connection.closing

    def write(self, data):
        self.connection.receive(data, self._server.now())
        self._server.turn()

    def read(self):
        data = b"".join(self.connection.out)
        self.connection.out.clear()
        if self.connection in self._server.engine.dirty:
            self._server.engine.dirty.remove(self.connection)
        return data

    def cut(self):
        self.connection.lost(self._server.now())


class TokenWorld(World):
    """A server that knows alice and bob."""

    def __init__(self, folder):
        super().__init__()
        self.server = Server(folder)
        self.server.user("alice", "bob")

    def token(self, user="alice", ttl=600):
        """Issue a token of `ttl` seconds."""
        return self.server.do("token_issue", addresses=[user], ttl=ttl)["tokens"][0]["token"]

    def finish(self):
        try:
            super().finish()
        finally:
            self.server.close()

    def _wire(self):
        return TokenWire(self.server)


@pytest.fixture
def realm(tmp_path):
    """The server."""
    realm = TokenWorld(tmp_path / "data")
    yield realm
    realm.finish()


@pytest.fixture
def five(realm):
    """The server, seen by clients of 5.0."""
    return Five(realm)


def entered(five, token, **options):
    """Connect with a token as Authentication Data."""
    values = {"authentication_data": token.encode(), **METHOD, "keep_alive": 1200, **options}
    return five.connected("phone", told=METHOD, **values)


@pytest.mark.parametrize("user", ["alice", None, ""])
def test_a_token_lets_in(realm, five, user):
    """A token as Authentication Data enters as its user, whose name may stand beside it or not [MQTT-4.12.0-5]."""
    peer = entered(five, realm.token(), user=user)

    assert [peer.peer.wire.connection] == realm.server.engine.connections_of("alice")


@pytest.mark.parametrize("user", ["bob", "Alice", "carol"])
def test_a_token_of_somebody_else_does_not(realm, five, user):
    """A user name that is not the token's is refused [MQTT-3.1.4-2] [MQTT-4.12.0-4]."""
    data = realm.token().encode()

    five.open().send(connect(user=user, **METHOD, authentication_data=data)).expect_refused(0x86, 0x87)


@pytest.mark.parametrize("data", [b"", b"x", b"a.b.c", b"\x00\xff", b"x" * 5000])
def test_what_is_no_token_does_not(five, data):
    """Anything that is no token is refused, and so is no data at all [MQTT-3.2.2-7] [MQTT-4.12.0-4]."""
    five.open().send(connect(user="alice", **METHOD, authentication_data=data)).expect_refused(0x86, 0x87)
    five.open().send(connect(user="alice", **METHOD)).expect_refused(0x82, 0x86, 0x87)


def test_an_unknown_method_does_not(realm, five):
    """A method that is not spoken here is refused although the token is good [MQTT-4.12.0-1]."""
    data = realm.token().encode()

    five.open().send(connect(authentication_method="BEARER", authentication_data=data)).expect_closed(connack(0x8C))


def test_a_renewal_outlives_the_first_token(realm, five):
    """Who renewed its token in time stays when the first one expires, and goes when the second one does.

    [MQTT-4.12.1-1]
    """
    peer = entered(five, realm.token(ttl=120))
    realm.server.advance(60)
    peer.send(auth(0x19, **METHOD, authentication_data=realm.token(ttl=300).encode())).expect(auth(0, **METHOD))
    realm.server.advance(200)
    peer.expect_nothing()
    realm.server.advance(140)

    assert peer.take().code in ENDED
    peer.peer.expect_closed()


def test_without_a_renewal_the_connection_ends(realm, five):
    """A token that expires ends its connection, which a client of 5.0 is told [MQTT-4.13.2-1]."""
    peer = entered(five, realm.token(ttl=120))
    realm.server.advance(152)

    assert peer.take().code in ENDED
    peer.peer.expect_closed()


def test_a_renewal_with_a_bad_token_ends_the_connection(realm, five):
    """Another user's token, a revoked one, and what is no token at all end the connection with 0x87 [MQTT-4.12.1-2]."""
    revoked = realm.server.do("token_issue", addresses=["alice"], ttl=600)["tokens"][0]
    realm.server.do("token_revoke", what=revoked["jti"])
    for data in (realm.token("bob"), revoked["token"], "x"):
        peer = entered(five, realm.token())

        peer.send(auth(0x19, **METHOD, authentication_data=data.encode())).expect_closed(disconnect(0x87))


def test_after_a_renewal_the_new_token_is_the_one(realm, five):
    """Once renewed, the first token may be revoked; the second one may not [MQTT-4.12.1-1]."""
    first, second = (realm.server.do("token_issue", addresses=["alice"], ttl=600)["tokens"][0] for _ in range(2))
    peer = entered(five, first["token"])
    peer.send(auth(0x19, **METHOD, authentication_data=second["token"].encode())).expect(auth(0, **METHOD))
    realm.server.do("token_revoke", what=first["jti"])
    realm.server.advance(1)
    peer.expect_nothing()
    realm.server.do("token_revoke", what=second["jti"])
    realm.server.advance(1)

    assert peer.take().code in ENDED
    peer.peer.expect_closed()


@pytest.mark.parametrize("operation", ["user_disable", "user_delete"])
def test_a_user_who_is_gone_is_told(realm, five, operation):
    """Who is disabled or deleted loses its connection with a reason, and cannot renew it [MQTT-4.13.2-1]."""
    token = realm.token()
    peer = entered(five, token)
    realm.server.do(operation, addresses=["alice"])
    realm.server.advance(1)

    assert peer.take().code in ENDED
    peer.peer.expect_closed()
    again = five.open().send(connect(**METHOD, authentication_data=token.encode()))
    again.expect_refused(0x86, 0x87, 0x8A)
