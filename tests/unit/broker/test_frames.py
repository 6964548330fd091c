"""Frames: whatever the client's frames look like, MQTT's bytes come out as they went in, or the connection ends."""

from __future__ import annotations

import random

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from mesimqtt.broker.frames import BINARY, CLOSE, PING, FrameReader, close_frame, frame

SIZE_MAX = 100_000


def masked(opcode, payload=b"", *, fin=True, mask=b"\x01\x80\x00\xff", first=None, size=None):
    """Return a client's frame; `size` announces another length than the payload's."""
    announced = len(payload) if size is None else size
    head = bytes(((0x80 if fin else 0) | opcode if first is None else first,))
    if announced <= 125:
        head += bytes((0x80 | announced,))
    elif announced < 0x10000:
        head += b"\xfe" + announced.to_bytes(2, "big")
    else:
        head += b"\xff" + announced.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 90_000])
def test_frames_of_every_length_are_read_as_another_library_writes_them(size):
    """Each form of a length is read, whole and byte by byte at its borders."""
    payload = random.Random(size).randbytes(size)
    written = Frame(Opcode.BINARY, payload).serialize(mask=True)
    whole, parts = FrameReader(SIZE_MAX), FrameReader(SIZE_MAX)
    got = b"".join(parts.feed(written[at : at + 1]) for at in range(20)) + parts.feed(written[20:])

    assert [payload, payload] == [whole.feed(written), got]


def test_our_frames_are_read_by_another_library():
    """What we write is one final, unmasked binary frame of the shortest length."""
    for size in (0, 1, 125, 126, 65_535, 65_536):
        reader = ClientProtocol(parse_uri("ws://x/"), state=OPEN)
        reader.receive_data(frame(BINARY, b"x" * size) + close_frame(1001))
        first, last = reader.events_received()

        assert (Opcode.BINARY, True, b"x" * size) == (first.opcode, first.fin, first.data)
        assert (1001, None) == (reader.close_rcvd.code, last.data[2:] or None)


def test_any_cut_of_any_stream_gives_the_same_bytes():
    """Frames, fragments, empty ones and Pings, cut anywhere: the payload is the same, and a Ping is told."""
    chance = random.Random(7)
    for _ in range(100):
        wanted, stream = b"", b""
        for _ in range(chance.randrange(1, 8)):
            parts = [
                chance.randbytes(chance.choice((0, 1, 3, 4, 5, 125, 126, 700))) for _ in range(chance.randrange(1, 4))
            ]
            for at, part in enumerate(parts):
                mask = chance.randbytes(4)
                stream += masked(0 if at else BINARY, part, fin=at == len(parts) - 1, mask=mask)
                stream += masked(PING, b"%d" % at, mask=mask)
                wanted += part
        reader, got = FrameReader(SIZE_MAX), b""
        while stream:
            cut = chance.choice((1, 2, 3, 7, 50, 1000))
            got += reader.feed(stream[:cut])
            stream = stream[cut:]

        assert wanted == got
        assert 0 == reader.code
        assert reader.ping is not None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(1, b"text"), 1003),
        (masked(1, b"text", fin=False), 1003),
        (frame(BINARY, b"unmasked"), 1002),
        (masked(BINARY, b"x", first=0xC2), 1002),
        (masked(BINARY, b"x", first=0x92), 1002),
        (masked(3, b"x"), 1002),
        (masked(0xB, b"x"), 1002),
        (masked(0, b"x"), 1002),
        (masked(BINARY, b"x", fin=False) + masked(BINARY, b"y"), 1002),
        (masked(PING, b"x", fin=False), 1002),
        (masked(PING, b"x" * 126), 1002),
        (b"\x82\xfe\x00\x7d" + b"m" * 4, 1002),
        (b"\x82\xff" + (0xFFFF).to_bytes(8, "big") + b"m" * 4, 1002),
        (masked(BINARY, size=SIZE_MAX + 1), 1009),
        (masked(BINARY, size=2**31), 1009),
        (b"\x82\xff" + b"\xff" * 8, 1009),
        (masked(CLOSE, b"\x03"), 1002),
        (masked(CLOSE, b"\x03\xec"), 1002),
        (masked(CLOSE, b"\x00\x05"), 1002),
        (masked(CLOSE, b"\x03\xe8\xff\xfe"), 1007),
        (masked(CLOSE), 1005),
        (masked(CLOSE, b"\x03\xe8bye"), 1000),
        (masked(CLOSE, b"\x0f\xa0"), 4000),
    ],
)
def test_what_ends_a_connection_has_its_code(data, code):
    """Each breach is found by the head alone, what came before it counts, what comes after it does not."""
    reader = FrameReader(SIZE_MAX)
    got = reader.feed(masked(BINARY, b"before") + data + masked(BINARY, b"after"))

    assert code == reader.code
    assert got.startswith(b"before")
    assert b"after" not in got
    assert b"" == reader.feed(masked(BINARY, b"later"))
    assert reader.is_closed is (code in (1000, 1005, 4000))
    assert reader.reason


def some_stream(chance):
    """Return frames as a client may send them, most often with one byte changed."""
    stream, is_open = bytearray(), False
    for _ in range(chance.randrange(1, 6)):
        payload = chance.randbytes(chance.choice((0, 1, 4, 125, 126, 300)))
        kind, mask = chance.random(), chance.randbytes(4)
        if kind < 0.6:
            is_final = chance.random() < 0.7
            opcode = Opcode.CONT if is_open else Opcode.BINARY
            stream += masked(opcode, payload, fin=is_final, mask=mask)
            is_open = not is_final
        elif kind < 0.9:
            stream += masked(chance.choice((Opcode.PING, Opcode.PONG)), payload[:125], mask=mask)
        else:
            reason = chance.choice((b"", b"\x03\xe8", b"\x03\xe8ok", b"\x03\xed", b"\x0b\xb8"))
            stream += masked(Opcode.CLOSE, reason, mask=mask)
    if chance.random() < 0.6:
        stream[chance.randrange(len(stream))] = chance.randrange(256)
    return bytes(stream)


def test_another_library_judges_the_same():
    """Of 2,000 streams, most of them damaged, each ends with the same code as in `websockets`, and brings the same."""
    chance, ended = random.Random(11), 0
    for _ in range(2_000):
        stream = some_stream(chance)
        ours, theirs = FrameReader(2**20), ServerProtocol(state=OPEN, max_size=2**20)
        got = ours.feed(stream)
        theirs.receive_data(stream)
        frames = [each for each in theirs.events_received() if isinstance(each, Frame)]
        if ours.code == 1003 or any(each.opcode is Opcode.TEXT for each in frames):
            continue  # text: MQTT's own rule
        if "shortest" in ours.reason:
            continue  # RFC 6455 demands it in section 5.2, the other library does not look
        codes = [close.code for close in (theirs.close_rcvd, theirs.close_sent) if close is not None]
        ended += bool(codes)

        assert (codes or [0])[0] == ours.code, stream.hex()
        assert got.startswith(b"".join(bytes(each.data) for each in frames if each.opcode < 3)), stream.hex()
    assert ended > 500


def test_nothing_of_a_long_frame_is_kept():
    """A frame that announces much and brings little at a time goes on as it comes."""
    reader = FrameReader(SIZE_MAX)
    got = [reader.feed(masked(BINARY, size=SIZE_MAX))] + [reader.feed(b"\x01\x80\x00\xff" * 100) for _ in range(10)]

    assert b"\0" * 4000 == b"".join(got)
