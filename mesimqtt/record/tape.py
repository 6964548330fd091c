"""A recording on disk: chunks with a length and a checksum, each a number of records; a cut tail is noticed.

The first line says what it is and in which version. Every chunk is what one turn of the server's loop brought, so
that what is on disk is always whole turns. Times are in microseconds, as what has passed since the record before.
"""

from __future__ import annotations

import json
import struct
import zlib
from base64 import b64decode, b64encode
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC = b"mesimqtt recording 1\n"
_BYTES, _OBJECT = "$b", "$o"  # the one key of an object that stands for bytes, or for an object of such a key
_UNREADABLE = (ValueError, LookupError, TypeError, RecursionError)
_SHIFT_MAX = 63  # no number of a recording has more bits
_HEAD = struct.Struct("<III")  # how long, its checksum, and a checksum of these two: a cut is not damage


class Kind(IntEnum):
    """What a record says. Below 20 somebody calls in, from 20 on the server looked out, from 30 on it put out."""

    TURN = 1
    OPENED = 2
    DATA = 3
    LOST = 4
    PAUSED = 5
    RESUMED = 6
    DONE = 7
    ANSWERED = 8
    CALLED = 9
    OPERATION = 10
    ENDED = 19
    DREW = 20
    SAW = 21
    UNWRITTEN = 22
    WROTE = 30
    CLOSED = 31
    RESULT = 32


# What stands in each, in order: n a number, b bytes, j JSON in which bytes may stand. Events begin with their time.
FIELDS = {
    Kind.TURN: "n",
    Kind.OPENED: "nnj",  # connection; listener, address, what its transport says of it
    Kind.DATA: "nnb",
    Kind.LOST: "nn",
    Kind.PAUSED: "nn",
    Kind.RESUMED: "nn",
    Kind.DONE: "nnnj",  # runner, job; what ran since, in order
    Kind.ANSWERED: "nnj",  # question; whether it was answered, and what
    Kind.CALLED: "nj",  # what, about what
    Kind.OPERATION: "nnj",  # number; name, arguments, user
    Kind.ENDED: "nj",  # why
    Kind.DREW: "b",
    Kind.SAW: "j",
    Kind.UNWRITTEN: "nn",
    Kind.WROTE: "nnbb",  # connection, how much so far; hash of all so far; the bytes, or nothing
    Kind.CLOSED: "nj",  # connection; how
    Kind.RESULT: "nb",  # operation; hash of what it answered
}


class Record(NamedTuple):
    """One record: its kind, what it says, and where it stands in the file."""

    kind: Kind
    fields: tuple[Any, ...]
    offset: int


class TapeError(MesimqttError):
    """This is no recording, or one that cannot be read here; the text says why."""


def encode(kind: Kind, *fields: Any) -> bytes:  # noqa: ANN401 - what FIELDS says
    """Return one record."""
    parts = [bytes((kind,))]
    for form, value in zip(FIELDS[kind], fields, strict=True):
        if form == "n":
            parts.append(_number(value))
        else:
            raw = value if form == "b" else to_json(value)
            parts += (_number(len(raw)), raw)
    return b"".join(parts)


def decode(chunk: bytes, offset: int) -> Iterator[Record]:
    """Yield the records of a chunk that stands at `offset`. Raises ValueError or IndexError for what is none."""
    position = 0
    while position < len(chunk):
        begin, kind = position, Kind(chunk[position])
        position += 1
        fields: list[Any] = []
        for form in FIELDS[kind]:
            number, position = _read_number(chunk, position)
            if form == "n":
                fields.append(number)
                continue
            raw, position = chunk[position : position + number], position + number
            if position > len(chunk):
                raise ValueError("a record ends outside of its chunk")
            fields.append(raw if form == "b" else from_json(raw))
        yield Record(kind, tuple(fields), offset + begin)


def frame(chunk: bytes) -> bytes:
    """Return a chunk as it stands in the file."""
    size, check = len(chunk), zlib.crc32(chunk)
    return _HEAD.pack(size, check, _check(size, check)) + chunk


