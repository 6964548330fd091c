"""Who may enter and stay: tokens, devices, expiry, revocation, disabling, deletion (contract sections 1 and 5)."""

from __future__ import annotations

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from mesimqtt.tokens import PublicKey, TokenSigner
from unit.engine import both_ends as wire
from unit.messaging.world import SECRET, START_MS, mid_of

REFUSED = ("CONNACK", 0, 5)


def issue(world, user="bob", **arguments):
    return world.do("token_issue", addresses=[user], **arguments)["tokens"][0]


def test_a_token_of_another_user_is_refused(world):
    """The address in CONNECT must be the token's; the victim's session with the same client id is untouched."""
    alice, bob = world.listener("alice"), world.listener("bob")
    intruder = world.connect("bob", token=world.tokens["alice"])
    alice.publish("u/bob/1")

    assert (REFUSED, False, ["hi"]) == (intruder.connack, bob.is_closed, bob.payloads())


def test_no_token_is_refused(world):
    """Also with a good address."""
    connection = world.engine.open("192.0.2.1", "default", world.now())
    connection.receive(wire.connect("phone", user="bob"), world.now())

    assert [REFUSED] == wire.decode(b"".join(connection.out))


def test_the_address_may_be_left_empty(world):
    """The token says who it is."""
    connection = world.engine.open("192.0.2.1", "default", world.now())
    connection.receive(wire.connect("phone", user="", password=world.tokens["bob"].encode()), world.now())

    assert "bob" == connection.user


@pytest.mark.parametrize("short", [True, False])
def test_a_bound_token_enters_as_its_device_alone(world, short):
    """Any other client id is refused."""
    token = issue(world, device="door-1", short=short)["token"]

    assert REFUSED == world.connect("bob", "door-2", token=token).connack
    assert ("CONNACK", 0, 0) == world.connect("bob", "door-1", token=token).connack


