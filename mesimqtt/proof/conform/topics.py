"""What a topic of the contract says: written and read by the contract's words alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from mesimqtt.testing.wire5 import Packet

MID = re.compile(r"[0-9a-f]{16}")
EPOCH_MS = 1_577_836_800_000  # 2020-01-01, where a mid's milliseconds begin
ADDRESS_MAX = 63
PAYLOAD_MAX = 256 * 1024


def level_of(address: str) -> str:
    """Return an address as it stands in a topic: RFC 3986, with `@` as it is."""
    return quote(address, safe="@")


def mid_of(packet: Packet) -> str:
    """Return the mid in the topic of a message, copy or event."""
    levels = packet.topic.split("/")
    return levels[-2] if "=" in levels[-1] else levels[-1]


def params_of(packet: Packet) -> list[tuple[str, str]]:
    """Return the parameters of a message in their order: its last topic level, or a 5.0 client's user properties."""
    last = packet.topic.rpartition("/")[2]
    if "=" not in last:
        pairs: list[tuple[str, str]] = packet.user_property
        return pairs
    return [(unquote(key), unquote(value)) for key, _, value in (part.partition("=") for part in last.split("&"))]


def seq_of(packet: Packet) -> int:
    """Return the seq of a message, -1 if it has none."""
    text = dict(params_of(packet)).get("seq", "")
    return int(text) if text.isdecimal() else -1


def mid_ms(mid: str) -> int:
    """Return the time in a mid, in milliseconds since 1970."""
    return (int(mid, 16) >> 22) + EPOCH_MS
