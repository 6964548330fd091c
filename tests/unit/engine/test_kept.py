"""Kept sessions: what waits for the commit, what survives reconnect and restart, in which order."""

from __future__ import annotations

import pytest

from mesimqtt.engine.retained import RetainedMessage
from mesimqtt.hooks import Identity
from unit.engine.both_ends import (
    DISCONNECT,
    Message,
    Network,
    ack,
    connect,
    publish,
    subscribe,
    unsubscribe,
)
from unit.engine.fake_keeper import FakeKeeper


def payloads(packets):
    return [packet.payload for packet in packets if isinstance(packet, Message)]


def kept_subscriber(network, qos=1):
    """Connect with clean session 0 and subscribe to 'a'."""
    return network.subscribed(("a", qos), client_id="kept", clean=False)


def test_puback_and_delivery_wait_for_the_commit(stored):
    """Neither the publisher's PUBACK nor the delivery to a kept session leaves before the commit."""
    subscriber = kept_subscriber(stored)
    publisher = stored.connected("p")

    assert [] == publisher.send(publish("a", b"x", qos=1), publish("a", b"y", qos=1, packet_id=2))
    assert [] == subscriber.received()
    stored.keeper.commit()

    assert [("PUBACK", 1), ("PUBACK", 2)] == publisher.received()
    assert [Message("a", b"x", 1, 2), Message("a", b"y", 1, 3)] == subscriber.received()


@pytest.mark.parametrize("event", ["ack", "room"])
def test_nothing_leaves_before_its_commit_when_something_else_goes_on(stored, event):
    """An acknowledgement, or a reader that reads again, sends on what is committed, and no more."""
    subscriber, publisher = kept_subscriber(stored), stored.connected("p")
    publisher.send(publish("a", b"1", qos=1))
    stored.keeper.commit()
    (first,) = subscriber.received()
    publisher.send(publish("a", b"2", qos=1, packet_id=2))
    if event == "ack":
        subscriber.send(ack("PUBACK", first.packet_id))
    else:
        subscriber.connection.set_congested(True)
        subscriber.connection.set_congested(False)

    assert [] == subscriber.received()
    stored.keeper.commit()
    assert [b"2"] == payloads(subscriber.received())


def test_one_callback_for_all_of_a_read(stored):
    """A read of many messages registers once with the keeper."""
    kept_subscriber(stored)
    stored.connected("p").send(*(publish("a", b"x", qos=1, packet_id=number) for number in range(1, 51)))

    assert 1 == len(stored.keeper.waits("call"))
    assert 50 == len(stored.keeper.waits("enqueue"))


def test_nothing_waits_where_no_kept_session_matches(stored):
    """Free topics that only clean sessions subscribe to are acknowledged and delivered at once."""
    subscriber = stored.subscribed(("a", 1))
    publisher = stored.connected("p")

    assert [("PUBACK", 1)] == publisher.send(publish("a", b"x", qos=1))
    assert [b"x"] == payloads(subscriber.received())


def test_a_failed_commit_closes_the_publisher_unacknowledged(stored):
    """3.1.1 has no negative PUBACK: the connection is closed, the client resends, nothing was delivered."""
    subscriber = kept_subscriber(stored)
    publisher = stored.connected("p")
    publisher.send(publish("a", b"lost", qos=1))
    stored.keeper.commit(ok=False)

    assert "store failed" == publisher.closed
    assert [] == publisher.received()
    assert [] == subscriber.received()
    again = stored.connected("p")
    again.send(publish("a", b"resent", qos=1, dup=True))
    stored.keeper.commit()

    assert [("PUBACK", 1)] == again.received()
    assert [b"resent"] == payloads(subscriber.received())


def test_a_failed_commit_does_not_swallow_the_next_one(stored):
    """Messages of two reads are in two commits: the first fails, the second is delivered."""
    subscriber = kept_subscriber(stored)
    first, second = stored.connected("p1"), stored.connected("p2")
    first.send(publish("a", b"1", qos=1))
    lost, stored.keeper.waiting = stored.keeper.waiting, []
    second.send(publish("a", b"2", qos=1))
    kept, stored.keeper.waiting = stored.keeper.waiting, lost
    stored.keeper.commit(ok=False)
    stored.keeper.waiting = kept
    stored.keeper.commit()

    assert (True, False) == (bool(first.closed), bool(second.closed))
    assert [b"2"] == payloads(subscriber.received())


