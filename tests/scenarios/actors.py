"""The clients of a transcript: what all have in common, and Debian's mosquitto_sub and mosquitto_pub."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scenarios.language import DEADLINE_S
from stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from scenarios.language import ClientSpec


class ActorError(AssertionError):
    """A client could not do what the sentence says."""


class ConnectRefusedError(ActorError):
    """The server answered CONNECT with a return code other than 0."""

    def __init__(self, code: int) -> None:
        super().__init__(f"CONNACK {code}")
        self.code = code


@dataclass(slots=True)
class Received:
    """A PUBLISH that a client received. `is_listed` once a line of the transcript asked for it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    connection: int
    is_listed: bool = False

    def __str__(self) -> str:
        text = self.payload[:200].decode("utf-8", "backslashreplace")
        return f'{self.topic} "{text}"{" (DUP)" if self.dup else ""}{" (retained)" if self.retain else ""}'


@dataclass(frozen=True, slots=True)
class Login:
    """Where and as whom a client connects."""

    host: str
    port: int
    user: str | None
    token: str


class Actor:
    """One client. Reader threads append to `received` under `board`, which all clients of a story share."""

    comes_back = False  # whether it makes a new connection by itself once its link is lost

    def __init__(self, spec: ClientSpec, login: Login, board: threading.Condition) -> None:
        self.spec = spec
        self.login = login
        self.board = board
        self.received: list[Received] = []
        self.connection = 0
        self.is_open = False
        self.granted: list[int] = []
        self.refusal: int | None = None
        self.lost_links = 0
        self.complaints: list[str] = []

    def connect(self, filters: list[tuple[str, int]]) -> None:
        """Connect, subscribe, and return once both are answered. Raises ConnectRefusedError."""
        raise ActorError(f"{self.spec.kind} cannot connect by itself")

    def subscribe(self, topic_filter: str, qos: int) -> int:
        """Subscribe and return what SUBACK grants."""
        raise ActorError(f"{self.spec.kind} cannot subscribe later on")

    def publish(self, topic: str, payload: bytes, qos: int | None, *, retain: bool = False) -> None:
        """Publish and return once it is acknowledged."""
        raise ActorError(f"{self.spec.kind} does not publish")

    def acknowledge(self) -> None:
        """Acknowledge all that was received and is not acknowledged yet."""
        raise ActorError(f"{self.spec.kind} acknowledges by itself")

    def disconnect(self) -> None:
        """Leave with a DISCONNECT."""
        raise ActorError(f"{self.spec.kind} has no connection of its own")

    def lose_link(self) -> None:
        """Leave without a word."""
        raise ActorError(f"{self.spec.kind} has no connection of its own")

    def server_gone(self) -> None:
        """Take note that the server was stopped or killed: a lost link is no surprise.

        Its own thread may have seen it first: the link was lost all the same, and what comes twice is a repeat.
        """
        self.lose_link()

    def close(self) -> None:
        """Leave nothing behind."""

    def arrived(self, received: Received) -> None:
        """Note a PUBLISH and wake who waits for it."""
        with self.board:
            self.received.append(received)
            self.board.notify_all()

    def changed(self, **values: object) -> None:
        """Set attributes that somebody may wait for."""
        with self.board:
            for name, value in values.items():
                setattr(self, name, value)
            self.board.notify_all()

    def wait(self, condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Wait until `condition` holds. A deadline that is a promise of the server is not the busy machine's fault."""
        watch = Stopwatch() if deadline_s < DEADLINE_S else None
        left_s = deadline_s
        with self.board:
            while not self.board.wait_for(condition, left_s):
                left_s = deadline_s - watch.elapsed_s if watch else 0
                if left_s <= 0:
                    raise ActorError(f"{what}: not within {deadline_s:g} s")


class MosquittoSub(Actor):
    """Debian's mosquitto_sub. It comes back by itself after a second, so a link the server cuts is told by that."""

    _FORMAT = "RECEIVED %t %q %r %x"
    _PUBLISH = re.compile(r"Client .* received PUBLISH \(d(\d), q(\d), r(\d), m\d+, ")
    _CONNACK = re.compile(r"Client .* received CONNACK \((\d+)\)")
    _SUBACK = re.compile(r"Subscribed \(mid: \d+\): ([\d, ]+)")

    def __init__(self, spec: ClientSpec, login: Login, board: threading.Condition) -> None:
        super().__init__(spec, login, board)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._dup = False
        self._announced = 0  # packets that it says it has received and has not shown yet
        self._output: list[str] = []

    def connect(self, filters: list[tuple[str, int]]) -> None:
        if not filters:
            raise ActorError("mosquitto_sub needs a filter: write `on m/alice/in/# at QoS 1`")
        spec, login = self.spec, self.login
        command = [
            "stdbuf",
            "-oL",
            "mosquitto_sub",
            "-h",
            login.host,
            "-p",
            str(login.port),
            "-i",
            spec.client_id,
            "-d",
        ]
        command += ["-u", login.user or "", "-P", login.token, "-F", self._FORMAT, "-k", str(spec.keep_alive_s)]
        command += ["-q", str(filters[0][1])]
        for topic_filter, _ in filters:
            command += ["-t", topic_filter]
        if spec.keeps_session:
            command += ["-c"]
        if spec.will:
            command += ["--will-topic", spec.will.topic, "--will-payload", spec.will.payload.decode()]
            command += ["--will-qos", str(spec.will.qos)]
        self.connection += 1
        self.changed(refusal=None, granted=[], _output=[], _announced=0)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        process = self._process
        self.wait(
            lambda: self.granted or self.refusal or process.poll() is not None, "mosquitto_sub connected and subscribed"
        )
        refusal = self.refusal
        if refusal:
            self.close()
            raise ConnectRefusedError(refusal)
        if not self.granted:
            raise ActorError("mosquitto_sub ended:\n" + "\n".join(self._output))

    def disconnect(self) -> None:
        self._end(signal.SIGTERM)

    def lose_link(self) -> None:
        self.lost_links += 1
        self._end(signal.SIGKILL)

    def close(self) -> None:
        if self._process is not None:
            self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        self.is_open = False
        process, self._process = self._process, None
        if process is None:
            raise ActorError("it is not connected")
        process.send_signal(how)
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ActorError(f"mosquitto_sub did not end on {how.name}") from None
        finally:
            if self._reader is not None:
                self._reader.join(DEADLINE_S)
            if process.stdout is not None:
                process.stdout.close()

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            self._line(process, line.rstrip("\n"))
        if self._process is process:
            self.changed(is_open=False)

    def _line(self, process: subprocess.Popen[str], line: str) -> None:
        self._output.append(line)
        if line.startswith("RECEIVED "):
            if not self._announced:  # ended in the middle of a line, it may print that once more: nothing was received
                return
            self._announced -= 1
            _, topic, qos, retain, *payload = line.split(" ")
            data = bytes.fromhex(payload[0]) if payload else b""
            self.arrived(Received(topic, data, int(qos), retain == "1", self._dup, self.connection))
        elif found := self._PUBLISH.match(line):
            self._dup = found[1] == "1"
            self._announced += 1
        elif found := self._CONNACK.match(line):
            code = int(found[1])
            self.changed(refusal=code or None)
        elif found := self._SUBACK.match(line):
            granted = [int(code) for code in found[1].split(", ")]
            self.changed(granted=granted, is_open=True)
        elif "sending CONNECT" in line and self.granted and self._process is process:
            process.kill()  # it was cut and would come back: for the story it is simply gone
            self.changed(is_open=False)


class MosquittoPub(Actor):
    """Debian's mosquitto_pub: each message is a connection of its own."""

    def publish(self, topic: str, payload: bytes, qos: int | None, *, retain: bool = False) -> None:
        login = self.login
        command = ["mosquitto_pub", "-h", login.host, "-p", str(login.port), "-i", self.spec.client_id]
        command += ["-u", login.user or "", "-P", login.token, "-t", topic, "-q", str(1 if qos is None else qos)]
        command += ["-s"] if payload else ["-n"]
        if retain:
            command += ["-r"]
        started = time.monotonic()
        try:
            ended = subprocess.run(command, input=payload, capture_output=True, check=False, timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise ActorError(f"mosquitto_pub had no acknowledgement after {time.monotonic() - started:.1f} s") from None
        if ended.returncode:
            said = (ended.stdout + ended.stderr).decode(errors="replace").strip()
            raise ActorError(f"mosquitto_pub ended with {ended.returncode}: {said}")
