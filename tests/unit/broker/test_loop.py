"""The event loop's process: what is tuned before it runs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import ctypes, sys, threading
from mesimqtt.broker.loop import run

libc = ctypes.CDLL(None)
libc.fopen.restype = libc.malloc.restype = ctypes.c_void_p


def take(size):
    libc.malloc(size)  # never freed: an arena that is empty could be another's


async def main():
    for _ in range(3):
        thread = threading.Thread(target=take, args=(1_000,))
        thread.start()
        thread.join()
    file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
    assert libc.malloc_info(0, file) == 0
    libc.fclose(file)


run(main())
"""


def test_all_threads_have_their_memory_from_one_arena(tmp_path: Path) -> None:
    """Glibc gives each thread one of its own otherwise, which grows and shrinks with every commit."""
    report = tmp_path / "malloc.xml"
    subprocess.run([sys.executable, "-c", PROGRAM, str(report)], check=True)

    assert 1 == report.read_text(encoding="utf-8").count("<heap nr=")
