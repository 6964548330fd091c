"""One POST to an endpoint: resolved, checked, sent to the address that was checked. Only here httpx2 is imported."""

from __future__ import annotations

import asyncio
import email.utils
import socket
import ssl
import threading
import time
from functools import cache
from typing import TYPE_CHECKING

import httpx2

from mesimqtt import __version__
from mesimqtt.domain.hosts import is_address
from mesimqtt.messaging.fetch import SIZE_MAX, FetchError, check_public, check_url
from mesimqtt.services.webhooks.ports import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from urllib.parse import SplitResult

_TRIED_MAX = 3  # addresses of one host, if the first does not take the connection
_KEPT_S = 30.0  # how long a connection waits for the next request
_SHOWN = 200
_KEPT_BYTES = 4_096
_HEADERS = {
    "user-agent": f"mesimqtt/{__version__}",
    "accept": "*/*",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "content-type": "application/json",
}


class Poster:
    """Sends to one endpoint and keeps its connection. `resolve` blocks and returns IP addresses (OSError: none)."""

    def __init__(
        self,
        *,
        answer_s: float,
        resolve: Callable[[str, int], list[str]] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._answer_s = answer_s
        self._resolve = resolve or _addresses
        # One of its own for each endpoint: what one host's certificate opened is never used for another.
        self._transport: httpx2.AsyncHTTPTransport | None = None
        self._tls = tls

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, is_private: bool) -> Reply:
        """Send and return what was answered, within the time; it raises nothing but what ends the server."""
        try:
            async with asyncio.timeout(self._answer_s):
                return await self._post(url, body, headers, is_private=is_private)
        except TimeoutError:
            await self.close()
            return Reply(0, error=f"no answer within {self._answer_s:g} s")
        except FetchError as error:
            return Reply(0, error=str(error)[:_SHOWN])
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            await self.close()
            return Reply(0, error=f"it cannot be reached: {type(error).__name__}: {error}"[:_SHOWN])

    async def close(self) -> None:
        """Let go of the connection."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str], *, is_private: bool) -> Reply:
        parts = check_url(url, is_private=is_private)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        addresses = await self._resolved(host, port)
        if not is_private:
            check_public(addresses)
        transport = self._transport = self._transport or self._made()
        for number, address in enumerate(addresses[:_TRIED_MAX], start=1):
            try:
                return await self._send(transport, parts, address, port, body, headers)
            except httpx2.ConnectError:
                if number == min(len(addresses), _TRIED_MAX):
                    raise
        raise FetchError(f"{host} has no address")

    async def _send(
        self,
        transport: httpx2.AsyncHTTPTransport,
        parts: SplitResult,
        address: str,
        port: int,
        body: bytes,
        headers: Mapping[str, str],
    ) -> Reply:
        target = httpx2.URL(
            scheme=parts.scheme, host=address, port=port, raw_path=_path(parts)
        )  # the checked address, so that no second look-up can lead elsewhere
        written = {**_HEADERS, **headers, "host": parts.netloc, "content-length": str(len(body))}
        request = httpx2.Request(
            "POST",
            target,
            content=body,
            headers=written,
            extensions={"sni_hostname": parts.hostname or "", "timeout": {}},
        )
        # The transport alone: no redirect, no cookie, no proxy of the environment, and half of a client's work.
        answer = await transport.handle_async_request(request)
        try:
            kept, total = bytearray(), 0
            async for chunk in answer.aiter_raw():  # as it came: nothing is unpacked
                total += len(chunk)
                kept += chunk[: max(0, _KEPT_BYTES - len(kept))]
                if total > SIZE_MAX:  # its status counts; nobody needs the rest, and leaving here ends the connection
                    break
            return Reply(answer.status_code, bytes(kept), retry_after_s(answer.headers.get("retry-after", "")))
        finally:
            await answer.aclose()

    async def _resolved(self, host: str, port: int) -> list[str]:
        """Resolve in a thread that may be left behind: a name server that is silent holds up nothing."""
        if is_address(host):
            return [host]
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[str]] = loop.create_future()

        def work() -> None:
            found: list[str] = []
            error: Exception | None = None
            try:
                found = self._resolve(host, port)
            except (OSError, UnicodeError) as reason:
                error = FetchError(f"{host} cannot be resolved: {reason}")
            try:
                loop.call_soon_threadsafe(_settle, future, found, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

        threading.Thread(target=work, name="webhook-resolver", daemon=True).start()
        return await future

    def _made(self) -> httpx2.AsyncHTTPTransport:
        return httpx2.AsyncHTTPTransport(
            verify=self._tls or _public_tls(),
            trust_env=False,
            limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEPT_S),
        )


@cache
def _public_tls() -> ssl.SSLContext:
    """Return what trusts the system's authorities: reading them takes long, so once for all endpoints."""
    return ssl.create_default_context()


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def _settle(future: asyncio.Future[list[str]], found: list[str], error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(found)


def _path(parts: SplitResult) -> bytes:
    return ((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).encode()


def retry_after_s(value: str) -> float:
    """Return the seconds of a Retry-After header, which holds seconds or a date; 0 if it says neither."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):  # whatever an answer may hold: its status counts
        return 0.0
