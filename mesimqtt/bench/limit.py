"""The generator's own limit: the same load against a process that only moves bytes from socket to socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from select import EPOLLIN, epoll
from typing import TYPE_CHECKING

from mesimqtt.bench.loop import READ_SIZE
from mesimqtt.bench.machine import Cores, Process, pinned
from mesimqtt.bench.relay import Shape, measure_relay
from mesimqtt.bench.wire import next_packet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesimqtt.bench.figures import Figures, Periods

_CONNACK = b"\x20\x02\x00\x00"


class Pipe:
    """Join publisher N with subscriber N and move bytes both ways; understands nothing but the handshake."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._poller = epoll()
        self._poller.register(self._listener, EPOLLIN)
        self._sockets: dict[int, socket.socket] = {}
        self._names: dict[int, str] = {}
        self._waiting: dict[str, socket.socket] = {}
        self._partners: dict[int, socket.socket] = {}

    def serve(self) -> None:
        """Serve until the process is ended."""
        while True:
            self.turn(-1)

    def turn(self, timeout_s: float) -> None:
        """Serve what is ready."""
        sockets, partners = self._sockets, self._partners
        for number, _ in self._poller.poll(timeout_s):
            if number == self._listener.fileno():
                self._accept()
                continue
            try:
                data = sockets[number].recv(READ_SIZE)
                if data and number in partners:
                    partners[number].sendall(data)
                elif data:
                    self._greet(number, data)
                else:
                    self._drop(number)
            except OSError:
                self._drop(number)

    def close(self) -> None:
        """Close everything."""
        for number in list(self._sockets):
            self._drop(number)
        self._poller.close()
        self._listener.close()

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets[sock.fileno()] = sock
        self._poller.register(sock, EPOLLIN)

    def _greet(self, number: int, data: bytes) -> None:
        """Answer CONNECT and SUBSCRIBE; a client id ends in `s` or `p` and the number of its pair."""
        part = next_packet(data, 0)
        if part is None or part.head == 0xE0:
            return
        sock = self._sockets[number]
        if part.head == 0x10:
            name = data[part.body + 12 : part.end].decode()
            self._names[number] = name
            sock.sendall(_CONNACK)
            if "p" in name:
                self._join(name, sock)
        elif part.head == 0x82:
            sock.sendall(b"\x90\x03" + data[part.body : part.body + 2] + data[part.end - 1 : part.end])
            self._waiting[self._names[number]] = sock

    def _join(self, name: str, sock: socket.socket) -> None:
        other = self._waiting.pop(name.replace("p", "s"), None)
        if other is not None:
            self._partners[sock.fileno()] = other
            self._partners[other.fileno()] = sock

    def _drop(self, number: int) -> None:
        sock = self._sockets.pop(number, None)
        if sock is None:
            return
        partner = self._partners.pop(number, None)
        if partner is not None:
            self._partners.pop(partner.fileno(), None)
        self._poller.unregister(sock)
        sock.close()


_WINDOWED = ("relay", "fan", "filters", "messaging")
# What is measured, and for which scenarios (by the beginning of their names) it says something.
_LIMITS = {
    "windowed, QoS 0": (Shape(publishers=50, subscribers=50, qos=0), _WINDOWED),
    "windowed, QoS 1": (Shape(publishers=50, subscribers=50, qos=1), _WINDOWED),
    "mixed, QoS 1": (Shape(publishers=50, subscribers=50, qos=1, is_mixed=True), ("mixed",)),
    "one at a time, QoS 0": (Shape(publishers=500, subscribers=500, qos=0, window=1), ("single",)),
    "one at a time, QoS 1": (Shape(publishers=500, subscribers=500, qos=1, window=1), ("single",)),
}


def measure_limits(cores: Cores, periods: Periods, scenarios: Sequence[str]) -> dict[str, Figures]:
    """Measure what the generator reaches where nobody does the work of a broker, as far as `scenarios` ask for it."""
    shapes = {
        name: shape for name, (shape, kinds) in _LIMITS.items() if any(one.startswith(kinds) for one in scenarios)
    }
    with pinned(cores.broker):
        process = subprocess.Popen(
            [sys.executable, "-c", "from mesimqtt.bench.limit import main; main()"],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        if process.stdout is None:
            return {}
        port = int(process.stdout.readline())
        watched = Process(process.pid)
        return {name: measure_relay(("127.0.0.1", port), watched, shape, periods) for name, shape in shapes.items()}
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main() -> None:
    """Serve as the pipe in a process of its own, after printing the port."""
    pipe = Pipe()
    print(pipe.port, flush=True)
    pipe.serve()
