"""The generator's packets: built once, recognised in bulk, parsed one by one only when they must be."""

from __future__ import annotations

import pytest

from mesimqtt.bench.wire import (
    PUBACK,
    PUBREC,
    PUBREL,
    Ring,
    answers,
    connect,
    mark_of,
    next_packet,
    packets,
    publish,
    publish_parts,
    remaining_length,
    run_length,
    subscribe,
    unsubscribe,
    user_property,
)


@pytest.mark.parametrize(
    ("size", "encoded"),
    [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (16_384, b"\x80\x80\x01")],
)
def test_remaining_length(size: int, encoded: bytes) -> None:
    """The remaining length is spelt as [MQTT 3.1.1, section 2.2.3] says."""
    assert encoded == remaining_length(size)


def test_connect_with_a_token() -> None:
    """User name and password stand in CONNECT if they are given, and only then."""
    bare, full = connect("c", clean=False), connect("c", user="u", password="t")

    assert b"\x10\x0d\x00\x04MQTT\x04\x00\x02\x58\x00\x01c" == bare
    assert b"\x10\x13\x00\x04MQTT\x04\xc2\x02\x58\x00\x01c\x00\x01u\x00\x01t" == full


def test_subscribe_to_several() -> None:
    """One SUBSCRIBE carries all its filters."""
    assert b"\x82\x0a\x00\x01\x00\x01a\x01\x00\x01b\x01" == subscribe(["a", "b"], 1)


def test_packets_of_five() -> None:
    """On 5.0 CONNECT and SUBSCRIBE have empty properties, and a PUBLISH those that it is given."""
    assert b"\x10\x0e\x00\x04MQTT\x05\x02\x02\x58\x00\x00\x01c" == connect("c", version=5)
    assert b"\x82\x07\x00\x01\x00\x00\x01a\x01" == subscribe(["a"], 1, version=5)
    assert b"\xa2\x05\x00\x02\x00\x01a" == unsubscribe(["a"], 2)
    assert b"\x32\x0e\x00\x01t\x00\x07\x07\x26\x00\x01k\x00\x01vx" == publish("t", b"x", 1, 7, user_property("k", "v"))


def test_a_ring_of_five() -> None:
    """A ring of 5.0 has its packet ids before the properties, and its payloads behind them."""
    ring = Ring("t", qos=1, count=2, properties=user_property("k", "v"))
    frame = bytes(ring.wire[ring.size : 2 * ring.size])
    _, identifier, rest = publish_parts(frame, next_packet(frame, 0) or pytest.fail("not whole"))

    assert b"\x00\x02" == identifier == frame[ring.id_at : ring.id_at + 2]
    assert (0, 1) == mark_of(rest.removeprefix(ring.properties))
    assert frame[ring.publisher_at :] == rest.removeprefix(ring.properties)


def test_a_packet_that_is_not_whole() -> None:
    """A packet is found when its last byte is there, not before."""
    data = publish("t", b"x" * 200, 1, 7)

    assert all(next_packet(data[:end], 0) is None for end in range(len(data)))
    part = next_packet(data, 0)
    assert part is not None
    assert (b"t", b"\x00\x07", b"x" * 200) == publish_parts(data, part)


def test_a_run_ends_where_another_kind_begins() -> None:
    """Equal packets are counted together, up to the first of another kind or to what is not whole."""
    ring = Ring("topic", qos=2, count=5)
    frames = bytes(ring.wire[: 3 * ring.size])
    releases = bytes(answers(PUBREL, b"\x00\x00", b"\x01\x02"))

    assert 3 == run_length(frames + releases + frames, 0, ring.size)
    assert 2 == run_length(frames + releases + frames, len(frames), 4)
    assert 2 == run_length(frames[:-1], 0, ring.size)


def test_a_ring_is_made_of_packets() -> None:
    """Each frame of a ring names its publisher and its index, and the ring stands twice in a row."""
    ring = Ring("b/u/0001", qos=1, count=3, publisher=9)
    found = [publish_parts(bytes(ring.wire), part) for part in packets(bytes(ring.wire))]

    assert [(9, 0), (9, 1), (9, 2)] * 2 == [mark_of(payload) for _, _, payload in found]
    assert [b"\x00\x01", b"\x00\x02", b"\x00\x03"] * 2 == [identifier for _, identifier, _ in found]
    assert {b"b/u/0001"} == {topic for topic, _, _ in found}
    assert len({len(payload) for _, _, payload in found}) == 1


def test_the_acknowledgements_of_a_ring() -> None:
    """A ring knows the acknowledgements that its frames must get."""
    ring = Ring("t", qos=1, count=2)

    assert b"\x40\x02\x00\x01\x40\x02\x00\x02" == ring.acks(PUBACK)[:8]
    assert b"\x50\x02\x00\x01\x50\x02\x00\x02" == ring.acks(PUBREC)[:8]


def test_a_payload_of_somebody_else() -> None:
    """What no ring has made carries no mark."""
    assert mark_of(b"hello") is None
    assert mark_of(b"\x00" * 256) is None
