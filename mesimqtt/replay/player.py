"""Plays a recording: the real server on the same data and the same input, every byte of its output compared."""

from __future__ import annotations

import asyncio
import copy
import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesimqtt import __version__
from mesimqtt.app import App, running
from mesimqtt.broker.listeners import HTTP
from mesimqtt.configuration import settings_from
from mesimqtt.record.core import Core
from mesimqtt.record.line import Line
from mesimqtt.record.recorder import digest, outcome, settle
from mesimqtt.record.start import KEPT, SUFFIX, hash_of, unrecordable, with_files
from mesimqtt.record.tape import Kind, Tape, TapeError
from mesimqtt.replay.streams import Difference, Stream
from mesimqtt.replay.world import ReplayedWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mesimqtt.record.tape import Record
    from mesimqtt.settings import Settings

log = logging.getLogger(__name__)
_CANCELS_MAX = 1_000
_CALLS = frozenset({"wait", "stop", "hurry", "reload", "admit", "leave"})
# What comes of a recording whose checksums are good and that no server has made.
_NO_RECORDING = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
_TLS = frozenset({"ssl", "certfile", "keyfile", "cafile", "capath", "cadata"})


class DivergedError(BaseException):
    """The server does not do what it did. No Exception: nothing of the server's may take it for its own."""


@dataclass(slots=True)
class Played:
    """What came of a replay. `difference` None: everything was as it was."""

    connections: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    operations: int = 0
    seconds: float = 0.0  # of the recording
    end: str = ""  # how the recording ends
    difference: Difference | None = None