def test_a_failed_commit_spares_what_waits_in_the_store(stored):
    """A commit that fails while older messages are still to be read from the store loses none of those."""
    stored.keeper.is_instant = True
    kept_subscriber(stored).send(DISCONNECT)
    publisher = stored.connected("p")
    publisher.send(*(publish("a", b"%d" % number, qos=1, packet_id=number) for number in range(1, 501)))
    back = stored.connected("kept", clean=False)
    stored.keeper.is_instant = False
    publisher.send(publish("a", b"lost", qos=1))
    stored.keeper.commit(ok=False)
    stored.keeper.is_instant = True
    seen, packets = [], back.rest
    while packets:
        seen += payloads(packets)
        packets = back.send(*(ack("PUBACK", packet.packet_id) for packet in packets))

    assert [b"%d" % number for number in range(1, 501)] == seen


def test_offline_messages_wait_and_come_in_order(stored):
    """QoS 1 and 2 messages of an offline session are in the store alone, and follow CONNACK in order."""
    stored.keeper.is_instant = True
    kept_subscriber(stored, 2).send(DISCONNECT)
    publisher = stored.connected("p")
    publisher.send(publish("a", b"1", qos=1), publish("a", b"0"), publish("a", b"2", qos=2, packet_id=2))

    assert 0 == len(stored.engine.sessions["open", "kept"].queue)
    back = stored.connected("kept", clean=False)

    assert 1 == back.session_present
    assert [Message("a", b"1", 1, 2), Message("a", b"2", 2, 3)] == back.rest


def test_unacknowledged_messages_are_sent_again_with_dup_and_their_ids(stored):
    """After a reconnect what was not acknowledged comes again, DUP 1, original id [MQTT-4.4.0-1]."""
    stored.keeper.is_instant = True
    subscriber = kept_subscriber(stored)
    publisher = stored.connected("p")
    publisher.send(*(publish("a", b"%d" % number, qos=1, packet_id=number) for number in (1, 2, 3)))
    subscriber.send(ack("PUBACK", 3))
    stored.keeper.commit()
    subscriber.lose()
    publisher.send(publish("a", b"4", qos=1, packet_id=4))
    back = stored.connected("kept", clean=False)

    assert [
        Message("a", b"1", 1, 2, dup=True),
        Message("a", b"3", 1, 4, dup=True),
        Message("a", b"4", 1, 5),
    ] == back.rest


def test_a_restart_loses_nothing(stored):
    """Subscriptions, queue, ids and open QoS 2 exchanges survive; what was not committed was not acknowledged."""
    stored.keeper.is_instant = True
    subscriber = kept_subscriber(stored, 2)
    publisher = stored.connected("p", clean=False)
    publisher.send(publish("a", b"1", qos=1), publish("a", b"2", qos=2, packet_id=2))
    subscriber.send(ack("PUBREC", 3))
    stored.restart()
    back = stored.connected("kept", clean=False)

    assert 1 == back.session_present
    assert [Message("a", b"1", 1, 2, dup=True), ("PUBREL", 3)] == back.rest
    assert [] == back.send(ack("PUBACK", 2), ack("PUBCOMP", 3))
    publisher = stored.connected("p", clean=False)

    assert [("PUBREC", 2)] == publisher.send(publish("a", b"2", qos=2, packet_id=2, dup=True))
    assert [("PUBCOMP", 2), ("PUBREC", 2)] == publisher.send(ack("PUBREL", 2), publish("a", b"3", qos=2, packet_id=2))
    assert [Message("a", b"3", 2, 4)] == back.received()


