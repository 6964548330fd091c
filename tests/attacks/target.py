"""The server under attack, started as an operator would with production.yaml, and two innocents who chat on it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from attacks.attacker import Attacker, as_message, publish
from stopwatch import Stopwatch, threads_of

PRODUCTION = Path(__file__).resolve().parents[2] / "config" / "production.yaml"
CHAT_S = 0.03  # between two messages of the innocents: 33 a second
LOG_S = 30  # for a line of the log
FILES_S = 30  # for the server's end of connections whose other end has seen it
LAST_S = 30  # for what is on its way at the end of a chat; how late each may be is asked of all of them alike


class Target:
    """A server process. `changes` are (old, new) texts of its configuration, `options` those of `serve`."""

    def __init__(self, folder, *changes, options=()):
        self.folder = folder
        self.data = folder / "data"
        self.tokens = {}
        self._count = 0
        config = PRODUCTION.read_text()
        for old, new in changes:
            assert old in config
            config = config.replace(old, new, 1)
        (folder / "config.yaml").write_text(config)
        self._log = folder / "log"
        self.command = [
            sys.executable,
            "-m",
            "mesimqtt",
            "serve",
            "--data",
            str(self.data),
            "--mqtt",
            "127.0.0.1:0",
            "--http",
            "off",
        ]
        self.command += ["--ws", "127.0.0.1:0", "--config", str(folder / "config.yaml"), *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.port, self.ws_port = map(self._ready, ("mqtt", "ws"))

    def _ready(self, kind):
        line = self.process.stdout.readline()
        assert line.startswith(f"ready {kind}"), self.log
        return int(line.rpartition(":")[2])

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()

    def ask(self, op, **arguments):
        return json.loads(self.say(json.dumps({"op": op, "args": arguments}).encode()))

    def say(self, line):
        """Write a line to the control socket; return the answer."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(30)
            control.connect(os.path.relpath(self.data / "control.sock"))
            with contextlib.suppress(BrokenPipeError):  # a server that is busy says so and hangs up without listening
                control.sendall(line + b"\n")
            return control.makefile("rb").readline()

    def users(self, *names):
        """Make users and give each a token."""
        assert self.ask("user_add", addresses=list(names))["ok"]
        for one in self.ask("token_issue", addresses=list(names))["result"]["tokens"]:
            self.tokens[one["address"]] = one["token"]

    def somebody(self, client_id="phone", **options):
        """Return the connection of a new user who listens to everything of his own."""
        self._count += 1
        name = f"user{self._count}"
        self.users(name)
        return self.client(name, client_id, **options).listen()

    def client(self, user, client_id="phone", **options):
        found = self.raw().enter(user, self.tokens[user], client_id, **options)
        assert 0 == found.code, f"CONNACK {found.code}, {'closed' if found.is_closed else 'open'}: {self.log[-2000:]}"
        return found

    def raw(self, data=b""):
        """Connect from a loopback address of its own and send `data`."""
        self._count += 1
        return Attacker(self.port, source=f"127.0.{1 + self._count // 250 % 250}.{1 + self._count % 250}").send(data)

    @property
    def log(self):
        """What is written of the log so far: a thread writes it, so a line may be later than the answer it is about."""
        return self._log.read_text()

    def logged(self, *parts, wait_s=LOG_S):
        """Return the log's lines in which all `parts` stand; wait for the first of them for at most `wait_s`."""
        end = time.monotonic() + wait_s
        while not (lines := self._lines(parts)) and time.monotonic() < end:
            time.sleep(0.01)
        return lines

    def _lines(self, parts):
        return [line for line in self.log.splitlines() if all(part in line for part in parts)]

    @property
    def rss_mb(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    @property
    def open_files(self):
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def files_left(self, most):
        """Return how many files are open; wait until there are no more than `most`, for at most FILES_S."""
        end = time.monotonic() + FILES_S
        while (found := self.open_files) > most and time.monotonic() < end:
            time.sleep(0.02)
        return found


def disk_stalled_s():
    """Return for how long since its start the machine's disk has made somebody wait; 0 where nobody counts that."""
    try:
        told = Path("/proc/pressure/io").read_text()
        return int(told.partition("some ")[2].partition("total=")[2].split()[0]) / 1e6
    except (OSError, IndexError):
        return 0.0


class Chat(threading.Thread):
    """ann writes to ben all the time; afterwards `sent` and `got` are equal, and `late` says how late they came."""

    def __init__(self, target, ann, ben):
        super().__init__(daemon=True)
        target.users(ann, ben)
        self._pid = target.process.pid
        self._ann, self._ben = (Attacker(target.port, source="127.0.0.1") for _ in range(2))
        for attacker, name in ((self._ann, ann), (self._ben, ben)):
            attacker.enter(name, target.tokens[name], "phone").listen()
        self._topic = f"m/{ann}/out/u/{ben}/"
        self._is_over = threading.Event()
        self.sent, self.got, self.late = [], [], []
        self.start()

    def run(self):
        started, due = {}, time.monotonic()
        threads = [*threads_of(self._pid), Path(f"/proc/self/task/{threading.get_native_id()}")]
        while not self._is_over.is_set() or (len(self.got) < len(self.sent) and time.monotonic() < due + LAST_S):
            if not self._is_over.is_set() and time.monotonic() >= due:
                number = len(self.sent) + 1
                started[b"%d" % number] = Stopwatch(threads), disk_stalled_s()
                self.sent.append(b"%d" % number)
                self._ann.send(publish(f"{self._topic}c{number}", b"%d" % number, 1, number % 65_000 + 1))
                due += CHAT_S
            poll = select.poll()
            for attacker in (self._ann, self._ben):
                poll.register(attacker.socket, select.POLLIN)
            poll.poll(max(1.0, (due - time.monotonic()) * 1000))
            while (found := self._ben.next(0)) is not None:
                self._ben._acknowledge(found)
                read = as_message(found)
                if read is not None and "/in/u/" in read[0]:
                    self.got.append(read[1])
                    watch, stalled_s = started.pop(read[1])
                    # A message waits for its commit: what others on this disk took from it is not the server's.
                    late_s = watch.elapsed_s
                    self.late.append(max(late_s / 10, late_s - (disk_stalled_s() - stalled_s)))
            while (found := self._ann.next(0)) is not None:
                self._ann._acknowledge(found)
            if self._ann.is_closed or self._ben.is_closed:
                return

    def end(self):
        self._is_over.set()
        self.join(2 * LAST_S)
        self._ann.close()
        self._ben.close()
