"""The packet reader: however a stream is cut into reads, the result is the same."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from unit.engine.both_ends import (
    DISCONNECT,
    PINGREQ,
    FakeClaim,
    Message,
    Network,
    ack,
    connect,
    publish,
    subscribe,
    unsubscribe,
)

TOPICS = st.sampled_from(["a", "b/c", "m/x", "long/" + "x" * 200, "é"])
PAYLOADS = st.sampled_from([b"", b"x", b"\xe0\x00", publish("a", b"inner", qos=1), bytes(120), bytes(300), bytes(1500)])
IDS = st.integers(1, 65_535)
PACKETS = st.one_of(
    st.builds(publish, TOPICS, PAYLOADS),
    st.builds(lambda t, p, i, r: publish(t, p, qos=1, packet_id=i, retain=r), TOPICS, PAYLOADS, IDS, st.booleans()),
    st.builds(
        lambda t, p, i, d: publish(t, p, qos=2, packet_id=i, dup=d), TOPICS, PAYLOADS, st.integers(1, 20), st.booleans()
    ),
    st.builds(ack, st.sampled_from(["PUBACK", "PUBREC", "PUBREL", "PUBCOMP"]), st.integers(1, 20) | st.just(32_768)),
    st.builds(lambda t, q, i: subscribe((t, q), packet_id=i), TOPICS, st.integers(0, 2), IDS),
    st.builds(lambda t, i: unsubscribe(t, packet_id=i), TOPICS, IDS),
    st.just(PINGREQ),
)
# Streams in which the same packet comes many times in a row are what runs are made of.
STREAMS = st.lists(st.tuples(PACKETS, st.integers(1, 6)), max_size=25).map(
    lambda pairs: [packet for packet, times in pairs for _ in range(times)]
)


def outcome(chunks):
    """Feed a stream in pieces; return all that can be seen of it."""
    network = Network(claim=FakeClaim(), payload_max=1000, packet_max=4000)
    network.claim.connected = network.claim.disconnected = lambda connection: None
    watcher = network.subscribed(("#", 2), client_id="watcher")
    client = network.client()
    sent, seen = [], []
    for chunk in chunks:
        sent += client.send(chunk)
        seen += watcher.received()
    acked = [token for call in network.claim.calls if call[0] == "acked" for token in call[1]]
    calls = [call for call in network.claim.calls if call[0] not in ("acked", "subscribed")]
    # An answer that waits for a commit may follow one that does not: messages have an order, answers not.
    received = [packet for packet in sent if isinstance(packet, Message)]
    answers = sorted(packet for packet in sent if not isinstance(packet, Message))
    return (
        received,
        answers,
        seen,
        calls,
        acked,
        network.gate.audits,
        client.closed,
        network.engine.counters.messages_in,
    )


@settings(max_examples=100, deadline=None)
@given(
    stream=STREAMS,
    cuts=st.lists(st.integers(0, 40_000), max_size=30),
    tail=st.sampled_from([b"", DISCONNECT, b"\x32\x7f"]),
)
def test_any_cutting_of_a_stream_gives_the_same_result(stream, cuts, tail):
    """Answers, deliveries, audits and the end are those of the packets fed one by one."""
    packets = [connect("c"), *stream, tail]
    data = b"".join(packets)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    chunks = [data[start:end] for start, end in pairwise(edges)]

    one_by_one = outcome(packet for packet in packets if packet)

    assert one_by_one == outcome(chunks)
    assert one_by_one == outcome([data])


@settings(max_examples=30, deadline=None)
@given(stream=STREAMS.filter(lambda stream: sum(map(len, stream)) < 3000))
def test_a_stream_byte_by_byte(stream):
    """Every packet may come in as many reads as it has bytes."""
    packets = [connect("c"), *stream]
    data = b"".join(packets)

    assert outcome(packets) == outcome(data[position : position + 1] for position in range(len(data)))


@settings(max_examples=300, deadline=None)
@given(noise=st.binary(min_size=1, max_size=200), is_connected=st.booleans())
def test_noise_closes_or_waits_and_harms_nobody(noise, is_connected):
    """Whatever bytes come, the server stays up and a bystander is neither cut nor fed garbage."""
    network = Network()
    watcher = network.subscribed(("#", 1), client_id="watcher")
    client = network.connected("c") if is_connected else network.client()
    client.send(noise)
    watcher.received()
    network.connected("good").send(publish("a", b"x"))

    assert not watcher.closed
    assert [b"x"] == [message.payload for message in watcher.received()]


def test_a_large_packet_byte_by_byte_costs_no_quadratic_time(network):
    """A packet of 200 KB that comes in single bytes is joined once, not two hundred thousand times."""
    client, watcher = network.connected("c"), network.subscribed(("a", 0))
    data = publish("a", bytes(200_000))
    receive, now = client.connection.receive, network.now
    for position in range(len(data)):
        receive(data[position : position + 1], now)

    assert [200_000] == [len(message.payload) for message in watcher.received()]
