"""PUBLISH of free topics: routing, QoS, runs, retained messages, overlapping filters, denials."""

from __future__ import annotations

import pytest

from mesimqtt.engine.routes import NOBODY
from unit.engine.both_ends import PINGREQ, PINGRESP, Message, ack, publish, subscribe, unsubscribe


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("sent", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_delivery_is_at_the_lower_qos(network, sent, granted, count):
    """A message goes out at the lower of its QoS and the one granted [MQTT-3.8.4-6], a run as a single one."""
    subscriber = network.subscribed(("a/b", granted))
    publisher = network.connected("p")
    count = min(count, 20)
    payloads = [b"%03d" % number for number in range(count)]
    answer = publisher.send(
        *(publish("a/b", payload, qos=sent, packet_id=number) for number, payload in enumerate(payloads, 1))
    )
    received = subscriber.received()
    qos = min(sent, granted)

    assert payloads == [message.payload for message in received]
    assert [qos] * count == [message.qos for message in received]
    assert list(range(1, 1 + count)) if qos else [0] * count == [message.packet_id for message in received]
    assert [({1: "PUBACK", 2: "PUBREC"}[sent], number) for number in range(1, count + 1)] if sent else not answer


def test_a_run_of_unequal_packets_arrives_in_order(network):
    """Messages of different sizes, topics and QoS in one read arrive complete and in order per topic."""
    subscriber = network.subscribed(("#", 1))
    publisher = network.connected("p")
    sent = [("a", b"x" * size, size % 2) for size in (0, 1, 2, 130, 130, 130, 20_000, 5)] + [
        ("b", b"", 0),
        ("a", b"!", 0),
    ]
    publisher.send(*(publish(topic, payload, qos=qos, packet_id=9) for topic, payload, qos in sent))

    assert sent == [(message.topic, message.payload, message.qos) for message in subscriber.received()]


def test_a_payload_that_looks_like_a_header_does_not_end_a_run(network):
    """The bytes of a payload are never read as packets."""
    subscriber = network.subscribed(("a", 1))
    publisher = network.connected("p")
    evil = publish("a", b"smuggled", qos=1)
    publisher.send(*(publish("a", evil, qos=1, packet_id=number) for number in (1, 2, 3)))

    assert [evil] * 3 == [message.payload for message in subscriber.received()]


def test_packet_ids_go_round_and_skip_those_in_use(network):
    """Ids run from 1 to 32768 and begin anew; one that is still in flight is passed over."""
    subscriber = network.subscribed(("a", 1))
    publisher = network.connected("p")
    session = subscriber.connection.session

    def next_ids(count, counter):
        session.packet_counter = counter
        publisher.send(*(publish("a", b"x", qos=1, packet_id=number) for number in range(1, count + 1)))
        return [message.packet_id for message in subscriber.received()]

    assert [32767, 32768, 1, 2] == next_ids(4, 32_766)
    subscriber.send(*(ack("PUBACK", number) for number in (32767, 32768, 1)))

    assert [1, 3, 4] == next_ids(3, 0)
    assert [5] == next_ids(1, 0)
    assert [32767, 32768, 6] == next_ids(3, 98_302)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("is_released", [False, True])
def test_ids_of_unfinished_qos_2_exchanges_are_skipped(network, count, is_released):
    """An id is in flight until PUBCOMP: before and after PUBREC no other message gets it [MQTT-2.3.1-4]."""
    subscriber = network.subscribed(("a", 2))
    publisher = network.connected("p")
    publisher.send(publish("a", b"x", qos=2, packet_id=1))
    (first,) = subscriber.received()
    if is_released:
        assert [("PUBREL", first.packet_id)] == subscriber.send(ack("PUBREC", first.packet_id))
    subscriber.connection.session.packet_counter = 0
    publisher.send(*(publish("a", b"x", qos=1, packet_id=number) for number in range(2, 2 + count)))

    assert 1 == first.packet_id
    assert [*range(2, 2 + count)] == [message.packet_id for message in subscriber.received()]


@pytest.mark.parametrize("behind", [b"", b"\0\0\0\0", b"\xc0\0"])
@pytest.mark.parametrize("first", [0x30, 0x31, 0x32, 0x33, 0x34, 0x3D])
@pytest.mark.parametrize("size", [0, 1])
def test_a_publish_without_a_topic_closes_at_its_end(network, first, size, behind):
    """What is too short for a topic is malformed, and nothing behind it is taken for one."""
    client = network.connected("p")

    client.send(bytes((first, size)) + bytes(size) + behind)

    assert client.closed


def test_overlapping_filters_deliver_once_at_the_highest_qos(network):
    """A message that several filters of a session select is sent once, at the highest QoS granted [MQTT-3.3.5-1]."""
    subscriber = network.subscribed(("a/+", 0), ("a/b", 1), ("#", 0))
    network.connected("p").send(publish("a/b", b"x", qos=2, packet_id=7))

    assert [Message("a/b", b"x", 1, 1)] == subscriber.received()


def test_retained_messages_come_in_the_order_in_which_their_topics_did(network):
    """Whoever lists a house sees its rooms in the order in which they were first heard of, each before its things."""
    publisher = network.connected("p")
    for topic in ("h/b", "h/a/x", "h/a", "k", "h/c", "h/b"):
        publisher.send(publish(topic, b"on", retain=True))

    for topic_filter, seen in (("h/#", "h/b h/a h/a/x h/c"), ("#", "h/b h/a h/a/x h/c k"), ("h/+", "h/b h/a h/c")):
        subscriber = network.subscribed((topic_filter, 0))

        assert seen.split() == [message.topic for message in subscriber.rest]


def test_wildcards_do_not_match_dollar_topics(network):
    """'#' and '+' at the first level do not select topics that begin with '$' [MQTT-4.7.2-1]."""
    everything = network.subscribed(("#", 0), ("+/x", 0), client_id="everything")
    system = network.subscribed(("$SYS/#", 0), client_id="system")
    network.engine.publish("$SYS/x", b"1", 0, False)

    assert [] == everything.received()
    assert [Message("$SYS/x", b"1")] == system.received()


def test_a_live_message_is_sent_without_retain_and_dup(network):
    """RETAIN and DUP of the publisher are not passed on [MQTT-3.3.1-9], [MQTT-3.3.1-3]."""
    subscriber = network.subscribed(("a", 1))
    network.connected("p").send(
        publish("a", b"1", retain=True),
        publish("a", b"2", qos=1, retain=True, dup=True),
        publish("a", b"3", qos=1, dup=True),
    )

    assert [(False, False)] * 3 == [(message.retain, message.dup) for message in subscriber.received()]


def test_a_retained_message_waits_for_subscribers(network):
    """The last retained message of a topic follows the SUBACK with RETAIN 1, at the lower QoS [MQTT-3.3.1-8]."""
    network.connected("p").send(publish("a/b", b"old", retain=True), publish("a/b", b"new", qos=2, retain=True))
    wild = network.subscribed(("a/#", 1), client_id="wild")
    exact = network.subscribed(("a/b", 0), client_id="exact")

    assert [Message("a/b", b"new", 1, 1, retain=True)] == wild.rest
    assert [Message("a/b", b"new", 0, retain=True)] == exact.rest


def test_an_empty_retained_message_clears(network):
    """A retained PUBLISH without payload is routed and removes what was kept [MQTT-3.3.1-10]."""
    subscriber = network.subscribed(("a", 0))
    network.connected("p").send(publish("a", b"x", retain=True), publish("a", b"", retain=True))

    assert [Message("a", b"x"), Message("a", b"")] == subscriber.received()
    assert [] == network.subscribed(("a", 0), client_id="later").rest


def test_who_subscribed_to_nothing_receives_nothing(network):
    """A new client gets no retained message of others."""
    network.connected("p").send(publish("a", b"x", retain=True))

    assert [] == network.connected("c").send(PINGREQ)[1:]


def test_a_denied_publish_is_acknowledged_audited_and_not_routed(network):
    """3.1.1 has no other answer than PUBACK or PUBREC; nothing is delivered or retained [MQTT-3.3.5-2]."""
    network.gate.denied.add(("publish", "a"))
    subscriber = network.subscribed(("a", 0))
    publisher = network.connected("p")
    answer = publisher.send(
        publish("a", b"0", retain=True), publish("a", b"1", qos=1, packet_id=1), publish("a", b"2", qos=2, packet_id=2)
    )

    assert [("PUBACK", 1), ("PUBREC", 2)] == answer
    assert [] == subscriber.received()
    assert [("publish", "a", "no")] * 3 == network.gate.audits
    assert 0 == len(network.engine.retained)


def test_a_receiver_without_the_right_gets_nothing(network):
    """The right to receive is asked per subscriber, live and retained."""
    network.gate.denied.add(("receive", "a"))
    subscriber = network.subscribed(("#", 1))
    network.connected("p").send(publish("a", b"x", qos=1, retain=True), publish("b", b"y", qos=1))

    assert ["b"] == [message.topic for message in subscriber.received()]
    assert [] == network.subscribed(("a", 1), client_id="later").rest


def test_a_change_of_permissions_acts_on_the_next_message(network):
    """Routes and decisions are found anew after `permissions_changed`."""
    subscriber = network.subscribed(("a", 0))
    publisher = network.connected("p")
    publisher.send(publish("a", b"1"))
    network.gate.denied |= {("publish", "a")}
    network.engine.permissions_changed()
    publisher.send(publish("a", b"2"))
    network.gate.denied = {("receive", "a")}
    network.engine.permissions_changed()
    publisher.send(publish("a", b"3"))
    network.gate.denied = set()
    network.engine.permissions_changed()
    publisher.send(publish("a", b"4"))

    assert [b"1", b"4"] == [message.payload for message in subscriber.received()]


@pytest.mark.parametrize("topic_filter", ["a/b", "a/+", "#"])
def test_a_changed_subscription_acts_on_the_next_message(network, topic_filter):
    """A cached route is not used once somebody subscribed, unsubscribed, left or came."""
    publisher, subscriber = network.connected("p"), network.connected("s")
    publisher.send(publish("a/b", b"1"))
    subscriber.send(subscribe((topic_filter, 1)))
    publisher.send(publish("a/b", b"2"))
    received = subscriber.received()
    subscriber.send(subscribe((topic_filter, 0)))
    publisher.send(publish("a/b", b"3", qos=1))
    received += subscriber.received()
    subscriber.send(unsubscribe(topic_filter))
    publisher.send(publish("a/b", b"4"))

    assert [(b"2", 0), (b"3", 0)] == [(message.payload, message.qos) for message in received]
    assert [] == subscriber.received()


def test_an_unrelated_subscription_changes_no_route(network):
    """Who subscribes, with or without wildcards, to something else does not make a publisher's routes be found anew."""
    network.subscribed(("a/b", 0))
    publisher = network.connected("p")
    publisher.send(publish("a/b", b"x"))
    route = publisher.connection.routes[b"a/b"]
    for number in range(10):
        network.subscribed((f"c/{number}/#", 0), ("+/x", 1), ("$SYS/#", 0), client_id=f"other{number}").lose()
    publisher.send(publish("a/b", b"x"))

    assert route is publisher.connection.routes[b"a/b"]
    assert network.engine.version == route.version


def test_routes_are_bounded_and_forget_who_is_gone(network, monkeypatch):
    """The oldest route goes when there are too many; a route that is of no use holds no connection."""
    monkeypatch.setattr("mesimqtt.engine.routes._ROUTES_MAX", 10)
    subscriber = network.subscribed(("#", 0))
    publisher = network.connected("p")
    publisher.send(*(publish(f"t/{number}", b"x") for number in range(30)))
    routes = list(publisher.connection.routes.values())
    subscriber.lose()

    assert 0 == len(network.engine.routes)
    assert [NOBODY] * 30 == [route.four for route in routes]


def test_a_topic_over_the_limits_is_told_and_not_routed(network):
    """A topic of more than 512 bytes or 32 levels is acknowledged, audited as 'limit' and goes nowhere."""
    subscriber = network.subscribed(("#", 0))
    publisher = network.connected("p")
    answer = publisher.send(publish("x" * 513, qos=1), publish("/" * 32, qos=1), publish("/" * 31, qos=1), PINGREQ)

    assert [("PUBACK", 1)] * 3 + [PINGRESP] == answer
    assert ["/" * 31] == [message.topic for message in subscriber.received()]
    assert ["limit", "limit"] == [rule for _, _, rule in network.gate.audits]


def test_many_topics_of_one_publisher_stay_bounded(network):
    """A gateway with thousands of topics keeps a bounded cache and loses nothing."""
    subscriber = network.subscribed(("#", 0))
    publisher = network.connected("p")
    publisher.send(*(publish(f"t/{number}", b"x") for number in range(600)))

    assert 600 == len(subscriber.received())
    assert len(publisher.connection.routes) <= 256


@pytest.mark.parametrize("at_once", [True, False])
def test_the_counters_count(network, at_once):
    """Messages in and out, bytes in, connections are counted, in runs or one by one; bytes out are the writer's."""
    subscriber = network.subscribed(("a", 1))
    data = [publish("a", b"x", qos=1, packet_id=number) for number in (1, 2, 3)] + [publish("a", b"y")]
    before = network.engine.counters.bytes_in
    publisher = network.connected("p")
    for packets in [data] if at_once else [[each] for each in data]:
        publisher.send(*packets)
    counters = network.engine.counters
    subscriber.lose()

    assert (4, 4, 1, 2) == (counters.messages_in, counters.messages_out, counters.connected, counters.connections)
    assert counters.bytes_in > before + sum(map(len, data))


def test_all_receivers_are_asked_about_at_once(network):
    """A publisher waits once for a gate that needs time, not for one receiver after another; shared ones among them."""
    clients = [network.subscribed(("t", 0), client_id=name) for name in ("a", "b", "c")]
    clients += [network.subscribed(("$share/g/t", 0), client_id=name) for name in ("d", "e")]
    network.gate.unknown.add(("receive", "t"))
    publisher = network.connected("p")

    assert [] == publisher.send(publish("t", b"x", qos=1))
    assert ["a", "b", "c", "d", "e"] == sorted(name for name, _ in network.gate.asked)
    network.gate.unknown.clear()
    clients[-1].connection.resume(network.now)
    for client in clients[:-1]:
        client.connection.resume(network.now)

    assert [("PUBACK", 1)] == publisher.received()
    assert 4 == sum(len(client.received()) for client in clients)
