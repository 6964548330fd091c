"""The listening sockets: amqtt's `listeners` configuration, opened for our protocol."""

from __future__ import annotations

import ipaddress
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import amqtt.broker
from amqtt.contexts import ListenerConfig, ListenerType

from mesimqtt.broker.acceptor import Acceptor, Network
from mesimqtt.broker.protocol import ClientProtocol, Listener
from mesimqtt.broker.reactor import Reactor, is_available
from mesimqtt.broker.server import SocketServer
from mesimqtt.broker.sockets import BACKLOG, UNIX, bind_tcp, bind_unix, remove_unix
from mesimqtt.broker.tls import Tls
from mesimqtt.broker.upgrade import Policy
from mesimqtt.broker.websocket import WebSocketProtocol
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.domain.hosts import plain_origin
from mesimqtt.record.outside import Outside
from mesimqtt.settings import ListenerOptions

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

    from mesimqtt.broker.wire import Wire
    from mesimqtt.settings import Settings

_ORIGIN = re.compile(r"\*|null|[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#@\s]+")
OFF = "off"
HTTP = "http"  # the name of the one listener that the section `http` sets
MQTT_PATH = "/mqtt"  # of MQTT over WebSocket on it
WATCH_S = 2.0  # how often certificates are looked at

logger = logging.getLogger(__name__)


