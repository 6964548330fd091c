"""Section F over raw sockets: requests that could be read in two ways, that never end, or that come by the thousand."""

from __future__ import annotations

import contextlib
import re
import socket
import time

import pytest

from attacks.target import Target
from integration.server import wait_until
from stopwatch import Stopwatch

HEAD_S, BODY_S, CONNECTIONS = 1.5, 1.5, 30
HTTP = f"http: {{head_deadline_s: {HEAD_S}, body_deadline_s: {BODY_S}, connections_max: {CONNECTIONS}}}\n"
SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v1/users HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A server with production.yaml, short deadlines, and its HTTP port."""
    changes = ("limits:\n", f"{HTTP}limits:\n")
    target = Target(tmp_path_factory.mktemp("web"), changes, options=("--http", "127.0.0.1:0"))
    target.http_port = target._ready("http")
    yield target
    assert 0 == target.stop()


def connect(web):
    web._count += 1
    source = f"127.1.{1 + web._count // 250 % 250}.{1 + web._count % 250}"
    return socket.create_connection(("127.0.0.1", web.http_port), 30, source_address=(source, 0))


def said(peer) -> bytes:
    """Return what comes until the server closes."""
    found = b""
    try:
        while part := peer.recv(65_536):
            found += part
    except ConnectionResetError:
        pass
    return found


def statuses(web, data: bytes) -> list[int]:
    """Return the status of each answer to some bytes; the server must have closed the connection."""
    with connect(web) as peer:
        peer.sendall(data)
        return [int(each) for each in re.findall(rb"HTTP/1\.1 (\d{3}) ", said(peer))]


def is_well(web) -> bool:
    return [200] == statuses(web, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
        b"Content-Length: 0, 0\r\n\r\n",
        b"Content-Length: +0\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 0x10\r\n\r\n",
        b"Content-Length: 1 0\r\n\r\n",
        b"Content-Length:\r\n\r\n",
        b"Content-Length: \xd9\xa0\r\n\r\n",
        b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"Content-Length: 0\r\nExpect: 100-continue\r\nExpect: x\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding\x0b: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nG\r\nx\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n",
        b"X: a\r\n b: c\r\n\r\n",
        b"X: a\r\n\tb\r\n\r\n",
        b"X: a\x00b\r\n\r\n",
        b"X: a\rb\r\n\r\n",
        b"X\xff: a\r\n\r\n",
        b": a\r\n\r\n",
        b"no colon\r\n\r\n",
        b"Host: y\r\n\r\n",
    ],
)
def test_a_request_that_could_be_read_in_two_ways(web, head) -> None:
    """Row 98: one 400 and the end; what is hidden behind it is never looked at."""
    assert [400] == statuses(web, POST + head + SMUGGLED)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /livez HTTP/1.1\nHost: x\n\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1 x\r\nHost: x\r\n\r\n",
        b"GET /li vez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"FLY /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT livez:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00",
        b"\x00" * 4_096,
    ],
)
def test_what_is_no_request_of_http(web, data) -> None:
    """Row 98: other line ends, versions, methods, paths and protocols: 400 and the end."""
    assert [400] == statuses(web, data)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"X: " + b"a" * 100_000 + b"\r\n\r\n", 431),
        (b"X: 1\r\n" * 10_000 + b"\r\n", 431),
        (b"X: 1\r\n" * 101 + b"\r\n", 431),
        (b"Content-Length: 1048577\r\n\r\n", 413),
    ],
)
def test_what_is_too_much(web, data, status) -> None:
    """Row 98: a head of 100 KB, 10,000 headers, a body that says it is too large: refused by the head."""
    assert [status] == statuses(web, POST + data)
    assert [431] == statuses(web, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")


def test_a_chunked_body_is_counted(web) -> None:
    """Row 78, row 98: a body without a length ends at the bound of one with a length."""
    web.users("chunky")
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    head = b"POST /v1/send/nobody HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(web) as peer:
        peer.settimeout(60)
        try:
            peer.sendall(head % web.tokens["chunky"].encode())
            for _ in range(40):
                peer.sendall(chunk)
        except OSError:
            pass  # it was cut before the end
        assert b"200" not in said(peer)[:20]

    assert is_well(web)


@pytest.mark.parametrize(
    "start",
    [
        b"GET /li",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ",
        b"POST /v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nContent-Length: 100\r\n\r\n",
        b"POST /v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_slowloris(web, start) -> None:
    """Row 107: a head or a body that comes byte by byte ends at its deadline, however steadily it comes."""
    if "slow" not in web.tokens:
        web.users("slow")
    begun, watch = time.monotonic(), Stopwatch()
    with connect(web) as peer:
        peer.sendall(start.replace(b"TOKEN", web.tokens["slow"].encode()))
        peer.settimeout(0.2)
        answer = b""
        while watch.elapsed_s < 8:
            try:
                part = peer.recv(4_096)
                answer += part
                if not part:
                    break
            except TimeoutError:
                with contextlib.suppress(ConnectionError):  # it has just ended: the next look tells
                    peer.sendall(b"1" if not answer else b"")
            except ConnectionResetError:
                break
        took = time.monotonic() - begun
        took_at_most = watch.elapsed_s

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert took >= HEAD_S
    assert took_at_most < 6


def test_silence_and_idle_connections_end_too(web) -> None:
    """Row 107: who says nothing is closed at the deadline; above the bound the longest resting makes room."""
    with connect(web) as silent:
        assert b"" == said(silent)
    resting = []
    for _ in range(CONNECTIONS + 20):
        peer = connect(web)
        peer.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert peer.recv(4_096).startswith(b"HTTP/1.1 200 ")
        resting.append(peer)
    ended = sum(1 for peer in resting[:15] if not said(peer))

    assert 15 == ended
    assert is_well(web)
    for peer in resting:
        peer.close()


def test_floods_of_small_requests(web) -> None:
    """Row 107: a pipeline of 2,000 HEAD and OPTIONS is answered in order, without memory, and others are served."""
    before = web.rss_mb
    with connect(web) as peer:
        peer.settimeout(20)
        for method in (b"HEAD", b"OPTIONS"):
            peer.sendall(b"%b /livez HTTP/1.1\r\nHost: x\r\n\r\n" % method * 1_000)
        peer.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = re.findall(rb"HTTP/1\.1 (\d{3}) ", said(peer))

    assert [b"200"] * 1_000 + [b"405"] * 1_000 + [b"200"] == found
    assert web.rss_mb < before + 16


def test_who_does_not_read_costs_no_memory(web) -> None:
    """Row 29 over HTTP: a pipeline whose answers nobody reads stops being read itself."""
    before = web.rss_mb
    with connect(web) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        peer.setblocking(False)
        sent, end = 0, time.monotonic() + 2
        while time.monotonic() < end:
            try:
                sent += peer.send(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000)
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < 16 * 1024 * 1024
        assert web.rss_mb < before + 16
    assert is_well(web)


def test_connections_that_break_off_leave_nothing(web) -> None:
    """Row 32 over HTTP: resets in the middle of a head, a body, an answer: no file stays open."""
    before = web.open_files
    for data in (b"", b"GET /li", POST + b"Content-Length: 100\r\n\r\nx", b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n"):
        for _ in range(50):
            with connect(web) as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                peer.sendall(data)
    wait_until(lambda: is_well(web), what="an answer to who comes after them")  # meanwhile there may be no room
    wait_until(lambda: web.open_files <= before + 2, what="the end of the connections")
    assert "Traceback" not in web.log


def test_the_log_shows_no_token(web) -> None:
    """Row 69: nothing of all this has put a token into the log."""
    assert [] == [user for user, token in web.tokens.items() if token in web.log or token.rpartition(".")[2] in web.log]