class Player:
    """Plays one recording in `folder`, which is empty. `follow` is told of everything that goes in and out."""

    def __init__(
        self,
        path: Path,
        folder: Path,
        *,
        until_s: float = 0.0,
        follow: Callable[[str, int, int, bytes], None] | None = None,
    ) -> None:
        """Read what stands at the beginning. Raises TapeError: it cannot be replayed here; the text says why."""
        self._path = path
        self._folder = folder
        self._tape = Tape(path)
        self._header = self._tape.header
        self._until_us = round(until_s * 1_000_000)
        self._follow = follow or _nobody
        try:
            self._settings = self._prepare()
        except _NO_RECORDING as error:
            self._tape.close()
            raise TapeError(f"{path}: its header says what no server writes ({_told(error)}); it is damaged") from None
        except BaseException:
            self._tape.close()
            raise
        self._records: Iterator[Record] = self._tape.records()
        self._kept: list[Record] = []
        self.played = Played()
        self._core = Core()
        self._core.set_exception_handler(_failed)
        self._core.now_us = self._began_us = self._at_us = self._header["now_us"]
        self._world = ReplayedWorld(
            self._core,
            anchor_us=self._header["anchor_us"],
            fact=self._fact,
            tls_names=_tls_names(self._header["settings"]),
        )
        self._app: App | None = None
        self._stopped: asyncio.Future[None] = self._core.create_future()
        self._lines: dict[int, Line] = {}
        self._streams: dict[int, Stream] = {}
        self._results: dict[int, bytes] = {}
        self._actions: dict[Kind, Callable[..., object]] = {
            Kind.TURN: self._core.turn, Kind.OPENED: self._opened, Kind.DATA: self._data, Kind.LOST: self._lost,
            Kind.PAUSED: self._paused, Kind.RESUMED: self._resumed, Kind.DONE: self._done,
            Kind.ANSWERED: self._answered, Kind.CALLED: self._called, Kind.OPERATION: self._operation,
        }  # fmt: skip

    # ---- the beginning -----------------------------------------------------------------------------------------------

    def _prepare(self) -> Settings:
        """Lay out the data and the files as they were; return the settings that lead to them."""
        header, folder = self._header, self._folder
        if header["version"] != __version__:
            raise TapeError(f"{self._path} was recorded by mesimqtt {header['version']}, and this is {__version__}")
        data = folder / "data"
        data.mkdir(mode=0o700)
        started = self._path.with_name(self._path.name + SUFFIX)
        for key in ("now_us", "anchor_us"):
            if type(header[key]) is not int:
                raise TypeError(key)
        for name, wanted in header["start"].items():
            if name not in KEPT:  # it would be written, wherever it leads
                raise ValueError(name)
            kept = started / name
            if not kept.exists():
                raise TapeError(f"{kept} is missing: a recording of a server with data needs the folder beside it")
            try:
                is_same = hash_of(kept) == wanted
            except OSError as error:
                raise TapeError(f"cannot read {kept}: {error.strerror}") from None
            if not is_same:
                raise TapeError(f"{kept} is not what the recording began with: its SHA-256 is another")
            shutil.copyfile(kept, data / name)
        places = {}
        for number, (path, content) in enumerate(header["files"].items()):
            place = folder / f"file-{number}"
            place.write_bytes(content)
            places[path] = str(place)
        values = with_files(copy.deepcopy(header["settings"]), places, str(folder / "no-file"))
        for listener in values["broker"].get("listeners", {}).values():
            for key in _TLS & listener.keys():
                del listener[key]
        values["http"] |= {"certfile": "", "keyfile": ""}
        values["store"]["ballast_bytes"] = 0
        values["plugins"]["blocked_s"] = 0.0
        settings = settings_from(values, self._path)
        if what := unrecordable(settings):  # it would run what somebody else has named, or ask whom he has named
            raise TapeError(f"{self._path}: its header names {what}, which no recording holds; nothing of it was run")
        return settings

    # ---- the run -----------------------------------------------------------------------------------------------------

    def play(self) -> Played:
        """Play to the end, to `until_s` or to the first difference. Raises TapeError: a byte of it is damaged."""
        try:
            self._run()
        except DivergedError:
            log.debug("the replay ends at its first difference")
        except _NO_RECORDING as error:
            raise TapeError(f"{self._path} says what no server writes ({_told(error)}); it is damaged") from None
        finally:
            self._close()
        self.played.seconds = (self._at_us - self._began_us) / 1_000_000
        return self.played

    def _run(self) -> None:
        for record in self._each():
            if record.kind is Kind.ENDED:
                self.played.end = record.fields[1]
                break
            if record.kind >= Kind.DREW:
                self._differ(0, 0, f"then the server looked something up ({record.kind.name}), now it does not")
            self._at_us += record.fields[0]
            if self._until_us and self._at_us - self._began_us > self._until_us:
                self.played.end = "as far as it was asked for"
                break
            try:
                self._core.enter(self._at_us, self._actions[record.kind], *record.fields[1:])
            except Exception as error:  # noqa: BLE001 - whatever it is, the replay is not what was
                self._differ(0, 0, f"what came in then ({record.kind.name}) cannot be taken now: {_told(error)}")
            if self.played.difference is not None:  # it was told inside of something that takes every exception
                raise DivergedError
        else:
            self.played.end = self._tape.cut or "without an end: the server was killed"
        self._drain()

    def _drain(self) -> None:
        """Compare what is left: of both sides there must be the same."""
        for number, stream in self._streams.items():
            self._check(number, stream.compare(self._at_us, is_end=True))

    def _each(self) -> Iterator[Record]:
        """Yield what was called in; what the server looked up is kept for it, what it put out is compared."""
        while (record := self._next()) is not None:
            yield record

    def _next(self) -> Record | None:
        for record in self._records:
            if record.kind < Kind.WROTE:
                return record
            self._expect(record)
        return None

    def _fact(self, kind: Kind) -> tuple[Any, ...]:
        """Return what the server looked up then, at this place."""
        record = self._next()
        if record is None or record.kind is not kind:
            then = f"it did not ({record.kind.name})" if record is not None else "the recording ends"
            self._differ(0, 0, f"now the server looks something up ({kind.name}), then {then}")
            raise DivergedError
        return record.fields

    def _expect(self, record: Record) -> None:
        number = record.fields[0]
        if record.kind is Kind.RESULT:
            now = self._results.pop(number, None)
            if now != record.fields[1]:
                self._differ(0, 0, f"operation {number} is answered otherwise")
            return
        stream = self._stream(number)
        if record.kind is Kind.CLOSED:
            stream.expect_end(record.fields[1])
        else:
            stream.expect(*record.fields[1:])
        self._check(number, stream.compare(self._at_us))

    def _check(self, number: int, difference: Difference | None) -> None:
        if difference is not None and self.played.difference is None:
            self.played.difference = difference
            self._follow("difference", number, self._at_us - self._began_us, difference.now)
            raise DivergedError

    def _differ(self, number: int, offset: int, what: str) -> None:
        if self.played.difference is None:
            self.played.difference = Difference(number, offset, self._at_us, what)
        raise DivergedError

    def _stream(self, number: int) -> Stream:
        if number not in self._streams:
            self._streams[number] = Stream(number)
        return self._streams[number]

    # ---- what comes in -----------------------------------------------------------------------------------------------

    def _opened(self, number: int, said: list[Any]) -> None:
        name, address, info = said
        listener = self._world.listeners.get(name) if self._world.listeners is not None else None
        if listener is None:
            self._differ(number, 0, f"there is no listener {name!r} now")
            return
        line = self._lines[number] = Line(number, info, self, lambda: listener.kind(listener, address))
        self.played.connections += 1
        self._follow("opened", number, self._at_us - self._began_us, f"{name} {info.get('peername')}".encode())
        line.opened()

    def _data(self, number: int, data: bytes) -> None:
        self.played.bytes_in += len(data)
        self._follow("in", number, self._at_us - self._began_us, data)
        self._lines[number].data(data)

    def _lost(self, number: int) -> None:
        self._follow("lost", number, self._at_us - self._began_us, b"")
        self._lines.pop(number).lost()

    def _paused(self, number: int) -> None:
        self._lines[number].paused()

    def _resumed(self, number: int) -> None:
        self._lines[number].resumed()

    def _done(self, runner: int, job: int, ran: list[tuple[int, int, list[bytes]]]) -> None:
        for each, number, drawn in ran:
            if each not in self._world.runners or not self._world.runners[each].run(number, drawn):
                self._differ(0, 0, "then a thread had more to do")
        found = self._world.runners[runner]
        call = found.answer(job)
        if call is None:
            self._differ(0, 0, "then a thread had done what it has not been given now")
            return
        self._world.pin.release(found.name)
        call()

    def _answered(self, question: int, answer: list[Any]) -> None:
        answered = self._world.questions.pop(question, None)
        if answered is None:
            self._differ(0, 0, "then somebody answered what is not asked now")
            return
        settle(answered, answer)

    def _called(self, said: list[str]) -> None:
        what, *about = said
        if what not in _CALLS:
            self._differ(0, 0, f"then the server was called by a name that there is not: {what!r}")
        if what == "wait":
            self._core.create_task(self._live())
        elif what in ("admit", "leave") and self._world.listeners is not None:
            listener = self._world.listeners.get(about[0])
            if listener is not None:
                (listener.admit if what == "admit" else listener.leave)(about[1])

    def _operation(self, number: int, said: list[Any]) -> None:
        op, args, user = said
        if self._world.perform is None:
            self._differ(0, 0, f"operation {op}: the server takes none now")
            return
        self.played.operations += 1
        self._follow("operation", number, self._at_us - self._began_us, op.encode())
        task = self._core.create_task(self._world.perform(op, args, user))
        task.add_done_callback(lambda task: self._results.__setitem__(number, digest(outcome(task))))

    async def _live(self) -> None:
        if self._app is None and not self._stopped.done():
            async with running(self._settings, self._folder / "data", outside=self._world) as app:
                self._app = app
                await self._stopped

    # ---- what goes out -----------------------------------------------------------------------------------------------

    def write(self, number: int, data: bytes) -> None:
        """Compare what the server writes."""
        self.played.bytes_out += len(data)
        self._follow("out", number, self._at_us - self._began_us, data)
        self._stream(number).wrote(data)

    def end_line(self, number: int, how: str) -> None:
        """Compare how the server ends a connection."""
        if number in self._lines:
            self._follow("end", number, self._at_us - self._began_us, how.encode())
            self._stream(number).ended(how)

    def unwritten(self, number: int) -> int:
        """Return how many bytes the socket had not taken then."""
        found, size = self._fact(Kind.UNWRITTEN)
        return int(size) if found == number else 0

    def read(self, number: int, *, is_wanted: bool) -> None:
        """Do nothing: what came then comes."""

    def bound(self, number: int, high: int, low: int) -> None:
        """Do nothing: when it was full then, it is full."""

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Let go of the data; what the server does at its own end is nobody's any more."""
        self._tape.close()
        core = self._core
        core.set_exception_handler(_nothing)
        for _ in range(_CANCELS_MAX):  # a server that is cancelled begins to close in order, and is cancelled in that
            tasks = asyncio.all_tasks(core)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            core.enter(self._at_us, _quietly, core)
        self._world.close()
        core.close()


def _tls_names(values: dict[str, Any]) -> frozenset[str]:
    """Return the listeners that had TLS."""
    listeners = values["broker"].get("listeners", {})
    found = {name for name, listener in listeners.items() if listener.get("ssl")}
    return frozenset(found | ({HTTP} if values["http"]["certfile"] or "default" in found else set()))


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _quietly(core: Core) -> None:
    try:
        core.turn()
    except DivergedError:
        return


def _failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what was raised in a turn, as any loop does, but for what ends the replay."""
    if not isinstance(context.get("exception"), DivergedError):
        loop.default_exception_handler(context)


def _nothing(_loop: asyncio.AbstractEventLoop, _context: dict[str, Any]) -> None:
    """Say nothing: what fails while everything is cancelled is of no interest."""


def _nobody(_what: str, _number: int, _at_us: int, _data: bytes) -> None:
    """Follow nothing."""