class Listeners:
    """Every listener of the configuration, and where it is bound."""

    def __init__(self, wire: Wire, settings: Settings, outside: Outside | None = None) -> None:
        self._wire = wire
        self._outside = outside or Outside()
        self._settings = settings
        self._servers: list[tuple[str, asyncio.Server | SocketServer]] = []
        self._reactor: Reactor | None = None
        self._acceptors: list[Acceptor] = []
        self._certificates: list[Tls] = []
        self._unix: list[tuple[str, Path, int]] = []
        self._by_name: dict[str, Listener] = {}
        self._watch_at = 0.0
        self.bound: list[tuple[str, str, int]] = []

    def get(self, name: str) -> Listener | None:
        """Return a listener by its name in the configuration."""
        return self._by_name.get(name)

    def kind(self, name: str) -> str:
        """Return what a listener speaks, as in a URL: `mqtt`, `mqtts`, `ws`, `wss`, `http` or `https`."""
        listener = self._by_name[name]
        kind = HTTP if name == HTTP else "ws" if listener.kind is WebSocketProtocol else "mqtt"
        return kind + ("" if listener.is_plain else "s")

    async def open(self, name: str, config: ListenerConfig) -> None:
        """Listen. Raises MesimqttError, whose text says what to do."""
        if config.bind == OFF:  # amqtt demands a listener named `default`, also where none is wanted
            return
        if name == HTTP:
            raise MesimqttError("broker.listeners.http: that name is the section http's; choose another, such as web")
        options = self._settings.listeners.get(name) or ListenerOptions()
        if config.type == ListenerType.EXTERNAL:  # somebody else accepts its connections
            if options != ListenerOptions():
                raise MesimqttError(
                    f"listener {name!r}: type external has none of these options: whoever accepts its connections sees "
                    f"to that; take listeners.{name} out"
                )
            self._by_name[name] = Listener(name, self._wire, connections_max=config.max_connections, is_plain=False)
            return
        self._check_fit(name, config, options)
        proxies = _networks(name, options)
        tls = self._tls(name, config, options)
        is_ws = config.type == ListenerType.WS
        policy = _policy(name, options, is_open=self._settings.open)
        sockets, is_loopback = self._bind(name, config, options, "ws" if is_ws else "mqtt")
        listener = self._by_name[name] = Listener(
            name,
            self._wire,
            connections_max=config.max_connections,
            is_plain=tls is None,
            is_local=(config.bind or "").startswith(UNIX),
            kind=WebSocketProtocol if is_ws else ClientProtocol,
            policy=replace(policy, is_loopback=is_loopback) if is_ws else None,
            certificate_names=options.certificate_user,
            wrap=self._outside.wrap,
        )
        if tls is not None:
            self._certificates.append(tls)
        for bound in sockets:
            await self._listen(listener, bound, tls, proxies)

    async def open_http(self, default: ListenerConfig, make: Callable[[Listener, str | None], Any]) -> None:
        """Listen for HTTP; `make` makes the protocol of a connection. Raises MesimqttError as `open` does."""
        http = self._settings.http
        if http.bind == OFF:
            return
        options = self._settings.listeners.get(HTTP) or ListenerOptions()
        config = _http_config(self._settings, default)
        self._check_fit(HTTP, config, options)
        proxies = _networks(HTTP, options)
        tls = self._tls(HTTP, config, options)
        policy = _policy(HTTP, ListenerOptions(paths=(MQTT_PATH,), origins=http.origins), is_open=self._settings.open)
        sockets, is_loopback = self._bind(HTTP, config, options, HTTP)
        listener = self._by_name[HTTP] = Listener(
            HTTP,
            self._wire,
            connections_max=0,  # of those that speak HTTP; a WebSocket is a client like any other
            is_plain=tls is None,
            is_local=http.bind.startswith(UNIX),
            kind=make,
            policy=replace(policy, is_loopback=is_loopback),
            certificate_names=options.certificate_user,
            wrap=self._outside.wrap,
        )
        if tls is not None:
            self._certificates.append(tls)
        for bound in sockets:
            await self._listen(listener, bound, tls, proxies)

    def _tls(self, name: str, config: ListenerConfig, options: ListenerOptions) -> Tls | None:
        return Tls(name, config, options) if config.ssl else None

    @staticmethod
    def _check_fit(name: str, config: ListenerConfig, options: ListenerOptions) -> None:
        """Refuse options that this kind of listener would leave without effect: somebody believes that they protect."""
        if not config.ssl:
            for key in ("client_certificate", "certificate_user"):
                value = getattr(options, key)
                if value in ("required", "cn", "san"):
                    raise MesimqttError(
                        f"listener {name!r}: {key}: {value} needs TLS: set ssl: true, certfile, keyfile and cafile "
                        f"under broker.listeners.{name}"
                    )
        is_unix = (config.bind or "").startswith(UNIX)
        elsewhere = {"mode": "is for Unix sockets; take it out, or set bind: unix:/PATH"}
        if is_unix:
            elsewhere = {"proxy_from": "is for TCP: whoever reaches a Unix socket has no address; take it out"}
        if name == HTTP:
            elsewhere |= {"origins": "of it is http.origins", "paths": "is for WebSocket; here it is /mqtt, always"}
        elif config.type != ListenerType.WS:
            way = f"is for WebSocket; set type: ws under broker.listeners.{name}, or move it to a listener that has it"
            elsewhere |= {"origins": way, "paths": way}
        for key, way in elsewhere.items():
            if getattr(options, key) != getattr(ListenerOptions(), key):
                raise MesimqttError(f"listener {name!r}: {key} {way}")

    def _bind(
        self, name: str, config: ListenerConfig, options: ListenerOptions, kind: str
    ) -> tuple[list[socket.socket], bool]:
        """Return the sockets of a listener, and whether only this machine reaches them."""
        where = config.bind or ""
        if where == UNIX:
            raise MesimqttError(f"listener {name!r}: bind {where!r} names no path; write unix:/PATH")
        if where.startswith(UNIX):
            path = Path(where.removeprefix(UNIX))
            sockets = [bind_unix(name, path, options.mode)]
            self._unix.append((name, path, path.stat().st_ino))
            self.bound.append((name, f"{UNIX}{path}", 0))
            logger.info("listener %s on %s%s", name, UNIX, path)
            self._outside.see(lambda: [True, [[f"{UNIX}{path}", 0]]])
            return sockets, True
        try:
            host, port = amqtt.broker.Broker._split_bindaddr_port(  # noqa: SLF001 - amqtt's meaning of its own key
                where, amqtt.broker.DEFAULT_PORTS[config.type.value]
            )
        except ValueError:
            raise MesimqttError(f"listener {name!r}: bind {where!r} is not ADDRESS:PORT") from None
        sockets = bind_tcp(name, kind, host.strip("[]") if host else None, port)
        addresses = [bound.getsockname()[:2] for bound in sockets]
        self.bound += [(name, *address) for address in addresses]
        for address in addresses:
            logger.info("listener %s on %s port %d", name, *address)
        is_loopback = all(ipaddress.ip_address(host.partition("%")[0]).is_loopback for host, _ in addresses)
        self._outside.see(lambda: [is_loopback, [list(address) for address in addresses]])
        return sockets, is_loopback

    async def _listen(
        self, listener: Listener, bound: socket.socket, tls: Tls | None, proxies: tuple[Network, ...]
    ) -> None:
        if tls is not None or proxies:
            acceptor = Acceptor(listener, bound, tls=tls, proxies=proxies, outside=self._outside)
            acceptor.start()
            self._acceptors.append(acceptor)
        elif is_available():
            if self._reactor is None:
                calls = (_nothing, _nothing) if listener.wrap else (self._wire.begin_turn, self._wire.flush)
                self._reactor = Reactor(self._outside.loop, *calls)
            self._servers.append((listener.name, SocketServer(self._reactor, bound, listener.protocol)))
        elif listener.is_local:
            server = await self._outside.loop.create_unix_server(listener.protocol, sock=bound, backlog=BACKLOG)
            self._servers.append((listener.name, server))
        else:
            server = await self._outside.loop.create_server(listener.protocol, sock=bound, backlog=BACKLOG)
            self._servers.append((listener.name, server))

    def tick(self, now: float) -> None:
        """Drop who is late; look at the certificates now and then."""
        if self._acceptors:
            self._outside.apart(lambda: self._look(now))

    def _look(self, now: float) -> None:
        for acceptor in self._acceptors:
            acceptor.tick(now)
        if self._certificates and now >= self._watch_at:
            self._watch_at = now + WATCH_S
            for tls in self._certificates:
                tls.reload()

    def reload(self) -> None:
        """Read every certificate again."""
        for tls in self._certificates:
            tls.reload(is_forced=True)

    async def close(self, *, but: str = "") -> None:
        """Accept no further connection, except on the listener `but`."""
        for name, server in self._servers:
            if name != but:
                server.close()
        for acceptor in self._acceptors:
            if acceptor.name != but:
                await acceptor.close()
        for name, path, inode in self._unix:
            if name != but:
                remove_unix(path, inode)
        self._servers = [each for each in self._servers if each[0] == but]
        self._acceptors = [each for each in self._acceptors if each.name == but]
        self._unix = [each for each in self._unix if each[0] == but]
        self.bound[:] = [each for each in self.bound if each[0] == but]
        if not but:
            self._reactor = None  # it goes with its last connection
            self._certificates.clear()