def test_pubrel_waits_for_the_commit_of_pubrec(stored):
    """PUBREL leaves after it is kept that the message was received; a second PUBREC gets it again."""
    subscriber = kept_subscriber(stored, 2)
    stored.connected("p").send(publish("a", b"x", qos=2))
    stored.keeper.commit()
    subscriber.received()

    assert [] == subscriber.send(ack("PUBREC", 2))
    stored.keeper.commit()

    assert [("PUBREL", 2)] == subscriber.received()
    subscriber.send(ack("PUBREC", 2))
    stored.keeper.commit()

    assert [("PUBREL", 2)] == subscriber.received()
    subscriber.send(ack("PUBCOMP", 2))
    stored.keeper.commit()

    assert {} == stored.keeper.sessions[1]["queue"]


def test_pubcomp_waits_for_the_commit_of_a_kept_publisher(stored):
    """A packet id is forgotten in the store before PUBCOMP lets the client use it again."""
    publisher = stored.connected("p", clean=False)

    assert [] == publisher.send(publish("a", b"x", qos=2, packet_id=9))
    stored.keeper.commit()

    assert [("PUBREC", 9)] == publisher.received()
    assert {9} == stored.keeper.sessions[1]["incoming"]
    assert [] == publisher.send(ack("PUBREL", 9))
    stored.keeper.commit()

    assert [("PUBCOMP", 9)] == publisher.received()
    assert set() == stored.keeper.sessions[1]["incoming"]


def test_a_failed_commit_forgets_the_packet_id_of_qos_2(stored):
    """If the message of a QoS 2 PUBLISH could not be kept, its resend is not a duplicate."""
    subscriber = kept_subscriber(stored, 2)
    stored.connected("p", clean=False).send(publish("a", b"x", qos=2, packet_id=9))
    stored.keeper.commit(ok=False)
    publisher = stored.connected("p", clean=False)
    publisher.send(publish("a", b"x", qos=2, packet_id=9, dup=True))
    stored.keeper.commit()

    assert [("PUBREC", 9)] == publisher.received()
    assert [b"x"] == payloads(subscriber.received())


def test_suback_and_unsuback_of_a_kept_session_wait_for_the_commit(stored):
    """An acknowledged subscription survives a crash, an acknowledged removal too."""
    client = stored.connected("c", clean=False)

    assert [] == client.send(subscribe(("a", 1), ("b", 2)))
    stored.keeper.commit()

    assert [("SUBACK", 1, [1, 2])] == client.received()
    assert [] == client.send(unsubscribe("b", packet_id=2))
    stored.keeper.commit()

    assert [("UNSUBACK", 2)] == client.received()
    stored.restart()

    assert {"a": 1} == stored.engine.sessions["open", "c"].subscriptions


def test_a_page_that_comes_after_the_connection_is_gone_is_ignored(stored):
    """A page read for an earlier connection neither delivers nor confuses the next one."""
    stored.keeper.is_instant = True
    kept_subscriber(stored).send(DISCONNECT)
    stored.connected("p").send(publish("a", b"x", qos=1))
    pages, read = [], stored.keeper.page
    stored.keeper.page = lambda *arguments: pages.append(arguments)
    stored.connected("kept", clean=False).lose()
    stored.keeper.page = read
    back = stored.connected("kept", clean=False)
    stored.keeper.page(*pages[0])

    assert [b"x"] == payloads(back.rest)
    assert [] == back.received()


def test_a_right_lost_while_offline_is_respected(stored):
    """What was queued before the right to receive was lost is not delivered, and is forgotten."""
    stored.keeper.is_instant = True
    subscriber = kept_subscriber(stored)
    subscriber.send(subscribe(("b", 1)))
    subscriber.send(DISCONNECT)
    stored.connected("p").send(publish("a", b"secret", qos=1), publish("b", b"open", qos=1))
    stored.gate.denied.add(("receive", "a"))
    stored.engine.permissions_changed()

    assert [b"open"] == payloads(stored.connected("kept", clean=False).rest)
    stored.keeper.commit()

    assert [2] == list(stored.keeper.sessions[1]["queue"])


