"""A disk in memory that loses power: what was not synced may be gone, torn or reordered, all from a seed.

What POSIX promises, and no more: the bytes of a file are durable after its sync, the names in a folder after the
folder's. Until then each sector of each write is on the disk or not, whatever came before or after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random

SECTORS = (512, 4096)  # what is written whole or not at all, by the seed


class PowerCut(BaseException):
    """The power is gone. A BaseException: no handler of the server's may go on after it."""


class Change(NamedTuple):
    """One unsynced change of a file: `new` written at `offset` over `old`; a truncation has `new` None.

    `is_doomed`: a sync failed with it. It is seen until the power goes, and no later sync makes it durable: what Linux
    does with a page that could not be written.
    """

    offset: int
    old: bytes
    new: bytes | None
    is_doomed: bool = False


@dataclass(slots=True)
class File:
    """An inode: its bytes as every process sees them, and how they differ from what is durable."""

    data: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)

    def write(self, data: bytes, offset: int) -> None:
        """Write; not durable yet."""
        size = len(self.data)
        if offset > size:  # what lies between is written with it
            data, offset = bytes(offset - size) + data, size
        end = offset + len(data)
        self.changes.append(Change(offset, bytes(self.data[offset:end]), data))
        self.data[offset:end] = data

    def truncate(self, size: int) -> None:
        """Cut to `size` bytes, or fill up with zeros; not durable yet."""
        if size > len(self.data):
            self.write(bytes(size - len(self.data)), len(self.data))
        elif size < len(self.data):
            self.changes.append(Change(size, bytes(self.data[size:]), None))
            del self.data[size:]

    def sync(self) -> None:
        """Make what was changed durable, but for what a sync has failed with."""
        doomed: list[Change] = []
        for change in self.changes:
            if change.is_doomed:
                doomed.append(change)
                continue
            for number, lost in enumerate(doomed):  # what was written over it since is what there will be
                doomed[number] = lost._replace(old=_overlaid(lost, change))
        self.changes = doomed

    def fail_sync(self) -> None:
        """Fail to make it durable, for good."""
        self.changes = [change._replace(is_doomed=change.new is not None) for change in self.changes]

    def durable(self) -> bytearray:
        """Return the bytes as they were at the last sync."""
        found = bytearray(self.data)
        for change in reversed(self.changes):
            if change.new is None:
                found.extend(change.old)
            else:
                end = change.offset + len(change.new)
                # Where the file went on behind a lost write that made it longer there is a hole.
                found[change.offset : end] = change.old.ljust(len(change.new) if end < len(found) else 0, b"\0")
        return found

    def copy(self) -> File:
        """Return the same file of another disk."""
        return File(bytearray(self.data), list(self.changes))


