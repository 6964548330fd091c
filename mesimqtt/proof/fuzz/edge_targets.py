"""Fuzz targets at the edge of the broker: PROXY headers, WebSocket frames, and the request that opens a WebSocket."""

from __future__ import annotations

from mesimqtt.broker.frames import BINARY, CLOSE, FrameReader, close_frame, frame
from mesimqtt.broker.proxy_protocol import SIGNATURE, HeaderError, read_header
from mesimqtt.broker.upgrade import HEAD_MAX, Policy, RefusedError, accept, head_size, refusal
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.listening import bound_address
from mesimqtt.proof.fuzz import oracles
from mesimqtt.proof.fuzz.target import Target, check_equal, check_that, text_of

_SIZE_MAX = 4_096
_CUTS = 12

# ---- PROXY protocol -------------------------------------------------------------------------------------------------


def check_proxy(data: bytes) -> None:
    """A header is the same whatever follows; before it is whole, nothing is decided but its faults."""
    whole = _header(data)
    for size in range(min(len(data), 300)):
        part = _header(data[:size])
        if part is None:
            continue
        check_equal(part, whole, f"of {size} bytes")
    if isinstance(whole, tuple):
        check_that(0 < whole[0] <= len(data), "it ends within what came")
        check_equal(whole, _header(data[: whole[0]]), "without what follows")
        check_equal(None, _header(data[: whole[0] - 1]), "without its last byte")


def _header(data: bytes) -> tuple[int, str | None] | str | None:
    try:
        return read_header(data)
    except HeaderError:
        return "refused"


# ---- frames of a WebSocket ------------------------------------------------------------------------------------------


def check_frames(data: bytes) -> None:
    """However they are cut, frames say the same; and what a plain reader finds in good ones is what MQTT gets."""
    whole = _read([data])
    step = max(1, len(data) // _CUTS)
    for at in range(1, len(data), step):
        check_equal(whole, _read([data[:at], data[at:]]), f"cut at {at}")
    if len(data) <= 300:
        check_equal(whole, _read([data[at : at + 1] for at in range(len(data))]), "byte by byte")
    said = b""
    for opcode, _, payload in oracles.read_frames(data):
        if opcode == CLOSE or len(payload) > _SIZE_MAX or len(said) >= len(whole[0]):
            break
        said += payload if opcode <= BINARY else b""
    check_that(said.startswith(whole[0][: len(said)]), f"MQTT gets {whole[0]!r:.100}, a plain reader {said!r:.100}")


def _read(chunks: list[bytes]) -> tuple[bytes, bytes | None, int, bool, str]:
    reader = FrameReader(_SIZE_MAX)
    got = b"".join([reader.feed(chunk) for chunk in chunks])
    return got, reader.ping, reader.code, reader.is_closed, reader.reason


def check_frame_of_ours(data: bytes) -> None:
    """What the server writes as a frame, a client reads as one: masked on its way back, it comes out alike."""
    payload = data[:_SIZE_MAX]
    ours = frame(BINARY, payload)
    at = 2 + {126: 2, 127: 8}.get(ours[1], 0)
    masked = (
        ours[:1]
        + bytes((ours[1] | 0x80,))
        + ours[2:at]
        + data[:4].ljust(4, b"m")
        + oracles.unmask(payload, data[:4].ljust(4, b"m"))
    )
    reader = FrameReader(_SIZE_MAX)
    check_equal(payload, reader.feed(masked), "the payload")
    check_equal([(BINARY, True, payload)], oracles.read_frames(masked), "a plain reader's")
    check_that(len(close_frame(1000)) == 4 and reader.code == 0, "the end")


# ---- the request that opens a WebSocket -----------------------------------------------------------------------------


def check_upgrade(data: bytes) -> None:
    """A request is answered by one whole HTTP answer, which no header of the request can split or forge."""
    try:
        size = head_size(data)
        if not size:
            check_that(len(data) < HEAD_MAX, "it waits for ever")
            return
        check_that(data[size - 4 : size] == b"\r\n\r\n", "the end of the head")
        check_equal(size, head_size(data[:size]), "without what follows")
        answer = accept(data[:size], Policy())
        check_that(answer.startswith(b"HTTP/1.1 101 ") and answer.endswith(b"\r\n\r\n"), f"{answer!r}")
        _check_one_answer(answer, body=b"")
    except RefusedError as error:
        answer = refusal(error)
        _check_one_answer(answer, body=answer.partition(b"\r\n\r\n")[2])


def _check_one_answer(answer: bytes, *, body: bytes) -> None:
    head, _, rest = answer.partition(b"\r\n\r\n")
    check_equal(body, rest, "the body")
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b": ")
        check_that(bool(colon) and name.replace(b"-", b"").isalnum() and b"\n" not in value, f"header {line!r}")