def test_a_page_waits_for_the_gate(stored):
    """Where the gate does not know yet whether a queued message may be received, delivery waits for it."""
    stored.keeper.is_instant = True
    kept_subscriber(stored).send(DISCONNECT)
    stored.connected("p").send(publish("a", b"x", qos=1))
    stored.gate.unknown.add(("receive", "a"))
    back = stored.connected("kept", clean=False)

    assert [] == back.rest
    stored.gate.unknown.clear()
    back.connection.resume(stored.now)

    assert [Message("a", b"x", 1, 2)] == back.received()


def test_clean_session_1_forgets_a_kept_session(stored):
    """A CONNECT with clean session 1 discards what was kept [MQTT-3.1.2-6]."""
    stored.keeper.is_instant = True
    kept_subscriber(stored).send(DISCONNECT)
    fresh = stored.connected("kept", clean=True)
    stored.connected("p").send(publish("a", b"x", qos=1))
    later = stored.connected("kept", clean=False)

    assert (0, 0) == (fresh.session_present, later.session_present)
    assert [] == fresh.received() + later.rest


def test_taking_over_hands_the_session_on(stored):
    """A second connection with clean session 0 continues where the first was."""
    stored.keeper.is_instant = True
    first = kept_subscriber(stored)
    publisher = stored.connected("p")
    publisher.send(publish("a", b"1", qos=1))
    second = stored.connected("kept", clean=False)
    publisher.send(publish("a", b"2", qos=1))

    assert "taken over" == first.closed
    assert (1, [Message("a", b"1", 1, 2, dup=True)]) == (second.session_present, second.rest)
    assert [b"2"] == payloads(second.received())


def test_a_retained_message_for_a_kept_session_keeps_its_flag(stored):
    """A retained message at QoS 1 is kept like any other and goes out with RETAIN 1, also when sent again."""
    stored.keeper.is_instant = True
    stored.connected("p").send(publish("a", b"old", qos=1, retain=True))
    client = kept_subscriber(stored)

    assert [Message("a", b"old", 1, 2, retain=True)] == client.rest
    client.lose()
    back = stored.connected("kept", clean=False)

    assert [Message("a", b"old", 1, 2, retain=True, dup=True)] == back.rest
    stored.restart()

    assert [b"old"] == payloads(stored.subscribed(("a", 0), client_id="other").rest)


def test_retained_messages_are_acknowledged_after_their_commit(stored):
    """PUBACK of a retained PUBLISH means that it survives."""
    publisher = stored.connected("p")

    assert [] == publisher.send(publish("a", b"x", qos=1, retain=True))
    stored.keeper.commit()

    assert [("PUBACK", 1)] == publisher.received()
    assert {"a": RetainedMessage("a", b"x", 1)} == stored.keeper.retained


@pytest.mark.parametrize("seconds", [4, 9])
def test_a_disconnected_session_expires(seconds):
    """A kept session that nobody came back to is dropped after `session_expiry_s`, not before."""
    network = Network(keeper=FakeKeeper(), session_expiry_s=6)
    network.keeper.is_instant = True
    kept_subscriber(network).send(DISCONNECT)
    network.pass_time(seconds)

    assert (seconds < 6) == (("open", "kept") in network.engine.sessions)
    assert int(seconds < 6) == network.connected("kept", clean=False).session_present


def test_without_a_store_kept_sessions_live_in_memory(network):
    """With no keeper everything above holds as long as the process lives."""
    network.subscribed(("a", 1), client_id="kept", clean=False).send(DISCONNECT)
    publisher = network.connected("p")

    assert [("PUBACK", 1)] == publisher.send(publish("a", b"1", qos=1))
    back = network.connected("kept", clean=False)

    assert [Message("a", b"1", 1, 2)] == back.rest
    back.send(ack("PUBACK", 2), DISCONNECT)

    assert [] == network.connected("kept", clean=False).rest


def test_a_session_without_a_user_is_never_kept(stored):
    """A session of nobody ends with its connection, whatever the client asked for."""
    stored.gate.verdict = Identity("")
    stored.connected("c", clean=False).send(DISCONNECT)

    assert {} == stored.engine.sessions
    assert [("CONNACK", 0, 0)] == stored.client().send(connect("c", clean=False))
