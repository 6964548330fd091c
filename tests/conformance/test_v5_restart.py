"""MQTT 5.0: what outlives the server's process. Every test on a store in memory and on the real one."""

from __future__ import annotations

import pytest

from conformance.peer5 import Five
from conformance.store5 import FakeStoreWorld, StoreWorld
from mesimqtt.testing.wire5 import (
    option,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    suback,
    subscribe,
    unsuback,
    unsubscribe,
    will,
)


@pytest.fixture(params=[FakeStoreWorld, StoreWorld], ids=["memory", "disk"])
def store(request, tmp_path):
    """A server that can be restarted with what it committed."""
    world = request.param(tmp_path / "data")
    yield world
    world.finish()


def restarted(world):
    """Restart the server; every connection is gone."""
    for peer in world._peers:
        peer.cut()
    world.restart()
    return Five(world)


def test_a_session_survives_a_restart(store):
    """Session, subscription, options and waiting messages with their properties outlive the server's process.

    [MQTT-3.1.2-23] [MQTT-3.3.2-17] [MQTT-4.5.0-1]
    """
    five = Five(store)
    peer = (
        five.kept("k").send(subscribe(("a", option(1, as_published=True)), subscription_identifier=9)).expect(suback(1))
    )
    peer.cut()
    values = {"content_type": "t", "user_property": [("b", "1"), ("a", "2"), ("b", "1")], "correlation_data": b"\0\xff"}
    five.connected("p").say("a", b"before", qos=1, retain=True, **values)
    five = restarted(store)
    five.connected("p").say("a", b"after", qos=1)
    peer = five.back("k")

    # Whether it was sent before is not known over a restart: DUP says that it might have been (section 3.3.1.1).
    peer.hear("a", b"before", qos=1, retain=True, dup=None, subscription_identifier=[9], **values)
    peer.hear("a", b"after", qos=1, dup=None, subscription_identifier=[9])
    peer.expect_nothing()


def test_an_expiry_goes_on_over_a_restart(store):
    """The time for which the client was away counts on, whatever process counted it [MQTT-4.1.0-2]."""
    five = Five(store)
    five.kept("short", expiry=10).cut()
    five.kept("long", expiry=1000).cut()
    five = restarted(store)
    store.pass_time(11)

    five.gone("short").cut()
    five.back("long").cut()


def test_unacknowledged_packets_survive_a_restart(store):
    """PUBLISH and PUBREL are sent again after a restart with their packet ids [MQTT-3.3.1-1] [MQTT-4.4.0-1]."""
    five = Five(store)
    peer = five.kept("k", ("a", 2))
    sender = five.connected("p")
    sender.say("a", b"one", qos=1)
    sender.say("a", b"two", qos=2, packet_id=2)
    one = peer.hear("a", b"one", qos=1, answers=False).packet_id
    two = peer.hear("a", b"two", qos=2, answers=False).packet_id
    peer.send(pubrec(two)).expect(pubrel(two))
    peer = restarted(store).back("k")
    got = {packet.kind: packet for packet in (peer.take(), peer.take())}

    assert (one, b"one") == (got["PUBLISH"].packet_id, got["PUBLISH"].payload)
    assert two == got["PUBREL"].packet_id
    peer.send(puback(one), pubcomp(two)).expect_nothing()


def test_qos_2_from_a_client_survives_a_restart(store):
    """An unfinished QoS 2 message of a client is no second message after a restart [MQTT-4.3.3-10]."""
    five = Five(store)
    five.kept("k", ("a", 1)).cut()
    sender = five.kept("p").send(publish("a", b"x", qos=2, packet_id=5))

    assert "PUBREC" == sender.take().kind
    five = restarted(store)
    sender = five.back("p").send(publish("a", b"x", qos=2, packet_id=5, dup=True))
    assert "PUBREC" == sender.take().kind
    sender.send(pubrel(5)).expect(pubcomp(5))
    peer = five.back("k")
    peer.hear("a", b"x", qos=1, dup=None)
    peer.expect_nothing()


def test_retained_messages_survive_a_restart(store):
    """A retained message keeps payload, QoS and properties over a restart [MQTT-3.3.1-5] [MQTT-3.3.2-17]."""
    values = {"payload_format_indicator": 1, "response_topic": "r", "user_property": [("n", "v")]}
    Five(store).connected("p").say("a", b"x", qos=1, retain=True, **values)
    peer = restarted(store).subscribed(("a", 1))

    peer.hear("a", b"x", qos=1, retain=True, **values)


