"""Fuzz targets on MQTT's wire: the packet reader, properties, and a second codec's opinion."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mesimqtt.engine import properties
from mesimqtt.engine.packets import MalformedError, encode_length, walk
from mesimqtt.proof.fuzz.engine_peer import RawPeer, make_engine, watcher
from mesimqtt.proof.fuzz.target import Target, check_equal, check_that
from mesimqtt.testing import wire

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection

_EACH_BYTE_MAX = 400  # a longer stream is cut in fewer places
_CONNECT = {
    4: wire.connect("c"),
    5: wire.packet(0x10, b"\0\4MQTT\5\2\0\x3c\x03\x22\0\x08" + wire.text("c")),
}

# ---- a stream of packets, cut anywhere ------------------------------------------------------------------------------


def _outcome(chunks: list[bytes], version: int) -> tuple[Any, ...]:
    """Return all that can be seen of a stream that comes in these pieces."""
    engine = make_engine()
    observer = watcher(engine)
    client = RawPeer(engine)
    for chunk in chunks:
        client.send(chunk)
    answers = client.take()
    for answer in answers:
        _check_readable(answer, client.connection, version)
    messages = [packet for packet in answers if packet[0] >> 4 == 3]
    # What waits for a commit may be overtaken by what does not: messages have an order, answers have none.
    others = sorted(packet for packet in answers if packet[0] >> 4 != 3)
    closed = client.connection.close_reason if client.connection.closing else None
    return messages, others, observer.take(), closed, engine.counters.messages_in


def _check_readable(packet: bytes, connection: Connection, version: int) -> None:
    """Every packet that the server writes is one for a second reader, too."""
    codec = _codec()
    if version == 5 and connection.version == 5 and codec is not None:
        _, used = codec.read(memoryview(packet))
        check_equal(len(packet), used, f"a packet of the server's has bytes behind its end: {packet!r}")
    elif connection.version == 4:
        wire.decode(packet)


def check_stream(data: bytes) -> None:
    """However a stream is cut into reads, its outcome is the same."""
    version = 5 if data[:1] < b"\x80" else 4
    head = b"" if data[:1] in (b"\x7f", b"\xff") else _CONNECT[version]  # without it, the CONNECT is the input's
    stream = head + data[1:]
    whole = _outcome([stream], version)
    if len(stream) <= _EACH_BYTE_MAX:
        single = [stream[at : at + 1] for at in range(len(stream))]
        check_equal(whole, _outcome(single, version), "byte by byte")
        places = range(len(head) + 1, len(stream), max(1, len(data) // 8))
    else:
        places = range(len(head) + 1, len(stream), max(1, len(data) // 3))
    for at in places:
        check_equal(whole, _outcome([stream[:at], stream[at:]], version), f"cut at {at}")


# ---- properties -----------------------------------------------------------------------------------------------------

_PLACES = (
    properties.IN_CONNECT,
    properties.IN_WILL,
    properties.IN_PUBLISH,
    properties.IN_ACK,
    properties.IN_SUBSCRIBE,
    properties.IN_UNSUBSCRIBE,
    properties.IN_DISCONNECT,
    properties.IN_AUTH,
)


def check_properties(data: bytes) -> None:
    """What is read, and written again, is read alike; nothing outside of the block is looked at."""
    allowed = _PLACES[data[0] % len(_PLACES)] if data else properties.IN_PUBLISH
    block = data[1:]
    found, stop = properties.read(block, 0, len(block), allowed)
    check_that(0 < stop <= len(block), f"the block ends at {stop} of {len(block)}")
    check_that(found.values.keys() <= allowed, "a property where it must not be")
    body = properties.write(found.values.items(), found.user)
    again, end = properties.read(properties.block(body), 0, len(body) + len(encode_length(len(body))), allowed)
    check_equal((found.values, found.user), (again.values, again.user), "read, written and read again")
    check_equal(len(properties.block(body)), end, "the end of what was written")
    moved, after = properties.read(b"\xff\xff" + block[:stop] + b"\xff", 2, 2 + stop, allowed)
    check_equal((found.values, found.user, stop + 2), (moved.values, moved.user, after), "the same block elsewhere")


# ---- a second codec -------------------------------------------------------------------------------------------------

_FIELDS = (
    "topic",
    "payload",
    "payload_format_indicator",
    "content_type",
    "response_topic",
    "correlation_data",
    "user_properties",
)


@cache
def _codec() -> Any:  # noqa: ANN401 - a module
    """Return the codec `mqtt5`, written by others; None where it is not installed."""
    try:
        return import_module("mqtt5")
    except ModuleNotFoundError:
        return None


def check_publish(data: bytes) -> None:
    """A PUBLISH of 5.0 comes out as a second codec reads it going in; what the codec cannot read is never sent on."""
    codec = _codec()
    if not data or codec is None:
        return
    body = data[1:2_000]
    packet = bytes((0x30 | data[0] & 7,)) + encode_length(len(body)) + body
    engine = make_engine()
    observer, client = watcher(engine, version=5), RawPeer(engine)
    client.send(_CONNECT[5])
    client.send(packet)
    came = observer.take()
    if not came:
        return
    said, _ = codec.read(memoryview(packet))
    heard, _ = codec.read(memoryview(came[0]))
    for name in _FIELDS:
        if name == "topic" and not said.topic:
            continue  # an alias
        check_equal(getattr(said, name), getattr(heard, name), f"{name} of {packet!r}")


def check_walk(data: bytes) -> None:
    """The walker of whole packets goes forward, never past the end, and sees what is there."""
    position = 0
    for first, size in walk(data):
        check_that(size >= 2, "a packet has a first byte and a length")
        check_equal(data[position], first, "the first byte")
        position += size
    check_that(position <= len(data), "past the end")


def _wire_seeds(version: int) -> tuple[bytes, ...]:
    five = b"\0" if version == 5 else b""
    mark = b"\0" if version == 5 else b"\x80"
    return (
        mark + wire.packet(0x30, wire.text("a/b") + five + b"payload") + wire.PINGREQ,
        mark + wire.packet(0x32, wire.text("a") + b"\0\7" + five + b"x") * 3,
        mark + wire.packet(0x34, wire.text("a") + b"\0\7" + five + b"x") + wire.ack("PUBREL", 7),
        mark + wire.packet(0x82, b"\0\1" + five + wire.text("a/+/#") + b"\2" + wire.text("$share/g/a") + b"\1"),
        mark + wire.packet(0xA2, b"\0\2" + five + wire.text("a/#")) + wire.DISCONNECT,
        mark + b"".join(wire.ack(kind, 3) for kind in ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP")),
        mark
        + wire.packet(0x31, wire.text("r") + five + b"kept")
        + wire.packet(0x82, b"\0\3" + five + wire.text("#") + b"\1"),
        (b"\x7f" if version == 5 else b"\xff")
        + wire.packet(
            0x10,
            b"\0\4MQTT"
            + bytes((version, 0xEE, 0, 9))
            + five
            + wire.text("id")
            + five
            + wire.text("w")
            + wire.text("gone")
            + wire.text("u")
            + wire.text("p"),
        )
        + wire.packet(0x30, wire.text("t") + five),
    )


_PROPERTIES = (
    b"\x01\x01",
    b"\x02\0\0\0\x3c",
    b"\x03\0\1t",
    b"\x08\0\1r",
    b"\x09\0\2\0\xff",
    b"\x0b\x80\x01",
    b"\x11\0\0\0\x0a",
    b"\x15\0\1m",
    b"\x16\0\1d",
    b"\x17\x00",
    b"\x18\0\0\0\1",
    b"\x19\x01",
    b"\x1f\0\1r",
    b"\x21\0\1",
    b"\x22\0\2",
    b"\x23\0\1",
    b"\x26\0\1k\0\1v",
    b"\x27\0\0\1\0",
)
_WORDS = (
    *_PROPERTIES,
    b"\xff\xff\xff\x7f",
    b"\x80\x80\x80\x80\x01",
    b"\x80\x00",
    b"\0\0",
    b"\xff\xff",
    wire.PINGREQ,
    b"+",
    b"#",
    b"/",
    b"$share/g/",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xef\xbf\xbf",
    b"\x7f",
    "é".encode(),
    b"\x30",
    b"\x32",
    b"\x34",
    b"\x62\x02\0\1",
    b"\x40\x02\0\1",
    wire.DISCONNECT,
    b"\0\4MQTT\5",
    b"\0\4MQTT\4",
)

TARGETS = (
    Target(
        "stream",
        "a stream of packets, cut anywhere, has one outcome; all answers can be read",
        check_stream,
        (*_wire_seeds(4), *_wire_seeds(5)),
        _WORDS,
        is_slow=True,
    ),
    Target(
        "properties",
        "properties are read, written and read again alike",
        check_properties,
        tuple(
            bytes((number % 8,)) + properties.block(one + other)
            for number, one in enumerate(_PROPERTIES)
            for other in (b"", _PROPERTIES[-2])
        ),
        _WORDS,
        (MalformedError,),
    ),
    Target(
        "publish",
        "a PUBLISH of 5.0 is heard as a second codec reads it",
        check_publish,
        tuple(b"\0" + wire.text("a/b") + properties.block(one) + b"payload" for one in _PROPERTIES),
        _WORDS,
        is_slow=True,
    ),
    Target("walk", "whole packets are found, and nothing past the end", check_walk, _wire_seeds(4), _WORDS),
)