# ---- where to listen ------------------------------------------------------------------------------------------------


def check_bind(data: bytes) -> None:
    """ADDR:PORT is taken apart, or refused with a sentence that shows it."""
    text = text_of(data)
    try:
        host, port = bound_address(text)
    except MesimqttError as error:
        check_that(repr(text)[:20] in str(error), f"it does not show what is wrong: {error}")
        raise
    check_that(bool(host) and 0 <= port <= 65_535, f"{host!r}, {port}")


_GET = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost:8083\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n"
)
_FRAMES = (
    b"\x82\x85mask" + oracles.unmask(b"hello", b"mask"),
    b"\x02\x81mask" + oracles.unmask(b"h", b"mask") + b"\x89\x80mask" + b"\x80\x81mask" + oracles.unmask(b"i", b"mask"),
    b"\x82\xfe\x00\x80mask"
    + oracles.unmask(b"x" * 128, b"mask")
    + b"\x88\x82mask"
    + oracles.unmask(b"\x03\xe8", b"mask"),
    b"\x82\xff\0\0\0\0\0\x01\0\0mask",
    b"\x88\x80mask",
)

TARGETS = (
    Target(
        "proxy",
        "a PROXY header is one, whatever follows it",
        check_proxy,
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET",
            b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
            b"PROXY UNKNOWN\r\n",
            SIGNATURE + b"\x21\x11\0\x0c" + bytes(12) + b"rest",
            SIGNATURE + b"\x20\0\0\0",
            SIGNATURE + b"\x21\x21\0\x2b" + bytes(36) + b"\x04\0\x04abcd",
        ),
        (
            b"PROXY ",
            b" ",
            b"\r\n",
            b"TCP4",
            b"TCP6",
            b"UNKNOWN",
            b"65536",
            b"00",
            b"::",
            b"%eth0",
            b"1.2.3.4",
            SIGNATURE,
            b"\x21\x11",
        ),
    ),
    Target(
        "frames",
        "frames say the same, however they are cut",
        check_frames,
        _FRAMES,
        (
            b"\x82",
            b"\x02",
            b"\x80",
            b"\x88",
            b"\x89",
            b"\x8a",
            b"\x81",
            b"\xfe\0\x7e",
            b"\xff" + bytes(6) + b"\x01\0",
            b"mask",
        ),
    ),
    Target(
        "frame", "a frame of ours is read alike", check_frame_of_ours, (b"", b"x", b"x" * 125, b"x" * 126, b"x" * 1000)
    ),
    Target(
        "upgrade",
        "a request is answered by one whole answer",
        check_upgrade,
        (
            _GET + b"\r\n",
            _GET + b"Origin: http://localhost\r\n\r\n",
            _GET + b"Origin: https://evil.example\r\n\r\n",
            _GET.replace(b"/mqtt", b"/mqtt?token=x") + b"\r\n",
            b"POST / HTTP/1.1\r\n\r\n",
            _GET + b"Content-Length: 5\r\n\r\nhello",
        ),
        (
            b"\r\n",
            b"\n",
            b": ",
            b"Host: a\r\n",
            b"Origin: http://[::1]:8083\r\n",
            b"Origin: null\r\n",
            b"http://a:b@c",
            b"\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"HTTP/1.0",
            b"\xff",
            b"\0",
            b"websocket",
            b"mqtt",
            b"=" * 4,
            b":99999",
            b"http://[",
        ),
    ),
    Target(
        "bind",
        "where to listen is taken apart, or refused with a sentence",
        check_bind,
        (b"127.0.0.1:1883", b"[::1]:8083", b":0", b"localhost:1883", b"::1:5"),
        (b":", b"[", b"]", b"65536", b"9" * 30, "\u0663".encode(), b"\xb2"),
        (MesimqttError,),
    ),
)
