"""The listening sockets: amqtt's `listeners` configuration, opened for our protocol."""

from __future__ import annotations

import errno
import logging
import socket
from typing import TYPE_CHECKING

from amqtt.contexts import ListenerType

from mesimqtt.broker.protocol import Listener
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    import asyncio
    import ssl

    from mesimqtt.broker.protocol import Wire

BACKLOG = 2048
HANDSHAKE_S = 10.0

logger = logging.getLogger(__name__)


class Listeners:
    """Every listener of the configuration, and where it is bound."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._servers: list[asyncio.Server] = []
        self._by_name: dict[str, Listener] = {}
        self.bound: list[tuple[str, str, int]] = []

    def add_external(self, name: str, *, connections_max: int) -> None:
        """Know a listener whose connections somebody else accepts."""
        self._by_name[name] = Listener(name, self._wire, connections_max=connections_max, is_plain=False)

    def get(self, name: str) -> Listener | None:
        """Return a listener by its name in the configuration."""
        return self._by_name.get(name)

    async def open(
        self,
        name: str,
        kind: ListenerType,
        host: str | None,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        connections_max: int,
    ) -> None:
        """Listen. Raises MesimqttError, whose text says what to do."""
        if kind != ListenerType.TCP:
            raise MesimqttError(f"listener {name!r}: type {kind.value!r} is not supported yet; use type: tcp")
        listener = Listener(name, self._wire, connections_max=connections_max, is_plain=tls is None)
        try:
            sockets = _bind(host.strip("[]") if host else None, port)
        except OSError as error:
            raise MesimqttError(_explain(error, name, f"{host or '*'}:{port}")) from None
        self._by_name[name] = listener
        for bound in sockets:
            server = await self._wire.loop.create_server(
                listener.protocol,
                sock=bound,
                backlog=BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=HANDSHAKE_S if tls is not None else None,
            )
            self._servers.append(server)
            bound_host, bound_port = bound.getsockname()[:2]
            self.bound.append((name, bound_host, bound_port))
            logger.info("listener %s on %s port %d", name, bound_host, bound_port)

    async def close(self) -> None:
        """Accept no further connection."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self.bound.clear()


def _bind(host: str | None, port: int) -> list[socket.socket]:
    """Return a listening-to-be socket for each address of `host` (None: all of this machine).

    Done here and not by the loop, which would start threads to resolve even a literal address: in a process
    of one thread every system call on a socket is cheaper.
    """
    sockets: list[socket.socket] = []
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        for family, kind, protocol, _name, address in dict.fromkeys(found):
            if family == socket.AF_INET6 and not socket.has_ipv6:
                continue
            bound = socket.socket(family, kind, protocol)
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
            bound.bind((address[0], port or sockets[0].getsockname()[1], *address[2:]))
            bound.listen(BACKLOG)  # here, so that a port in use is found before anything is started
            bound.setblocking(False)
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def _explain(error: OSError, name: str, where: str) -> str:
    if error.errno == errno.EADDRINUSE:
        how = "--mqtt ADDR:PORT" if name == "default" else "its bind in the configuration"
        return f"listener {name!r}: {where} is in use; stop the other server there or choose another port: {how}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"listener {name!r}: not allowed to listen on {where}; choose a port above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"listener {name!r}: {where} is not an address of this machine; choose another"
    return f"listener {name!r}: cannot listen on {where}: {error.strerror or error}; check its bind"
