"""Debian's mosquitto_sub and mosquitto_pub, 3.1.1 and 5.0: what they print, as JSON lines, is what was received."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from interop.guest import DEADLINE_S, Guest, Properties, Received, Will

if TYPE_CHECKING:
    from collections.abc import Sequence

_SUBACK = re.compile(r"Subscribed \(mid: \d+\): ([\d, ]+)")


class Mosquitto(Guest):
    """A mosquitto_sub that stays, and a mosquitto_pub for each message."""

    def come(
        self, filters: Sequence[tuple[str, int]] = (), *, keeps: bool = False, will: Will | None = None
    ) -> bool | None:
        assert filters, "mosquitto_sub is nothing without a filter"
        self._process: subprocess.Popen[str] | None = None
        command = ["stdbuf", "-oL", "mosquitto_sub", *self._login(self.client_id), "-d", "-F", "%j", "-N"]
        # One QoS for all of its filters.
        command += ["-q", str(filters[0][1]), *(part for name, _ in filters for part in ("-t", name))]
        if keeps:
            command += ["-c", *(["-x", "3600"] if self.kind.version == 5 else [])]
        if will:
            command += [
                "--will-topic",
                will.topic,
                "--will-payload",
                will.payload.decode(),
                "--will-qos",
                str(will.qos),
            ]
            command += ["--will-retain"] if will.retain else []
        self._lines: list[str] = []
        self._granted: list[int] = []
        self._process = subprocess.Popen(
            [one.replace("%j", "%j\\n") for one in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        process = self._process
        self._reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._reader.start()
        self.wait(lambda: self._granted or process.poll() is not None, "SUBACK")
        assert [qos for _, qos in filters] == self._granted, self._lines
        return None

    def publish(
        self, topic: str, payload: bytes, qos: int = 0, *, retain: bool = False, properties: Properties | None = None
    ) -> None:
        command = ["mosquitto_pub", *self._login(f"{self.client_id}-pub"), "-t", topic, "-q", str(qos)]
        command += [*(["-s"] if payload else ["-n"]), *(["-r"] if retain else []), *_options(properties)]
        done = subprocess.run(command, input=payload, capture_output=True, check=False, timeout=DEADLINE_S)
        assert 0 == done.returncode, (done.stdout + done.stderr).decode()

    def leave(self) -> None:
        self._end(signal.SIGTERM)

    def vanish(self) -> None:
        self._end(signal.SIGKILL)

    def close(self) -> None:
        if getattr(self, "_process", None):
            self._end(signal.SIGKILL)

    def _login(self, client_id: str) -> list[str]:
        return [
            *("-V", "mqttv5" if self.kind.version == 5 else "mqttv311", "-i", client_id),
            *("-h", self.house.host, "-p", str(self.house.port), "-u", self.who.address, "-P", self.who.token),
        ]

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(how)
        process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert process.stdout is not None
        process.stdout.close()

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            with self.board:
                self._lines.append(line.rstrip())
                if found := _SUBACK.match(line):
                    self._granted = [int(code) for code in found[1].split(", ")]
                    self.board.notify_all()
            if line.startswith("{"):
                self.took(_received(json.loads(line)))
        with self.board:
            self.board.notify_all()


def _options(properties: Properties | None) -> list[str]:
    if properties is None:
        return []
    words: list[tuple[str, ...]] = [("user-property", name, value) for name, value in properties.user]
    for name, value in (
        ("content-type", properties.content_type),
        ("response-topic", properties.response_topic),
        ("correlation-data", properties.correlation and properties.correlation.decode()),
        ("message-expiry-interval", properties.expiry_s),
    ):
        words += [(name, str(value))] if value is not None else []
    return [part for word in words for part in ("-D", "publish", *word)]


def _received(line: dict[str, Any]) -> Received:
    given = line.get("properties", {})
    user = given.get("user-properties", {})
    pairs = [pair for one in user for pair in one.items()] if isinstance(user, list) else list(user.items())
    correlation = given.get("correlation-data")
    shown = Properties(
        given.get("content-type"),
        given.get("response-topic"),
        correlation.encode() if correlation is not None else None,
        given.get("message-expiry-interval"),
        tuple(pairs),
    )
    return Received(line["topic"], (line.get("payload") or "").encode(), line["qos"], bool(line["retain"]), shown)