def test_a_token_we_never_issued_is_refused(world):
    """Signed with our secret, but not in our table."""
    signer = TokenSigner(SECRET, issuer="mesimqtt")
    token = signer.issue("bob", now=START_MS // 1000, ttl_s=60, jti="forged")

    assert REFUSED == world.connect("bob", token=token).connack


def test_a_short_token_of_nobody_is_refused(world):
    """32 characters that were never issued."""
    assert REFUSED == world.connect("bob", token="x" * 32).connack


@pytest.mark.parametrize("short", [True, False])
def test_an_expired_token_is_refused(world, short):
    """From its last second on."""
    token = issue(world, ttl=100, short=short)["token"]
    world.advance(99)
    assert ("CONNACK", 0, 0) == world.connect("bob", "a", token=token).connack
    world.advance(1)

    assert REFUSED == world.connect("bob", "b", token=token).connack


@pytest.mark.parametrize("short", [True, False])
def test_a_token_that_expires_loses_its_connection(world, short):
    """A warning on `in/session` 60 s before, closed within a second of the end; other connections live."""
    bob = world.listener("bob", "timed", token=issue(world, ttl=100, short=short)["token"])
    other = world.listener("bob", "other")
    world.advance(39)
    assert [] == bob.news()
    world.advance(2)
    (news,) = bob.news()
    assert ("token-expiring", True) == (news["event"], 58 <= news["seconds"] <= 60)
    world.advance(58)
    assert not bob.is_closed
    world.advance(2)

    assert (True, False, []) == (bob.is_closed, other.is_closed, other.news())


@pytest.mark.parametrize("short", [True, False])
def test_a_revoked_token_loses_its_connections_at_once(world, short):
    """All that it opened, no others; what waits stays, and nothing is delivered to it any more."""
    token = issue(world, short=short)
    bob, other = world.listener("bob", "lost", token=token["token"]), world.listener("bob", "other")
    world.do("token_revoke", what=token["jti"])
    world.connect("alice").publish("u/bob/1")

    assert (True, False, []) == (bob.is_closed, other.is_closed, bob.payloads())
    assert REFUSED == world.connect("bob", "lost", token=token["token"]).connack
    assert ["hi"] == world.listener("bob", "lost").payloads()


def test_a_disabled_user_loses_his_connections_and_keeps_his_mail(world):
    """He may come back when he is enabled; what was sent meanwhile waits."""
    alice, bob = world.listener("alice"), world.listener("bob")
    world.do("user_disable", addresses=["bob"])
    assert bob.is_closed
    assert REFUSED == world.connect("bob").connack
    assert alice.publish("u/bob/1")
    assert [("1", 1)] == alice.steps()
    world.do("user_enable", addresses=["bob"])

    assert ["hi"] == world.listener("bob").payloads()


def test_a_deleted_user_is_gone(world):
    """Connections closed, senders told `user-deleted`, no more to be found, devices wiped."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    alice.steps()
    world.do("user_delete", addresses=["bob"])

    (status,) = alice.statuses()
    assert ("1", "bob", 0x80, "user-deleted") == tuple(status[key] for key in ("cid", "peer", "status", "reason"))
    assert (True, REFUSED) == (bob.is_closed, world.connect("bob").connack)
    alice.publish("u/bob/2")
    assert [("2", 0x83)] == alice.steps()
    assert [(0,)] == world.rows("SELECT count(*) FROM device WHERE client_id = 'phone' AND user_id = 2")


def test_what_was_only_written_to_a_deleted_user_has_its_verdict(world):
    """Written at QoS 0 and confirmed by nobody: no deadline will come, so `user-deleted` is told at the deletion."""
    alice, bob = world.listener("alice"), world.listener("bob", qos=0)
    alice.publish("u/bob/1")
    assert (["hi"], [("1", 1)]) == (bob.payloads(), alice.steps())
    world.do("user_delete", addresses=["bob"])

    assert [("1", 0x80)] == alice.steps()


def test_a_sender_who_returns_is_told_of_the_deletion(world):
    """Byte for byte what he would have been told live, also to a resend and over a restart."""
    alice, laptop = world.listener("alice"), world.listener("alice", "laptop")
    alice.publish("u/bob/1")
    laptop.disconnect()
    alice.received()
    world.do("user_delete", addresses=["bob"])
    told = [message.payload for message in alice.received()]
    world.restart()

    laptop = world.listener("alice", "laptop")
    assert told == [message.payload for message in laptop.received("status/")]
    laptop.publish("u/bob/1")
    assert told == [message.payload for message in laptop.received("status/")]


def test_messages_of_a_deleted_user_still_arrive(world):
    """What he sent before was accepted, so it is delivered, under his address."""
    world.connect("alice").publish("u/bob/1", "last words")
    world.do("user_delete", addresses=["alice"])
    world.restart()

    (message,) = world.listener("bob").received("u/")
    assert f"m/bob/in/u/alice/{mid_of(message)}/seq=1" == message.topic


def test_a_user_of_the_same_address_is_another_user(world):
    """Old tokens are refused, old mail and conversations are not his."""
    old = world.tokens["bob"]
    alice, _ = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1", "for the old bob")
    world.do("user_delete", addresses=["bob"])
    world.advance(2)
    world.user("bob")
    alice.publish("u/bob/2", "for the new bob")

    assert REFUSED == world.connect("bob", token=old).connack
    (message,) = world.listener("bob").received("u/")
    assert (b"for the new bob", "seq=1") == (message.payload, message.topic.rpartition("/")[2])


def test_a_deleted_member_leaves_his_groups(world):
    """The others go on; the sender is told that he is gone."""
    world.group("team", "alice", "bob", "carol")
    alice, carol = world.listener("alice"), world.listener("carol")
    alice.publish("g/team/1")
    alice.statuses()
    world.do("user_delete", addresses=["bob"])
    told = [(status.get("peer"), status["status"]) for status in alice.statuses()]
    alice.publish("g/team/2")

    assert [("bob", 0x80)] == told
    assert ["hi", "hi"] == carol.payloads("g/")


def foreign_token(world, key, user, *, issued_at=START_MS // 1000):
    """Return a token that somebody else signed, whose key the server knows from now on."""
    world.messaging.signer.public_keys = [PublicKey("EdDSA", key.public_key())]
    claims = {"sub": user, "aud": "mesimqtt", "iss": "mesimqtt", "iat": issued_at, "exp": issued_at + 60, "jti": "j"}
    return jwt.encode(claims, key, algorithm="EdDSA")


def test_a_foreign_token_is_not_the_namesakes(world):
    """Its key is good for longer than its user: who has the address now was made after it was issued."""
    key = ed25519.Ed25519PrivateKey.generate()
    token = foreign_token(world, key, "bob")
    assert ("CONNACK", 0, 0) == world.connect("bob", token=token).connack
    world.do("user_delete", addresses=["bob"])
    world.advance(2)
    world.user("bob")

    assert REFUSED == world.connect("bob", token=token).connack
    newer = foreign_token(world, key, "bob", issued_at=world.now_ms() // 1000)
    assert ("CONNACK", 0, 0) == world.connect("bob", token=newer).connack


def test_a_foreign_token_is_good_for_a_user_who_is_made_later(make_world):
    """Who logged in elsewhere first is let in, by a user made for him and by `auto_create` alike."""
    world = make_world(tokens={"auto_create": True})
    key = ed25519.Ed25519PrivateKey.generate()
    erin, dave = (foreign_token(world, key, name) for name in ("erin", "dave"))
    world.advance(30)
    world.user("erin")

    for name, token in (("erin", erin), ("dave", dave), ("dave", dave)):
        assert 0 == world.connect(name, token=token).connack[2]
        assert "valid" == world.do("token_show", token=token)["state"]


def test_a_deleted_user_does_not_come_back_by_an_old_token(make_world):
    """`auto_create` makes a user of that name again, for whoever has a token from after the deletion."""
    world = make_world(tokens={"auto_create": True})
    key = ed25519.Ed25519PrivateKey.generate()
    old = foreign_token(world, key, "dave")
    assert ("CONNACK", 0, 0) == world.connect("dave", token=old).connack
    world.do("user_delete", addresses=["dave"])
    world.advance(2)

    for _ in range(2):
        assert REFUSED == world.connect("dave", token=old).connack
        assert "invalid" == world.do("token_show", token=old)["state"]
    newer = foreign_token(world, key, "dave", issued_at=world.now_ms() // 1000)
    assert ("CONNACK", 0, 0) == world.connect("dave", token=newer).connack


def test_a_foreign_token_under_another_name_makes_no_user(make_world):
    """With `auto_create` a good token of dave makes dave, but not where it is refused for the name beside it."""
    world = make_world(tokens={"auto_create": True})
    token = foreign_token(world, ed25519.Ed25519PrivateKey.generate(), "dave")
    users = "SELECT address FROM user WHERE address IN ('dave', 'carol') ORDER BY address"
    before = world.rows(users)

    assert REFUSED == world.connect("carol", token=token).connack
    assert before == world.rows(users)
    assert ("CONNACK", 0, 0) == world.connect("dave", token=token).connack
    assert ("dave",) in world.rows(users)
