"""An acknowledgement means: on the disk. strace sees the WAL synced between a message's writes and its PUBACK.

Goal: no PUBACK and no SENT leaves before the commit of what it acknowledges has been synced.
Method: the server runs under strace; a client sends single messages and bursts, each payload with a mark of its own; in
the trace every mark must first be written to the WAL, then an fsync or fdatasync of the WAL must begin and succeed, and
only then may the PUBACK of that very message, and its SENT, be written to a socket.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from integration.server import Server
from mesimqtt.testing import stream as wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SYSTEM_CALLS = "fsync,fdatasync,write,pwrite64,pwritev,sendto,sendmsg,writev"
# A page of the database at most, so that every mark is in the trace wherever it stands on its page.
STRING_MAX = 20_000
SINGLE, BURSTS, BURST = 5, 4, 20
_LINE = re.compile(r"(?P<pid>\d+) +(?P<call>.*)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
_SYNC = re.compile(r"(?:fsync|fdatasync)\(\d+<(?P<path>[^>]*)>")
_WRITE = re.compile(r"(?:write|pwrite64|pwritev|writev|sendto|sendmsg)\(\d+<(?P<path>[^>]*)>")
_HEX = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(slots=True)
class Order:
    """Where in the trace each mark was first written to the WAL, synced, acknowledged and told as sent."""

    written: dict[str, int] = field(default_factory=dict)
    synced: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)


def marks() -> list[list[str]]:
    """Return the marks of the messages, in the groups in which they are sent."""
    singles = [[f"mark-{number:04}."] for number in range(SINGLE)]
    bursts = [[f"mark-{100 + burst * BURST + number:04}." for number in range(BURST)] for burst in range(BURSTS)]
    return [*singles, *bursts]


@pytest.mark.tools("strace")
def test_a_puback_follows_the_sync_of_its_message(tmp_path: Path) -> None:
    """Each message is in the WAL, then the WAL is synced, then PUBACK and SENT leave."""
    trace = tmp_path / "trace"
    options = ["-xx", "-yy", "-s", str(STRING_MAX), "-e", f"trace={SYSTEM_CALLS}", "-o", str(trace)]
    server = Server(tmp_path / "data", wrapper=["strace", "-f", "-D", "--seccomp-bpf", *options])
    tokens = server.add_users("alice", "bob")
    with server:
        packet_ids = send_all(server.port, tokens["alice"])
        server.stop()

    order = read_trace(trace.read_text(encoding="ascii", errors="replace").splitlines(), packet_ids)
    everything = [mark for group in marks() for mark in group]
    assert everything == [mark for mark in everything if mark in order.written]
    assert everything == [mark for mark in everything if mark in order.acknowledged]
    assert everything == [mark for mark in everything if mark in order.sent]
    never = len(everything) * 1_000_000
    for mark in everything:
        synced = order.synced.get(mark, never)
        assert order.written[mark] < synced < order.acknowledged[mark], f"PUBACK before the sync of {mark}"
        assert synced < order.sent[mark], f"SENT before the sync of {mark}"


def send_all(port: int, token: str) -> dict[int, str]:
    """Send the groups one after another, each as soon as the one before is acknowledged; return packet id -> mark."""
    packet_ids = {}
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(wire.connect("laptop", "alice", token))
        client.sendall(wire.subscribe(65_535, [("m/alice/in/status/#", 0)]))
        packets = _packets(client)
        assert [wire.CONNACK, wire.SUBACK] == [next(packets).kind, next(packets).kind]
        number = 0
        for group in marks():
            burst = bytearray()
            for mark in group:
                number += 1
                packet_ids[number] = mark
                burst += wire.publish(f"m/alice/out/u/bob/{mark.rstrip('.')}", mark.encode(), qos=1, packet_id=number)
            client.sendall(burst)
            waiting = {(wire.PUBACK, mark) for mark in group} | {(wire.PUBLISH, mark) for mark in group}
            while waiting:
                packet = next(packets)
                if packet.kind == wire.PUBACK:
                    waiting.remove((wire.PUBACK, packet_ids[packet.packet_id]))
                else:
                    waiting.discard((wire.PUBLISH, f"{wire.decode_publish(packet).topic.rpartition('/')[2]}."))
    return packet_ids


def read_trace(lines: list[str], packet_ids: dict[int, str]) -> Order:
    """Read the order of events out of a trace: a write counts where it begins, a sync where it has succeeded."""
    order = Order()
    all_marks = list(packet_ids.values())
    sync_began: dict[str, tuple[int, str]] = {}
    cutters: dict[str, wire.Reader] = {}
    for number, line in enumerate(lines):
        parts = _LINE.match(line)
        if parts is None:
            continue
        pid, call = parts["pid"], parts["call"]
        if resumed := _RESUMED.match(call):
            if resumed["name"] in ("fsync", "fdatasync") and pid in sync_began:
                began, path = sync_began.pop(pid)
                _synced(order, path, began, number, ok=resumed["rest"].endswith("= 0"))
        elif sync := _SYNC.match(call):
            path = _decoded(sync["path"])
            if call.endswith(_UNFINISHED):
                sync_began[pid] = (number, path)
            else:
                _synced(order, path, number, number, ok=call.endswith("= 0"))
        elif write := _WRITE.match(call):
            path = _decoded(write["path"])
            data = b"".join(bytes.fromhex(text.replace("\\x", "")) for text in _HEX.findall(call))
            if path.endswith("-wal"):
                for mark in all_marks:
                    if mark.encode() in data:
                        order.written.setdefault(mark, number)
            elif path.startswith("TCP"):
                _left(order, cutters.setdefault(path, wire.Reader()), data, number, packet_ids)
    return order


def _synced(order: Order, path: str, began: int, ended: int, *, ok: bool) -> None:
    if ok and path.endswith("-wal"):
        for mark, written in order.written.items():
            if written < began:
                order.synced.setdefault(mark, ended)


def _left(order: Order, cutter: wire.Reader, data: bytes, number: int, packet_ids: dict[int, str]) -> None:
    for packet in cutter.feed(data):
        if packet.kind == wire.PUBACK:
            order.acknowledged.setdefault(packet_ids[packet.packet_id], number)
        elif packet.kind == wire.PUBLISH:
            cid = wire.decode_publish(packet).topic.rpartition("/")[2]
            order.sent.setdefault(f"{cid}.", number)


def _decoded(path: str) -> str:
    """Return a path of the trace: under -xx strace writes it in hex too."""
    return bytes.fromhex(path.replace("\\x", "")).decode(errors="replace") if path.startswith("\\x") else path


def _packets(client: socket.socket) -> Iterator[wire.Packet]:
    cutter = wire.Reader()
    while data := client.recv(65_536):
        yield from cutter.feed(data)
    raise AssertionError("the server closed the connection")


TRACE = [
    r'7 pwrite64(4<\x2f\x77\x2d\x77\x61\x6c>, "\x6d\x61\x72\x6b\x2d\x30\x30\x30\x31\x2e", 10, 0) = 10',
    r"7 fdatasync(4<\x2f\x77\x2d\x77\x61\x6c> <unfinished ...>",
    r'8 write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "\x40\x02\x00\x01", 4) = 4',
    r"7 <... fdatasync resumed>) = 0",
    r'8 write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "\x40\x02\x00\x01", 4) = 4',
]


def test_the_reading_of_a_trace_finds_an_early_puback() -> None:
    """A PUBACK between the begin of the sync and its end is too early; one behind it is in order."""
    early = read_trace(TRACE[:4], {1: "mark-0001."})
    right = read_trace([*TRACE[:2], *TRACE[3:]], {1: "mark-0001."})

    assert early.acknowledged["mark-0001."] < early.synced["mark-0001."]
    assert right.written["mark-0001."] < right.synced["mark-0001."] < right.acknowledged["mark-0001."]
