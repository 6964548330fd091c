"""A part of a trial in a process of its own, so that neither bounds the other: asked and answering by lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from mesimqtt.broker.loop import loop_factory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping


class Helper:
    """The process, as the trial has it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, module: str, asked: Mapping[str, object]) -> AsyncIterator[Helper]:
        """Run a module that calls `play`, tell it what it has to know, and end it with the context.

        It has a session of its own: of a Ctrl-C it hears only that nobody asks any more. Raises OSError if it ended.
        """
        command = [sys.executable, "-m", module]
        with subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            self = cls(process)
            try:
                await self.ask(asked)
                yield self
            finally:
                process.kill()

    async def ask(self, what: object) -> dict[str, Any]:
        """Ask, and wait for the answer. Raises OSError if the process has ended."""
        return await asyncio.to_thread(self._answer, json.dumps(what))

    def _answer(self, line: str) -> dict[str, Any]:
        writing, reading = self._process.stdin, self._process.stdout
        if writing is None or reading is None:
            raise OSError("a process of the trial cannot be asked")
        print(line, file=writing, flush=True)
        said = reading.readline()
        if not said:
            raise OSError(f"a process of the trial has ended: {' '.join(map(str, self._process.args))}")  # type: ignore[arg-type] # a list
        return dict(json.loads(said))


def play(part: Callable[[dict[str, Any], AsyncIterator[Any]], Awaitable[None]]) -> None:
    """Run the part: it is given what it has to know, answers that by `tell`, and each of the questions."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_play(part))


async def _play(part: Callable[[dict[str, Any], AsyncIterator[Any]], Awaitable[None]]) -> None:
    await part(json.loads(sys.stdin.readline()), _questions())


async def _questions() -> AsyncIterator[Any]:
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield json.loads(line)


def tell(**what: object) -> None:
    """Answer."""
    print(json.dumps(what), flush=True)
