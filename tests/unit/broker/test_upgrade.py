"""The HTTP request before a WebSocket: what is accepted, what is refused and how."""

from __future__ import annotations

import pytest

from mesimqtt.broker.upgrade import HEAD_MAX, Policy, RefusedError, accept, head_size, refusal

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, section 1.3
FIELDS = {
    "Host": "127.0.0.1:8083",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "mqtt",
}


def request(line="GET /mqtt HTTP/1.1", extra="", **changes):
    """Return a request; a change of None leaves a field out."""
    fields = {**FIELDS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return ("\r\n".join(lines) + f"\r\n{extra}\r\n").encode("latin-1")


def status(data, policy=None):
    """Return the status of the answer."""
    try:
        return int(accept(data, policy or Policy()).split(b" ")[1])
    except RefusedError as error:
        return error.status


def test_the_answer_is_that_of_the_specification():
    """The key is answered as in RFC 6455, the subprotocol is mqtt [MQTT-6.0.0-4], no extension is agreed."""
    answer = accept(request(Sec_WebSocket_Extensions="permessage-deflate"), Policy()).decode()

    assert answer.startswith("HTTP/1.1 101 ")
    assert "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert "\r\nSec-WebSocket-Protocol: mqtt\r\n" in answer
    assert "Extensions" not in answer
    assert answer.endswith("\r\n\r\n")


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (request("GET / HTTP/1.1"), 101),
        (request(Sec_WebSocket_Protocol="mqttv3.1, mqtt"), 101),
        (request(Upgrade="WebSocket", Connection="upgrade"), 101),
        (request(Sec_WebSocket_Protocol=None), 400),
        (request(Sec_WebSocket_Protocol="mqttv3.1"), 400),
        (request(Sec_WebSocket_Protocol="MQTT"), 400),
        (request("GET /other HTTP/1.1"), 404),
        (request("GET /mqtt?token=secret HTTP/1.1"), 400),
        (request("GET http://127.0.0.1/mqtt HTTP/1.1"), 400),
        (request("GET /mqtt HTTP/1.0"), 400),
        (request("GET  /mqtt HTTP/1.1"), 400),
        (request(Host=None), 400),
        (request(extra="Host: other\r\n"), 400),
        (request(extra=" folded\r\n"), 400),
        (request(extra="Na me: x\r\n"), 400),
        (request(extra="Name: \x00\r\n"), 400),
        (request(Content_Length="5"), 400),
        (request(Transfer_Encoding="chunked"), 400),
        (request(Upgrade=None), 426),
        (request(Connection="close"), 426),
        (request(Sec_WebSocket_Version="8"), 426),
        (request(Sec_WebSocket_Key=None), 400),
        (request(Sec_WebSocket_Key="short"), 400),
        (request(Sec_WebSocket_Key="ÿ" * 24), 400),
        (request(extra=f"Sec-WebSocket-Key: {KEY}\r\n"), 400),
    ],
)
def test_what_is_accepted(data, wanted):
    """A request is accepted exactly if it is one of RFC 6455 for MQTT, on a path of ours and without a query."""
    assert wanted == status(data)


LOOPBACK = Policy(is_loopback=True)


@pytest.mark.parametrize(
    ("origin", "host", "policy", "wanted"),
    [
        (None, "good.example", Policy(), 101),
        ("https://good.example", "good.example", Policy(), 101),
        ("HTTPS://Good.example:443", "good.example", Policy(), 101),
        ("http://good.example:8083", "good.example:8083", Policy(), 101),
        ("http://good.example:8080", "good.example:8083", Policy(), 403),
        ("https://good.example.evil", "good.example", Policy(), 403),
        ("https://sub.good.example", "good.example", Policy(), 403),
        ("https://good.example@evil", "good.example", Policy(), 403),
        ("https://good.example/", "good.example", Policy(), 403),
        ("https://evil", "good.example", Policy(), 403),
        ("null", "good.example", Policy(), 403),
        ("null", "127.0.0.1:8083", LOOPBACK, 403),
        ("file://", "127.0.0.1:8083", LOOPBACK, 403),
        ("http://localhost:3000", "127.0.0.1:8083", LOOPBACK, 101),
        ("http://[::1]:3000", "127.0.0.1:8083", LOOPBACK, 101),
        ("http://127.0.0.1:x", "127.0.0.1:8083", LOOPBACK, 403),
        ("http://localhost:3000", "127.0.0.1:8083", Policy(), 403),
        ("http://localhost.evil", "127.0.0.1:8083", LOOPBACK, 403),
        ("http://rebound.evil:8083", "rebound.evil:8083", Policy(is_loopback=True, is_open=True), 403),
        ("https://good.example", "x", Policy(origins=("https://Good.example",)), 101),
        ("https://good.example:8443", "x", Policy(origins=("https://good.example",)), 403),
        ("http://x", "x", Policy(origins=("https://good.example",)), 403),
        ("http://localhost", "x", Policy(origins=("https://good.example",), is_loopback=True), 403),
        ("https://any.example", "x", Policy(origins=("*",)), 101),
        (None, "x", Policy(origins=("https://good.example",)), 101),
    ],
)
def test_which_pages_may_connect(origin, host, policy, wanted):
    """Row 91: a page of the same host, of this machine on loopback, or of the list; any other Origin is 403."""
    assert wanted == status(request(Origin=origin, Host=host), policy)


def test_two_origins_are_none():
    """Row 91: two Origin headers are refused, whatever they say."""
    assert 403 == status(request(Origin="http://localhost", extra="Origin: http://localhost\r\n"), LOOPBACK)


def test_the_request_is_bounded_and_looked_at_early():
    """Row 2: what cannot become a request is refused at its first byte, one without an end after 8 KiB."""
    assert 0 == head_size(b"GE")
    assert 0 == head_size(b"GET / HTTP/1.1\r\n")
    assert len(request()) == head_size(request() + b"frames")
    for data, wanted in ((b"\x10", 405), (b"\x16\x03\x01", 405), (b"POST / HT", 405), (b"GET " + b"x" * HEAD_MAX, 431)):
        with pytest.raises(RefusedError) as caught:
            head_size(data)
        answer = refusal(caught.value)
        assert wanted == caught.value.status
        assert answer.startswith(f"HTTP/1.1 {wanted} ".encode())
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(f"\r\n\r\n{caught.value}\n".encode())
