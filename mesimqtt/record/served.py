"""A server that is recorded while it serves: it lives in the core, and this is its face outside."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from mesimqtt import __version__
from mesimqtt.domain.errors import InUseError, MesimqttError
from mesimqtt.record.recorder import Recorder
from mesimqtt.record.start import SUFFIX, check_recordable, copy_data, files_of
from mesimqtt.record.tape import Kind
from mesimqtt.record.writer import Writer, check_new

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from mesimqtt.record.outside import Outside
    from mesimqtt.settings import Settings

    Make = Callable[[Outside], AbstractAsyncContextManager[Any]]


class Served(Protocol):
    """What is asked of a running server: an App, or the face of a recorded one."""

    name: str
    data: Path
    bound: list[tuple[str, str, int]]

    async def perform(self, op: str, args: dict[str, Any], user: str = "") -> dict[str, Any]:
        """Do one operation as the operator, or as `user` may do it."""

    async def wait_failed(self) -> str:
        """Wait until it cannot go on; return why."""

    async def leave(self) -> None:
        """Take leave of the clients."""

    def hurry(self) -> None:
        """Wait for no client any more."""

    def reload(self) -> None:
        """Read again what stands in files of its own."""


class RecordedApp:
    """The face of a server in the core: everything is called in, and what comes of it is handed out."""

    def __init__(self, recorder: Recorder, app: Any) -> None:  # noqa: ANN401 - an App, which is above us
        self.name = ""
        self.data: Path = app.data
        self.bound: list[tuple[str, str, int]] = app.bound
        self._recorder = recorder
        self._app = app

    async def perform(self, op: str, args: dict[str, Any], user: str = "") -> dict[str, Any]:
        """Do one operation in the core."""
        return await self._recorder.operation(self._app.perform)(op, args, user)

    async def wait_failed(self) -> str:
        """Wait until the server cannot go on; return why."""
        found: str = await _outside(self._recorder, self._app.wait_failed)
        return found

    async def leave(self) -> None:
        """End the recording; then take leave of the clients."""
        self._recorder.end("the server was stopped")
        await _outside(self._recorder, self._app.leave)

    def hurry(self) -> None:
        """Wait for no client any more."""
        self._recorder.event(Kind.CALLED, (["hurry"],), self._app.hurry)

    def reload(self) -> None:
        """End the recording, which does not hold what files say now; read them again."""
        self._recorder.end("files were read again (SIGHUP), and it does not hold what they say now")
        self._recorder.event(Kind.CALLED, (["reload"],), self._app.reload)


async def _outside(recorder: Recorder, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:  # noqa: ANN401 - what it returns
    """Run a coroutine of the server in the core, and wait for it outside."""
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(task: asyncio.Task[Any]) -> None:
        if ended.done():
            return
        if task.cancelled():
            ended.cancel()
        elif (error := task.exception()) is not None:
            ended.set_exception(error)
        else:
            ended.set_result(task.result())

    def begin() -> None:
        recorder.core.create_task(call()).add_done_callback(done)

    asyncio.get_running_loop().call_soon(recorder.event, Kind.CALLED, (["wait"],), begin)
    return await ended


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    shutil.rmtree(path.with_name(path.name + SUFFIX), ignore_errors=True)


def _begun(path: Path, header: dict[str, Any], size_max: int) -> Writer:
    """Begin a recording; where it cannot be, nobody else would remove the copy of the data that was made for it."""
    try:
        return Writer(path, header, size_max=size_max)
    except MesimqttError:
        if header["start"]:
            shutil.rmtree(path.with_name(path.name + SUFFIX), ignore_errors=True)
        raise


def _stop(stopped: asyncio.Future[None]) -> None:
    if not stopped.done():
        stopped.set_result(None)


@asynccontextmanager
async def recorded(path: Path, settings: Settings, data: Path, make: Make) -> AsyncIterator[Served]:
    """Serve and record; `make` opens the server on the world that it is given.

    Raises:
        MesimqttError: the settings cannot be recorded, the file cannot be made, or whatever `make` raises.

    """
    check_recordable(settings)
    check_new(path, data)
    started = copy_data(data, path.with_name(path.name + SUFFIX))
    now_us = time.monotonic_ns() // 1000
    anchor_us = time.time_ns() // 1000 - now_us
    values = asdict(settings)
    header = {
        "version": __version__, "python": sys.version, "sqlite": sqlite3.sqlite_version, "now_us": now_us,
        "anchor_us": anchor_us, "settings": values, "files": files_of(values, {}), "start": started,
        "output": settings.record.output,
    }  # fmt: skip
    writer = _begun(path, header, settings.record.size_max)
    recorder = Recorder(writer, anchor_us=anchor_us, now_us=now_us, keeps_output=settings.record.output)
    stopped: asyncio.Future[None] = recorder.core.create_future()
    opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def live() -> None:
        async with make(recorder) as app:
            opened.set_result(app)
            await stopped

    life = asyncio.ensure_future(_outside(recorder, live))
    try:
        await asyncio.wait({life, opened}, return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            try:
                await life
            except InUseError:  # it is tried again, and is to find no file of its own in the way
                await asyncio.to_thread(_remove, path)
                raise
        yield RecordedApp(recorder, opened.result())
    finally:
        recorder.event(Kind.CALLED, (["stop"],), _stop, stopped)
        try:
            await life
        finally:
            writer.join()
            with contextlib.suppress(RuntimeError):
                recorder.core.close()