def test_an_expired_message_is_gone_after_a_restart(store):
    """The Message Expiry Interval counts on over a restart [MQTT-3.3.2-5] [MQTT-3.3.2-6]."""
    five = Five(store)
    five.kept("k", ("a", 1)).cut()
    sender = five.connected("p")
    sender.say("a", b"short", qos=1, message_expiry_interval=10).say("a", b"long", qos=1, message_expiry_interval=100)
    sender.say("r/short", b"x", qos=1, retain=True, message_expiry_interval=10)
    sender.say("r/long", b"y", qos=1, retain=True, message_expiry_interval=100)
    five = restarted(store)
    store.pass_time(20)
    watcher, peer = five.subscribed(("r/#", 0)), five.back("k")
    kept, waited = watcher.take(), peer.take()

    assert [("r/long", b"y"), ("a", b"long")] == [(packet.topic, packet.payload) for packet in (kept, waited)]
    assert {79, 80} >= {kept.message_expiry_interval, waited.message_expiry_interval}
    peer.send(puback(waited.packet_id)).expect_nothing()
    watcher.expect_nothing()


def test_a_shared_subscription_survives_a_restart(store):
    """A shared subscription is one after a restart, and still one of several [MQTT-3.1.2-23] [MQTT-4.8.2-1]."""
    five = Five(store)
    for name in ("one", "two"):
        five.kept(name, ("$share/g/a", 1)).cut()
    five = restarted(store)
    members = [five.back("one"), five.back("two")]
    sender = five.connected("p")
    for number in range(4):
        sender.say("a", b"%d" % number, qos=1)
    found = [packet for member in members for packet in (member.take(), member.take())]

    assert {b"0", b"1", b"2", b"3"} == {packet.payload for packet in found}
    for member, packet in zip((members[0], members[0], members[1], members[1]), found, strict=True):
        member.send(puback(packet.packet_id))


def test_an_unsubscribe_survives_a_restart(store):
    """What was given up stays so [MQTT-3.1.2-23] [MQTT-3.10.4-1]."""
    five = Five(store)
    peer = five.kept("k", ("a", 1), ("b", 1)).send(unsubscribe("a")).expect(unsuback(0))
    peer.cut()
    five = restarted(store)
    five.connected("p").say("a", b"x", qos=1).say("b", b"y", qos=1)
    peer = five.back("k")

    peer.hear("b", b"y", qos=1, dup=None)
    peer.expect_nothing()


def test_a_replaced_subscription_survives_a_restart(store):
    """The options that came last are the ones that last [MQTT-3.1.2-23] [MQTT-3.8.4-3]."""
    five = Five(store)
    peer = five.kept("k").send(subscribe(("a", 2), subscription_identifier=1)).expect(suback(2))
    peer.send(subscribe(("a", option(1, no_local=True)), subscription_identifier=268_435_455)).expect(suback(1))
    peer.cut()
    five = restarted(store)
    five.connected("p").say("a", b"x", qos=2)
    peer = five.back("k").say("a", b"own", qos=1)

    peer.hear("a", b"x", qos=1, dup=None, subscription_identifier=[268_435_455])
    peer.expect_nothing()


def test_a_new_expiry_survives_a_restart(store):
    """The interval of the last CONNECT or DISCONNECT counts after a restart [MQTT-3.1.2-23] [MQTT-4.1.0-2]."""
    five = Five(store)
    five.kept("a", expiry=1000).leave(0, session_expiry_interval=5)
    five.kept("b", expiry=5).cut()
    five.back("b", expiry=1000).cut()
    five.kept("c", expiry=1000).leave(0, session_expiry_interval=0)
    five = restarted(store)
    store.pass_time(10)

    five.gone("a").cut()
    five.back("b").cut()
    five.gone("c").cut()


def test_packet_ids_go_on_after_a_restart(store):
    """A delivery after a restart has a packet id that no delivery in flight has [MQTT-2.2.1-4] [MQTT-4.4.0-1]."""
    five = Five(store)
    peer = five.kept("k", ("a", 1))
    sender = five.connected("p")
    for number in range(3):
        sender.say("a", b"%d" % number, qos=1)
    before = [packet.packet_id for packet in peer.messages(3)]
    peer.send(puback(before[0]))
    peer.expect_nothing()
    five = restarted(store)
    five.connected("p").say("a", b"3", qos=1)
    after = five.back("k").messages(3)

    assert [b"1", b"2", b"3"] == [packet.payload for packet in after]
    assert before[1:] == [packet.packet_id for packet in after][:2]
    assert after[2].packet_id not in before
    store._peers[-1].is_over = True


def test_a_cleared_retained_message_stays_so(store):
    """A retained message that was removed, or replaced, does not come back [MQTT-3.3.1-5] [MQTT-3.3.1-6]."""
    sender = Five(store).connected("p")
    sender.say("a", b"x", qos=1, retain=True, content_type="t").say("a", b"", qos=1, retain=True)
    sender.say("b", b"old", qos=1, retain=True, content_type="t").say("b", b"new", qos=1, retain=True)
    peer = restarted(store).subscribed(("#", 0))

    peer.hear("b", b"new", retain=True)
    peer.expect_nothing()


