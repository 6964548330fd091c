"""A real server in a process of its own, as an operator starts, asks, stops and kills it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Protocol, Self

from mesimqtt.testing.ports import KeptPort

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mesimqtt.testing.nursery import Nursery

READY = re.compile(r"ready mqtt (\S+):(\d+)\s*")
# How long is waited at most; how long something may take is for a trial to say, which knows how busy the machine is.
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 40.0
COMMAND_DEADLINE_S = 60.0


class ServerError(AssertionError):
    """The server or one of its commands did not do what it was asked; the text holds what it printed."""


class Process(Protocol):
    """What a `Server` needs of its process: `subprocess.Popen`, or what a nursery has forked."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code. Raises subprocess.TimeoutExpired."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless the process has ended."""

    def kill(self) -> None:
        """Send SIGKILL."""


class Server:
    """`mesimqtt serve` on one data folder: it can be started again after a stop or a kill, on the port that it had.

    `with Server(folder) as server:` starts it and leaves no process behind. `wrapper` stands before the
    command line (`strace …`); it must leave the server's own process as the child (strace: `-D`). With a `nursery`
    starts and commands are quick.
    """

    def __init__(
        self,
        data: Path,
        *,
        config: Path | None = None,
        options: Sequence[str] = (),
        wrapper: Sequence[str] = (),
        nursery: Nursery | None = None,
    ) -> None:
        self.data = data
        self.host = "127.0.0.1"
        self.port = 0
        self._port = 0  # the former one, while a start is under way
        self._kept: KeptPort | None = None  # between two lives
        self._config = config
        self._options = tuple(options)
        self._wrapper = tuple(wrapper)
        self._nursery = nursery
        self._process: Process | None = None
        self._reader: threading.Thread | None = None
        self._printed: deque[str] = deque(maxlen=200)
        self._ready = threading.Condition()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_running:
            self.kill()
        self._release()

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
        self.begin(port=port)
        self.wait_ready()

    def begin(self, *, port: int | None = None) -> None:
        """Start the server's process and do not wait until it is ready."""
        if self.is_running:
            raise ServerError("the server is already running")
        wanted = self.port if port is None else port
        self.port, self._port = 0, wanted
        listeners = ["--mqtt", f"{self.host}:{wanted}", "--ws", "off", "--http", "off"]
        config = ["--config", str(self._config)] if self._config else []
        reading, writing = os.pipe()
        try:
            arguments = ["serve", "--data", str(self.data), *listeners, *config, *self._options]
            self._process = self._launch(arguments, stdout=writing, stderr=writing)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._reader = threading.Thread(target=self._read, args=(self._process, reading), daemon=True)
        self._reader.start()

    def wait_ready(self) -> None:
        """Wait until the server that `begin` started is ready."""
        process = self._running()
        with self._ready:
            self._ready.wait_for(lambda: self.port or process.poll() is not None, START_DEADLINE_S)
        if not self.port:
            self.kill()
            raise ServerError(f"no `ready mqtt` line after {START_DEADLINE_S:.0f} s:\n{self.printed}")
        self._release()

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        return self._ended(process)

    def kill(self) -> None:
        """Send SIGKILL: what a power switch does to a process."""
        process = self._process
        if process is not None:
            process.kill()
            self._ended(process)
        self.port = self.port or self._port

    def send_signal(self, number: int) -> None:
        """Send a signal to the running server and wait for nothing."""
        self._running().send_signal(number)

    def wait(self, deadline_s: float = STOP_DEADLINE_S) -> int:
        """Wait until the server ends by itself and return the exit code."""
        if self._process is None:
            raise ServerError("the server was never started")
        return self._ended(self._process, deadline_s)

    def restart(self) -> None:
        """Stop with SIGTERM and start again on the same port."""
        self.stop()
        self.start()

    def run(self, *arguments: str) -> str:
        """Run a command of the command line on this data folder and return what it printed.

        It works on a running server and on a stopped one alike (contract section 7).
        """
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = self._launch(
                [*arguments, "--data", str(self.data)], stdout=output.fileno(), stderr=errors.fileno()
            )
            try:
                code = process.wait(COMMAND_DEADLINE_S)
            finally:
                process.kill()
            printed, said = _text(output), _text(errors)
        if code:
            raise ServerError(f"`mesimqtt {' '.join(arguments)}` ended with {code}:\n{f'{printed}{said}'.strip()}")
        return printed

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

    def _launch(self, arguments: Sequence[str], *, stdout: int, stderr: int) -> Process:
        if self._nursery is not None and not self._wrapper:
            return self._nursery.start(arguments, stdout=stdout, stderr=stderr)
        wrapper = self._wrapper if arguments[0] == "serve" else ()
        command = [*wrapper, *_COMMAND, *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)

    def _running(self) -> Process:
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"the server is not running:\n{self.printed}")
        return self._process

    def _ended(self, process: Process, deadline_s: float = STOP_DEADLINE_S) -> int:
        try:
            code = process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerError(f"the server did not end within {deadline_s:g} s:\n{self.printed}") from None
        finally:
            if self._reader is not None:
                self._reader.join(STOP_DEADLINE_S)
            self._keep()
        return code

    def _keep(self) -> None:
        """Hold the port for the next start."""
        port = self.port or self._port
        if port and self._kept is None:
            with contextlib.suppress(OSError):  # somebody was quicker: the next start says so
                self._kept = KeptPort(self.host, port)

    def _release(self) -> None:
        if self._kept is not None:
            self._kept.release()
            self._kept = None

    def _read(self, process: Process, output: int) -> None:
        with open(output, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                self._printed.append(line.rstrip("\n"))
                if match := READY.fullmatch(line):
                    with self._ready:
                        self.port = int(match[2])
                        self._ready.notify_all()
        process.wait()
        with self._ready:
            self._ready.notify_all()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


_COMMAND = (sys.executable, "-m", "mesimqtt")


def wait_until(condition: Callable[[], object], *, deadline_s: float = 30.0, what: str = "the condition") -> None:
    """Call `condition` until it is true; fail with `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {deadline_s:g} s")
        time.sleep(0.005)
