"""Devices and their cursors: several per user, new ones, returning ones, displaced ones (contract sections 1 and 3)."""

from __future__ import annotations

import pytest

from mesimqtt.messaging.delivery import SENT_MAX
from unit.messaging.world import seq_of


def seqs(peer, part="u/"):
    return [seq_of(message) for message in peer.received(part)]


def test_every_device_gets_every_message(world):
    """Two devices of bob get the same messages in the same order; alice hears DELIVERED once, from the first."""
    alice, phone, tablet = world.listener("alice"), world.listener("bob"), world.listener("bob", "tablet")
    alice.publish("u/bob/1")
    alice.publish("u/bob/2")

    assert ([1, 2], [1, 2]) == (seqs(phone), seqs(tablet))
    assert [("1", 1), ("1", 2), ("2", 1), ("2", 2)] == alice.steps()


def test_every_device_has_a_cursor_of_its_own(world):
    """What the phone acknowledged still comes to the tablet that was away."""
    world.listener("bob", "tablet").disconnect()
    alice, phone = world.connect("alice"), world.listener("bob")
    for number in range(3):
        alice.publish(f"u/bob/{number}")
    assert [1, 2, 3] == seqs(phone)

    tablet = world.listener("bob", "tablet")

    assert [1, 2, 3] == seqs(tablet)


def test_a_cursor_survives_kill_and_restart(world):
    """What was acknowledged a second ago does not come again; what was not, does."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.auto_ack = False
    for number in range(4):
        alice.publish(f"u/bob/{number}")
    got = bob.received("u/")
    bob.ack(got[0], got[2])
    world.advance(1.5)
    world.restart()

    again = world.listener("bob").received("u/")

    assert [(2, True), (4, True)] == [(seq_of(message), message.dup) for message in again]


def test_an_acknowledgement_lost_in_a_crash_only_repeats(world):
    """An acknowledgement that no commit took yet is lost with the server: the message comes again with DUP."""
    alice, _ = world.listener("alice"), world.listener("bob", "first")
    world.listener("bob", "second").disconnect()
    alice.publish("u/bob/1")
    world.advance(2)
    second = world.connect("bob", "second")
    assert [1] == seqs(second)
    world.restart()

    again = world.listener("bob", "second").received("u/")

    assert [(1, True)] == [(seq_of(message), message.dup) for message in again]


@pytest.mark.parametrize("clean", [False, True])
def test_the_cursor_does_not_depend_on_the_clean_session_flag(world, clean):
    """A device keeps its cursor with either flag; DUP is set on a repeat in a persistent session only."""
    alice = world.connect("alice")
    bob = world.listener("bob", clean=clean)
    bob.auto_ack = False
    for number in range(3):
        alice.publish(f"u/bob/{number}")
    first = bob.received("u/")
    bob.ack(first[0])
    bob.lose()

    again = world.listener("bob", clean=clean).received("u/")

    assert [(2, not clean), (3, not clean)] == [(seq_of(message), message.dup) for message in again]
    assert [message.topic for message in first[1:]] == [message.topic for message in again]


def test_what_was_never_sent_has_no_dup(world):
    """Behind a full window wait messages that the device has never seen: they come with DUP 0 after a reconnect."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.auto_ack = False
    for number in range(100):
        alice.publish(f"u/bob/{number}")
    bob.lose()

    again = world.listener("bob").received("u/")

    assert [True] * 56 + [False] * 44 == [message.dup for message in again]
    assert list(range(1, 101)) == [seq_of(message) for message in again]


def test_what_was_in_flight_has_dup_however_many_devices_left_since(world):
    """The memory of who was sent what is bounded; where it has forgotten a device the store says when it left."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    bob.received()
    bob.lose()
    world.advance(2)
    sent = world.messaging._delivery.sent
    for number in range(SENT_MAX - 1):  # others who left since
        sent[-1 - number] = {}
    carol = world.listener("carol")
    carol.auto_ack = False
    alice.publish("u/carol/1")
    carol.lose()
    alice.publish("u/bob/2")
    again = world.listener("bob").received("u/")

    assert [(1, True), (2, False)] == [(seq_of(message), message.dup) for message in again]
    assert SENT_MAX == len(sent)


@pytest.mark.parametrize("kill", [True, False])
def test_what_was_in_flight_before_a_restart_has_dup(world, kill):
    """Whether the server was killed or stopped in good order: a message that may have been sent has DUP 1."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    assert [False] == [message.dup for message in bob.received("u/")]
    world.restart(kill=kill)

    again = world.listener("bob").received("u/")

    assert [True] == [message.dup for message in again]


