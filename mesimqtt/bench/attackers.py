"""Clients that mean harm, in a process of their own: `hostile` measures what others notice of them."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from select import EPOLLIN, EPOLLONESHOT, epoll
from time import monotonic, sleep
from typing import TYPE_CHECKING

from mesimqtt.bench.loop import READ_SIZE, Address, BenchError, handshake, open_socket
from mesimqtt.bench.wire import connect, packet, publish, string, subscribe, unsubscribe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MUTE = 1_000
FLOOD_PER_S = 100
FLOOD_SIZE = 1024
HALF_OPEN = 10_000
STORMERS = 10
STORM_PER_S = 1_000
STORM_FILTERS = 10
FILTERS = 5_000
_RECEIVE_BUFFER = 4 * 1024
_FILL, _FILL_SIZE = 60, 60_000  # messages, after which nothing fits into a socket that is not read
_FILL_EVERY_S = 0.05
_FILL_TAKES_S = 3.0
_NICENESS = 10  # the measuring side shares the core and goes first


def mute(address: Address) -> None:
    """Have 1 000 clients subscribe and never read, and flood them; they are there once their sockets are full."""
    wanted = [subscribe(["flood/#"], 0)]
    sockets = [
        handshake(address, connect(f"mute{number}"), wanted, source=number, receive_buffer=_RECEIVE_BUFFER)
        for number in range(MUTE)
    ]
    flooder = handshake(address, connect("flooder"))
    for _ in range(_FILL):
        flooder.sendall(publish("flood/all", b"f" * _FILL_SIZE, 0, 0))
        sleep(_FILL_EVERY_S)
    sleep(_FILL_TAKES_S)
    _ready(len(sockets))
    frame = publish("flood/all", b"f" * FLOOD_SIZE, 0, 0)
    _every(1 / FLOOD_PER_S, lambda: flooder.sendall(frame))


def half_open(address: Address) -> None:
    """Keep 10 000 connections open that never finish a CONNECT; those that are closed come again."""
    poller, sockets = epoll(), {}
    begun = packet(0x10, string("MQTT") + bytes(8))[:6]

    def open_one(number: int) -> None:
        with suppress(BenchError, OSError):
            sock = open_socket(address, number)
            if number % 2:
                sock.sendall(begun)
            sockets[sock.fileno()] = (sock, number)
            poller.register(sock, EPOLLIN | EPOLLONESHOT)

    for number in range(HALF_OPEN):
        open_one(number)
    _ready(len(sockets))
    while True:
        for descriptor, _ in poller.poll(0.1, 256):
            sock, number = sockets.pop(descriptor)
            sock.close()
            open_one(number)


def storm(address: Address) -> None:
    """Subscribe and unsubscribe without end: 10 000 filters a second each way, over ten connections."""
    sockets = [handshake(address, connect(f"storm{number}")) for number in range(STORMERS)]
    for sock in sockets:
        sock.setblocking(False)
    turn = [0]

    def send() -> None:
        number, turn[0] = turn[0], turn[0] + 1
        sock = sockets[number % STORMERS]
        filters = [f"storm/{number}/{each}/#" for each in range(STORM_FILTERS)]
        with suppress(BlockingIOError):
            sock.recv(READ_SIZE)
        with suppress(BlockingIOError):
            sock.send(subscribe(filters, 1) + unsubscribe(filters, 2))

    _ready(STORMERS)
    _every(1 / STORM_PER_S, send)


def filters(address: Address) -> None:
    """Hold 5 000 filters on one connection, wildcards in every place."""
    shapes = ("+/u/{}/#", "+/+/{}/state", "other/{}/#", "+/{}/+")
    wanted = [shapes[number % len(shapes)].format(number) for number in range(FILTERS)]
    batches = [subscribe(wanted[at : at + 100], 1) for at in range(0, FILTERS, 100)]
    with handshake(address, connect("collector"), batches) as sock:
        _ready(FILTERS)
        while sock.recv(READ_SIZE):
            pass


KINDS: Mapping[str, Callable[[Address], None]] = {
    "mute": mute, "half-open": half_open, "subscribe": storm, "filters": filters,
}  # fmt: skip


def main() -> None:
    """Attack as the arguments say: kind, host, port."""
    kind, host, port = sys.argv[1:]
    os.nice(_NICENESS)
    try:
        KINDS[kind]((host, int(port)))
    except (BenchError, OSError) as error:
        print(f"failed {error}", flush=True)


class Attack:
    """A process of attackers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def wait(self) -> int:
        """Wait until all attackers are there; return how many. Raises BenchError."""
        output = self._process.stdout
        for line in output or ():
            word, _, rest = line.strip().partition(" ")
            if word == "ready":
                return int(rest)
            if word == "failed":
                raise BenchError(f"the attack could not be made: {rest}")
        raise BenchError("the attackers ended early")


@contextmanager
def attacked(kind: str, address: Address) -> Iterator[Attack]:
    """Let attackers of a kind loose, and end them."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from mesimqtt.bench.attackers import main; main()", kind, address[0], str(address[1])],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Attack(process)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _ready(count: int) -> None:
    print(f"ready {count}", flush=True)


def _every(seconds: float, do: Callable[[], object]) -> None:
    """Do something at a fixed pace; what was missed is made up for."""
    due = monotonic()
    while True:
        due += seconds
        do()
        sleep(max(0.0, due - monotonic()))
