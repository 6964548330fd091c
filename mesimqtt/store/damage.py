"""What is looked at before a database is used: whether its log or its bytes are other than the server left them.

SQLite takes the first frame of its log that does not hold for the end of the log: right after a power cut, which can
tear the last commit, and wrong for a flipped bit, which would silently undo all that was committed behind it.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from mesimqtt.files import open_regular, read_regular
from mesimqtt.store.layout import SUM_SUFFIX

if TYPE_CHECKING:
    from pathlib import Path

# https://sqlite.org/fileformat2.html#the_write_ahead_log and https://sqlite.org/walformat.html
_HEADER, _FRAME = Struct(">8I"), Struct(">6I")
_HEADER_SIZE, _FRAME_SIZE = 32, 24
_MAGIC, _BIG_ENDIAN = 0x377F0682, 1
_INDEX = Struct("=IIIBBHIIIIIIII")  # the header of the log's index, in the machine's byte order
_INDEX_SIZE = 48
_PAGE_SIZES = {1 << n for n in range(9, 17)}
_MASK = 0xFFFFFFFF
_FRAMES_MAX = 20_000  # of a log that is looked at: some 2 s
_SUMMED_MAX = 1 << 28  # bytes of a database whose checksum is kept over a stop
_CHUNK = 1 << 20
_SUM_MAX = 64
CHANGED = "was changed while no server ran: its bytes are not those that the last stop left"
GONE = "is gone, although the last stop left it"
ADVICE = {  # for who reads the log of a server that has started all the same
    CHANGED: "If nobody did that on purpose look at the disk, and compare with a backup",
    GONE: "This server begins with no data. If nobody removed it on purpose stop the server, look at the disk, and "
    "restore a backup",
}

_Sums = tuple[int, int]


class LogDamage(NamedTuple):
    """A frame of the log, counted from 1, that does not hold, although commits behind it were complete."""

    frame: int

    def __str__(self) -> str:
        return f"frame {self.frame} of its log is not what was written"


def head_of(log: Path) -> bytes:
    """Return as much of a log as is looked at."""
    with open_regular(log, follow=True) as file:
        return file.read(_HEADER_SIZE + _FRAMES_MAX * (_FRAME_SIZE + 4096))


def in_log(log: bytes, index: bytes = b"") -> LogDamage | None:
    """Return what is damaged in a write-ahead log, as far as that can be told from a commit that was cut off.

    A frame that carries on from a commit was written after that commit was synced, so all up to the commit was
    complete. `index` is the log's index as a killed process left it (`-shm`): it counts only what was synced.
    """
    if len(log) < _HEADER_SIZE + _FRAME_SIZE:
        return None
    magic, _, page_size, *_ = _HEADER.unpack_from(log)
    page_size = page_size if page_size in _PAGE_SIZES else 4096
    reader = _Log(log, page_size, is_big=bool(magic & _BIG_ENDIAN))
    known = _known_frames(index, reader.salts)
    seed = _sums(log[:24], (0, 0), is_big=reader.is_big)
    if magic & ~_BIG_ENDIAN != _MAGIC or seed != reader.sums_of_header:
        return _in_header(reader, seed)
    number = 1
    while number <= min(reader.count, _FRAMES_MAX):
        if not reader.holds(number, seed):
            break
        seed = reader.stored(number)
        number += 1
    if number <= min(known, _FRAMES_MAX) or (number <= reader.count and _goes_on(reader, number, seed)):
        return LogDamage(number)
    return None


def _in_header(reader: _Log, seed: _Sums) -> LogDamage | None:
    """Judge a header that does not hold: it was whole if the first frame carries on from it."""
    reader.salts = reader.salts_of(1)
    if any(reader.holds(1, each) for each in (seed, reader.sums_of_header)):
        return LogDamage(0)
    return None


def _goes_on(reader: _Log, bad: int, seed: _Sums) -> bool:
    """Tell whether a frame carries on from a commit at or behind `bad`."""
    for number in range(bad, reader.count):
        if number != bad and reader.salts_of(number) != reader.salts:
            return False
        if not reader.is_commit(number):
            continue
        ends = [reader.stored(number)]
        if number == bad:  # perhaps it is its own checksum that is damaged
            ends.append(reader.computed(number, seed))
        if any(reader.holds(number + 1, end) for end in ends):
            return True
    return False


class _Log:
    """The frames of a log by their number, from 1."""

    def __init__(self, log: bytes, page_size: int, *, is_big: bool) -> None:
        self._log = log
        self._size = _FRAME_SIZE + page_size
        self.is_big = is_big
        self.count = (len(log) - _HEADER_SIZE) // self._size
        header = _HEADER.unpack_from(log)
        self.salts = header[4:6]
        self.sums_of_header: _Sums = header[6:8]

    def _start(self, number: int) -> int:
        return _HEADER_SIZE + (number - 1) * self._size

    def salts_of(self, number: int) -> tuple[int, ...]:
        return _FRAME.unpack_from(self._log, self._start(number))[2:4] if number <= self.count else ()

    def stored(self, number: int) -> _Sums:
        found: _Sums = _FRAME.unpack_from(self._log, self._start(number))[4:6]
        return found

    def is_commit(self, number: int) -> bool:
        return bool(_FRAME.unpack_from(self._log, self._start(number))[1])

    def computed(self, number: int, seed: _Sums) -> _Sums:
        start = self._start(number)
        seed = _sums(self._log[start : start + 8], seed, is_big=self.is_big)
        return _sums(self._log[start + _FRAME_SIZE : start + self._size], seed, is_big=self.is_big)

    def holds(self, number: int, seed: _Sums) -> bool:
        return self.salts_of(number) == self.salts and self.computed(number, seed) == self.stored(number)


def _sums(data: bytes, seed: _Sums, *, is_big: bool) -> _Sums:
    """Return SQLite's checksum of `data`, carried on from `seed`."""
    first, second = seed
    words = iter(Struct(f"{'>' if is_big else '<'}{len(data) // 4}I").unpack(data))
    for one, other in zip(words, words, strict=True):
        first = (first + one + second) & _MASK
        second = (second + other + first) & _MASK
    return first, second


