"""The HTTP request that opens a WebSocket, sans I/O: read it strictly, accept or refuse it (RFC 6455, section 4)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

HEAD_MAX = 8 * 1024
SUBPROTOCOL = "mqtt"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_METHOD = b"GET "
_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LOOPBACK = re.compile(r"localhost|127(?:\.\d{1,3}){3}|\[::1\]")
_PORTS = {"http": ":80", "https": ":443"}
_STATUS = {
    101: "Switching Protocols",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a listener asks of a request. `origins` empty: its own host, and on loopback this machine's pages."""

    paths: tuple[str, ...] = ("/mqtt", "/")
    origins: tuple[str, ...] = ()
    is_loopback: bool = False
    is_open: bool = False


class RefusedError(Exception):
    """A request that is answered with `status`; the text tells the client what to do."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


def head_size(data: bytes | bytearray) -> int:
    """Return the size of the request that `data` begins with, 0 if it is not whole. Raises RefusedError early."""
    if data[: len(_METHOD)] != _METHOD[: len(data)]:
        raise RefusedError(405, "this is MQTT over WebSocket: open it with GET", Allow="GET")
    found = data.find(b"\r\n\r\n", 0, HEAD_MAX)
    if found < 0 and len(data) >= HEAD_MAX:
        raise RefusedError(431, f"the request has more than {HEAD_MAX} bytes")
    return found + 4 if found >= 0 else 0


def accept(head: bytes, policy: Policy) -> bytes:
    """Return the answer that opens the WebSocket. Raises RefusedError."""
    target, headers = _parse(head)
    if "?" in target:  # a token there would stand in logs, histories and `Referer`
        raise RefusedError(400, "no query string: the token is the password of MQTT's CONNECT")
    if target not in policy.paths:
        raise RefusedError(404, "no such path")
    if "websocket" not in _words(headers, "upgrade") or "upgrade" not in _words(headers, "connection"):
        raise RefusedError(426, "this is MQTT over WebSocket: use an MQTT client", Upgrade="websocket")
    if headers.get("sec-websocket-version") != ["13"]:
        raise RefusedError(426, "WebSocket version 13 is spoken here", Sec_WebSocket_Version="13")
    if not _is_welcome(headers, policy):
        raise RefusedError(403, "pages of this Origin may not connect; see `origins` in the configuration")
    offered = [each.strip() for line in headers.get("sec-websocket-protocol", []) for each in line.split(",")]
    if SUBPROTOCOL not in offered:  # [MQTT-6.0.0-3]
        raise RefusedError(400, "offer the WebSocket subprotocol mqtt")
    fields = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": _accept_key(headers.get("sec-websocket-key", [])),
        "Sec-WebSocket-Protocol": SUBPROTOCOL,  # [MQTT-6.0.0-4]
    }
    return _response(101, fields)


def refusal(error: RefusedError) -> bytes:
    """Return the answer that refuses; the connection is closed after it."""
    body = f"{error}\n".encode()
    fields = {name.replace("_", "-"): value for name, value in error.headers.items()}
    fields |= {"Connection": "close", "Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    return _response(error.status, fields) + body


def _response(status: int, fields: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_STATUS[status]}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _parse(head: bytes) -> tuple[str, dict[str, list[str]]]:
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] != "HTTP/1.1" or not re.fullmatch(r"/[\x21-\x7e]*", words[1]):
        raise RefusedError(400, "not a request of HTTP/1.1")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise RefusedError(400, "malformed header")
        headers.setdefault(name.lower(), []).append(value.strip(" \t"))
    if len(headers.get("host", [])) != 1:
        raise RefusedError(400, "one Host header is needed")
    if "transfer-encoding" in headers or headers.get("content-length", ["0"]) != ["0"]:
        raise RefusedError(400, "the request must not have a body")
    return words[1], headers


def _words(headers: dict[str, list[str]], name: str) -> list[str]:
    return [each.strip().lower() for line in headers.get(name, []) for each in line.split(",")]


def _accept_key(keys: list[str]) -> str:
    try:
        is_key = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except (binascii.Error, ValueError):
        is_key = False
    if not is_key:
        raise RefusedError(400, "Sec-WebSocket-Key is not a key")
    digest = hashlib.sha1(keys[0].encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _is_welcome(headers: dict[str, list[str]], policy: Policy) -> bool:
    """Tell whether the page that connects may: a browser always says where it is from, other programs need not."""
    origins = headers.get("origin", [])
    if not origins:
        return True
    if len(origins) > 1:
        return False
    origin = origins[0].lower()
    if policy.origins:
        return "*" in policy.origins or origin in (each.lower() for each in policy.origins)
    try:
        parts = urlsplit(origin)
        name = parts.netloc.removesuffix(f":{parts.port}") if parts.port is not None else parts.netloc
    except ValueError:
        return False
    if parts.scheme not in _PORTS or origin != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc:
        return False
    if policy.is_loopback and _LOOPBACK.fullmatch(name):
        return True
    # A name that is pointed at this machine after its page was loaded is its own host, too (DNS rebinding):
    # where no token is asked for, that must not be enough.
    default = _PORTS[parts.scheme]
    return not policy.is_open and parts.netloc.removesuffix(default) == headers["host"][0].lower().removesuffix(default)
