"""What a fuzz target is: a parser, an oracle beside it, and where its inputs begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INPUT_MAX = 65_536  # bytes: what one input may have; what is longer is cut


class FindingError(Exception):
    """A parser did what it must not: the text says what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parser. `check` runs it on any bytes and raises FindingError where its oracle disagrees.

    `allowed` are the exceptions by which it refuses its input, these exactly and none that derives from them: any
    other is a finding. `seeds` are inputs that mean something, `words` what means something within one.
    """

    name: str
    about: str
    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    allowed: tuple[type[Exception], ...] = ()
    is_slow: bool = False  # a millisecond or more an input: tried less often
    has_json: bool = False  # the last of its fields, apart by NUL, is JSON: changed as such, too


def check_equal(expected: object, found: object, what: str) -> None:
    """Raise FindingError unless both are the same."""
    if expected != found:
        raise FindingError(f"{what}: expected {expected!r:.400}, found {found!r:.400}")


def check_that(holds: bool, what: str) -> None:
    """Raise FindingError unless it holds."""
    if not holds:
        raise FindingError(what)


def text_of(data: bytes) -> str:
    """Return any bytes as a text such as JSON can spell it, half characters included."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def unicode_of(data: bytes) -> str:
    """Return any bytes as a text such as MQTT lets through: good Unicode."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def fields_of(data: bytes, count: int) -> list[bytes]:
    """Return `count` fields, apart by NUL; what is missing is empty, the last has all the rest."""
    found = data.split(b"\0", count - 1)
    return [*found, *([b""] * (count - len(found)))]
