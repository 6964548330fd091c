"""Whether the server does what it is for: a commit that reaches the disk, and an MQTT round trip on each listener."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import os
import ssl
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from mesimqtt.settings import ListenerOptions
    from mesimqtt.store.store import Store

TRIP_S = 5.0
FRESH_S = 1.0  # so long an answer serves everybody who asks: health checks are no load
_PINGREQ, _DISCONNECT = b"\xc0\x00", b"\xe0\x00"
_GREETING = b"\x20\x02\x00\x00\xd0\x00"  # CONNACK 0, PINGRESP
_REFUSED = b"\x20\x02\x00\x05"  # CONNACK 5: where other plugins decide who enters, that is an answer too

_NEAR = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach what listens anywhere

Answer = dict[str, Any]
Bound = tuple[str, str, int]


class Demand(NamedTuple):
    """What a listener asks of whoever connects from this machine: a PROXY header, a certificate, a path."""

    header: bool = False
    certificate: bool = False
    path: str = "/mqtt"


NOTHING = Demand()


def demand_of(options: ListenerOptions | None, host: str) -> Demand:
    """Return what a listener on `host` demands of its own server."""
    if options is None:
        return NOTHING
    networks = [ipaddress.ip_network(each, strict=False) for each in options.proxy_from]
    source = ipaddress.ip_address(_NEAR.get(host, host).partition("%")[0]) if networks else None
    return Demand(
        header=source is not None and any(source in network for network in networks),
        certificate=options.client_certificate == "required",
        path=options.paths[0] if options.paths else "/",
    )


class Health:
    """Answers from what it saw at most FRESH_S ago; however many ask at once, it looks once."""

    def __init__(
        self,
        store: Store,
        bound: Callable[[], Sequence[Bound]],
        *,
        password: bytes,
        lag_ms: Callable[[], float],
        ask: Callable[[Callable[[], Awaitable[Answer]]], Awaitable[Answer]] | None = None,
    ) -> None:
        self._store = store
        self._ask = ask or _asked
        self._password = password
        self._bound = bound
        self._lag_ms = lag_ms
        self._looking: asyncio.Future[Answer] | None = None
        self.demands: Mapping[Bound, Demand] = {}
        self._seen_at = float("-inf")

    async def check(self) -> Answer:
        """Return `status` (ok or failing), and what the store and each listener did in which time."""
        now = self._store.now()
        if self._looking is None or (self._looking.done() and now - self._seen_at > FRESH_S):
            self._looking = asyncio.ensure_future(self._look())
        answer = await asyncio.shield(self._looking)
        return dict(answer)

    async def _look(self) -> Answer:
        trips = [
            partial(round_trip, each, self._password, demand=self.demands.get(each, NOTHING)) for each in self._bound()
        ]
        store, *listeners = await asyncio.gather(self._commit(), *map(self._ask, trips))
        is_good = store["ok"] and all(each["ok"] for each in listeners)
        self._seen_at = self._store.now()
        return {
            "status": "ok" if is_good else "failing",
            "store": store,
            "listeners": listeners,
            "loop_lag_ms": round(self._lag_ms(), 3),
        }

    async def _commit(self) -> Answer:
        try:
            async with asyncio.timeout(TRIP_S):
                took_ms = await self._store.beat()
        except (MesimqttError, TimeoutError) as error:
            return {"ok": False, "why": str(error) or f"no commit within {TRIP_S:.0f} s"}
        return {"ok": self._store.health == "ok", "health": str(self._store.health), "commit_ms": round(took_ms, 3)}


async def _asked(question: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask on the loop that runs."""
    return await question()


async def round_trip(
    bound: Bound, password: bytes = b"", *, demand: Demand = NOTHING, trip_s: float = TRIP_S
) -> Answer:
    """Connect to one listener as a client does and wait for its answer; return `ok` and the time, or why not."""
    kind, host, port = bound
    answer: Answer = {"kind": kind, "host": host, "port": port}
    began = time.monotonic()
    try:
        async with asyncio.timeout(trip_s):
            await _ask(kind, host, port, password, demand)
    except ssl.SSLError as error:  # it wants a client certificate: TLS answers, and that is all we can see
        if "CERTIFICATE_REQUIRED" not in str(error).upper():
            return answer | {"ok": False, "why": f"TLS: {error.reason or error}"}
    except (OSError, TimeoutError, EOFError) as error:
        # It wants a certificate and says so by ending what TLS has begun.
        if not demand.certificate or not isinstance(error, (EOFError, ConnectionResetError)):
            return answer | {"ok": False, "why": _words(error, trip_s)}
    return answer | {"ok": True, "ms": round((time.monotonic() - began) * 1000, 3)}


def _words(error: BaseException, trip_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {trip_s:g} s"
    return getattr(error, "strerror", None) or str(error) or "the connection was closed without an answer"


async def _open(kind: str, host: str, port: int, demand: Demand) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not port:
        return await asyncio.open_unix_connection(host.removeprefix("unix:"))
    reader, writer = await asyncio.open_connection(host, port)
    if demand.header:
        writer.write(b"PROXY UNKNOWN\r\n")
    if kind.endswith("s") and kind != "ws":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is this server, whatever its name
        try:
            await writer.start_tls(context)
        except BaseException:
            writer.close()
            raise
    return reader, writer


async def _ask(kind: str, host: str, port: int, password: bytes, demand: Demand) -> None:
    host = _NEAR.get(host, host)
    reader, writer = await _open(kind, host, port, demand)
    try:
        if kind in ("ws", "wss"):
            await _upgrade(reader, writer, f"{host}:{port}", demand.path)
        elif kind.startswith("http"):
            writer.write(f"HEAD / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            _check((await reader.readexactly(5)) == b"HTTP/")
        else:
            writer.write(_connect(password) + _PINGREQ)
            connack = await reader.readexactly(4)
            _check(connack == _REFUSED or connack + await reader.readexactly(2) == _GREETING)
            writer.write(_DISCONNECT)
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


def _connect(password: bytes) -> bytes:
    """Return a CONNECT of MQTT 3.1.1, clean session, keep alive 10 s, empty client id and user name."""
    body = b"\x00\x04MQTT\x04\xc2\x00\x0a\x00\x00\x00\x00" + len(password).to_bytes(2, "big") + password
    return b"\x10" + bytes([len(body)]) + body


async def _upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n".encode()
    )
    _check((await reader.readexactly(12)) == b"HTTP/1.1 101")


def _check(is_right: bool) -> None:
    if not is_right:
        raise ConnectionError("it does not answer as MQTT does")
