"""The trial `disk-faults`: the disk fails at its n-th read, write, truncation or sync, for every n."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.proof.powercut import jobs
from mesimqtt.proof.powercut.chat import Chat
from mesimqtt.proof.powercut.cuts import template_of
from mesimqtt.proof.powercut.jobs import Done

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mesimqtt.proof.trial import Outcome

_PER_JOB = 48
_STEPS_MAX, _STEPS_AFTER = 400, 12
_FOR_EVER = 1 << 30


class Fault(NamedTuple):
    """What goes wrong: which operation, how SQLite is told, and how often in a row."""

    name: str
    what: str
    code: int
    times: int
    stops: bool = False  # it lasts, so that the server must stop


FAULTS = (
    Fault("one sync fails", "sync", sqlite3.SQLITE_IOERR_FSYNC, 1),
    Fault("one write fails", "write", sqlite3.SQLITE_IOERR_WRITE, 1),
    Fault("the disk is full once", "write", sqlite3.SQLITE_FULL, 1),
    Fault("the disk is full for a while", "write", sqlite3.SQLITE_FULL, 9),
    Fault("two syncs fail", "sync", sqlite3.SQLITE_IOERR_FSYNC, 2),
    Fault("one read fails", "read", sqlite3.SQLITE_IOERR_READ, 1),
    Fault("one read is short", "read", 0, 1),
    Fault("reads fail for a while", "read", sqlite3.SQLITE_IOERR_READ, 6),
    Fault("a truncation fails", "truncate", sqlite3.SQLITE_IOERR_TRUNCATE, 1),
    Fault("every sync fails", "sync", sqlite3.SQLITE_IOERR_FSYNC, _FOR_EVER, stops=True),
    Fault("every write fails", "write", sqlite3.SQLITE_IOERR_WRITE, _FOR_EVER, stops=True),
    Fault("the disk stays full", "write", sqlite3.SQLITE_FULL, _FOR_EVER),
)


class DiskFaults:
    """Each fault at each place: what was acknowledged is there, and a disk that keeps failing stops the server."""

    name = "disk-faults"
    title = "the disk fails at its n-th read, write or sync, once or for good: nothing is acknowledged that is not kept"
    promises = ("P2", "P11", "P12", "N2")
    unit = "faults"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Let the disk fail `count` times, beginning with number `seed`."""
        return jobs.run(self.name, work, count, _PER_JOB, seed=seed, folder=folder, progress=progress)


class Failing:
    """A fault that is in force from the n-th such operation on."""

    def __init__(self, fault: Fault, nth: int) -> None:
        self.fault = fault
        self.fired = 0
        self._nth = nth
        self._seen = 0

    def __call__(self, what: str, _name: str, _number: int) -> int | None:
        """Raise, or (a short read) return fewer bytes, where it is time."""
        from mesimqtt.proof.powercut.vfs import failure  # noqa: PLC0415 - needs apsw

        if what != self.fault.what:
            return None
        self._seen += 1
        if not self._nth <= self._seen < self._nth + self.fault.times:
            return None
        self.fired += 1
        if not self.fault.code:
            return 0  # SQLite takes that for a page of zeros
        raise failure(self.fault.code)


def work(seed: int, tries: int, folder: Path) -> Done:
    """Let the disk fail so many times, each fault at a later place than before."""
    found: list[str] = []
    figures = {"faults_that_happened": 0.0, "stopped_by_itself": 0.0}
    for number in range(seed - 1, seed - 1 + tries):
        fault, nth = FAULTS[number % len(FAULTS)], number // len(FAULTS) + 1
        failures, fired, stopped = endure(number + 1, folder, fault, nth)
        found += [f"{fault.name}, at the {nth}th: {each}" for each in failures]
        figures["faults_that_happened"] += fired > 0
        figures["stopped_by_itself"] += stopped
    return Done(seed, tries, found, figures)


def endure(seed: int, folder: Path, fault: Fault, nth: int) -> tuple[list[str], int, bool]:
    """Live through one fault; return what is not as promised, how often it happened, and whether the server stopped."""
    chance = random.Random(seed)
    world = template_of(folder).world(chance, history={"search": False})
    try:
        chat = Chat(world, chance)
        chat.gather()
        pages = 10 if fault.what == "truncate" else chance.choice((10, 100, 2000))
        world.store.read.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        if fault.what == "read":
            world.store.read.execute("PRAGMA cache_size = 4")  # or nothing is ever read again
        failing = world.power.vfs.fault = Failing(fault, nth)
        _act(chat, failing)
        found = _stopped(chat, failing) if fault.stops and failing.fired else []
        world.power.vfs.fault = None
        if fault.stops or chance.random() < 0.5:
            chat.cut()  # what was acknowledged must be there, whatever the disk did
        else:
            world.advance(2)  # it recovers by itself
            found += [] if world.store.health == "ok" else [f"still {world.store.health}"]
        return found + chat.finish(), failing.fired, bool(world.fatal)
    finally:
        world.close()
        world.power.close()


@contextlib.contextmanager
def whatever_the_disk_says() -> Iterator[None]:
    """Pass over what the database raises, alone or several at once, as periodic tasks do; nothing else."""
    try:
        yield
    except sqlite3.Error:
        pass
    except ExceptionGroup as group:
        if group.split(sqlite3.Error)[1] is not None:
            raise


def _act(chat: Chat, failing: Failing) -> None:
    """Let people write until it has happened, and a little longer, as long as the server runs."""
    after = 0
    for _ in range(_STEPS_MAX):
        after += failing.fired > 0
        if after > _STEPS_AFTER or chat.world.fatal:
            return
        with whatever_the_disk_says():  # to what the step itself asked of the database
            chat.step()


def _stopped(chat: Chat, failing: Failing) -> list[str]:
    """Return what is wrong with a server whose disk fails for good: it acknowledges nothing, and it stops."""
    world = chat.world
    world.turn()
    taken = len(world.notes.taken)
    for _ in range(6):
        with whatever_the_disk_says():
            chat.gather()
            chat.step()
        world.advance(1)
    found = [] if taken == len(world.notes.taken) else [f"{len(world.notes.taken) - taken} acknowledged all the same"]
    return found + ([] if world.fatal else [f"it goes on after {failing.fired} errors"])
