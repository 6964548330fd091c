"""Section A at the listeners: WebSockets that lie, pages from elsewhere, crowds, PROXY headers from anybody."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager

import pytest

from attacks.attacker import DEADLINE_S, Attacker, connect, length, publish, subscribe
from attacks.target import Target

REQUEST = (
    b"GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n%b\r\n"
)
MEGABYTE = 1024 * 1024


def frame(payload=b"", first=0x82):
    """Return a client's frame; its mask is zero, so the payload stays readable."""
    size = len(payload)
    head = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((first,)) + (head if size < 0x10000 else b"\xff" + size.to_bytes(8, "big")) + bytes(4) + payload


class Page(Attacker):
    """A WebSocket. `next` still returns MQTT's packets, from the frames; `code` of a Close is in `closed`."""

    def __init__(self, target, extra=b"", **options):
        super().__init__(target.ws_port, **options)
        self.closed = None
        self._frames = b""
        self.send(REQUEST % extra)
        while b"\r\n\r\n" not in self._frames and self._receive(DEADLINE_S):
            pass
        self.answer, _, self._frames = self._frames.partition(b"\r\n\r\n")

    @property
    def http(self):
        return int(self.answer.split(b" ")[1]) if self.answer else None

    def packets(self, *packets):
        """Send each packet as a frame."""
        return self.send(b"".join(map(frame, packets)))

    def _acknowledge(self, found):
        first, body = found
        if first & 0xF6 == 0x32:
            start = 2 + int.from_bytes(body[:2], "big")
            self.packets(b"\x40\x02" + body[start : start + 2])

    def _receive(self, seconds):
        kept, self._buffer = self._buffer, b""
        is_alive = super()._fill(seconds)
        self._frames += self._buffer
        self._buffer = kept
        return is_alive and not self.is_closed

    def _fill(self, seconds):
        is_alive = self._receive(seconds)
        while (found := self._next_frame()) is not None:
            opcode, payload = found
            if opcode == 2:
                self._buffer += payload
            elif opcode == 8:
                self.closed = int.from_bytes(payload[:2], "big")
        return is_alive

    def _next_frame(self):
        data = self._frames
        if len(data) < 2:
            return None
        start, size = 2, data[1]
        if size > 125:
            width = 2 if size == 126 else 8
            start, size = 2 + width, int.from_bytes(data[2 : 2 + width], "big")
        if len(data) < start + size:
            return None
        self._frames = data[start + size :]
        return data[0] & 15, data[start : start + size]


def code_of(page):
    """Return the code of the Close that the server ends a WebSocket with."""
    page.is_cut()
    return page.closed


@pytest.fixture(scope="module")
def mallory(target):
    """Return packets that log a user in whom nobody minds."""
    name = target.somebody().user
    return connect(name, target.tokens[name], "page")


@pytest.mark.parametrize(
    "data", [connect(), b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-x\r\n", os.urandom(4096)], ids="mtsn"
)
def test_other_protocols_on_the_websocket_port_are_closed(target, data):
    """Row 2: MQTT, TLS, SSH and noise on the WebSocket port are answered as HTTP and closed within a second."""
    assert Attacker(target.ws_port).send(data).is_cut(1.0)


@pytest.mark.parametrize(
    "line", [b"GET /mqtt HTTP/1.0", b"POST /mqtt HTTP/1.1", b"GET /mqtt?token=%b HTTP/1.1", b"GET /x HTTP/1.1"]
)
def test_other_requests_are_refused(target, line):
    """Row 68: other methods, versions and paths are refused, and a token in the query; nothing of it is logged."""
    secret = b"s3cret-in-a-query"
    data = (REQUEST % b"").replace(b"GET /mqtt HTTP/1.1", line.replace(b"%b", secret))
    attacker = Attacker(target.ws_port).send(data)
    assert attacker.is_cut(1.0)

    assert attacker._buffer.startswith(b"HTTP/1.1 4")
    assert secret not in attacker._buffer
    assert secret.decode() not in target.log


def test_a_request_without_an_end_is_cut(target):
    """Row 2, row 28: 8 KiB of header is the most, and what comes drop by drop is cut at CONNECT's deadline."""
    assert Attacker(target.ws_port).send(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2000).is_cut(1.0)
    slow = Attacker(target.ws_port)
    end = time.monotonic() + DEADLINE_S
    while not slow.is_cut(0.1) and time.monotonic() < end:
        slow.send(b"GET / HTTP/1.1\r\n"[:1])

    assert slow.is_closed


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"null",
        b"https://127.0.0.1.evil",
        b"https://sub.127.0.0.1",
        b"http://127.0.0.1@evil",
        b"x",
    ],
)
def test_pages_from_elsewhere_are_forbidden(target, origin):
    """Row 91: an Origin that is not this machine's own is 403; none at all is no browser and may go on."""
    assert 403 == Page(target, b"Origin: " + origin + b"\r\n").http
    assert [101, 101] == [Page(target, extra).http for extra in (b"", b"Origin: http://localhost:3000\r\n")]


