"""A refused publish is answered by its status and by a reason code of MQTT 5.0 (contract section 4)."""

from __future__ import annotations

import logging
import sqlite3

import pytest

from mesimqtt.domain.groups import MemberFlag
from mesimqtt.hooks import Identity
from mesimqtt.testing import wire5
from unit.messaging import five


def verdict(peer):
    (status,) = peer.statuses()
    return status["status"], status.get("reason")


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize(
    ("topic", "status", "code", "reason"),
    [
        ("u/nobody/1", 0x83, 0x90, "0x83 invalid-destination"),
        ("g/nothing/1", 0x83, 0x90, "0x83 invalid-destination"),
        ("read/u/nobody", 0x83, 0x90, "0x83 invalid-destination"),
        ("presence/u/nobody", 0x83, 0x90, "0x83 invalid-destination"),
        ("m/bob/out/u/carol/7", 0x8D, 0x87, "0x8D own-folder"),
        ("m/bob/in/u/alice/7", 0x8D, 0x87, "0x8D own-folder"),
        ("nothing/bob/1", 0x85, 0x90, None),
        ("u/bob/c!d", 0x85, 0x90, "0x85 a cid is 1 to 64 of A-Z a-z 0-9 _ -"),
        ("u/%62ob/1", 0x85, 0x90, None),
        ("read/u/bob/k=v", 0x85, 0x90, None),
        ("u/bob/1/seq=4", 0x85, 0x83, "0x85 parameter 'seq' is the server's"),
        ("u/bob/1/edit=0123456789abcdef", 0x8D, 0x87, "0x8D edit.not-own"),
        ("read/u/bob", 0x85, 0x83, "0x85 the payload is a mid, or <=mid"),
    ],
)
def test_each_refusal_has_its_reason_code(world, topic, status, code, reason, qos):
    """In PUBACK and PUBREC; the packet id of a refused QoS 2 message is free at once."""
    alice, bob = five.listener(world, "alice"), five.listener(world, "bob")
    answer = alice.publish(topic, qos=qos, packet_id=99)

    assert (code, reason or answer[1]) == answer
    assert status == verdict(alice)[0]
    assert [] == bob.received()
    assert answer == alice.publish(topic, qos=qos, packet_id=99)


class Foreign:
    """Lets in whom messaging does not know, as a plugin for another user base may."""

    def __init__(self, gate):
        self.decide, self.audit = gate.decide, gate.audit

    def authenticate(self, _connection, request):
        return Identity(user=request.username)


def test_who_is_no_user_here_is_told_so(world, caplog):
    """A plugin of amqtt's or the backend let him in; his own folder is refused for what he is, and it is logged."""
    world.engine.gate = Foreign(world.engine.gate)
    world.tokens["zoe"] = "x"
    zoe = five.connect(world, "zoe")
    with caplog.at_level(logging.WARNING, logger="mesimqtt.audit"):
        assert (0x87, "0x8D no such user here") == zoe.publish("u/bob/1")
        assert [0x87] == zoe.subscribe("#")

    assert 2 == caplog.text.count("user='zoe' client='phone'")
    assert 2 == caplog.text.count("rule=no such user here")


def test_at_qos_0_the_status_tells_alone(world):
    """There is nothing to acknowledge."""
    alice = five.listener(world, "alice")

    assert alice.publish("u/nobody/1", qos=0) is None
    assert (0x83, None) == verdict(alice)
    assert [] == alice.other


def test_who_wants_no_problem_information_gets_none(world):
    """Request Problem Information 0: the reason code alone [MQTT-3.1.2-29]."""
    alice = five.connect(world, "alice", request_problem_information=0)

    assert (0x90, None) == alice.publish("u/nobody/1")


def test_a_client_of_3_1_1_is_acknowledged_all_the_same(world):
    """It has no other way; the status tells the truth."""
    alice = world.listener("alice")

    assert alice.publish("u/nobody/1")
    assert alice.publish("u/nobody/1", qos=2)
    assert [("1", 0x83)] * 2 == alice.steps()


def test_a_group_that_is_paused_or_that_one_may_not_write_to(world):
    """0x90 is all else, 0x83; the right to send is an access rule, 0x87."""
    world.group("team", "alice", "bob")
    alice = five.listener(world, "alice")
    group = world.messaging._hub.directory.group("team")
    group.active = False

    assert (0x83, "0x90 group-paused") == alice.publish("g/team/1")
    group.active = True
    group.members[next(iter(group.members))] = MemberFlag.RECV
    assert (0x87, "0x8D group.send") == alice.publish("g/team/2")


def test_a_full_inbox_and_a_rate_are_quotas(make_world):
    """0x97, and `retry_after` stands in the status."""
    world = make_world(messaging={"inbox_messages_max": 1}, rates={"messages": "10:2"})
    alice = five.listener(world, "alice")
    answers = [alice.publish(f"u/bob/{number}") for number in range(3)]

    assert [(0, None), (0x97, "0x82 inbox-full"), (0x97, "0x8C rate-limited")] == answers
    assert [1, 0x82, 0x8C] == [status["status"] for status in alice.statuses()]


