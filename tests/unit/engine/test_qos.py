"""QoS 1 and 2 with clean sessions: exchanges, the in-flight window, the bounded queue."""

from __future__ import annotations

import pytest

from unit.engine.both_ends import Message, Network, ack, publish


def messages(packets):
    return [packet for packet in packets if isinstance(packet, Message)]


def test_qos_2_is_delivered_exactly_once(network):
    """PUBLISH, repeated before PUBREL, is delivered once; after PUBREL the same id is a new message."""
    subscriber = network.subscribed(("a", 0))
    publisher = network.connected("p")

    assert [("PUBREC", 7)] == publisher.send(publish("a", b"1", qos=2, packet_id=7))
    assert [("PUBREC", 7)] == publisher.send(publish("a", b"1", qos=2, packet_id=7, dup=True))
    assert [("PUBCOMP", 7), ("PUBREC", 7)] == publisher.send(ack("PUBREL", 7), publish("a", b"2", qos=2, packet_id=7))
    assert [b"1", b"2"] == [message.payload for message in subscriber.received()]


def test_qos_2_to_a_subscriber_takes_four_packets(network):
    """PUBREC is answered by PUBREL, PUBCOMP frees the id; runs are answered as runs."""
    subscriber = network.subscribed(("a", 2))
    network.connected("p").send(*(publish("a", b"x", qos=2, packet_id=number) for number in (1, 2, 3)))
    ids = [message.packet_id for message in subscriber.received()]

    assert [("PUBREL", number) for number in ids] == subscriber.send(*(ack("PUBREC", number) for number in ids))
    assert set(ids) == subscriber.connection.session.inflight
    assert [] == subscriber.send(*(ack("PUBCOMP", number) for number in ids))
    assert set() == subscriber.connection.session.inflight


def test_a_reused_packet_id_at_qos_1_is_a_new_message(network):
    """At QoS 1 the same id with another payload is another message [MQTT-2.3.1-4]."""
    subscriber = network.subscribed(("a", 0))
    network.connected("p").send(publish("a", b"1", qos=1, packet_id=5), publish("a", b"22", qos=1, packet_id=5))

    assert [b"1", b"22"] == [message.payload for message in subscriber.received()]


def test_repeated_ids_within_one_run_of_qos_2(network):
    """A run in which an id stands twice is delivered once per id and acknowledged each time."""
    subscriber = network.subscribed(("a", 0))
    answer = network.connected("p").send(*(publish("a", b"x", qos=2, packet_id=number) for number in (1, 2, 1, 3)))

    assert [("PUBREC", number) for number in (1, 2, 1, 3)] == answer
    assert 3 == len(subscriber.received())


def test_open_qos_2_messages_are_bounded():
    """Who opens more than `qos2_incoming_max` exchanges without PUBREL is closed; one id repeated is not."""
    network = Network(qos2_incoming_max=32)
    patient, greedy = network.connected("patient"), network.connected("greedy")
    patient.send(*(publish("a", b"x", qos=2, packet_id=1) for _ in range(3000)))
    answer = greedy.send(*(publish("a", b"x", qos=2, packet_id=number) for number in range(1, 5000)))

    assert not patient.closed
    assert greedy.closed
    assert 32 == len(answer)


@pytest.mark.parametrize("qos", [1, 2])
def test_the_window_bounds_what_is_in_flight(qos):
    """At most `inflight_max` messages are unacknowledged; the rest follows in order as the client acknowledges."""
    network = Network(inflight_max=8, qos2_incoming_max=100)
    subscriber = network.subscribed(("a", qos))
    payloads = [b"%02d" % number for number in range(30)]
    network.connected("p").send(
        *(publish("a", payload, qos=qos, packet_id=number) for number, payload in enumerate(payloads, 1))
    )
    seen, packets = [], subscriber.received()
    while fresh := messages(packets):
        seen += [message.payload for message in fresh]

        assert len(subscriber.connection.session.inflight) == 8 or len(seen) == len(payloads)
        ids = [message.packet_id for message in fresh]
        if qos == 2:
            subscriber.send(*(ack("PUBREC", number) for number in ids))
        packets = subscriber.send(*(ack("PUBACK" if qos == 1 else "PUBCOMP", number) for number in ids))

    assert payloads == seen
    assert 0 == len(subscriber.connection.session.queue)