def test_a_will_whose_delay_runs_survives_a_restart(store):
    """The will and its delay are part of the session: it is sent when it is due, once [MQTT-3.1.2-8] [MQTT-3.1.2-10].

    Its properties, QoS and RETAIN are those of its CONNECT, its Message Expiry Interval counts from its publication.
    """
    values = {"content_type": "t", "user_property": [("b", "1"), ("a", "2")], "response_topic": "r"}
    message = will("w", b"gone", qos=1, retain=True, will_delay_interval=60, message_expiry_interval=90, **values)
    five = Five(store)
    five.kept("watcher", ("w", 1)).cut()
    five.kept("k", will=message).cut()
    store.pass_time(30)
    watcher = restarted(store).back("watcher")
    store.pass_time(29)
    watcher.expect_nothing()
    store.pass_time(2)
    watcher.hear("w", b"gone", qos=1, message_expiry_interval=90, **values)
    five = restarted(store)
    store.pass_time(100)
    five.back("watcher").expect_nothing()
    five.subscribed(("w", 1)).expect_nothing()


def test_a_will_that_fell_due_without_a_server_is_sent_at_its_start(store):
    """Nobody who is back can come before it: its delay had passed [MQTT-3.1.2-8]."""
    five = Five(store)
    five.kept("watcher", ("w", 1)).cut()
    five.kept("k", will=will("w", b"gone", qos=1, will_delay_interval=10)).cut()
    store.network.now += 20
    five = restarted(store)
    five.back("k").say("w", b"back", qos=1)
    watcher = five.back("watcher")

    watcher.hear("w", b"gone", qos=1, dup=None)
    watcher.hear("w", b"back", qos=1, dup=None)
    watcher.expect_nothing()


def test_who_is_back_after_a_restart_takes_the_will_back(store):
    """Within its delay a client that returns has its will not sent, whatever process it left it to [MQTT-3.1.3-9]."""
    five = Five(store)
    five.kept("gone before", will=will("w", b"one", will_delay_interval=10)).cut()
    five.kept("connected", will=will("w", b"two", will_delay_interval=10))
    five = restarted(store)
    watcher = five.subscribed(("w", 0))
    five.back("gone before")
    five.back("connected")
    five = restarted(store)
    watcher = five.subscribed(("w", 0))
    store.pass_time(20)

    watcher.expect_nothing()


def test_the_end_of_the_session_ends_the_delay_over_a_restart(store):
    """A session that ends before the delay has passed sends the will [MQTT-3.1.2-8] [MQTT-4.1.0-2]."""
    five = Five(store)
    five.kept("k", expiry=30, will=will("w", b"gone", qos=1, will_delay_interval=100)).cut()
    watcher = restarted(store).subscribed(("w", 1))
    store.pass_time(29)
    watcher.expect_nothing()
    store.pass_time(2)
    watcher.hear("w", b"gone", qos=1)
    watcher.expect_nothing()


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "clean"])
def test_the_end_of_the_process_closes_connections_without_disconnect(store, is_kept):
    """Their wills are sent at the next start, before anybody is back, and once [MQTT-3.1.2-8] [MQTT-3.1.2-10]."""
    five = Five(store)
    five.kept("watcher", ("w", 1)).cut()
    (five.kept if is_kept else five.connected)("c", will=will("w", b"gone", qos=1))
    five = restarted(store)
    (five.back if is_kept else five.connected)("c").say("w", b"back", qos=1)
    watcher = restarted(store).back("watcher")

    watcher.hear("w", b"gone", qos=1, dup=None)
    watcher.hear("w", b"back", qos=1, dup=None)
    watcher.expect_nothing()


def test_a_delay_begins_with_the_end_of_the_process(store):
    """When the process ended nobody knows: its next start counts as the end of the connection [MQTT-3.1.2-8]."""
    Five(store).kept("k", will=will("w", b"gone", will_delay_interval=10))
    watcher = restarted(store).subscribed(("w", 0))
    store.pass_time(9)
    watcher.expect_nothing()
    store.pass_time(2)
    watcher.hear("w", b"gone")
    watcher.expect_nothing()


def test_a_will_that_was_discarded_is_not_sent_after_a_restart(store):
    """DISCONNECT 0x00 discards it for good, also that of an earlier connection [MQTT-3.1.2-10] [MQTT-3.14.4-3]."""
    five = Five(store)
    five.connected("a", will=will("w", b"gone")).leave()
    five.kept("b", will=will("w", b"gone")).leave()
    five.kept("c", will=will("w", b"gone", will_delay_interval=10)).cut()
    five.back("c").leave()
    watcher = restarted(store).subscribed(("w", 0))
    store.pass_time(20)

    watcher.expect_nothing()


def test_the_last_will_of_a_session_is_the_one_that_counts(store):
    """What a later connection of the session brings stands in the place of what was before [MQTT-3.1.2-10]."""
    five = Five(store)
    five.kept("k", will=will("w", b"first", will_delay_interval=10)).cut()
    five.back("k", will=will("w", b"second", will_delay_interval=20)).cut()
    watcher = restarted(store).subscribed(("w", 0))
    store.pass_time(19)
    watcher.expect_nothing()
    store.pass_time(2)
    watcher.hear("w", b"second")
    watcher.expect_nothing()
