"""What a listening socket hands on to its connections."""

from __future__ import annotations

import socket

from mesimqtt.broker.sockets import UNSENT_MAX, bind_tcp

MUCH = 64 * 1024


def send(to: socket.socket) -> int:
    """Send what the system takes now; 0 if it takes nothing more."""
    try:
        return to.send(bytes(MUCH))
    except BlockingIOError:
        return 0


def test_the_system_takes_little_for_who_does_not_read() -> None:
    """Who reads nothing costs the system a quarter of a megabyte, not the megabytes that it takes by itself."""
    (listening,) = bind_tcp("default", "mqtt", "127.0.0.1", 0)
    with listening, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(listening.getsockname())
        listening.setblocking(True)
        accepted, _ = listening.accept()
        with accepted:
            accepted.setblocking(False)
            taken = sum(iter(lambda: send(accepted), 0))

    assert UNSENT_MAX <= taken < UNSENT_MAX + 4 * MUCH