@pytest.mark.parametrize("at_once", [1, 50])
def test_who_never_acknowledges_does_not_grow(at_once):
    """Beyond the queue's bound messages are dropped and counted, and nobody else notices, however they come."""
    network = Network(inflight_max=4, queue_messages_max=10)
    silent, good = network.subscribed(("a", 1)), network.subscribed(("a", 0), client_id="good")
    publisher = network.connected("p")
    answers = []
    for first in range(1, 51, at_once):
        numbers = range(first, first + at_once)
        answers += publisher.send(*(publish("a", b"x", qos=1, packet_id=number) for number in numbers))

    assert 50 == len(answers)
    assert 4 == len(silent.received())
    assert 50 == len(good.received())
    assert 50 - 4 - 10 == network.engine.counters.dropped


@pytest.mark.parametrize("at_once", [1, 10])
def test_the_queue_is_bounded_in_bytes_too(at_once):
    """Large messages fill the queue by their size, however they come."""
    network = Network(inflight_max=1, queue_bytes_max=10_000)
    network.subscribed(("a", 1))
    publisher = network.connected("p")
    for first in range(1, 11, at_once):
        numbers = range(first, first + at_once)
        publisher.send(*(publish("a", bytes(3000), qos=1, packet_id=number) for number in numbers))

    assert 10 - 1 - 3 == network.engine.counters.dropped


@pytest.mark.parametrize("kind", ["PUBACK", "PUBREC", "PUBREL", "PUBCOMP"])
def test_acknowledgements_of_nothing_are_harmless(network, kind):
    """Thousands of acknowledgements for unknown ids change nothing and hold no memory."""
    client = network.subscribed(("a", 1))
    client.send(*(ack(kind, number) for number in range(1, 8001)))

    assert not client.closed
    assert not client.connection.session.inflight


def test_a_pubrec_without_its_message_is_ended(network):
    """An unknown PUBREC is answered by PUBREL, so that the client's exchange can end; PUBREL always by PUBCOMP."""
    client = network.connected("c")

    assert [("PUBREL", 9), ("PUBCOMP", 10)] == client.send(ack("PUBREC", 9), ack("PUBREL", 10))


def test_a_puback_does_not_end_a_qos_2_exchange(network):
    """An acknowledgement of the wrong kind ends the connection, not the exchange [MQTT-4.8.0-1]."""
    for kind in ("PUBACK", "PUBCOMP"):
        subscriber = network.subscribed(("a", 2))
        network.connected("p").send(publish("a", b"x", qos=2))
        (message,) = subscriber.received()
        subscriber.send(ack(kind, message.packet_id))

        assert "an acknowledgement of another kind than its message has" == subscriber.closed


def test_mixed_traffic_in_one_read(network):
    """Acknowledgements and publishes that alternate are each taken in their order."""
    both = network.subscribed(("a", 1), client_id="both")
    both.send(*(publish("a", b"x", qos=1, packet_id=number) for number in range(1, 11)))
    data = b"".join(ack("PUBACK", n) + publish("a", b"y", qos=1, packet_id=100 + n) for n in range(1, 11))
    answer = both.send(data)

    assert [("PUBACK", 100 + number) for number in range(1, 11)] == [p for p in answer if p not in messages(answer)]
    assert {message.packet_id for message in messages(answer)} == both.connection.session.inflight


def test_a_zero_packet_id_closes_at_its_place(network):
    """Packet id 0 closes [MQTT-2.3.1-1]; what stood before it in the same run was processed."""
    subscriber = network.subscribed(("a", 0))
    publisher = network.connected("p")
    publisher.send(publish("a", b"1", qos=1, packet_id=256))
    answer = publisher.send(*(publish("a", b"x", qos=1, packet_id=number) for number in (256, 1, 0, 2)))

    assert [("PUBACK", 256), ("PUBACK", 1)] == answer
    assert publisher.closed
    assert 3 == len(subscriber.received())


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("qos", [1, 2])
def test_a_zero_packet_id_alone_closes(network, qos, granted):
    """Also on a topic that is known from before, whoever subscribed to it."""
    subscriber = network.subscribed(("a", granted))
    publisher = network.connected("p")
    publisher.send(publish("a", b"1", qos=qos, packet_id=7))
    answer = publisher.send(publish("a", b"x", qos=qos, packet_id=0))

    assert ([], True) == (answer, bool(publisher.closed))
    assert [b"1"] == [message.payload for message in messages(subscriber.received())]