def test_packet_ids_go_on_above_what_may_have_been_used(world):
    """After a restart no packet id of before stands for another message."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.auto_ack = False
    for number in range(10):
        alice.publish(f"u/bob/{number}")
    before = {message.packet_id for message in bob.received()}
    world.restart()
    bob = world.listener("bob")
    after = {message.packet_id for message in bob.received()}

    assert (10, 10) == (len(before), len(after))
    assert before.isdisjoint(after)


def test_a_new_device_starts_at_what_no_device_acknowledged(world):
    """The tablet that comes later gets what the phone has not acknowledged, and not what it has."""
    alice, phone = world.connect("alice"), world.listener("bob")
    phone.auto_ack = False
    for number in range(4):
        alice.publish(f"u/bob/{number}")
    phone.ack(*phone.received("u/")[:2])

    tablet = world.listener("bob", "tablet")

    assert [3, 4] == seqs(tablet)


def test_for_a_new_device_own_sent_messages_count_as_acknowledged(world):
    """A new device gets no copies of what its user sent before, after a restart neither."""
    phone, bob = world.listener("alice"), world.listener("bob")
    phone.publish("u/bob/1")
    bob.publish("u/alice/1")
    phone.publish("u/bob/2")
    assert [] == world.listener("alice", "tablet").received("sent/")
    world.advance(2)
    world.restart()

    laptop = world.listener("alice", "laptop")
    world.connect("bob").publish("u/alice/2")

    assert ([], [4]) == (laptop.received("sent/"), seqs(laptop))


def test_a_device_without_a_client_id_has_no_cursor(world):
    """With an empty client id each connection begins anew at what no device acknowledged."""
    alice = world.listener("alice")
    alice.publish("u/bob/1")
    first = world.listener("bob", "", clean=True)
    assert [1] == seqs(first)
    first.lose()
    alice.publish("u/bob/2")

    second = world.listener("bob", "", clean=True)

    assert ([2], [(0,)]) == (seqs(second), world.rows("SELECT count(*) FROM device WHERE user_id = 2"))
    assert [("1", 1), ("1", 2), ("2", 1), ("2", 2)] == alice.steps()


def test_the_same_client_id_of_another_user_is_another_device(world):
    """Neither connection disturbs the other, and each has its own cursor."""
    alice, bob, carol = world.connect("alice"), world.listener("bob", "same"), world.listener("carol", "same")
    alice.publish("u/bob/1", "for bob")
    alice.publish("u/carol/2", "for carol")

    assert (["for bob"], ["for carol"]) == (bob.payloads(), carol.payloads())
    assert (False, False) == (bob.is_closed, carol.is_closed)


def test_take_over_goes_on_where_the_first_connection_stood(world):
    """A second connection of the same device ends the first and gets what that left unacknowledged."""
    alice, first = world.connect("alice"), world.listener("bob")
    first.auto_ack = False
    alice.publish("u/bob/1")
    alice.publish("u/bob/2")
    first.ack(first.received("u/")[0])

    second = world.listener("bob")

    assert (True, [2]) == (first.is_closed, seqs(second))


def test_a_device_that_comes_twice_before_the_commit_is_one_device(world):
    """Two connections of a new device whose row is not committed yet: one row, and the store goes on."""
    world.commits.hold()
    first = world.connect("bob")
    first.subscribe("#")
    second = world.connect("bob")
    second.subscribe("#")
    world.commits.release()
    world.turn()
    alice = world.listener("alice")

    assert alice.publish("u/bob/1")
    assert ["hi"] == second.payloads()
    assert [(1,)] == world.rows("SELECT count(*) FROM device WHERE user_id = 2")


def test_a_persistent_session_need_not_subscribe_again(world):
    """After a reconnect, and after a restart, what the session had subscribed is delivered without a SUBSCRIBE."""
    alice = world.connect("alice")
    world.listener("bob").lose()
    alice.publish("u/bob/1")
    bob = world.connect("bob")
    assert (1, [1]) == (bob.connack[1], seqs(bob))
    world.restart()
    world.connect("alice").publish("u/bob/2")

    bob = world.connect("bob")
    assert (1, [2]) == (bob.connack[1], seqs(bob))
    world.connect("alice", "b").publish("u/bob/3")
    assert [3] == seqs(bob)


def test_a_clean_session_must_subscribe_again(world):
    """After a clean session nothing is delivered before a SUBSCRIBE, and nothing is lost."""
    world.listener("bob").lose()
    bob = world.connect("bob", clean=True)
    world.connect("alice").publish("u/bob/1")
    assert [] == bob.received()

    bob.subscribe("u/#")

    assert [1] == seqs(bob)


def test_at_most_20_devices_keep_a_cursor(world):
    """The twenty-first device displaces the longest unseen one, and the user's devices are told."""
    for number in range(20):
        world.advance(1)
        world.listener("bob", f"d{number}").disconnect()
    world.advance(2)
    online = world.listener("bob", "d0")
    online.received()

    world.listener("bob", "d20")

    names = [name for (name,) in world.rows("SELECT client_id FROM device WHERE user_id = 2")]
    assert (20, False, True) == (len(names), "d1" in names, "d0" in names)
    assert [{"event": "device-dropped", "device": "d1"}] == online.news()


def test_a_displaced_device_begins_as_a_new_one(world):
    """What other devices acknowledged meanwhile does not come to it again."""
    settings = world.messaging.settings.messaging
    world.listener("bob", "old").disconnect()
    alice = world.connect("alice")
    alice.publish("u/bob/1")
    for number in range(settings.devices_max):
        world.advance(1)
        world.listener("bob", f"d{number}").disconnect()

    assert [] == seqs(world.listener("bob", "old"))


