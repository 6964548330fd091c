"""Sessions, Subscription Identifiers and renewed tokens of MQTT 5.0 clients under `in/` (contract sections 2, 3, 5)."""

from __future__ import annotations

import json

import pytest

from mesimqtt.testing import wire5
from unit.messaging import five


def ids(message) -> list[int]:
    return sorted(message.subscription_identifier)


def test_every_message_carries_the_identifiers_of_the_filters_that_match(world):
    """All of them [MQTT-3.3.4-3], the same one twice if two filters have it; none where no filter has one."""
    world.group("team", "alice", "bob")
    bob = five.connect(world, "bob")
    for rest, identifier in (("u/#", 1), ("u/alice/#", 300), ("#", 1), ("u/carol/#", 7), ("sent/#", 0)):
        assert [1] == bob.subscribe(rest, identifier=identifier)
    alice = world.connect("alice")
    carol = world.connect("carol")
    alice.publish("u/bob/1")
    carol.publish("u/bob/1")
    alice.publish("g/team/2")
    alice.publish("presence/u/bob")
    bob.publish("u/nobody/3")
    bob.publish("u/alice/4")
    bob.publish("rpc/ping/5", b"{}")

    assert [1, 1, 300] == ids(bob.received("u/alice/")[0])
    assert [1, 1, 7] == ids(bob.received("u/carol/")[0])
    assert {(1,)} == {tuple(ids(message)) for message in bob.inbox}
    classes = {message.topic.split("/")[3] for message in bob.inbox}
    assert {"g", "presence", "status", "event", "rpc"} == classes


def test_numeric_statuses_have_the_identifier_of_their_own_filter(world):
    """`#` does not select `in/s`."""
    alice = five.connect(world, "alice")
    alice.subscribe("#", identifier=1)
    alice.subscribe("s/#", identifier=2)
    alice.publish("u/bob/1")

    (status,) = alice.received("s/")
    assert (b"1", [2]) == (status.payload, ids(status))


def test_an_identifier_is_replaced_with_its_filter(world):
    """A filter that is subscribed again has the new one, or none; unsubscribed, its identifier is gone."""
    bob, alice = five.connect(world, "bob"), world.connect("alice")
    seen = []
    for number, act in enumerate(
        (lambda: bob.subscribe("u/#", identifier=5), lambda: bob.subscribe("u/#", identifier=6),
         lambda: bob.subscribe("u/#"), lambda: bob.subscribe("u/alice/#", identifier=9),
         lambda: bob.unsubscribe("u/alice/#")),
    ):  # fmt: skip
        act()
        alice.publish(f"u/bob/{number}")
        seen += [ids(message) for message in bob.received("u/")]

    assert [[5], [6], [], [9], []] == seen


@pytest.mark.parametrize("restart", [False, True])
def test_a_session_comes_back_with_its_filters_and_identifiers(world, restart):
    """Also from the store; a filter without one stays as it was kept before there were any."""
    bob = five.connect(world, "bob")
    bob.subscribe("u/#", identifier=200)
    bob.subscribe("sent/#", qos=0)
    bob.lose()
    world.advance(2)
    if restart:
        world.restart()
    world.connect("alice").publish("u/bob/1")
    bob = five.connect(world, "bob")

    assert bob.connack.session_present
    (message,) = bob.received("u/")
    assert ([200], False) == (ids(message), message.dup)
    kept = json.loads(world.rows("SELECT filters FROM device")[0][0])
    assert {"m/bob/in/u/#": [1, 200], "m/bob/in/sent/#": 0} == kept


