"""Claimed topics: everything under the root goes to the claim, and nothing of it to the tree."""

from __future__ import annotations

import pytest

from unit.engine.both_ends import (
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    FakeClaim,
    Message,
    Network,
    ack,
    connect,
    publish,
    subscribe,
    unsubscribe,
)
from unit.engine.fake_keeper import FakeKeeper

TOPIC = b"m/alice/out/u/bob/42"


def told(network, what):
    return [call[1:] for call in network.claim.calls if call[0] == what]


def test_a_claimed_publish_goes_to_the_claim_alone(claimed):
    """Every topic of the root is handed over, RETAIN ignored; no filter and no rule of a free topic sees it."""
    claimed.gate.denied.add(("publish", TOPIC.decode()))
    watcher = claimed.subscribed(("#", 0), ("+/+/out/#", 0), client_id="watcher")
    sender = claimed.connected("c")
    answer = sender.send(
        publish(TOPIC, b"0", retain=True), publish(TOPIC, b"1", qos=1, packet_id=1, dup=True), publish("m", b"2", qos=2)
    )

    assert [("PUBACK", 1), ("PUBREC", 1)] == answer
    assert [(TOPIC, b"0", 0, 0, False), (TOPIC, b"1", 1, 1, True), (b"m", b"2", 2, 1, False)] == told(
        claimed, "publish"
    )
    assert [] == watcher.received()
    assert 0 == len(claimed.engine.retained)


def test_a_topic_that_only_begins_like_the_root_is_free(claimed):
    """'mm' and 'mx/a' are free topics."""
    watcher = claimed.subscribed(("#", 0), client_id="watcher")
    claimed.connected("c").send(publish("mm", b"1"), publish("mx/a", b"2"), publish("M/a", b"3"))

    assert [b"1", b"2", b"3"] == [message.payload for message in watcher.received()]
    assert [] == told(claimed, "publish")


def test_the_claim_acknowledges_when_it_wants(claimed):
    """Where the claim says False, PUBACK and PUBREC leave when it calls `acknowledge`."""
    claimed.claim.is_slow = True
    sender = claimed.connected("c")

    assert [] == sender.send(publish(TOPIC, b"1", qos=1, packet_id=5), publish(TOPIC, b"2", qos=2, packet_id=6))
    sender.connection.acknowledge(6, 2)
    sender.connection.acknowledge(5, 1)

    assert [("PUBREC", 6), ("PUBACK", 5)] == sender.received()


def test_a_claimed_qos_2_publish_is_handed_over_once(claimed):
    """A repeated packet id before PUBREL is not a second message."""
    sender = claimed.connected("c")
    sender.send(*(publish(TOPIC, b"x", qos=2, packet_id=6, dup=bool(again)) for again in (0, 1)))

    assert 1 == len(told(claimed, "publish"))
    sender.send(ack("PUBREL", 6), publish(TOPIC, b"y", qos=2, packet_id=6))

    assert 2 == len(told(claimed, "publish"))


def test_the_packet_id_of_a_claimed_qos_2_publish_is_kept():
    """For a kept session the id is in the same commit as the message; if it fails the resend is new."""
    network = Network(claim=FakeClaim(), keeper=FakeKeeper())
    network.claim.is_slow = True
    first = network.connected("c", clean=False)
    first.send(publish(TOPIC, b"x", qos=2, packet_id=6))

    assert [(6,)] == network.keeper.waits("incoming")
    network.keeper.commit(ok=False)
    first.lose()
    second = network.connected("c", clean=False)
    second.send(publish(TOPIC, b"x", qos=2, packet_id=6, dup=True))
    network.keeper.commit()

    assert 2 == len(told(network, "publish"))
    second.send(publish(TOPIC, b"x", qos=2, packet_id=6, dup=True))

    assert 2 == len(told(network, "publish"))
    assert [] == second.received()  # the repeat's PUBREC waits for the commit too
    network.keeper.commit()

    assert [("PUBREC", 6)] == second.received()


def test_invalid_claimed_topics_close(claimed):
    """Wildcards, NUL, ill-formed UTF-8 and endless topics never reach the claim."""
    for topic in (b"m/+/out", b"m/#", b"m/a\0b", b"m/\xff", b"m/\x01", b"m/" + b"x" * 4096):
        sender = claimed.connected("c")
        sender.send(publish(topic, qos=1))

        assert sender.closed
    assert [] == told(claimed, "publish")


def test_filters_of_the_root_are_the_claims(claimed):
    """SUBSCRIBE and UNSUBSCRIBE under the root are the claim's; the SUBACK keeps the order of the filters."""
    claimed.claim.refused_filters.add("m/bob/in/#")
    client = claimed.connected("c")
    answer = client.send(subscribe(("a", 2), ("m/bob/in/#", 1), ("m/me/in/#", 2), ("m", 0), ("b", 0)))

    assert [("SUBACK", 1, [2, 0x80, 1, 0, 0])] == answer
    assert [(["m/me/in/#", "m"],)] == told(claimed, "subscribed")
    assert {"a": 2, "b": 0} == client.connection.session.subscriptions
    assert [("UNSUBACK", 2)] == client.send(unsubscribe("m/me/in/#", "a", packet_id=2))
    assert [("m/me/in/#",)] == told(claimed, "unsubscribe")


def test_delivery_begins_after_the_suback_is_committed():
    """`subscribed` is called when the SUBACK is in the output, and that is after the commit."""
    network = Network(claim=FakeClaim(), keeper=FakeKeeper())
    client = network.connected("c")

    assert [] == client.send(subscribe(("m/open/in/#", 1)))
    assert [] == told(network, "subscribed")
    network.keeper.commit()

    assert [("SUBACK", 1, [1])] == client.received()
    assert [(["m/open/in/#"],)] == told(network, "subscribed")