def test_listed_pages_alone(tmp_path):
    """Row 91: with `origins` only these pages connect: no other port, sub-domain or look-alike."""
    listed = ("limits:\n", "listeners: {ws: {origins: ['https://chat.example']}}\nlimits:\n")
    target = Target(tmp_path, listed)
    try:
        origins = (
            b"https://chat.example", b"https://chat.example:8443", b"https://a.chat.example", b"http://chat.example",
            b"https://chat.example.evil", b"http://localhost",
        )  # fmt: skip
        answers = [Page(target, b"Origin: " + origin + b"\r\n").http for origin in origins]

        assert [101, 403, 403, 403, 403, 403] == answers
    finally:
        assert 0 == target.stop()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\xff\x00\x00\x00\x00\x80\x00\x00\x00mask", 1009),
        (b"\x82\xff" + b"\xff" * 8 + b"mask", 1009),
        (b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00mask", 1009),
        (b"\x82\xfe\x00\x05mask", 1002),
        (b"\x82\xff\x00\x00\x00\x00\x00\x00\x00\x05mask", 1002),
        (b"\x82\x05plain", 1002),
        (frame(b"x" * 100, 0xC2), 1002),
        (frame(b"bomb", 0xC1), 1002),
        (frame(b"x" * 126, 0x89), 1002),
        (frame(b"x", 0x09), 1002),
        (frame(b"x", 0x80), 1002),
        (frame(b"x", 0x02) + frame(b"y", 0x02), 1002),
        (frame(b"x", 0x83), 1002),
        (frame(b"\x10", 0x81), 1003),
        (frame(b"\x10\x0c", 0x01), 1003),
    ],
)
def test_frames_that_lie_are_closed(target, mallory, data, code):
    """Row 34, row 35: lengths that lie, 2 GiB, compression, no mask, text: closed at once with the code."""
    before = target.rss_mb

    assert [code, code] == [
        code_of(Page(target).send(data)), code_of(Page(target).packets(mallory).send(data + b"x" * MEGABYTE))
    ]  # fmt: skip
    assert target.rss_mb - before < 4


def test_a_lying_frame_keeps_nothing(target, mallory):
    """Row 35: ten frames that announce 16 MB and bring 4 MB of one endless packet each are cut by MQTT's own bound."""
    before = target.rss_mb
    pages = [Page(target).packets(mallory) for _ in range(10)]
    for page in pages:
        page.send(b"\x82\xff" + (16 * MEGABYTE).to_bytes(8, "big") + bytes(4))
        page.send(b"\x30" + length(200 * MEGABYTE) + b"\0\x01a" + b"x" * 4 * MEGABYTE)

    assert all(page.is_cut() for page in pages)
    assert target.rss_mb - before < 8


