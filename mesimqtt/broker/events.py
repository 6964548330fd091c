"""Runs the event callbacks of plugins: in order, in few tasks, bounded, never in the way of the data path."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from mesimqtt.broker.foreign import CLOSE_S, FAULTS, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    Callback = Callable[..., Coroutine[Any, Any, Any]]

RUNNERS_MAX = 64  # tasks that run plugin callbacks at the same time
EVENTS_MAX = 50_000  # events that wait for one of them; what comes beyond is dropped and counted

logger = logging.getLogger(__name__)


def plugin_name(callback: Callback) -> str:
    """Return the class name of the plugin that a callback belongs to."""
    function = getattr(callback, "func", callback)  # EventLoggerPlugin gives partials
    return name_of(getattr(function, "__self__", function))


class EventRunner:
    """A queue of callbacks and the few tasks that work it off.

    A callback that never waits costs no task of its own: one runner goes through the whole queue in one
    loop turn. Only while a runner waits inside a callback is a further one started.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, answer_s: float = 10.0) -> None:
        """Begin with an empty queue. A callback that takes longer than `answer_s` is cancelled."""
        self._loop = loop
        self._answer_s = answer_s
        self._queue: deque[tuple[Callback, Mapping[str, Any]]] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._is_scheduled = False
        self.dropped = 0

    def fire(self, callbacks: list[Callback], **arguments: object) -> None:
        """Call each of `callbacks` soon, in order of firing."""
        for callback in callbacks:
            if len(self._queue) >= EVENTS_MAX:
                if not self.dropped:
                    logger.warning("plugins are too slow for their events; %s misses some", plugin_name(callback))
                self.dropped += 1
                continue
            self._queue.append((callback, arguments))
        self._schedule()

    async def run(self, callbacks: list[Callback], timeout_s: float) -> None:
        """Call each of `callbacks` now and wait for it, for so long."""
        for callback in callbacks:
            await self._call(callback, {}, timeout_s)

    async def close(self) -> None:
        """Let what is queued run, then cancel what still waits."""
        while self._queue and len(self._runners) < RUNNERS_MAX:
            self._start_runner()
            await asyncio.sleep(0)
        runners = list(self._runners)
        if runners:
            await asyncio.wait(runners, timeout=1.0)
        for runner in runners:
            runner.cancel()
        if runners:
            await asyncio.wait(runners, timeout=CLOSE_S)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._start_runner)

    def _start_runner(self) -> None:
        self._is_scheduled = False
        if self._queue and len(self._runners) < RUNNERS_MAX:
            runner = self._loop.create_task(self._work())
            self._runners.add(runner)
            runner.add_done_callback(self._runners.discard)

    async def _work(self) -> None:
        while self._queue:
            callback, arguments = self._queue.popleft()
            if self._queue:
                self._schedule()  # should this callback wait, another runner takes over the rest
            await self._call(callback, arguments, self._answer_s)

    @staticmethod
    async def _call(callback: Callback, arguments: Mapping[str, Any], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await callback(**arguments)
        except TimeoutError:
            logger.warning("plugin %s did not end within %g s in an event", plugin_name(callback), timeout_s)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            logger.warning("plugin %s cancelled itself in an event", plugin_name(callback))
        except FAULTS:  # whatever a plugin raises is logged and stops nothing
            logger.exception("plugin %s failed in an event", plugin_name(callback))