def test_a_shared_subscription_of_the_root_is_refused(claimed):
    """`$share` never leads into the root, and a share without a name or filter is none."""
    client = claimed.connected("c")
    answer = client.send(subscribe(("$share/x/m/bob/in/#", 1), ("$share/x/m", 1), ("$share", 0), ("$share//x", 0)))

    assert [("SUBACK", 1, [0x80] * 4)] == answer
    assert [] == told(claimed, "subscribe")
    assert {} == client.connection.session.subscriptions


def test_deliveries_and_their_pubacks(claimed):
    """QoS 1 deliveries carry ids that go round; the PUBACKs of one read come back as their tokens, in one call."""
    client = claimed.connected("c")
    connection = client.connection
    connection.session.packet_counter = 65_535
    connection.deliver(b"m/open/in/u/a", b"0", 0, "never")
    for number in range(3):
        connection.deliver(b"m/open/in/u/a", b"x", 1, f"token {number}", dup=number == 2)

    assert [
        Message("m/open/in/u/a", b"0"),
        Message("m/open/in/u/a", b"x", 1, 32768),
        Message("m/open/in/u/a", b"x", 1, 1),
        Message("m/open/in/u/a", b"x", 1, 2, dup=True),
    ] == client.received()
    assert 3 == len(connection.claimed)
    client.send(ack("PUBACK", 32768), ack("PUBACK", 2), PINGREQ, ack("PUBACK", 1), ack("PUBACK", 1))

    assert [(["token 0", "token 2", "token 1"],)] == told(claimed, "acked")
    assert {} == connection.claimed


@pytest.mark.parametrize("kind", ["PUBREC", "PUBCOMP"])
def test_a_claimed_delivery_is_acknowledged_by_puback_alone(claimed, kind):
    """A client that answers QoS 1 otherwise breaks the protocol: it is closed, and its message is not acknowledged."""
    client = claimed.connected("c")
    client.connection.deliver(b"m/x", b"", 1, "token")
    (message,) = client.received()
    client.send(ack(kind, message.packet_id))

    assert "an acknowledgement of another kind than its message has" == client.closed
    assert [] == told(claimed, "acked")


def test_claimed_and_free_deliveries_never_share_an_id(claimed):
    """An id in flight for the claim is not given to a free message, and the other way round."""
    client = claimed.subscribed(("a", 1))
    connection = client.connection
    publisher = claimed.connected("p")
    connection.deliver(b"m/x", b"", 1, "first")
    connection.session.packet_counter = 0
    publisher.send(*(publish("a", b"x", qos=1, packet_id=number) for number in (1, 2)))
    connection.session.packet_counter = 0
    connection.deliver(b"m/x", b"", 1, "second")

    assert [1, 2, 3, 4] == [message.packet_id for message in client.received()]
    client.send(ack("PUBACK", 2), ack("PUBACK", 4))

    assert [(["second"],)] == told(claimed, "acked")
    assert {3} == connection.session.inflight


def test_kept_messages_and_claimed_ones_have_ids_of_their_own():
    """Kept deliveries of free topics use 1 to 32767, so the claim's ids cannot meet them."""
    network = Network(claim=FakeClaim(), keeper=FakeKeeper())
    client = network.subscribed(("a", 1), clean=False)
    network.connected("p").send(publish("a", b"x", qos=1))
    network.keeper.commit()
    client.connection.deliver(b"m/x", b"", 1, "token")

    assert [2, 32768] == [message.packet_id for message in client.received()]
    client.send(ack("PUBACK", 32768), ack("PUBACK", 2))

    assert [(["token"],)] == told(network, "acked")
    assert [(1,)] == network.keeper.waits("dequeue")


def test_acknowledgements_reach_the_claim_before_the_end(claimed):
    """PUBACKs that stand before DISCONNECT, or before garbage, count; then `disconnected` comes."""
    for last in (DISCONNECT, b"\0\0"):
        claimed.claim.calls.clear()
        client = claimed.connected("c")
        client.connection.deliver(b"m/x", b"", 1, "token")
        client.send(ack("PUBACK", 1), last)
        client.lose()

        assert [("connected", "c"), ("acked", ["token"]), ("disconnected", "c")] == claimed.claim.calls


def test_the_claim_is_told_of_authenticated_connections_only(claimed):
    """A connection that never got in is neither announced nor taken back; CONNACK is out when it is announced."""
    claimed.gate.verdict = None
    client = claimed.client()
    client.send(connect("c"))
    client.lose()

    assert [] == claimed.claim.calls


def test_an_oversized_claimed_publish_is_told_and_acknowledged(claimed):
    """The claim refuses a payload over the limit with a status; the client gets its PUBACK and stays."""
    sender = claimed.connected("c")
    answer = sender.send(publish(TOPIC, bytes(262_145), qos=1, packet_id=3), PINGREQ)

    assert [("PUBACK", 3), PINGRESP] == answer
    assert [(TOPIC, 262_145)] == told(claimed, "oversized")


def test_the_claim_hears_when_a_slow_reader_reads_again(claimed):
    """`writable` is called when congestion ends."""
    client = claimed.connected("c")
    client.connection.set_congested(True)
    client.connection.set_congested(False)

    assert [("c",)] == told(claimed, "writable")


def test_nothing_is_delivered_to_a_closed_connection(claimed):
    """`deliver` and `acknowledge` after the end are without effect."""
    client = claimed.connected("c")
    client.lose()
    client.connection.deliver(b"m/x", b"", 1, "token")
    client.connection.acknowledge(1, 1)

    assert b"" == client.raw()
    assert {} == client.connection.claimed