@pytest.mark.parametrize("qos", [1, 2])
def test_what_only_the_commit_shows_is_a_reason_code_too(world, qos):
    """Two messages of one cid in one commit: the second is `cid-reused`."""
    alice, bob = five.listener(world, "alice"), five.listener(world, "bob")
    one, two = (
        wire5.publish("m/alice/out/u/bob/1", payload, qos=qos, packet_id=number)
        for number, payload in ((101, b"a"), (102, b"b"))
    )
    alice.send(one, two)

    kind = "PUBACK" if qos == 1 else "PUBREC"
    answers = {packet.packet_id: (packet.code, packet.reason_string) for packet in alice.other if packet.kind == kind}
    assert {101: (0, None), 102: (0x83, "0x85 cid-reused")} == answers
    assert ["a"] == bob.payloads()
    assert {1, 2, 0x85} == {status["status"] for status in alice.statuses()}


def test_a_resend_of_what_was_accepted_is_no_refusal(world):
    """Also where it would be refused now."""
    alice = five.listener(world, "alice")
    alice.publish("u/bob/1")

    assert (0, None) == alice.publish("u/bob/1")
    assert [("1", 1), ("1", 1)] == alice.steps()


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("clean", [True, False])
def test_a_store_that_cannot_take_it_is_told(world, qos, clean):
    """0x97 and status 0x80 `store`; the connection stays, the packet id is free, and a resend is judged afresh."""
    alice, bob = five.listener(world, "alice", clean=clean, expiry=0 if clean else 3600), five.listener(world, "bob")
    world.database.code = sqlite3.SQLITE_IOERR
    answer = alice.publish("u/bob/1", qos=qos, packet_id=42)

    assert (0x97, "0x80 store") == answer
    assert (0x80, "store") == verdict(alice)
    assert not alice.is_closed
    world.database.code = 0
    world.advance(5)
    assert (0, None) == alice.publish("u/bob/1", qos=qos, packet_id=42)
    assert ["hi"] == bob.payloads()


def test_a_store_without_room_is_told_at_once(make_world):
    """Nothing waits in memory beyond its bound."""
    world = make_world(store={"pending_max": 0})
    alice = five.listener(world, "alice")

    assert (0x97, "0x80 store") == alice.publish("u/bob/1")
    assert (0x80, "store") == verdict(alice)
    assert not alice.is_closed


@pytest.mark.parametrize("qos", [1, 2])
def test_a_read_mark_that_cannot_be_kept_is_told(world, qos):
    """0x97; it may be sent again."""
    alice, bob = five.listener(world, "alice"), five.listener(world, "bob")
    alice.publish("u/bob/1")
    mid = bob.received("u/")[0].topic.split("/")[5]
    world.database.code = sqlite3.SQLITE_IOERR

    assert (0x97, "0x80 store") == bob.publish("read/u/alice", mid, qos=qos)
    world.database.code = 0
    world.advance(5)
    assert (0, None) == bob.publish("read/u/alice", mid, qos=qos)
    assert {1, 2, 3} == {status["status"] for status in alice.statuses()}


def test_a_transient_message_that_is_refused(world):
    """`cid-reused` within the minute that it is remembered; nobody online is a verdict, not a refusal."""
    alice = five.listener(world, "alice")

    assert (0, None) == alice.publish("u/bob/1", "a", message_expiry_interval=0)
    assert (0x83, "0x85 cid-reused") == alice.publish("u/bob/1", "b", message_expiry_interval=0)
    assert [("1", 0x81), ("1", 0x85)] == alice.steps()


def test_a_payload_over_the_limit(make_world):
    """Status 0x85 with `limit`, and 0x83 with the same in its Reason String."""
    world = make_world(limits={"payload_max": 1000})
    alice = five.listener(world, "alice")

    assert (0x83, "0x85 limit") == alice.publish("u/bob/1", b"x" * 1001)
    assert (0x85, "limit") == verdict(alice)


@pytest.mark.parametrize(
    ("topic_filter", "code"),
    [
        ("m/alice/in/#", 0x87), ("m/#", 0x87), ("m/bob/out/#", 0x87), ("$share/x/m/bob/in/#", 0x87), ("u", 0x8F),
        ("status/1", 0x8F), ("u/%61lice/#", 0x8F), ("u/#", 1),
    ],
)  # fmt: skip
def test_a_refused_filter_has_its_reason_code(world, topic_filter, code):
    """Not authorized outside the own `in/`, invalid where the contract knows no such filter."""
    assert [code] == five.connect(world, "bob").subscribe(topic_filter)


def test_filters_over_the_bound(make_world):
    """0x97 for the one too many; one that is there may be asked for again."""
    world = make_world(limits={"filters_max": 2})
    bob = five.connect(world, "bob")

    assert [1] == bob.subscribe("u/#")
    assert [1] == bob.subscribe("g/#")
    assert [0x97] == bob.subscribe("sent/#")
    assert [1] == bob.subscribe("u/#")


def test_unsubscribe_says_whether_there_was_one(world):
    """0x11 if not."""
    bob = five.listener(world, "bob")

    assert [0, 0x11] == [bob.unsubscribe("#"), bob.unsubscribe("#")]