class Disk:
    """One folder of files; `cut_at` is the change, counted from the beginning, at which the power goes."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.names: dict[str, File] = {}  # as they are durable
        self.changes = 0  # writes, truncations, syncs, and names made and removed
        self.cut_at = 0
        self.next_cut = 0  # after how many changes the power goes once more, when it has come back
        self.is_dead = False
        self.powered = 1  # how often there was power: what was open before is none of this time's
        self._new: set[int] = set()  # files whose name is to be made durable by their first sync

    # ---- what a file system is asked ---------------------------------------------------------------------------------

    def open(self, name: str, *, create: bool, is_log: bool) -> File | None:
        """Return a file, or (`create`) make one; SQLite makes the name of a log or journal durable with its sync."""
        self.check()
        found = self.files.get(name)
        if found is None and create:
            self._count()
            found = self.files[name] = File()
            if is_log:
                self._new.add(id(found))
        return found

    def write(self, file: File, data: bytes, offset: int) -> None:
        """Write bytes."""
        file.write(data, offset)
        self._count()

    def truncate(self, file: File, size: int) -> None:
        """Cut a file off."""
        file.truncate(size)
        self._count()

    def sync(self, file: File) -> None:
        """Make the bytes of a file durable, and the names of its folder if it is a new log."""
        self._count()
        file.sync()
        if id(file) in self._new:
            self._new.discard(id(file))
            self.names = dict(self.files)

    def delete(self, name: str, *, sync: bool) -> bool:
        """Remove a name; False if there is none."""
        self.check()
        if self.files.pop(name, None) is None:
            return False
        self._count()
        if sync:
            self.names = dict(self.files)
        return True

    def check(self) -> None:
        """Raise PowerCut if there is no power."""
        if self.is_dead:
            raise PowerCut

    def _count(self) -> None:
        self.check()
        self.changes += 1
        if self.changes == self.cut_at:
            self.is_dead = True
            raise PowerCut

    # ---- losing power ------------------------------------------------------------------------------------------------

    def cut(self, chance: random.Random) -> None:
        """Lose the power, and with it what chance wants of all that was not synced; then there is power again."""
        survivors: dict[int, File] = {}
        files: dict[str, File] = {}
        for name in sorted({*self.files, *self.names}):
            now, durable = self.files.get(name), self.names.get(name)
            file = now if now is durable else chance.choice((now, durable))
            if file is not None:
                if id(file) not in survivors:
                    survivors[id(file)] = File(survivor(file, chance))
                files[name] = survivors[id(file)]
        self._start(files)

    def fork(self) -> Disk:
        """Return a disk of its own in the same state."""
        copies = {id(file): file.copy() for file in (*self.files.values(), *self.names.values())}
        found = Disk()
        found.files = {name: copies[id(file)] for name, file in self.files.items()}
        found.names = {name: copies[id(file)] for name, file in self.names.items()}
        found._new = {id(copies[number]) for number in self._new if number in copies}
        found.changes = self.changes
        return found

    def settle(self) -> None:
        """Make everything durable, as a machine does that is left alone."""
        for file in self.files.values():
            file.changes.clear()
        self.names = dict(self.files)
        self._new.clear()

    def _start(self, files: dict[str, File]) -> None:
        self.files, self.names = files, dict(files)
        self._new.clear()
        self.is_dead = False
        self.cut_at = self.changes + self.next_cut if self.next_cut else 0
        self.next_cut = 0
        self.powered += 1


def _overlaid(lost: Change, later: Change) -> bytes:
    """Return the bytes under a lost change once a later one is durable."""
    old, start = bytearray(lost.old), lost.offset
    if later.new is None:
        del old[max(later.offset - start, 0) :]
        return bytes(old)
    first, end = max(later.offset, start), min(later.offset + len(later.new), start + len(lost.new or b""))
    if first < end:
        old.extend(bytes(max(end - start - len(old), 0)))
        old[first - start : end - start] = later.new[first - later.offset : end - later.offset]
    return bytes(old)


def survivor(file: File, chance: random.Random) -> bytearray:
    """Return the bytes of a file after a cut: durable ones, and of each later change whatever chance leaves."""
    if any(change.is_doomed for change in file.changes):  # nothing of it was ever written
        found = file.durable()
        for change in file.changes:
            if not change.is_doomed:
                _tear(found, change, SECTORS[0], chance, 0.5)
        return found
    if not file.changes:
        return bytearray(file.data)
    way = chance.choice(("lost", "kept", "prefix", "prefix", "scattered", "scattered"))
    if way == "kept":
        return bytearray(file.data)
    found, sector = file.durable(), chance.choice(SECTORS)
    if way == "prefix":  # in order, and torn in the middle of one
        whole = chance.randrange(len(file.changes))
        for change in file.changes[:whole]:
            _apply(found, change)
        _tear(found, file.changes[whole], sector, chance, chance.random())
    elif way == "scattered":  # in any order: a later one may be there and an earlier one not
        kept = chance.choice((0.1, 0.5, 0.9))
        for change in file.changes:
            _tear(found, change, sector, chance, kept)
    return found


def _apply(data: bytearray, change: Change) -> None:
    if change.new is None:
        del data[change.offset :]
        return
    if change.offset > len(data):
        data.extend(bytes(change.offset - len(data)))
    data[change.offset : change.offset + len(change.new)] = change.new


def _tear(data: bytearray, change: Change, sector: int, chance: random.Random, kept: float) -> None:
    """Apply each sector of a change with the probability `kept`; a file that grew may show junk where one is not."""
    if change.new is None:
        if chance.random() < kept:
            _apply(data, change)
        return
    start, end = change.offset, change.offset + len(change.new)
    while start < end:
        stop = min((start // sector + 1) * sector, end)
        if chance.random() < kept:
            _apply(data, Change(start, b"", change.new[start - change.offset : stop - change.offset]))
        elif stop > len(data) and chance.random() < 0.2:
            _apply(data, Change(max(start, len(data)), b"", chance.randbytes(stop - max(start, len(data)))))
        start = stop