def to_json(value: object) -> bytes:
    """Return a value as JSON; bytes in it stand as an object of one key. Raises TypeError for what is no JSON."""
    raw = json.dumps(value, default=_plain, separators=(",", ":"), ensure_ascii=False).encode()
    if b'"$' in raw:  # seldom: an object that could be taken for one of ours stands as another one
        raw = json.dumps(_escaped(value), default=_plain, separators=(",", ":"), ensure_ascii=False).encode()
    return raw


def from_json(raw: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return what `to_json` wrote, tuples as lists."""
    return json.loads(raw, object_hook=_read_ours)


class Tape:
    """A recording that is read. `header` is what the server wrote at its start."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises TapeError."""
        self._path = path
        self.cut = ""  # how the file ends, if not as it should
        try:
            self._file = open_regular(path, follow=True)
        except OSError as error:
            raise TapeError(f"cannot read {path}: {error.strerror}") from None
        magic = self._file.read(len(MAGIC))
        if magic != MAGIC:
            self._file.close()
            known = magic.startswith(MAGIC[:-2])
            raise TapeError(
                f"{path} was recorded by another version: its form is {magic[:-1]!r}, here it is {MAGIC[:-1]!r}"
                if known
                else f"{path} is no recording; make one with: mesimqtt serve --record FILE"
            )
        try:
            first = self._chunk()
        except TapeError:
            self._file.close()
            raise
        if not first:
            self._file.close()
            raise TapeError(f"{path}: it ends within its header{self.cut and ': ' + self.cut}")
        try:
            header = from_json(first[1])
        except _UNREADABLE:
            header = None
        if not isinstance(header, dict):
            self._file.close()
            raise TapeError(f"{path}: its header is none of a recording; it is damaged, or somebody else made it")
        self.header: dict[str, Any] = header

    def records(self) -> Iterator[Record]:
        """Yield every record up to the end, or to where the file was cut (`cut` says so). Raises TapeError: damage."""
        with self._file:
            while found := self._chunk():
                offset, chunk = found
                try:
                    yield from decode(chunk, offset)
                except _UNREADABLE as error:
                    raise TapeError(f"{self._path}: offset {offset}: it cannot be read: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _chunk(self) -> tuple[int, bytes] | None:
        offset = self._file.tell()
        head = self._file.read(_HEAD.size)
        if not head:
            return None
        if len(head) == _HEAD.size:
            size, wanted, check = _HEAD.unpack(head)
            if check != _check(size, wanted):
                raise TapeError(f"{self._path}: offset {offset}: a byte is not what was written")
            chunk = self._file.read(size)
            if len(chunk) == size:
                if zlib.crc32(chunk) != wanted:
                    raise TapeError(f"{self._path}: offset {offset}: a byte is not what was written")
                return offset + _HEAD.size, chunk
        self.cut = f"it is cut at offset {offset}"
        return None


def _check(size: int, check: int) -> int:
    return zlib.crc32(struct.pack("<II", size, check))


def _number(value: int) -> bytes:
    """Return a number of 0 or more, seven bits a byte."""
    if value < 128:
        return bytes((value,))
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _read_number(chunk: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = chunk[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
        if shift > _SHIFT_MAX:
            raise ValueError("a number is too large")


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {_BYTES: b64encode(value).decode()}
    raise TypeError(f"a value of type {type(value).__name__} cannot be written down")


def _escaped(value: object) -> object:
    if isinstance(value, dict):
        found = {key: _escaped(each) for key, each in value.items()}
        return {_OBJECT: list(found.items())} if found.keys() in ({_BYTES}, {_OBJECT}) else found
    return [_escaped(each) for each in value] if isinstance(value, (list, tuple)) else value


def _read_ours(found: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    if len(found) == 1:
        if _BYTES in found:
            return b64decode(found[_BYTES])
        if _OBJECT in found:
            return dict(found[_OBJECT])
    return found
