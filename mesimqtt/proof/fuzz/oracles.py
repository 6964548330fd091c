"""Second opinions, each as plain as can be: slow, short, and without a line of what they judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIRST_MID_BIT, _LENGTH_BYTES = 0x80, {126: 2, 127: 8}


def matches(topic_filter: Sequence[str], topic: Sequence[str]) -> bool:
    """Tell whether a filter matches a topic, level by level [MQTT 5.0, section 4.7]."""
    if topic[:1] and topic[0].startswith("$") and topic_filter[:1] and topic_filter[0] in ("+", "#"):
        return False  # [MQTT-4.7.2-1]
    return _matches(topic_filter, topic)


def _matches(topic_filter: Sequence[str], topic: Sequence[str]) -> bool:
    if not topic_filter:
        return not topic
    if topic_filter[0] == "#":
        return len(topic_filter) == 1
    if not topic:
        return False
    is_here = topic_filter[0] in ("+", topic[0])
    return is_here and (_matches(topic_filter[1:], topic[1:]) or (len(topic) == 1 and list(topic_filter[1:]) == ["#"]))


def is_filter(text: str) -> bool:
    """Tell whether a text is a topic filter, by the two rules on wildcards [MQTT-4.7.1-1] [MQTT-4.7.1-2]."""
    for index, character in enumerate(text):
        if character in "#+":
            before, after = text[index - 1 : index], text[index + 1 : index + 2]
            if before not in ("", "/") or (index and not before):
                return False
            if after not in (("", "/") if character == "+" else ("",)):
                return False
    return text != ""


def unmask(data: bytes, mask: bytes) -> bytes:
    """Return a WebSocket's payload unmasked, byte for byte [RFC 6455, section 5.3]."""
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def read_frames(data: bytes) -> list[tuple[int, bool, bytes]]:
    """Return the whole frames (opcode, is final, payload) of a client that follows the rules; stop at anything else."""
    frames, at = [], 0
    while at + 2 <= len(data):
        first, second = data[at], data[at + 1]
        size, head = second & 127, 2
        if size > 125:
            head += _LENGTH_BYTES[size]
            size = int.from_bytes(data[at + 2 : at + head], "big")
        mask, start = data[at + head : at + head + 4], at + head + 4
        if not second & _FIRST_MID_BIT or len(mask) < 4 or start + size > len(data):
            break
        frames.append((first & 15, bool(first & 128), unmask(data[start : start + size], mask)))
        at = start + size
    return frames
