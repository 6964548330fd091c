"""A real server in a process of its own, as an operator starts, asks, stops and kills it."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

READY = re.compile(r"ready mqtt (\S+):(\d+)\s*")
START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 10.0
COMMAND_DEADLINE_S = 30.0


class ServerError(AssertionError):
    """The server or one of its commands did not do what it was asked; the text holds what it printed."""


class Server:
    """`mesimqtt serve` on one data folder: it can be started again after a stop or a kill.

    `with Server(folder) as server:` starts it and leaves no process behind. `wrapper` stands before the
    command line (`strace …`); it must leave the server's own process as the child (strace: `-D`).
    """

    def __init__(
        self,
        data: Path,
        *,
        config: Path | None = None,
        options: Sequence[str] = (),
        wrapper: Sequence[str] = (),
    ) -> None:
        self.data = data
        self.host = "127.0.0.1"
        self.port = 0
        self._config = config
        self._options = tuple(options)
        self._wrapper = tuple(wrapper)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._printed: deque[str] = deque(maxlen=200)
        self._ready = threading.Condition()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_running:
            self.kill()

    @property
    def is_running(self) -> bool:
        """Tell whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    @property
    def printed(self) -> str:
        """The last 200 lines that the server printed, over all its starts."""
        return "\n".join(self._printed)

    def start(self, *, port: int | None = None) -> None:
        """Start the server and wait for its ready line. `port`: None for the former one, if any, else a free one."""
        if self.is_running:
            raise ServerError("the server is already running")
        wanted = self.port if port is None else port
        self.port = 0
        listeners = ["--mqtt", f"{self.host}:{wanted}", "--ws", "off", "--http", "off"]
        config = ["--config", str(self._config)] if self._config else []
        self._process = subprocess.Popen(
            [*self._wrapper, *_COMMAND, "serve", "--data", str(self.data), *listeners, *config, *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        process = self._process
        with self._ready:
            self._ready.wait_for(lambda: self.port or process.poll() is not None, START_DEADLINE_S)
        if not self.port:
            self.kill()
            raise ServerError(f"no `ready mqtt` line after {START_DEADLINE_S:.0f} s:\n{self.printed}")

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        return self._ended(process)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal and wait for nothing."""
        self._running().send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL: what a power switch does to a process."""
        process = self._process
        if process is not None:
            process.kill()
            self._ended(process)

    def restart(self) -> None:
        """Stop with SIGTERM and start again on the same port."""
        self.stop()
        self.start()

    def run(self, *arguments: str) -> str:
        """Run a command of the command line on this data folder and return what it printed.

        It works on a running server and on a stopped one alike (contract section 7).
        """
        command = [*_COMMAND, *arguments, "--data", str(self.data)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_DEADLINE_S)
        if ended.returncode:
            said = f"{ended.stdout}{ended.stderr}".strip()
            raise ServerError(f"`mesimqtt {' '.join(arguments)}` ended with {ended.returncode}:\n{said}")
        return ended.stdout

    def add_users(self, *addresses: str) -> dict[str, str]:
        """Make users and return a token for each."""
        self.run("user", "add", *addresses)
        return self.issue(*addresses)

    def issue(self, *addresses: str) -> dict[str, str]:
        """Return a new token for each user."""
        printed = self.run("token", "issue", *addresses).strip()
        if len(addresses) == 1:
            return {addresses[0]: printed}
        return dict(line.split("\t", 1) for line in printed.splitlines())

    def add_group(self, group: str, *members: str) -> None:
        """Make a group of these members."""
        self.run("group", "add", group)
        self.run("group", "join", group, *members)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"the server is not running:\n{self.printed}")
        return self._process

    def _ended(self, process: subprocess.Popen[str]) -> int:
        try:
            code = process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerError(f"the server did not end within {STOP_DEADLINE_S:.0f} s:\n{self.printed}") from None
        finally:
            if self._reader is not None:
                self._reader.join(STOP_DEADLINE_S)
            if process.stdout is not None:
                process.stdout.close()
        return code

    def _read(self, process: subprocess.Popen[str]) -> None:
        stream = process.stdout
        if stream is None:
            return
        with contextlib.suppress(ValueError):  # closed under us: the process is gone
            for line in stream:
                self._printed.append(line.rstrip("\n"))
                if match := READY.fullmatch(line):
                    with self._ready:
                        self.port = int(match[2])
                        self._ready.notify_all()
        process.wait()
        with self._ready:
            self._ready.notify_all()


_COMMAND = (sys.executable, "-m", "mesimqtt")


def wait_until(condition: Callable[[], object], *, deadline_s: float = 5.0, what: str = "the condition") -> None:
    """Call `condition` until it is true; fail with `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {deadline_s:g} s")
        time.sleep(0.005)