def _known_frames(index: bytes, salts: tuple[int, ...]) -> int:
    """Return how many frames a killed process knew to be committed; 0 if its index is of another log, or not whole."""
    if len(index) < 2 * _INDEX_SIZE or index[:_INDEX_SIZE] != index[_INDEX_SIZE : 2 * _INDEX_SIZE]:
        return 0
    _, _, _, is_init, _, _, frames, _, _, _, salt1, salt2, *sums = _INDEX.unpack_from(index)
    words = Struct("=10I").unpack(index[:40])
    first = second = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & _MASK
        second = (second + other + first) & _MASK
    own = tuple(int.from_bytes(salt.to_bytes(4, "little"), "big") for salt in (salt1, salt2))
    if not is_init or tuple(sums) != (first, second) or salts not in (own, (salt1, salt2)):
        return 0
    return int(frames)


# ---- over a stop -----------------------------------------------------------------------------------------------------


def keep_sum(database: Path) -> None:
    """Keep the checksum of a database that was closed in good order, its log empty; of a very large one none."""
    try:
        size = database.stat().st_size
        if size <= _SUMMED_MAX:
            path = _sum_of(database)
            path.write_text(f"{size} {_checksum(database)}\n")
            path.chmod(0o600)
    except OSError:
        return  # the next start looks at less


def take_sum(database: Path) -> str:
    """Return what became of a database since the last stop left it: '', CHANGED or GONE; '' where that is not known.

    What was kept of it goes first: from here on the database changes, and whatever is found bars no later start.
    """
    path = _sum_of(database)
    known = _kept(path)
    path.unlink(missing_ok=True)
    if known is None:
        return ""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or a power cut brings it back, beside a database that has changed
    finally:
        os.close(folder)
    return _became(database, *known)


def look_at_sum(database: Path) -> str | None:
    """Return what became of a database since the last stop left it: '', CHANGED or GONE; None where that is not known.

    Nothing is changed: for who looks at a stopped folder. Raises OSError.
    """
    known = _kept(_sum_of(database))
    return None if known is None else _became(database, *known)


def _kept(path: Path) -> tuple[int, int] | None:
    """Return size and checksum as the last stop kept them; None if it kept none, or they cannot be read."""
    try:
        size, kept = (int(part) for part in read_regular(path, size_max=_SUM_MAX).split())
    except (OSError, ValueError):
        return None
    return size, kept


def _became(database: Path, size: int, kept: int) -> str:
    try:
        return "" if database.stat().st_size == size and _checksum(database) == kept else CHANGED
    except FileNotFoundError:
        return GONE


def _sum_of(database: Path) -> Path:
    return database.with_name(database.name + SUM_SUFFIX)


def _checksum(database: Path) -> int:
    found = 0
    with open_regular(database, follow=True) as file:
        while chunk := file.read(_CHUNK):
            found = crc32(chunk, found)
    return found
