"""Kept sessions with much to deliver: paging, the window of memory, the bound of an offline queue."""

from __future__ import annotations

from unit.engine.both_ends import DISCONNECT, Message, Network, ack, publish
from unit.engine.fake_keeper import FakeKeeper


def payloads(packets):
    return [packet.payload for packet in packets if isinstance(packet, Message)]


def kept_subscriber(network, qos=1):
    """Connect with clean session 0 and subscribe to 'a'."""
    return network.subscribed(("a", qos), client_id="kept", clean=False)


def test_a_long_backlog_is_paged_and_complete(stored):
    """Ten thousand offline messages come in order, once each, with bounded memory and at most 64 in flight."""
    stored.keeper.is_instant = True
    kept_subscriber(stored).send(DISCONNECT)
    publisher = stored.connected("p")
    for start in range(0, 10_000, 500):
        publisher.send(*(publish("a", b"%d" % n, qos=1, packet_id=n + 1) for n in range(start, start + 500)))
    back = stored.connected("kept", clean=False)
    session, seen, packets = back.connection.session, [], back.rest
    while packets:
        seen += payloads(packets)

        assert len(session.inflight) <= 64
        assert len(session.queue) <= 512
        packets = back.send(*(ack("PUBACK", packet.packet_id) for packet in packets))

    assert [b"%d" % number for number in range(10_000)] == seen
    stored.keeper.commit()

    assert {} == stored.keeper.sessions[1]["queue"]


def test_a_reader_that_falls_behind_is_paged_and_loses_no_order(stored):
    """Messages that come while the memory window is full are read from the store later, after those before them."""
    stored.keeper.is_instant = True
    subscriber = kept_subscriber(stored)
    publisher = stored.connected("p")
    sent = 0
    for _ in range(30):
        publisher.send(*(publish("a", b"%d" % n, qos=1, packet_id=n % 60_000 + 1) for n in range(sent, sent + 100)))
        sent += 100
    seen, packets = [], subscriber.received()

    assert len(subscriber.connection.session.queue) <= 1024
    while packets:
        seen += payloads(packets)
        if len(seen) % 640 == 0 and sent < 4000:
            publisher.send(publish("a", b"%d" % sent, qos=1))
            sent += 1
        packets = subscriber.send(*(ack("PUBACK", packet.packet_id) for packet in packets))

    assert [b"%d" % number for number in range(sent)] == seen
    assert stored.keeper.pages > 2


def test_offline_messages_are_bounded():
    """Beyond `queue_messages_max` further messages for an offline session are dropped and counted."""
    network = Network(keeper=FakeKeeper(), queue_messages_max=10)
    network.keeper.is_instant = True
    kept_subscriber(network).send(DISCONNECT)
    publisher = network.connected("p")

    assert 25 == len(publisher.send(*(publish("a", b"x", qos=1, packet_id=number) for number in range(1, 26))))
    assert 15 == network.engine.counters.dropped
    assert 10 == len(payloads(network.connected("kept", clean=False).rest))


def test_what_a_failed_commit_lost_takes_no_room():
    """The bound counts what is in the store: neither more nor less for commits that failed."""
    network = Network(keeper=FakeKeeper(), queue_messages_max=10)
    kept_subscriber(network).send(DISCONNECT)
    network.keeper.commit()
    for ok in (True, False):
        network.connected("p").send(*(publish("a", b"x", qos=1, packet_id=number) for number in (1, 2, 3)))
        network.keeper.commit(ok=ok)
    publisher = network.connected("p")
    publisher.send(*(publish("a", b"x", qos=1, packet_id=number) for number in range(1, 26)))

    assert 18 == network.engine.counters.dropped


def test_an_id_still_in_flight_holds_the_queue(stored):
    """Number n + 32767 has the packet id of n: it waits while n is not acknowledged."""
    stored.keeper.is_instant = True
    subscriber = kept_subscriber(stored)
    session = subscriber.connection.session
    publisher = stored.connected("p")
    publisher.send(publish("a", b"first", qos=1))
    session.next_n += 32_766
    session.kept.loaded = session.kept.committed = session.next_n - 1
    publisher.send(publish("a", b"second", qos=1))

    assert [b"first"] == payloads(subscriber.received())
    assert [Message("a", b"second", 1, 2)] == subscriber.send(ack("PUBACK", 2))


def test_of_many_pubrecs_each_has_its_answer(stored):
    """A run of PUBRECs is answered in one piece after the commit; one for nothing in flight is answered at once."""
    subscriber = kept_subscriber(stored, 2)
    stored.connected("p").send(*(publish("a", b"x", qos=2, packet_id=number) for number in range(1, 6)))
    stored.keeper.commit()
    subscriber.received()

    assert [] == subscriber.send(*(ack("PUBREC", packet_id) for packet_id in (2, 3, 4)))
    assert [("PUBREL", 77)] == subscriber.send(ack("PUBREC", 77), ack("PUBREC", 5))
    stored.keeper.commit()

    assert [("PUBREL", packet_id) for packet_id in (2, 3, 4, 5)] == subscriber.received()
    subscriber.send(*(ack("PUBCOMP", packet_id) for packet_id in (4, 2, 3)))
    stored.keeper.commit()

    assert [4, 5] == list(stored.keeper.sessions[1]["queue"])
    subscriber.send(ack("PUBCOMP", 5), ack("PUBCOMP", 6))  # the second one comes before its PUBREL
    stored.keeper.commit()

    assert ([5], True) == (list(stored.keeper.sessions[1]["queue"]), bool(subscriber.closed))


def test_acknowledgements_out_of_order_forget_what_they_are_for(stored):
    """Whatever order they come in, and whether anything is in flight for them: what they are for is forgotten."""
    subscriber = kept_subscriber(stored)
    stored.connected("p").send(*(publish("a", b"x", qos=1, packet_id=number) for number in range(1, 9)))
    stored.keeper.commit()
    subscriber.received()
    subscriber.send(*(ack("PUBACK", packet_id) for packet_id in (9, 4, 3, 3, 99, 6, 7)))
    stored.keeper.commit()

    assert [1, 4, 7] == list(stored.keeper.sessions[1]["queue"])
    assert {2, 5, 8} == set(subscriber.connection.session.inflight)
