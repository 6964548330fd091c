"""Starts real server processes quickly: each is forked from one that has imported the server, and opened nothing.

Most of a start is importing. Whoever starts and kills a server a thousand times pays for that once: what is forked
runs the very command line, in a process of its own, with its own locks, files and loop. Needs `os.pidfd_open` (Linux).
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

# All that a server imports, also what it imports only when it is wanted.
_MODULES = (
    "mesimqtt.cli.main",
    "mesimqtt.cli.logs",
    "mesimqtt.app",
    "mesimqtt.configuration",
    "mesimqtt.broker.broker",
    "mesimqtt.broker.compiled",
    "mesimqtt.broker.loop",
    "mesimqtt_plugins.acl",
    "mesimqtt_plugins.auth",
    "mesimqtt_plugins.routing",
    "mesimqtt_plugins.sys_topics",
    "concurrent.futures.thread",
    "encodings.idna",
    "pydantic_settings",
    "typer._adapters",
    "uvloop",
)
_REQUEST_MAX = 65_536
_NUMBER = 8  # bytes of a process id or an exit code on the link, signed


class Nursery:
    """A process that imports the server once and forks `mesimqtt` commands for its owner; it goes when he goes."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._asking = threading.Lock()
        self._environment = dict(os.environ)  # what the nursery has
        self._forked: list[Forked] = []
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def is_possible() -> bool:
        """Tell whether this system has what a nursery needs."""
        return hasattr(os, "pidfd_open") and hasattr(socket, "send_fds")

    def start(self, arguments: Sequence[str], *, stdout: int, stderr: int) -> Forked:
        """Run `mesimqtt` with `arguments` in a process of its own, its output to these descriptors.

        It runs in the folder and the environment that this process has now.
        """
        link, theirs = socket.socketpair()
        asked = json.dumps([list(arguments), str(Path.cwd()), self._changes()]).encode()
        with theirs, self._asking:
            socket.send_fds(self._control, [asked], [theirs.fileno(), stdout, stderr])
            pid = int.from_bytes(link.recv(_NUMBER, socket.MSG_WAITALL), signed=True)
            forked = Forked(pid, link)
            self._forked = [each for each in self._forked if each.poll() is None]
            self._forked.append(forked)
        return forked

    def _changes(self) -> dict[str, str | None]:
        """Return what is different in the environment since the nursery was made; None: it is gone."""
        then, now = self._environment, dict(os.environ)
        return {name: now.get(name) for name in then.keys() | now.keys() if now.get(name) != then.get(name)}

    def close(self) -> None:
        """End the nursery; what it has forked is killed with it."""
        for each in self._forked:
            each.kill()
            each.wait()
        self._control.close()
        self._process.wait()


@cache
def shared() -> Nursery | None:
    """Return the nursery of this process, made at the first call and gone with it; None where it is not possible."""
    if not Nursery.is_possible():
        return None
    nursery = Nursery()
    atexit.register(nursery.close)
    return nursery


class Forked:
    """A process of the nursery, as much like `subprocess.Popen` as a `Server` needs."""

    def __init__(self, pid: int, link: socket.socket) -> None:
        self.pid = pid
        self._link = link
        self._code: int | None = None
        self._waiting = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._read(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code. Raises subprocess.TimeoutExpired."""
        code = self._read(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("mesimqtt", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended, and its guard is about to tell
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _read(self, timeout: float | None) -> int | None:
        with self._waiting:
            if self._code is None and select.select([self._link], [], [], timeout)[0]:
                told = self._link.recv(_NUMBER, socket.MSG_WAITALL)
                self._code = int.from_bytes(told, signed=True) if told else -signal.SIGKILL
                self._link.close()
            return self._code


def main() -> int:
    """Import the server, then fork whatever the owner asks for, until he is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner: when he goes, all goes
    for name in _MODULES:
        with contextlib.suppress(ImportError):  # some are not everywhere
            importlib.import_module(name)
    gc.freeze()  # what is imported stays: no collection of a child walks over it, and copies its pages
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the guards need no burial
    control = socket.socket(fileno=int(sys.argv[1]))
    while True:
        asked, descriptors, _, _ = socket.recv_fds(control, _REQUEST_MAX, 3)
        if not asked:
            return 0
        if not os.fork():
            control.close()
            _guard(json.loads(asked), *descriptors)
            return 0
        for each in descriptors:
            os.close(each)


def _guard(asked: tuple[list[str], str, dict[str, str | None]], link: int, stdout: int, stderr: int) -> None:
    """Fork the command, tell its process id and then its exit code; kill it if nobody wants to know any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        os.close(link)
        arguments, folder, environment = asked
        _move(folder, environment)
        _command(arguments, stdout, stderr)
        return
    os.close(stdout)
    os.close(stderr)
    os.write(link, pid.to_bytes(_NUMBER, signed=True))
    ended = os.pidfd_open(pid)
    if ended not in select.select([link, ended], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(link, code.to_bytes(_NUMBER, signed=True))
    os._exit(0)  # at once: there is nothing to end in order here


def _move(folder: str, environment: dict[str, str | None]) -> None:
    """Be in the folder and the environment of who has asked."""
    os.chdir(folder)
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ.update({name: value})


def _command(arguments: list[str], stdout: int, stderr: int) -> None:
    """Be `python -m mesimqtt ARGUMENTS`."""
    for each, place in ((stdout, 1), (stderr, 2)):
        os.dup2(each, place)
        os.close(each)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["mesimqtt", *arguments]
    runpy.run_module("mesimqtt", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.exit(main())
