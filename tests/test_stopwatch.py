"""The stopwatch of tests: what a busy machine takes away does not count, and yet it never stands still."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stopwatch import Stopwatch, threads_of, waited_ns

if TYPE_CHECKING:
    from pathlib import Path


def thread(folder: Path, waited_s: float) -> Path:
    """Return a thread that has waited so long for a processor, as the kernel says it."""
    folder.mkdir(exist_ok=True)
    (folder / "schedstat").write_text(f"1000 {waited_s * 1e9:.0f} 7\n")
    return folder


def test_waiting_for_a_processor_does_not_count(tmp_path: Path) -> None:
    """What a thread waited before is not taken off, what it waits from then on is: down to a tenth of the time."""
    one, other = thread(tmp_path / "1", 500.0), thread(tmp_path / "2", 0.0)
    before = time.monotonic()
    watch = Stopwatch([one, other])
    began = time.monotonic()
    while time.monotonic() - began < 0.01:
        pass
    quiet = watch.elapsed_s
    thread(other, 1_000.0)
    busy = watch.elapsed_s
    took = time.monotonic() - before

    assert 0.01 <= quiet <= took
    assert 0.001 <= busy <= took / 10


def test_a_thread_that_has_ended_waits_no_more(tmp_path: Path) -> None:
    """What it had waited before is not added to the time; and nothing is known of a process that there is not."""
    one = thread(tmp_path / "1", 500.0)
    watch = Stopwatch([one])
    (one / "schedstat").unlink()

    assert watch.elapsed_s < 400
    assert 0 == waited_ns(tmp_path / "gone")
    assert [] == threads_of(0)
