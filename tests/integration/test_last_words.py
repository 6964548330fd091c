"""Who is closed for what he sent reads why, although he goes on sending: his connection is not reset."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from integration.server import Server, wait_until
from mesimqtt.testing import wire5

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WINDOW = 5
PINGREQ = b"\xc0\x00"


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[socket.socket]:
    """Connect to a server for anybody, that takes WINDOW unfinished messages of a client."""
    config = folder / "mesimqtt.yaml"
    config.write_text(f"limits: {{qos2_incoming_max: {WINDOW}}}\n")
    with (
        Server(folder / "data", config=config, options=("--open",)) as server,
        socket.create_connection(("127.0.0.1", server.port), 20) as client,
    ):
        yield client


def take(client: socket.socket) -> bytes:
    """Read one packet of less than 128 bytes; b"" at the end. A reset raises."""
    head = client.recv(2, socket.MSG_WAITALL)
    return head + client.recv(head[1], socket.MSG_WAITALL) if head and head[1] else head


def test_a_client_that_answers_on_reads_why_it_is_closed(tmp_path: Path) -> None:
    """One QoS 2 message too many: each PUBREC is answered with PUBREL, as clients do, and then 0x93 is read."""
    with opened(tmp_path) as client:
        many = [wire5.publish("a", b"x", qos=2, packet_id=n) for n in range(1, WINDOW + 2)]
        client.sendall(wire5.connect("c") + b"".join(many))
        take(client)
        for number in range(1, WINDOW + 1):
            assert wire5.pubrec(number) == take(client)
            client.sendall(wire5.pubrel(number))

        told = take(client)
        assert (0xE0, 0x93) == (told[0], told[2])
        assert b"" == take(client)


def test_a_client_that_sends_on_reads_its_refusal(tmp_path: Path) -> None:
    """What stands behind a CONNECT that is refused takes nothing away from the refusal."""
    with opened(tmp_path) as client:
        client.sendall(wire5.connect("c", level=6) + PINGREQ * 200_000)

        assert 0x20 == take(client)[0]
        assert b"" == take(client)


def test_who_stays_is_closed_all_the_same(tmp_path: Path) -> None:
    """A client that was told, and neither ends nor stops sending, is gone after a moment."""
    with opened(tmp_path) as client:
        client.sendall(wire5.connect("c") + wire5.packet(0xF1))
        take(client)
        assert 0xE0 == take(client)[0]
        assert b"" == take(client)

        def is_gone() -> bool:
            try:
                client.sendall(PINGREQ)
            except OSError:
                return True
            return False

        wait_until(is_gone, what="the end of a connection that the server has closed")
