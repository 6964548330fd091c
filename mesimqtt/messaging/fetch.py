"""An HTTP GET for the server's own needs: bounded in time and size, to no address that its caller did not mean."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mesimqtt.domain.hosts import is_loopback, is_public

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from urllib.parse import SplitResult

FETCH_S = 5.0
SIZE_MAX = 1024 * 1024


class FetchError(Exception):
    """Nothing was fetched; the text says why."""


def check_url(url: str, *, private_hosts: Collection[str] = (), is_private: bool = False) -> SplitResult:
    """Return the parts of an address that may be fetched: https, or http on this machine. Raises FetchError.

    http is also for hosts in `private_hosts`, and for any if it `is_private`.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FetchError("it is no address") from None
    if parts.username is not None or parts.password is not None or not parts.hostname or port == 0:
        raise FetchError("it is https://HOST[:PORT]/PATH, without a name or password")
    is_near = is_private or is_loopback(parts.hostname) or parts.hostname in private_hosts
    if parts.scheme != "https" and not (parts.scheme == "http" and is_near):
        raise FetchError("it must begin with https://; http:// is for this machine alone")
    if not url.isascii() or any(character.isspace() for character in url):
        raise FetchError("it must be plain ASCII without spaces")
    return parts


def fetch(
    url: str, *, private_hosts: Collection[str] = (), within_s: float = FETCH_S, tls: ssl.SSLContext | None = None
) -> tuple[bytes, Mapping[str, str]]:
    """Return body and headers (names in lower case). Blocks for at most about `within_s`: call it in a thread.

    The host is resolved once and the connection goes to the address that was checked: no private one, unless its
    host is in `private_hosts` or the address itself names this machine. Redirects are not followed.

    Raises:
        FetchError: it did not work, or must not be tried.

    """
    parts = check_url(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(info[4][0]) for info in found]
        if host not in private_hosts and not is_loopback(host):
            check_public(addresses)
        connection = connect_first(addresses, port, within_s)
    except (OSError, UnicodeError) as error:
        raise FetchError(f"{host} cannot be reached: {error}") from None
    # A peer that sends a byte now and then would outlast every timeout of the socket itself.
    cut = threading.Timer(within_s, _shut, [connection, late := threading.Event()])
    try:
        if parts.scheme == "https":
            connection = (tls or ssl.create_default_context()).wrap_socket(connection, server_hostname=host)
            cut = threading.Timer(within_s, _shut, [connection, late])
        cut.daemon = True
        cut.start()
        answer = _get(connection, parts, port)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchError(f"{host} did not answer as it should: {error!s:.200}") from None
    finally:
        cut.cancel()
        connection.close()
    if late.is_set():  # to the reader, being cut looks like the answer's end
        raise FetchError(f"{host} did not answer within {within_s:g} s")
    return answer


def connect_first(addresses: list[str], port: int, within_s: float) -> socket.socket:
    """Connect to the first address that answers: `localhost` is ::1 first, and many a server is on 127.0.0.1 alone."""
    for left in range(len(addresses), 0, -1):
        try:
            connection = socket.create_connection((addresses[-left], port), timeout=within_s / len(addresses))
        except OSError:
            if left == 1:
                raise
        else:
            break
    connection.settimeout(within_s)
    return connection


def _get(connection: socket.socket, parts: SplitResult, port: int) -> tuple[bytes, Mapping[str, str]]:
    client = http.client.HTTPConnection(parts.hostname or "", port)
    client.default_port = 443 if parts.scheme == "https" else 80  # what the Host header leaves out
    client.sock = connection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    client.request("GET", path, headers={"Accept": "application/json", "Connection": "close"})
    with client.getresponse() as answer:
        if 300 <= answer.status < 400:
            raise FetchError("it answers with a redirect, which is not followed: name the final address")
        if answer.status != 200:
            raise FetchError(f"it answers with status {answer.status}")
        body = answer.read(SIZE_MAX + 1)
        if len(body) > SIZE_MAX:
            raise FetchError(f"its answer is longer than {SIZE_MAX} bytes")
        return body, {name.lower(): value for name, value in answer.getheaders()}


def check_public(addresses: Iterable[str]) -> None:
    """Raise FetchError unless all these IP addresses are of the open Internet."""
    for address in addresses:
        if not is_public(address):
            raise FetchError(f"{address} is a private address; list its host if that is meant")


def _shut(connection: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        # Not the method of a TLS socket: that one must not be used from two threads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