def test_clean_start_forgets_filters_and_dup(world):
    """A session that begins anew selects nothing and is sent what waits without DUP once it subscribes."""
    alice, bob = world.connect("alice"), five.listener(world, "bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    bob.lose()
    bob = five.connect(world, "bob", clean=True)

    assert not bob.connack.session_present
    assert [] == bob.received()
    bob.subscribe("#")
    assert [False] == [message.dup for message in bob.received("u/")]


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("restart", [True, False])
def test_filters_of_a_session_that_ended_do_not_come_back_with_the_next(world, clean, restart):
    """Not even if nothing was subscribed in between: what a session never selected, it does not select."""
    bob = five.listener(world, "bob")
    bob.leave(session_expiry_interval=0) if not clean else bob.leave()
    world.advance(1)
    fresh = five.connect(world, "bob", clean=clean)
    assert not fresh.connack.session_present
    fresh.leave()
    world.advance(1)
    if restart:
        world.restart()
    world.connect("alice").publish("u/bob/1")
    bob = five.connect(world, "bob")

    assert bob.connack.session_present
    assert [] == bob.received()
    bob.subscribe("#")
    assert ["hi"] == bob.payloads()


def test_the_same_holds_for_a_session_that_was_taken_over(world):
    """Clean start while the old connection is there, and then a connection that resumes."""
    five.listener(world, "bob")
    five.connect(world, "bob", clean=True).lose()
    world.connect("alice").publish("u/bob/1")
    bob = five.connect(world, "bob")

    assert bob.connack.session_present
    assert [] == bob.received()


def test_a_take_over_resumes_with_dup(world):
    """Session present: filters stand, what is unacknowledged comes again with DUP=1 and the same mid."""
    alice, first = world.connect("alice"), five.listener(world, "bob")
    first.auto_ack = False
    alice.publish("u/bob/1")
    (before,) = first.received("u/")
    second = five.connect(world, "bob")

    assert 0x8E == first.goodbye()[0]
    (again,) = second.received("u/")
    assert (before.topic, True) == (again.topic, again.dup)


def test_a_last_connection_without_expiry_still_has_what_came_before(world):
    """Clean Start 0 and expiry 0: it resumes, and the session ends with it; the cursor does not."""
    alice, bob = world.connect("alice"), five.listener(world, "bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    bob.lose()
    bob = five.connect(world, "bob", expiry=0)

    assert bob.connack.session_present
    assert [True] == [message.dup for message in bob.received("u/")]
    bob.lose()
    bob = five.connect(world, "bob", expiry=0)
    assert not bob.connack.session_present
    alice.publish("u/bob/2")
    assert [] == bob.received()
    bob.subscribe("#")
    assert [("hi", False)] == [(m.payload.decode(), m.dup) for m in bob.received("u/")]


def test_a_new_session_of_expiry_0_has_a_cursor_all_the_same(world):
    """A device gets one at its first subscription, whatever its session."""
    alice = world.connect("alice")
    bob = five.listener(world, "bob", expiry=0)
    alice.publish("u/bob/1")
    assert ["hi"] == bob.payloads()
    bob.lose()
    alice.publish("u/bob/2", "later")

    assert ["later"] == five.listener(world, "bob", expiry=0).payloads()


def test_versions_may_change_within_a_session(world):
    """A device that comes back with 3.1.1 gets the level in the topic, and back with 5.0 the properties."""
    alice, bob = world.connect("alice"), five.listener(world, "bob", identifier=3)
    bob.lose()
    alice.publish("u/bob/1/k=v")
    old = world.connect("bob")
    (message,) = old.received("u/")
    assert message.topic.endswith("/seq=1&k=v")
    old.lose()
    alice.publish("u/bob/2/k=v")
    bob = five.connect(world, "bob")

    (message,) = bob.received("u/")
    assert ([("seq", "2"), ("k", "v")], [3]) == (message.user_property, ids(message))


# ---- renewed tokens --------------------------------------------------------------------------------------------------


def renew(peer, token: str) -> None:
    peer.send(wire5.auth(0x19, authentication_method="OAUTH2-JWT", authentication_data=token.encode()))


def issue(world, ttl: int) -> dict:
    return world.do("token_issue", addresses=["bob"], ttl=ttl)["tokens"][0]


def test_a_token_renewed_in_time_keeps_the_connection(world):
    """Its end is the new one's, with a warning of its own."""
    first, second = issue(world, 120), issue(world, 300)
    bob = five.listener(world, "bob", token=first["token"], authentication_method="OAUTH2-JWT")
    world.advance(61)
    assert ["token-expiring"] == [news["event"] for news in bob.news()]
    renew(bob, second["token"])
    assert 0 == bob._take("AUTH").code
    world.advance(100)

    assert not bob.is_closed
    assert [] == bob.news()
    world.advance(100)
    assert ["token-expiring"] == [news["event"] for news in bob.news()]
    world.advance(45)
    assert bob.is_closed
    assert (0x87, "token expired") == bob.goodbye()


def test_revoking_the_old_token_no_longer_closes_the_connection(world):
    """Only the one in force does."""
    first, second = issue(world, 1200), issue(world, 1200)
    bob = five.listener(world, "bob", token=first["token"], authentication_method="OAUTH2-JWT")
    renew(bob, second["token"])
    world.do("token_revoke", what=first["jti"])
    assert not bob.is_closed
    world.do("token_revoke", what=second["jti"])

    assert bob.is_closed
    assert (0x87, "token revoked") == bob.goodbye()


def test_a_revoked_or_foreign_token_renews_nothing(world):
    """The connection is closed, and says why in its code."""
    first, revoked = issue(world, 1200), issue(world, 1200)
    world.do("token_revoke", what=revoked["jti"])
    for token in (revoked["token"], world.tokens["alice"], "nonsense"):
        bob = five.listener(world, "bob", token=first["token"], authentication_method="OAUTH2-JWT")
        renew(bob, token)

        assert (True, 0x87) == (bob.is_closed, bob.goodbye()[0])


def test_the_bound_of_a_new_token_holds_from_then_on(world):
    """A short token's `--packet` applies to what is delivered after the renewal."""
    alice = world.listener("alice")
    short = world.do("token_issue", addresses=["bob"], ttl=1200, short=True, packet=128)["tokens"][0]
    bob = five.listener(world, "bob", token=issue(world, 1200)["token"], authentication_method="OAUTH2-JWT")
    alice.publish("u/bob/1", "x" * 200)
    renew(bob, short["token"])
    alice.publish("u/bob/2", "x" * 200)
    alice.publish("u/bob/3", "x")

    assert [200, 1] == [len(message.payload) for message in bob.received("u/")]
    assert ("2", 0x80) in alice.steps()


def test_what_waits_is_measured_anew_by_the_bound_of_a_new_token(world):
    """What is too large by now is passed over, told so, and holds up nothing behind it."""
    alice = world.listener("alice")
    short = world.do("token_issue", addresses=["bob"], ttl=1200, short=True, packet=128)["tokens"][0]
    token = issue(world, 1200)["token"]
    bob = five.listener(world, "bob", token=token, authentication_method="OAUTH2-JWT", receive_maximum=1)
    bob.auto_ack = False
    for cid, size in (("1", 1), ("2", 200), ("3", 2)):
        alice.publish(f"u/bob/{cid}", "x" * size)
    bob.publish("u/nobody/" + "4" * 64, qos=0)
    renew(bob, short["token"])
    bob.auto_ack = True
    bob.ack(*bob.inbox)
    world.advance(1)

    assert [1, 2] == [len(message.payload) for message in bob.received("u/")]
    assert [] == bob.received()
    assert {"1": 2, "2": 0x80, "3": 2} == dict(alice.steps())


def test_at_qos_0_nothing_is_a_duplicate(world):
    """What a session was sent at QoS 1 and is to get again at QoS 0 has DUP=0 [MQTT-3.3.1-2]."""
    alice, bob = world.connect("alice"), five.listener(world, "bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    bob.lose()
    world.run(world.store.committer.drain())
    row = world.rows("SELECT id FROM device")[0][0]
    world.store.committer.row("UPDATE device SET filters = ? WHERE id = ?", '{"m/bob/in/#": 0}', row)
    world.run(world.store.committer.drain())
    bob = five.connect(world, "bob")

    assert [(0, False)] == [(message.qos, message.dup) for message in bob.received("u/")]