def test_twenty_one_devices_online_are_twenty_cursors(make_world):
    """Where all are online, the longest unseen loses its cursor all the same and goes on live."""
    world = make_world(messaging={"devices_max": 3})
    peers = []
    for number in range(4):
        world.advance(1)
        peers.append(world.listener("bob", f"d{number}"))
    world.advance(2)

    assert [("d1",), ("d2",), ("d3",)] == world.rows("SELECT client_id FROM device WHERE user_id = 2 ORDER BY id")
    world.connect("alice").publish("u/bob/1")
    assert [[1]] * 4 == [seqs(peer) for peer in peers]


def test_a_device_unseen_for_90_days_is_dropped(world):
    """Also one that was online when the server was killed; one that is online stays."""
    world.listener("bob", "gone").disconnect()
    world.listener("bob", "killed")
    world.advance(2)
    world.restart()
    world.listener("bob", "here")
    world.jump(91 * 86_400)
    world.advance(2)

    assert [("here",)] == world.rows("SELECT client_id FROM device WHERE user_id = 2")


def test_a_device_with_small_packets_is_passed_over(world):
    """A message that does not fit a device is a legal gap for it; the next one that fits is delivered."""
    small = world.do("token_issue", addresses=["bob"], short=True, packet=128)["tokens"][0]["token"]
    alice, bob = world.listener("alice"), world.listener("bob", "tiny", token=small, clean=True)
    world.listener("bob", "phone").disconnect()
    alice.publish("u/bob/1", "x" * 200)
    alice.publish("u/bob/2", "fits")

    assert ["fits"] == bob.payloads()
    assert [("1", 1), ("2", 1), ("2", 2)] == alice.steps()
    assert ["x" * 200, "fits"] == world.listener("bob", "phone").payloads()


def test_too_large_for_every_device_is_a_verdict(world):
    """Once every device with a cursor has passed a message over: 0x80 `too-large-for-device`."""
    tokens = [
        world.do("token_issue", addresses=["bob"], short=True, packet=size)["tokens"][0]["token"] for size in (128, 150)
    ]
    world.listener("bob", "other", token=tokens[1], clean=True).disconnect()
    alice, bob = world.listener("alice"), world.listener("bob", "tiny", token=tokens[0], clean=True)
    alice.publish("u/bob/1", "x" * 110)  # more than either takes with its topic

    assert [("1", 1)] == alice.steps()
    other = world.listener("bob", "other", token=tokens[1], clean=True)

    (status,) = alice.statuses()
    assert (0x80, "too-large-for-device", "bob") == (status["status"], status["reason"], status["peer"])
    assert [] == bob.received("u/") + other.received("u/")


def test_without_any_cursor_nothing_is_too_large(world):
    """A device without a cursor passes over, but the verdict needs at least one device with a cursor."""
    small = world.do("token_issue", addresses=["bob"], short=True, packet=128)["tokens"][0]["token"]
    alice, bob = world.listener("alice"), world.listener("bob", "", token=small, clean=True)
    alice.publish("u/bob/1", "x" * 200)

    assert ([], [("1", 1)]) == (bob.received("u/"), alice.steps())
    assert ["x" * 200] == world.listener("bob", "phone").payloads()


def test_a_copy_that_does_not_fit_raises_no_status(world):
    """The sender's own small device passes a copy over in silence; its statuses fit as numbers."""
    small = world.do("token_issue", addresses=["alice"], short=True, packet=128)["tokens"][0]["token"]
    tiny = world.listener("alice", "tiny", token=small, clean=True, filters=("sent/#", "s/#"))
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1", "x" * 200)

    assert [("1", 1), ("1", 2)] == alice.steps()
    assert ["1", "2"] == tiny.payloads("s/")
    assert ([], ["x" * 200]) == (tiny.received("sent/"), bob.payloads())


def test_a_small_3_1_1_device_sends_and_receives(world):
    """QoS 0 publishes, a clean session, a short token, packets of at most 128 bytes: it takes part all the same."""
    small = world.do("token_issue", addresses=["bob"], short=True, packet=128)["tokens"][0]["token"]
    alice = world.listener("alice")
    bob = world.listener("bob", "tiny", token=small, clean=True, filters=("u/#", "s/#"))
    bob.publish("u/alice", "21.5", qos=0)
    alice.publish("u/bob/7", "ok")

    assert (["21.5"], ["ok"]) == (alice.payloads(), bob.payloads())
    assert ["1", "2"] == bob.payloads("s/")


@pytest.mark.parametrize(("filters", "kind"), [(["sent/#"], "sent/"), (["event/#"], "event/")])
def test_copies_come_from_the_subscription_on(world, filters, kind):
    """A device that takes copies or events alone misses none that came while the store was looked at for it."""
    world.group("team", "alice")
    alice = world.connect("alice")
    world.reads.hold()
    tablet = world.listener("alice", "tablet", filters=filters)
    alice.publish("u/bob/1", "of alice's phone")
    world.do("group_join", address="team", users=["bob"])
    world.reads.release()
    world.turn()

    assert 1 == len(tablet.received(kind))
