"""The recorder: it stands between a running server and the world, and writes down what comes in (docs/replay.md).

The server runs on a `Core`, the sockets on the process' own loop. Whatever comes is one event: written down with its
time, then called in, one after another. What the server looks up outside is written down where it looks.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mesimqtt.domain.chance import Chance
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.record.core import Core
from mesimqtt.record.line import Line
from mesimqtt.record.outside import Outside
from mesimqtt.record.runners import Pin, RecordedRunner, number_of
from mesimqtt.record.tape import Kind, from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from mesimqtt.record.writer import Writer
    from mesimqtt.store.store import Store

    Perform = Callable[..., Coroutine[Any, Any, dict[str, Any]]]

T = TypeVar("T")
HASH_BYTES = 8  # of what a connection or an operation was given
# What a protocol may ask of its transport, beside the peer's address.
_ASKED = ("sslcontext", "peercert")

log = logging.getLogger(__name__)


def digest(data: bytes) -> bytes:
    """Return the hash that stands in a recording for an answer."""
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


class Drawn(Chance):
    """The system's randomness, every draw written down."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def draw(self, size: int) -> bytes:
        """Return so many random bytes."""
        data = super().draw(size)
        drawn: list[bytes] | None = getattr(self._recorder.job, "drawn", None)
        if drawn is not None:
            drawn.append(data)
        else:
            self._recorder.fact(Kind.DREW, data)
        return data


class Tap(asyncio.Protocol):
    """The socket's side of a recorded connection. The protocol behind it lives in the core."""

    def __init__(self, recorder: Recorder, listener: Any, address: str | None) -> None:  # noqa: ANN401 - the broker's
        self._recorder = recorder
        self.listener = listener
        self.address = address
        self.line: Line | None = None

    @property
    def is_made(self) -> bool:
        """Tell whether `connection_made` was called, so that `connection_lost` will be."""
        return self.line is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open it in the core."""
        self.line = self._recorder.opened_line(self, cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        """Pass a read on."""
        if (line := self.line) is not None:
            self._recorder.event(Kind.DATA, (line.number, data), line.data, data)

    def pause_writing(self) -> None:
        """Pass it on."""
        if (line := self.line) is not None:
            self._recorder.event(Kind.PAUSED, (line.number,), line.paused)

    def resume_writing(self) -> None:
        """Pass it on."""
        if (line := self.line) is not None:
            self._recorder.event(Kind.RESUMED, (line.number,), line.resumed)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Pass it on, and forget the connection."""
        if (line := self.line) is not None:
            self._recorder.event(Kind.LOST, (line.number,), line.lost)
            self._recorder.forget_line(line)


