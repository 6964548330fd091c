"""Facts of the machine and of one process: cores, CPU time, memory, file systems. All from /proc."""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LOOK_S, _LOOKS_MAX = 0.1, 100
_RESTS = 0.05  # of a core at most, while it rests


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core carries the broker and which the generator; the same one if there is only one."""

    broker: int
    generator: int

    @property
    def are_apart(self) -> bool:
        """Tell whether broker and generator have a core each."""
        return self.broker != self.generator


def choose_cores() -> Cores:
    """Take the first core that this process may use for the broker and the last one for the generator."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[-1])


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Pin this thread, and what it starts meanwhile, to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class Reading:
    """Seconds of CPU so far: of the broker, of this process, of the whole machine."""

    broker_s: float | None
    own_s: float
    machine_s: float


class Process:
    """CPU time and memory of the broker; of nobody if its process is not known."""

    def __init__(self, pid: int | None, proc: Path = Path("/proc")) -> None:
        self._pid = pid
        self._proc = proc

    def read(self) -> Reading:
        """Read the clocks."""
        own = resource.getrusage(resource.RUSAGE_SELF)
        fields = (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:]
        busy = sum(int(field) for place, field in enumerate(fields[:8]) if place not in (3, 4))
        return Reading(self.cpu_s(), own.ru_utime + own.ru_stime, busy / _TICKS_PER_S)

    def cpu_s(self) -> float | None:
        """Return the CPU seconds of all threads of the broker, to the nanosecond where the kernel counts so."""
        if self._pid is None:
            return None
        total = 0.0
        for task in (self._proc / str(self._pid) / "task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0]) / 1e9
            except FileNotFoundError:
                total += self._ticks_s(task)
        return total

    def wait_idle(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Wait until the broker rests after its start, for some seconds at most: ours reads tokens ahead meanwhile."""
        before = self.cpu_s()
        for _ in range(_LOOKS_MAX):
            sleep(_LOOK_S)
            now = self.cpu_s()
            if before is None or now is None or now - before < _RESTS * _LOOK_S:
                return
            before = now

    def waited_s(self) -> float:
        """Return the seconds in which the main thread would have worked and had no core; 0 where nobody counts that."""
        if self._pid is None:
            return 0.0
        try:
            return int((self._proc / f"{self._pid}/task/{self._pid}/schedstat").read_text().split()[1]) / 1e9
        except FileNotFoundError:
            return 0.0

    def memory_kb(self) -> int | None:
        """Return the resident memory in KiB."""
        return self._memory_kb("VmRSS:")

    def memory_peak_kb(self) -> int | None:
        """Return the most resident memory that there has been, in KiB."""
        return self._memory_kb("VmHWM:")

    def _memory_kb(self, name: str) -> int | None:
        if self._pid is None:
            return None
        for line in (self._proc / str(self._pid) / "status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
        return None

    @staticmethod
    def _ticks_s(task: Path) -> float:
        try:
            fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            return 0.0  # the thread has just ended
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def file_system(folder: Path, mounts: str | None = None) -> tuple[str, str]:
    """Return type and mount point of the file system that holds `folder`."""
    text = Path("/proc/mounts").read_text(encoding="utf-8") if mounts is None else mounts
    target = folder.resolve()
    best, kind = Path("/"), "unknown"
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        # A later line of the same mount point lies on top of an earlier one.
        if (target == point or point in target.parents) and len(point.parts) >= len(best.parts):
            best, kind = point, fields[2]
    return kind, str(best)


def raise_file_limit(wanted: int) -> int:
    """Raise the limit of open files towards `wanted`, also for what is started later; return what is in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
        soft = ceiling
    return soft


def machine_facts() -> dict[str, str]:
    """Return what a reader needs to judge the figures."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    load = os.getloadavg()[0]
    return {
        "processor": f"{model}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "load": f"{load:.2f} when this began",
    }