def _nothing() -> None:
    """Begin and flush nothing: whoever stands before the protocols does."""


def _http_config(settings: Settings, default: ListenerConfig) -> ListenerConfig:
    """Return the section `http` in amqtt's words: TLS of its own, else that of the listener `default`."""
    http = settings.http
    own = {"certfile": http.certfile, "keyfile": http.keyfile} if http.certfile or http.keyfile else {}
    shared = {key: getattr(default, key) for key in ("certfile", "keyfile", "cafile", "capath", "cadata")}
    try:
        return ListenerConfig(bind=http.bind, ssl=bool(own) or default.ssl, **(own or shared))
    except (ValueError, FileNotFoundError) as error:
        raise MesimqttError(f"http: {error}; name both certfile and keyfile, or neither") from None


def _policy(name: str, options: ListenerOptions, *, is_open: bool) -> Policy:
    """Return what a WebSocket listener asks of a request. Raises MesimqttError where it would never be met."""
    for origin in options.origins:
        if not (_ORIGIN.fullmatch(origin) and origin.isascii()):
            raise MesimqttError(
                f"listener {name!r}: origins: {origin!r} is none; write for example https://chat.example.org, "
                "and a name with other letters as a browser does: xn--…"
            )
    for path in options.paths:
        if not path.startswith("/") or "?" in path:
            raise MesimqttError(f"listener {name!r}: paths: {path!r} is none; write for example /mqtt")
    return Policy(paths=options.paths, origins=tuple(map(plain_origin, options.origins)), is_open=is_open)


def _networks(name: str, options: ListenerOptions) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(each, strict=False) for each in options.proxy_from)
    except ValueError as error:
        raise MesimqttError(f"listener {name!r}: proxy_from: {error}; write networks, for example 10.0.0.0/8") from None
