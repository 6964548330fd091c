"""Ctrl-C in a self-test: a sentence, and nothing that is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from integration.server import wait_until

# A suite that a shell started in the background ignores SIGINT, and so would all that it starts.
_AT_A_TERMINAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from mesimqtt.__main__ import main
main()
"""


def test_ctrl_c_ends_all_of_it(tmp_path: Path) -> None:
    """A self-test that is interrupted at a terminal says so, and leaves neither processes nor folders."""
    command = [sys.executable, "-c", _AT_A_TERMINAL, "selftest", "kills", "--kills", "60", "--folder", str(tmp_path)]
    with subprocess.Popen(
        [*command, "--report", str(tmp_path / "report")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        wait_until(lambda: any(tmp_path.glob("mesimqtt-kills-*/*/data/mesimqtt.db")))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said, _ = process.communicate(timeout=90)

    assert 130 == process.returncode
    assert "interrupted" in said
    assert "Traceback" not in said
    assert ["report.json", "report.md"] == sorted(each.name for each in tmp_path.iterdir())
    wait_until(lambda: not naming(tmp_path))


def naming(folder: Path) -> list[bytes]:
    """Return the command lines of processes that name a folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = each.read_bytes()
        except OSError:  # it has just ended
            continue
        if os.fsencode(folder) in line:
            found.append(line)
    return found
