"""What is read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

from mesimqtt.bench.machine import Process, file_system

MOUNTS = """\
/dev/vda / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/vdb /run/data xfs rw 0 0
tmpfs /with\\040space tmpfs rw 0 0
"""


def test_the_longest_mount_point_holds_the_folder() -> None:
    """A folder lies on the file system whose mount point is the nearest above it."""
    found = [file_system(Path(folder), MOUNTS) for folder in ("/srv", "/run/x", "/run/data/y", "/with space", "/runs")]

    assert [
        ("ext4", "/"),
        ("tmpfs", "/run"),
        ("xfs", "/run/data"),
        ("tmpfs", "/with space"),
        ("ext4", "/"),
    ] == found


def test_cpu_of_all_threads(tmp_path: Path) -> None:
    """The broker's CPU is the sum of its threads, in nanoseconds, or in ticks where the kernel has no better."""
    for thread, name, text in (
        ("7", "schedstat", "1500000000 250000000 3\n"),
        ("8", "schedstat", "250000000 0 3\n"),
        ("9", "stat", "9 (a b) c) S 1 1 1 0 -1 0 0 0 0 0 100 50 0 0\n"),
    ):
        folder = tmp_path / "7" / "task" / thread
        folder.mkdir(parents=True)
        (folder / name).write_text(text)
    (tmp_path / "7" / "status").write_text("Name:\tx\nVmHWM:\t  5000 kB\nVmRSS:\t  4321 kB\n")
    process = Process(7, tmp_path)

    assert 1.75 + 150 / os.sysconf("SC_CLK_TCK") == process.cpu_s()
    assert (4321, 5000) == (process.memory_kb(), process.memory_peak_kb())
    assert 0.25 == process.waited_s()


def test_nobody_is_measured_as_nobody() -> None:
    """Without a process id there is neither CPU nor memory to tell."""
    process = Process(None)

    assert process.read().broker_s is None
    assert process.memory_kb() is None
    assert 0.0 == process.waited_s()


def test_a_server_is_measured_once_it_rests(tmp_path: Path) -> None:
    """What it does after its start (ours reads tokens ahead) is waited for; what never rests is not, for ever."""
    task = tmp_path / "7" / "task" / "7"
    task.mkdir(parents=True)
    process, clock = Process(7, tmp_path), task / "schedstat"

    def looks(*busy_ms: int) -> int:
        spent, slept = 0, 0
        clock.write_text("0 0 0")

        def sleep(_seconds: float) -> None:
            nonlocal spent, slept
            spent += busy_ms[min(slept, len(busy_ms) - 1)]
            slept += 1
            clock.write_text(f"{spent * 1_000_000} 0 0")

        process.wait_idle(sleep)
        return slept

    assert [1, 3, 100] == [looks(1), looks(90, 60, 4), looks(100)]
