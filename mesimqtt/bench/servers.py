"""The servers that are measured: each a process of its own, on one core, fresh for every measurement."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesimqtt.bench.loop import Address, BenchError, open_socket
from mesimqtt.bench.machine import Process, pinned
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 20.0
USERS_AT_ONCE = 1_000
_READY = "ready mqtt "
_MOSQUITTO_OPTIONS = {
    "allow_anonymous": "true",
    "persistence": "false",
    "max_inflight_messages": "0",
    "max_queued_messages": "0",
    "set_tcp_nodelay": "true",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A server that listens. `tokens` holds a token for each user that it knows; `data` is our own's folder."""

    name: str
    address: Address
    process: Process
    tokens: Mapping[str, str] = field(default_factory=dict)
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class Ours:
    """How our server is started: from a copy of the data folder `template`."""

    folder: Path
    core: int
    template: Path
    tokens: Mapping[str, str]
    name: str = "mesimqtt"

    @contextmanager
    def started(self, environment: Mapping[str, str] | None = None) -> Iterator[Target]:
        """Start it on a fresh copy of the data, and stop it."""
        data = self.folder / "data"
        shutil.copytree(self.template, data, ignore=shutil.ignore_patterns("control.sock", "lock"))
        log = self.folder / "mesimqtt.log"
        command = [sys.executable, "-m", "mesimqtt", "serve", "--data", str(data), "--mqtt", "127.0.0.1:0"]
        command += ["--ws", "off", "--http", "off", "--open"]
        try:
            with _process(command, self.core, log, environment) as process:
                port = _wait_for_port(process, log)
                measured = Process(process.pid)
                measured.wait_idle()
                yield Target(self.name, ("127.0.0.1", port), measured, self.tokens, data)
        finally:
            shutil.rmtree(data, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Mosquitto:
    """How mosquitto is started: everything in memory, nothing bounded, as fast as it goes."""

    folder: Path
    core: int
    program: str
    name: str = "mosquitto"

    @contextmanager
    def started(self, environment: Mapping[str, str] | None = None) -> Iterator[Target]:
        """Start it, and stop it."""
        port = _free_port()
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text(mosquitto_configuration(port), encoding="utf-8")
        log = self.folder / "mosquitto.log"
        with _process([self.program, "-c", str(configuration)], self.core, log, environment) as process:
            address = ("127.0.0.1", port)
            _wait_for_listener(process, address, log)
            yield Target(self.name, address, Process(process.pid))


@dataclass(frozen=True, slots=True)
class Foreign:
    """A server that somebody else runs, given as HOST:PORT; its process is not known."""

    address: Address
    name: str

    @contextmanager
    def started(self, environment: Mapping[str, str] | None = None) -> Iterator[Target]:
        """Check that it answers; it is never started nor stopped."""
        del environment
        open_socket(self.address).close()
        yield Target(self.name, self.address, Process(None))


@dataclass(frozen=True, slots=True)
class Nats:
    """How nats-server is started: its MQTT gateway, which wants JetStream, in a folder of its own."""

    folder: Path
    core: int
    program: str
    name: str = "nats-server"

    @contextmanager
    def started(self, environment: Mapping[str, str] | None = None) -> Iterator[Target]:
        """Start it, and stop it."""
        port, store = _free_port(), self.folder / "jetstream"
        configuration = self.folder / "nats.conf"
        configuration.write_text(nats_configuration(port, _free_port(), store), encoding="utf-8")
        log = self.folder / "nats.log"
        try:
            with _process([self.program, "-c", str(configuration)], self.core, log, environment) as process:
                address = ("127.0.0.1", port)
                _wait_for_listener(process, address, log)
                yield Target(self.name, address, Process(process.pid))
        finally:
            shutil.rmtree(store, ignore_errors=True)


Server = Ours | Mosquitto | Nats | Foreign


def nats_configuration(port: int, client_port: int, store: Path) -> str:
    """Return the configuration file of nats-server."""
    return "\n".join(
        (
            "server_name: bench",
            f"listen: 127.0.0.1:{client_port}",
            f"jetstream {{ store_dir: {json.dumps(str(store))} }}",
            f"mqtt {{ listen: 127.0.0.1:{port}, max_ack_pending: 65535 }}",
            "",
        )
    )


def find_nats() -> str | None:
    """Return the path of nats-server, None if there is none."""
    return shutil.which("nats-server", path=os.pathsep.join([*os.get_exec_path(), "/usr/sbin"]))


def mosquitto_configuration(port: int) -> str:
    """Return mosquitto's configuration file."""
    lines = [f"{key} {value}" for key, value in _MOSQUITTO_OPTIONS.items()]
    return "\n".join([*lines, f"listener {port} 127.0.0.1"]) + "\n"


def mosquitto_facts() -> str:
    """Return mosquitto's options in one line."""
    return ", ".join(f"{key} {value}" for key, value in _MOSQUITTO_OPTIONS.items())


def find_mosquitto() -> str:
    """Return the path of mosquitto; raise MesimqttError if there is none."""
    program = shutil.which("mosquitto", path=os.pathsep.join([*os.get_exec_path(), "/usr/sbin"]))
    if program is None:
        raise MesimqttError("mosquitto is not installed: `apt install mosquitto`, or give --against HOST:PORT")
    return program


def mosquitto_version(program: str) -> str:
    """Return the version that mosquitto says of itself."""
    shown = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout
    return shown.split("\n", 1)[0].removeprefix("mosquitto version ").strip() or "unknown"


def parse_address(text: str) -> Address:
    """Parse HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise MesimqttError(f"--against {text!r}: write HOST:PORT, for example 127.0.0.1:1883")
    return socket.gethostbyname(host), int(port)


def provision(template: Path, users: Sequence[str]) -> dict[str, str]:
    """Make a data folder with `users`, through the command line; return their tokens."""
    template.mkdir(mode=0o700, exist_ok=True)
    tokens: dict[str, str] = {}
    for at in range(0, len(users), USERS_AT_ONCE):
        some = users[at : at + USERS_AT_ONCE]
        _command("user", "add", *some, "--data", str(template))
        tokens |= parse_tokens(_command("token", "issue", *some, "--data", str(template)))
    missing = [user for user in users if user not in tokens]
    if missing:
        raise BenchError(f"`mesimqtt token issue` printed no token for {missing[0]!r}")
    return tokens


def parse_tokens(text: str) -> dict[str, str]:
    """Parse the lines `address<TAB>token` of `mesimqtt token issue`."""
    pairs = (line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    return {user: token.strip() for user, token in pairs}


def _command(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "mesimqtt", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"`mesimqtt {words[0]} {words[1]}` failed: {_tail(done.stderr)}")
    return done.stdout


@contextmanager
def _process(
    command: Sequence[str], core: int, log: Path, environment: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[bytes]]:
    surroundings = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
    with log.open("wb") as output, pinned(core):
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=surroundings)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait for the line that names the port."""
    deadline = time.monotonic() + START_DEADLINE_S
    while process.poll() is None and time.monotonic() < deadline:
        port = ready_port(log.read_text(encoding="utf-8"))
        if port is not None:
            return port
        time.sleep(0.01)
    raise BenchError(f"our server did not become ready: {_tail(log.read_text(encoding='utf-8'))}")


def ready_port(printed: str) -> int | None:
    """Return the port that our server has printed, if its line is whole."""
    for line in printed.splitlines(keepends=True):
        if line.startswith(_READY) and line.endswith("\n"):
            return int(line.rsplit(":", 1)[1])
    return None


def _wait_for_listener(process: subprocess.Popen[bytes], address: Address, log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            open_socket(address).close()
        except BenchError:
            time.sleep(0.02)
        else:
            return
    raise BenchError(f"{log.stem} did not start: {_tail(log.read_text(encoding='utf-8'))}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _tail(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-3:]) or "it said nothing"