@pytest.mark.parametrize(
    "flood",
    [
        frame(b"p" * 125, 0x89),
        frame(b"", 0x89),
        frame(b"", 0x8A),
        frame(b"", 0x00),
        frame(b"\xc0\x00"),
        frame(b"\xc0"[:0]),
    ],
    ids=["pings", "empty pings", "pongs", "fragments", "MQTT pings", "empty frames"],
)
def test_floods_of_small_frames_bound_memory(target, mallory, flood):
    """Row 35: four megabytes of Pings, Pongs or empty fragments, their answers unread: memory stays, others go on."""
    before = target.rss_mb
    page = Page(target).packets(mallory)
    if flood[0] == 0:
        page.send(frame(b"\xc0", 0x02))
    page.socket.settimeout(5)
    page.send(flood * (4 * MEGABYTE // len(flood)))
    other = Page(target).packets(mallory.replace(b"page", b"neat"))

    assert other.next() is not None
    assert target.rss_mb - before < 12


def test_frames_cut_anywhere_work(target):
    """Row 34: a user who sends one byte a frame and a packet over 100 frames is served like anyone."""
    ben = target.somebody()
    ann = target.somebody()
    page = Page(target)
    packet = connect(ann.user, target.tokens[ann.user], "page") + subscribe(f"m/{ann.user}/in/#")
    page.packets(*(bytes((byte,)) for byte in packet))
    assert [0x20, 0x90] == [page.next()[0] for _ in range(2)]
    message = publish(f"m/{ann.user}/out/u/{ben.user}/1", "y" * 400, 1)
    page.send(frame(message[:1], 0x02))
    for at in range(1, len(message) - 1, 4):
        page.send(frame(message[at : at + 4] if at + 4 < len(message) else message[at:-1], 0x00))
    page.send(frame(message[-1:], 0x80))

    assert b"y" * 400 == ben.message()[1]
    assert [1, 2] == [page.status()["status"], page.status()["status"]]


def test_crowds_are_refused_at_accept(target):
    """Row 28: of one address 100 are served, over both ports; 100 more are dropped at accept, others are not."""
    target.users("crowd")
    logins = [connect("crowd", target.tokens["crowd"], f"c{number}") for number in range(100)]  # who is in, stays
    plain = [Attacker(target.port, source="127.0.9.1").send(login) for login in logins[:3]]
    pages = [Page(target, source="127.0.9.1").packets(login) for login in logins[3:]]
    assert {(0x20, b"\0\0")} == {attacker.next() for attacker in plain + pages}
    excess = [Attacker((target.port, target.ws_port)[number % 2], source="127.0.9.1") for number in range(100)]

    assert all(attacker.is_cut(1.0) for attacker in excess)
    assert not any(attacker.is_cut(0) for attacker in plain + pages)
    assert 101 == Page(target, source="127.0.9.2").http


@contextmanager
def behind_a_proxy(folder):
    """Run a server that believes 127.0.0.5 alone."""
    target = Target(folder, ("limits:\n", "listeners: {default: {proxy_from: [127.0.0.5]}}\nlimits:\n"))
    try:
        yield target
    finally:
        assert 0 == target.stop()


def test_proxy_headers(tmp_path):
    """Row 115: closed from an untrusted peer, and if malformed; a good one of the proxy counts for its client."""
    header = b"PROXY TCP4 192.0.2.%d 127.0.0.1 1 1\r\n"
    signature = b"\r\n\r\n\x00\r\nQUIT\n"
    malformed = (
        b"PROXY TCP4 192.0.2.1\r\n", b"PROXY " + b"x" * 200, header % 256, signature + b"\x21\x11\x00\x04abcd",
        signature + b"\x21\x11\xff\xff" + b"x" * 60, signature + b"\x41\x11\x00\x0c" + b"x" * 12, b"",
    )  # fmt: skip
    with behind_a_proxy(tmp_path) as target:
        target.users("alice")
        login = connect("alice", target.tokens["alice"], "a")
        assert Attacker(target.port, source="127.0.0.6").send(header % 1 + login).is_cut(1.0)
        for bad in malformed:
            assert Attacker(target.port, source="127.0.0.5").send(bad + login).is_cut(1.0)
        crowd = [Attacker(target.port, source="127.0.0.5").send(header % 1 + login[:5]) for _ in range(101)]

        assert crowd[-1].is_cut()
        assert b"\0\0" == Attacker(target.port, source="127.0.0.5").send(header % 2 + login).next()[1]
        assert b"\0\0" == Attacker(target.port, source="127.0.0.6").send(login).next()[1]


def test_a_server_that_stops_says_so(tmp_path):
    """A page that is connected when the server ends gets Close 1001."""
    target = Target(tmp_path)
    target.users("alice")
    page = Page(target).packets(connect("alice", target.tokens["alice"], "a"))
    assert page.next() is not None
    target.process.send_signal(signal.SIGTERM)

    assert 1001 == code_of(page)
    assert 0 == target.stop()