class Recorder(Outside):
    """The world, written down. To be made on the loop that has the sockets; `writer` takes what is written."""

    def __init__(self, writer: Writer, *, anchor_us: int, now_us: int, keeps_output: bool) -> None:
        self.writer = writer
        self.core = Core()
        self.pin = Pin()
        self.lock = threading.Lock()  # of the store's threads: what runs, runs alone, so that there is an order
        self.ran: deque[tuple[int, int, list[bytes]]] = deque()  # runner, job, what it has drawn
        self.job = threading.local()  # `at`: what time it is for a job, that of its submission; `drawn`: as above
        self.now = self._now
        self.now_ms = lambda: (anchor_us + self._now_us()) // 1000
        self.wall_s = lambda: (anchor_us + self._now_us()) / 1_000_000
        self.chance = Drawn(self)
        self.make_runner = self._make_runner
        self.wrap = lambda listener, address: Tap(self, listener, address)
        self._outer = asyncio.get_running_loop()
        self._at = now_us
        self.core.now_us = now_us
        self._keeps_output = keeps_output
        self._inbox: deque[tuple[Kind, tuple[Any, ...], Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_turning = False
        self._is_looking = False
        self._timer: asyncio.TimerHandle | None = None
        self._transports: dict[int, asyncio.Transport] = {}
        self._hashes: dict[int, tuple[Any, list[int]]] = {}
        self._lines = self._questions = self._operations = 0
        self._asked: set[asyncio.Task[None]] = set()
        self._store: Store | None = None

    # ---- time --------------------------------------------------------------------------------------------------------

    def _now_us(self) -> int:
        frozen: int | None = getattr(self.job, "at", None)
        return self.core.now_us if frozen is None else frozen

    def _now(self) -> float:
        return self._now_us() / 1_000_000

    # ---- what comes in -----------------------------------------------------------------------------------------------

    def event(self, kind: Kind, fields: tuple[Any, ...], call: Callable[..., object], *about: object) -> None:
        """Write down that something came, and call it in; what comes while the server is busy waits its turn."""
        self._inbox.append((kind, fields, call, about))
        if self.core.is_entered:
            return
        while self._inbox:
            self._take(*self._inbox.popleft())
        if not self._is_turning:
            self._is_turning = True
            self._outer.call_soon(self._turn)

    def _take(self, kind: Kind, fields: tuple[Any, ...], call: Callable[..., object], about: tuple[Any, ...]) -> None:
        now_us = max(time.monotonic_ns() // 1000, self._at)
        self.writer.add(kind, now_us - self._at, *fields)
        self._at = now_us
        try:
            self.core.enter(now_us, call, *about)
        except Exception:
            log.exception("what came from outside could not be taken; the server goes on")

    def _turn(self) -> None:
        """Let the server do what is ready; see to it that it turns again when something will be."""
        self._is_turning = True
        self._inbox.append((Kind.TURN, (), self.core.turn, ()))
        while self._inbox:
            self._take(*self._inbox.popleft())
        self.writer.flush()
        self._is_turning = self.core.has_ready
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_turning:
            self._outer.call_soon(self._turn)
        elif (due_s := self.core.due_s) is not None:
            wait_s = max(0.0, due_s - time.monotonic())
            self._timer = self._outer.call_later(wait_s, self._turn)

    def fact(self, kind: Kind, *fields: object) -> None:
        """Write down what the server has looked up."""
        self.writer.add(kind, *fields)

    def see(self, look: Callable[[], T]) -> T:
        """Look, and write down what was seen; what is looked up for that is part of it."""
        if self._is_looking:
            return look()
        self._is_looking = True
        try:
            raw = to_json(look())
        finally:
            self._is_looking = False
        seen = cast("T", from_json(raw))  # as a replay will have it
        self.fact(Kind.SAW, seen)
        return seen

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Have somebody else asked on the loop that has sockets; what he answers comes in like anything else."""
        self._questions += 1
        number, answered = self._questions, self.core.create_future()

        async def put() -> None:
            try:
                answer: list[Any] = [True, from_json(to_json(await question()))]
            except (MesimqttError, OSError, TypeError) as error:
                answer = [False, str(error)]
            self._outer.call_soon(self.event, Kind.ANSWERED, (number, answer), settle, answered, answer)

        def start() -> None:
            task = self._outer.create_task(put())
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)

        self._outer.call_soon(start)
        return cast("T", await answered)

    def enter(self, what: str, call: Callable[..., T], *about: str) -> T:
        """Call something of the server from outside of it, written down."""
        if self.core.is_entered:
            return call(*about)
        found: list[T] = []
        self.event(Kind.CALLED, ([what, *about],), lambda: found.append(call(*about)))
        return found[0]

    def apart(self, call: Callable[[], None]) -> None:
        """Do it on the loop that has sockets."""
        self._outer.call_soon(call)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that watches sockets."""
        return self._outer

    # ---- operations --------------------------------------------------------------------------------------------------

    def operation(self, perform: Perform) -> Perform:
        """Return `perform` as the control socket may call it: on its own loop, and written down."""

        async def performed(op: str, args: dict[str, Any], user: str = "") -> dict[str, Any]:
            answered: asyncio.Future[dict[str, Any]] = self._outer.create_future()
            self._operations += 1
            number, said = self._operations, [op, args, user]

            def begin() -> None:
                task = self.core.create_task(perform(op, args, user))
                task.add_done_callback(lambda task: self._performed(number, task, answered))

            self._outer.call_soon(self.event, Kind.OPERATION, (number, said), begin)
            return await answered

        return performed

    def _performed(
        self, number: int, task: asyncio.Task[dict[str, Any]], answered: asyncio.Future[dict[str, Any]]
    ) -> None:
        self.fact(Kind.RESULT, number, digest(outcome(task)))
        if answered.done():
            return
        error = task.exception()
        if error is not None:
            answered.set_exception(error)
        else:
            answered.set_result(task.result())

    # ---- the store's threads -----------------------------------------------------------------------------------------

    def opened(self, store: Store) -> None:
        """Take note of the open store."""
        self._store = store
        self.pin.connection = store.read
        store.where = self.see(lambda: store.where)
        store.size = lambda measure=store.size: self.see(measure)  # type: ignore[misc] # a default binds what there was

    def _make_runner(self, name: str) -> RecordedRunner:
        return RecordedRunner(self, name, self._outer)

    def done(self, name: str, job: int, call: Callable[[], None]) -> None:
        """Take note that a thread has done a job: whatever was done since the last time stands beside it."""
        ran = [self.ran.popleft() for _ in range(len(self.ran))]
        self.event(Kind.DONE, (number_of(name), job, ran), self._done, name, call)

    def _done(self, name: str, call: Callable[[], None]) -> None:
        self.pin.release(name)
        call()
        if self._store is not None and self._store.committer.health != "ok":
            self.end(f"the store could not write ({self._store.committer.health}), and a replay's disk is another")

    # ---- connections -------------------------------------------------------------------------------------------------

    def opened_line(self, tap: Tap, transport: asyncio.Transport) -> Line:
        """Open a connection in the core."""
        self._lines += 1
        number, listener, address = self._lines, tap.listener, tap.address
        info: dict[str, Any] = {"peername": transport.get_extra_info("peername")}
        info |= {name: found for name in _ASKED if (found := transport.get_extra_info(name))}
        if "sslcontext" in info:
            info["sslcontext"] = True
        info["can_write_eof"] = transport.can_write_eof()
        info = from_json(to_json(info))
        self._transports[number] = transport
        self._hashes[number] = hashlib.blake2b(digest_size=HASH_BYTES), [0]
        line = Line(number, info, self, lambda: listener.kind(listener, address))
        self.event(Kind.OPENED, (number, [listener.name, address, info]), line.opened)
        return line

    def forget_line(self, line: Line) -> None:
        """Forget a connection that is gone."""
        self._transports.pop(line.number, None)
        self._hashes.pop(line.number, None)

    def write(self, number: int, data: bytes) -> None:
        """Write to the socket, and write down what that makes in all."""
        transport = self._transports.get(number)
        if transport is None:
            return
        hashed, size = self._hashes[number]
        hashed.update(data)
        size[0] += len(data)
        self.writer.add(Kind.WROTE, number, size[0], hashed.copy().digest(), data if self._keeps_output else b"")
        transport.write(data)

    def end_line(self, number: int, how: str) -> None:
        """Close the socket as the server does, and write it down."""
        transport = self._transports.get(number)
        if transport is None:
            return
        self.writer.add(Kind.CLOSED, number, how)
        if how == "close":
            transport.close()
        elif how == "abort":
            transport.abort()
        else:
            transport.write_eof()

    def unwritten(self, number: int) -> int:
        """Return how many bytes the socket has not taken yet."""
        transport = self._transports.get(number)
        size = transport.get_write_buffer_size() if transport is not None else 0
        self.fact(Kind.UNWRITTEN, number, size)
        return size

    def read(self, number: int, *, is_wanted: bool) -> None:
        """Have the socket read on, or not for now."""
        transport = self._transports.get(number)
        if transport is None or transport.is_closing():
            return
        if is_wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def bound(self, number: int, high: int, low: int) -> None:
        """Set the bounds of the socket's buffer."""
        transport = self._transports.get(number)
        if transport is not None:
            transport.set_write_buffer_limits(high=high, low=low)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def end(self, reason: str) -> None:
        """Write no more; the server goes on."""
        if not self.writer.is_over:
            log.warning("the recording ends here: %s", reason)
            self.writer.end(reason)


def settle(answered: asyncio.Future[Any], answer: list[Any]) -> None:
    """Give an answer to who awaits it."""
    if answered.done():
        return
    is_good, value = answer
    if is_good:
        answered.set_result(value)
    else:
        answered.set_exception(MesimqttError(value))


def outcome(task: asyncio.Task[dict[str, Any]]) -> bytes:
    """Return what came of an operation, as bytes to compare."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        return to_json([type(error).__name__, str(error)])
    return b"cancelled" if task.cancelled() else to_json(task.result())
