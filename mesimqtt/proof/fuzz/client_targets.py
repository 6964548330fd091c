"""Fuzz targets on what our own client reads: a server that is broken or hostile must not break it."""

from __future__ import annotations

from mesimqtt.domain.addresses import encode_address
from mesimqtt.domain.errors import AddressError
from mesimqtt.proof.fuzz.target import Target, check_equal, check_that, fields_of, text_of, unicode_of
from mesimqtt.topics import ParamsError, parse_params
from mesimqtt_client import _topics
from mesimqtt_client._protocol import Core

_KINDS = ("message", "own", "status", "read", "presence", "event", "session")
_PACKET_ID = 7


def check_receive(data: bytes) -> None:
    """Whatever a server publishes to it, the client takes it, and each packet gets its acknowledgement once."""
    level, payload = fields_of(data, 2)
    core = Core("alice")
    for kind in _KINDS:
        core.want(kind)
    core.connecting()
    core.accepted(session_present=False)
    core.subscribed(is_granted=True)
    sent = core.send("bob", b"hi", is_group=False, now=0.0, options={})
    call = core.call("history", {})
    for number in (_PACKET_ID, _PACKET_ID + 1):  # once more, as after a lost acknowledgement
        rest = unicode_of(level).replace("{cid}", sent.key).replace("{call}", call.key)
        core.receive(f"m/alice/in/{rest}", payload, number)
    while (delivery := core.next_delivery(_KINDS)) is not None:
        core.handled(delivery)
    check_equal([_PACKET_ID, _PACKET_ID + 1], sorted(core.due_acks), "acknowledged")
    check_equal(0, core.unhandled, "not handled")
    core.tick(1e9)
    core.lost("the end")


def check_spelling(data: bytes) -> None:
    """The client spells every address of the server's as the server does, and reads it back."""
    address = text_of(data)
    level = encode_address(address)
    check_equal(level, _topics.encode_address(address), "the client's spelling")
    check_equal(address, _topics.decode_address(level), "the client's reading")


def check_params(data: bytes) -> None:
    """Parameters that the server takes, the client reads alike; what the client writes, the server takes."""
    level = unicode_of(data)
    found = parse_params(level)
    if "correlation-data" in level:
        return  # bytes, which the client has as text
    read = _topics.parse_params(level)
    check_equal(str(found.type), str(int(read.get("type", "0"))), "type")
    own = _topics.own_params(read)
    try:
        written = _topics.format_params(params=own)
    except ValueError:
        return
    if written:
        parse_params(written)
        check_equal(own, _topics.parse_params(written), "written and read")
    check_that("seq" not in own, "the server's own key")


_TOPICS = (
    b"u/bob/00f1a2b3c4d5e6f7/seq=7&type=3",
    b"g/team/bob/00f1a2b3c4d5e6f7/seq=1",
    b"sent/u/bob/00f1a2b3c4d5e6f7/seq=2",
    b"status/{cid}",
    b"rpc/{call}",
    b"read/u/bob",
    b"presence/g/team/bob",
    b"event/g/team/00f1a2b3c4d5e6f7/seq=3",
    b"session",
)
_PAYLOADS = (
    b"hi",
    b'{"cid":"c","mid":"00f1a2b3c4d5e6f7","peer":"bob","status":2,"name":"delivered","ts":1731234567890}',
    b'{"status":133,"reason":"limit","limit":262144,"retry_after":5,"counts":{"delivered":3,"read":1}}',
    b'{"ok":true,"result":{"messages":[]}}',
    b'{"ok":false,"code":"x","message":"y"}',
    b"<=00f1a2b3c4d5e6f7",
    b'{"event":"denied","topic":"a","rule":"r"}',
)
_WORDS = (
    b"\0",
    b"/",
    b"%2F",
    b"%ff",
    b"=",
    b"&",
    b"seq=",
    b"u/",
    b"g/",
    b"status/{cid}\0",
    b"rpc/{call}\0",
    b"session\0",
    b"event/g/",
    b"null",
    b"[]",
    b'"status":',
    b'"limit":',
    b'"reason":"limit"',
    b'"x"',
    b"1e400",
    b"NaN",
    b"-1",
    b"true",
    b"{",
    b"}",
    b'"counts":',
    b'"ok":',
    b"9" * 25,
    b"[" * 2_000,
    b"9" * 5_000,
    "\u0663".encode(),
    b"\xff",
    b'"ts":',
    b'"retry_after":',
)

TARGETS = (
    Target(
        "client-receive",
        "the client takes whatever a server publishes",
        check_receive,
        tuple(topic + b"\0" + payload for topic in _TOPICS for payload in _PAYLOADS),
        _WORDS,
        has_json=True,
    ),
    Target(
        "client-address",
        "client and server spell an address alike",
        check_spelling,
        (b"alice", b"+1415", b"a@b", b"a/b", "é".encode(), "👩‍🚀".encode()),
        (b" ", b"%", "\u200d".encode(), "e\u0301".encode()),
        (AddressError,),
    ),
    Target(
        "client-params",
        "client and server read parameters alike",
        check_params,
        (b"type=1&x=%20", b"a=b&c=d", b"expiry=5&flags=3", b"k%C3%A9=v"),
        (b"=", b"&", b"%", b"%3D", b"type=", b"seq=1", b"%00"),
        (ParamsError,),
    ),
)
