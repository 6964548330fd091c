"""The first five minutes of README.md, done as they are written, in an empty folder against a real server.

A block marked `<!-- run -->` is pasted into one shell, in order; `<!-- run: wait for "text" -->` also waits
until the terminal has shown that text since. A block marked `<!-- shown -->` must appear on that terminal,
where `…` stands for anything. Nothing is changed but the ports and the id that the reader is asked to copy.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mesimqtt.testing.ports import KeptPort

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = Path(__file__).resolve().parent.parent
DEADLINE_S = 90.0
_BLOCK = re.compile(
    r'^<!-- (?P<kind>run|shown)(?:: wait for "(?P<until>[^\n]+)")? -->\n```(?P<language>\w+)\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)


_ELSEWHERE = re.compile(r"^<!-- run by (\S+) -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Terminal:
    """One shell in an empty folder, and all that it and its background jobs have shown.

    It is a pseudo-terminal, because a program writes line by line only where somebody is looking.
    """

    def __init__(self, folder: Path, port: int, http_port: int) -> None:
        self.folder = folder
        self.port = port
        self.http_port = http_port
        self.pasted = 0
        self._seen = bytearray()
        settings = folder / "settings"
        settings.mkdir()
        # Their own way to have other defaults; -d tells when a subscription is granted.
        (settings / "mosquitto_pub").write_text(f"-p {port}\n")
        (settings / "mosquitto_sub").write_text(f"-p {port}\n-d\n")
        self._screen, inside = pty.openpty()
        self.shell = subprocess.Popen(
            ["bash", "-s"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=inside,
            stderr=inside,
            env={**os.environ, "XDG_CONFIG_HOME": str(settings)},
            start_new_session=True,
        )
        os.close(inside)
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _watch(self) -> None:
        with contextlib.suppress(OSError):  # EIO: nobody writes to the terminal any more
            while chunk := os.read(self._screen, 65_536):
                self._seen += chunk

    @property
    def shown(self) -> str:
        """Return all that the terminal shows."""
        return bytes(self._seen).decode(errors="replace").replace("\r\n", "\n")

    def paste(self, language: str, text: str, until: str | None) -> None:
        """Run a block to its end, then wait until the terminal has shown `until` since."""
        before = len(self.shown)
        self.pasted += 1
        if language == "python":
            script = self.folder / f"block{self.pasted}.py"
            script.write_text(text.replace("1883", str(self.port)))
            text = f"{sys.executable} {script.name}\n"
        options = f"--ws off --mqtt 127.0.0.1:{self.port} --http 127.0.0.1:{self.http_port}"
        text = text.replace("mesimqtt serve", f"mesimqtt serve {options}")
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.http_port}")
        if "the-16-hex-digits" in text:
            self.wait_for(r"m/bob/in/u/alice/[0-9a-f]{16}", 0)
            found = re.search(r"m/bob/in/u/alice/([0-9a-f]{16})", self.shown)
            text = text.replace("the-16-hex-digits", found[1] if found else "")
        done = f"block {self.pasted} is done"
        assert self.shell.stdin is not None
        self.shell.stdin.write(f"{text}\necho {done}: $?\n".encode())
        self.shell.stdin.flush()
        self.wait_for(f"{done}: 0", before)
        if until:
            self.wait_for(re.escape(until.replace('\\"', '"')), before)

    def wait_for(self, pattern: str, start: int) -> None:
        """Wait until the terminal shows `pattern` after its first `start` characters."""
        deadline = time.monotonic() + DEADLINE_S
        while not re.search(pattern, self.shown[start:]):
            assert time.monotonic() < deadline, f"waited for {pattern!r}; the terminal shows:\n{self.shown}"
            time.sleep(0.02)

    def made(self) -> list[Path]:
        """List what the blocks have left in the folder."""
        own = {".venv", "settings", *(f"block{number}.py" for number in range(self.pasted + 1))}
        return [path for path in self.folder.iterdir() if path.name not in own]

    def close(self) -> None:
        """End the shell and whatever the reader left running in it."""
        assert self.shell.stdin is not None
        self.shell.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self.shell.pid, number)
                self.shell.wait(5)
        self._watcher.join()
        os.close(self._screen)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Give a terminal whose `.venv` is this one and whose port is free."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    mqtt, http = KeptPort("127.0.0.1"), KeptPort("127.0.0.1")
    opened = Terminal(tmp_path, mqtt.number, http.number)
    yield opened
    opened.close()
    for kept in (mqtt, http):
        kept.release()


def blocks() -> list[re.Match[str]]:
    """List the marked blocks of README.md in order."""
    return list(_BLOCK.finditer((HOME / "README.md").read_text(encoding="utf-8")))


def is_ignored(name: str) -> bool:
    """Tell whether git leaves a name alone: data, backups and recordings hold secrets."""
    lines = (HOME / ".gitignore").read_text(encoding="utf-8").split()
    return any(fnmatchcase(name, line.strip("/")) for line in lines)


@pytest.mark.tools("mosquitto_pub", "curl")
def test_the_first_five_minutes_are_as_written(terminal: Terminal) -> None:
    """Every marked block runs without an error and shows what README.md says; `git add` takes nothing that it made."""
    for block in blocks():
        if block["kind"] == "run":
            terminal.paste(block["language"], block["text"], block["until"])
            continue
        for line in block["text"].splitlines():
            pattern = "".join(".*" if part == "…" else re.escape(part) for part in re.split("(…)", line))
            terminal.wait_for(f"(?m)^{pattern}$", 0)

    assert "Traceback" not in terminal.shown
    assert [] == [path.name for path in terminal.made() if not is_ignored(path.name)]


def test_every_command_block_is_marked_or_only_installs() -> None:
    """A block of commands in README.md is run here, but for the two that the Makefile stands for."""
    text = (HOME / "README.md").read_text(encoding="utf-8")
    marked = {block["text"] for block in blocks() if block["kind"] == "run"}
    for file, block in _ELSEWHERE.findall(text):
        assert "README.md" in (HOME / file).read_text(encoding="utf-8")
        marked.add(block)
    unmarked = [
        block
        for block in re.findall(r"^```(?:sh|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if block not in marked
    ]

    assert len(marked) >= 6
    assert ["make demo"] == [block.split("  ")[0].strip() for block in unmarked]
