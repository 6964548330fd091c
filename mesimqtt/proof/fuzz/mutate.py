"""Inputs from a seed: known ones changed, repeated, cut, put together and spiced with words of the grammar."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.fuzz.target import INPUT_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from mesimqtt.proof.fuzz.target import Target

_BYTES = (
    0,
    1,
    2,
    9,
    10,
    13,
    32,
    0x22,
    0x25,
    0x2B,
    0x2F,
    0x23,
    0x3D,
    0x7F,
    0x80,
    0x81,
    0xBF,
    0xC0,
    0xE2,
    0xED,
    0xF4,
    0xFF,
)
_LONG = 4_096  # most inputs stay below, so that many are tried
_STEPS_MAX = 6
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53 - 1, -(2**53), 10**18, 0.5, -0.0, [], [[]], {}, {"": None}),
    *("", "0", "1", "\ud800", "\0", "é", "e\u0301", "a" * 300, "alice", "bob", "team", "*", "me", "#", "%u", "../x"),
    *("e30", "0123456789abcdef", "-1", "true", ["alice"], ["alice", 1]),
)


def make_input(target: Target, chance: Random, corpus: Sequence[bytes]) -> bytes:
    """Return one input for a target: one of the corpus, changed in a few places, or nearly as often not at all."""
    data = bytearray(chance.choice(corpus)) if corpus else bytearray()
    if target.has_json and chance.random() < 0.7:
        _change_json(data, chance)
        if chance.random() < 0.7:
            return bytes(data)
    for _ in range(chance.randrange(_STEPS_MAX)):
        chance.choice(_CHANGES)(data, chance, target.words, corpus)
    most = INPUT_MAX if chance.random() < 0.01 else _LONG
    return bytes(data[:most])


def _change_json(data: bytearray, chance: Random) -> None:
    """Change a few values of the JSON that is the last field."""
    start = data.rfind(b"\0") + 1
    try:
        value = json.loads(data[start:])
    except (ValueError, RecursionError):
        return
    for _ in range(chance.randint(1, 3)):
        value = _changed(value, chance)
    data[start:] = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "replace")


def _changed(value: Any, chance: Random) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Return a value with one change somewhere within it."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        what = chance.random()
        if what < 0.1:
            return {name: inner for name, inner in value.items() if name != key}
        if what < 0.2:
            return {
                **value,
                chance.choice(("", "id", "user", "address", "limit", "cursor", "é")): chance.choice(_VALUES),
            }
        return {**value, key: _changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        return [*value[:at], _changed(value[at], chance), *value[at + chance.randint(0, 1) :]]
    if isinstance(value, int) and chance.random() < 0.4:
        return value + chance.choice((-1, 1, 1_000_000))
    return chance.choice(_VALUES)


def _flip(data: bytearray, chance: Random, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    del words, corpus
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(data: bytearray, chance: Random, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    del words, corpus
    if data:
        data[chance.randrange(len(data))] = chance.choice(_BYTES)


def _count(data: bytearray, chance: Random, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    """Make a byte, which may be a length, one more or one less."""
    del words, corpus
    if data:
        at = chance.randrange(len(data))
        data[at] = (data[at] + chance.choice((-1, 1))) & 0xFF


def _remove(data: bytearray, chance: Random, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    del words, corpus
    at = chance.randrange(len(data) + 1)
    del data[at : at + chance.choice((1, 1, 2, 4, 16))]


def _repeat(data: bytearray, chance: Random, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    del words, corpus
    at, size = chance.randrange(len(data) + 1), chance.choice((1, 2, 3, 8, 64))
    times = chance.choice((1, 1, 2, 8, 64, 1_024))
    data[at:at] = data[at : at + size] * times


def _word(data: bytearray, chance: Random, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    del corpus
    if words:
        word, at = chance.choice(words), chance.randrange(len(data) + 1)
        data[at : at + (len(word) if chance.random() < 0.5 else 0)] = word


def _noise(data: bytearray, chance: Random, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    del words, corpus
    at = chance.randrange(len(data) + 1)
    data[at:at] = bytes(
        chance.choice((chance.choice(_BYTES), chance.randrange(256))) for _ in range(chance.randint(1, 6))
    )


def _splice(data: bytearray, chance: Random, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    """Go on with the end of another input."""
    del words
    if corpus:
        other = chance.choice(corpus)
        data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other) + 1) :]


def _cut(data: bytearray, chance: Random, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    del words, corpus
    del data[chance.randrange(len(data) + 1) :]


_Change = "Callable[[bytearray, Random, Sequence[bytes], Sequence[bytes]], None]"
_CHANGES = (_flip, _set, _count, _remove, _repeat, _word, _word, _noise, _splice, _cut)
