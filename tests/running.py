"""How the suite runs: a test that hangs ends it; neither that nor the garbage collector takes time from every test."""

from __future__ import annotations

import faulthandler
import gc
import time
from typing import TYPE_CHECKING

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

if TYPE_CHECKING:
    from collections.abc import Iterator

HANGS_AFTER_S = 400.0  # as long as the whole suite takes on two idle cores: what takes longer, hangs
_REARM_S = 10.0
_GC_THRESHOLDS = (20_000, 10, 10)  # a test leaves much garbage, and soon ends


class Watch:
    """Ends the run, and shows where it stood, when a test takes longer than `after_s`.

    It is armed anew for a test only if that was last done some time ago: pytest's own (`faulthandler_timeout`) starts
    and joins a thread for every test, which on a busy machine takes longer than most tests do.
    """

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._again_at = 0.0

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        now = time.monotonic()
        if now >= self._again_at:
            output = item.config.stash[fault_handler_stderr_fd_key]
            faulthandler.dump_traceback_later(self._after_s + _REARM_S, file=output, exit=True)
            self._again_at = now + _REARM_S
        return (yield)

    def pytest_exception_interact(self) -> None:
        self._again_at = 0.0  # pytest itself has switched it off

    def pytest_sessionfinish(self) -> None:
        faulthandler.cancel_dump_traceback_later()


def watch(config: pytest.Config, after_s: float) -> None:
    """Watch over the tests of a run; 0: each takes as long as it takes."""
    if after_s:
        config.pluginmanager.register(Watch(after_s))


def settle() -> None:
    """Take what was collected out of the garbage collector's sight: thousands of tests and modules, which stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
