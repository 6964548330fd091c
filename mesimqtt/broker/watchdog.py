"""Finds what holds up the event loop: a thread that looks where the loop's own thread is when its beat is late."""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

AGAIN_S = 60.0  # between two lines about the same culprit
CULPRITS_MAX = 1_000
LOOKS_PER_BEAT = 2
_NO_MODULES: Mapping[str, str] = MappingProxyType({})

logger = logging.getLogger(__name__)


class Watchdog:
    """A thread that names the plugin or module that did not give way.

    The loop calls `beat` every `beat_s`. Is it later by `blocked_s`, the stack of the loop's thread is looked
    at; the innermost frame of a plugin's or module's code names the culprit. The line is written at once, for the loop
    may never come back; when it does, a second line says how long it took.
    """

    def __init__(
        self,
        plugins: Mapping[str, str],
        *,
        modules: Mapping[str, str] = _NO_MODULES,
        beat_s: float,
        blocked_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the names of plugins, and of server-side modules, which may come later, by their Python module."""
        self._plugins = dict(plugins)
        self._modules = modules
        self._beat_s = beat_s
        self._blocked_s = blocked_s
        self._clock = clock
        self._beat_at = clock()
        self._watched = threading.get_ident()
        self._is_over = threading.Event()
        self._told_at: dict[str, float] = {}
        self._thread = threading.Thread(target=self._watch, name="mesimqtt-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch the calling thread."""
        self._watched = threading.get_ident()
        self.beat()
        self._thread.start()

    def beat(self) -> None:
        """Take note that the loop goes round."""
        self._beat_at = self._clock()

    def stop(self) -> None:
        """End the thread."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _watch(self) -> None:
        pause_s = max(0.01, min(self._beat_s, self._blocked_s) / LOOKS_PER_BEAT)
        looked_at = resumed_at = self._clock()
        while not self._is_over.wait(pause_s):
            now = self._clock()
            if now - looked_at > pause_s + self._blocked_s / 2:
                # Late ourselves: the whole process stood still (SIGSTOP, a machine asleep), and no plugin is to blame.
                resumed_at = now
            looked_at = now
            if now - max(self._beat_at, resumed_at) > self._beat_s + self._blocked_s:
                self._look(self._beat_at)
                looked_at = self._clock()

    def _look(self, beat_at: float) -> None:
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - the only way to see another thread's stack
        if frame is None:
            return
        who, where = self._culprit(frame)
        del frame  # it holds everything its thread works on
        now = self._clock()
        is_told = now - self._told_at.get(who, -AGAIN_S) >= AGAIN_S
        if is_told:
            if len(self._told_at) >= CULPRITS_MAX:
                self._told_at.clear()
            self._told_at[who] = now
            logger.warning("%s holds up everybody for more than %.1f s: %s", who, self._blocked_s, where)
        while self._beat_at == beat_at and not self._is_over.wait(self._blocked_s / LOOKS_PER_BEAT):
            pass
        if is_told:
            logger.warning("%s held up everybody for %.1f s", who, self._beat_at - beat_at)

    def _culprit(self, frame: FrameType) -> tuple[str, str]:
        """Return who, and where he is, as far in as a plugin's own code goes."""
        innermost = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        inner: FrameType | None = frame
        while inner is not None:
            written_in = inner.f_globals.get("__name__", "")
            if written_in in self._plugins or written_in in self._modules:
                plugin, code = self._plugins.get(written_in), inner.f_code
                who = f"plugin {plugin}" if plugin is not None else f"module {self._modules[written_in]}"
                return who, f"{code.co_filename}:{inner.f_lineno} in {code.co_name}, at {innermost}"
            inner = inner.f_back
        return "the server itself", innermost
