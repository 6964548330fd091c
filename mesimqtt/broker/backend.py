"""An HTTP backend that is asked in JSON: a few threads, and connections that are used again.

The standard library's client in threads, and no library beside it: a question is rare (one a CONNECT, and its
answer is kept), the threads bound how many are asked at once, and the loop never waits.
"""

from __future__ import annotations

import asyncio
import hmac
import http.client
import io
import json
import logging
import re
import ssl
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.domain.strict_json import read_json
from mesimqtt.messaging.fetch import FetchError, check_url

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from _typeshed import WriteableBuffer

    from mesimqtt.broker.context import Context

ANSWER_MAX_BYTES = 64 * 1024
WAITING_MAX = 1_000  # questions that wait for a thread
SIGNATURE = "X-Mesimqtt-Signature"
KEPT_MAX = 10_000
_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
WARN_S = 60.0
THREADS_MAX = 64

logger = logging.getLogger(__name__)

T = TypeVar("T")


class BackendError(Exception):
    """The backend gave no answer that can be used; the text goes to the log only."""


class _Until(io.RawIOBase):
    """Reads a socket until a moment: who sends a byte now and then would outlast the time-out of each read."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, until: float) -> None:
        super().__init__()
        self._raw = raw
        self._socket = sock
        self._until = until

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        """Read what is there. Raises TimeoutError."""
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that is to be whole at a moment, `until`."""

    def __init__(self, until: float, sock: socket.socket, method: str | None = None) -> None:
        super().__init__(sock, method=method)
        self.fp = io.BufferedReader(_Until(self.fp.detach(), sock, until))


class Backend:
    """One address that takes a JSON object by POST and answers 200 with one. 401, 403 and 404 answer None: no."""

    def __init__(
        self,
        url: str,
        *,
        secret: bytes = b"",
        headers: Mapping[str, str] | None = None,
        cafile: str = "",
        within_s: float = 2.0,
        threads: int = 8,
    ) -> None:
        """Check the address; nothing is asked yet. Raises MesimqttError, whose text names what to mend."""
        try:
            parts = check_url(url)
        except FetchError as error:
            raise MesimqttError(f"url: {url}: {error}") from None
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            try:
                self._tls = ssl.create_default_context(cafile=cafile or None)
            except OSError as error:
                raise MesimqttError(f"cafile: {cafile}: {error.strerror or error}") from None
        self._secret = secret
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
        self._within_s = within_s
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="http-auth")
        self._idle: list[http.client.HTTPConnection] = []  # at most one for each thread
        self._waiting = 0
        self._is_closed = False

    async def ask(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """Return the backend's answer, None for its no.

        Raises:
            BackendError: it cannot be reached, is late, or answers what cannot be used.

        """
        if self._waiting >= WAITING_MAX:
            raise BackendError("too many questions wait for it")
        body = json.dumps(question, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, body)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Take no further questions; threads that wait end with their timeout."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._idle:
            self._idle.pop().close()

    def _ask(self, body: bytes) -> dict[str, Any] | None:
        """Ask in a thread, on a connection that no other thread has."""
        until = time.monotonic() + self._within_s
        kept = self._take()
        client = kept or self._connected()
        try:
            try:
                return self._asked(client, body, until)
            except (ConnectionError, http.client.RemoteDisconnected):
                if kept is None:
                    raise
                # A kept connection that the backend has closed meanwhile says nothing about the backend.
                client.close()
                client = self._connected()
                return self._asked(client, body, until)
        except (OSError, http.client.HTTPException) as error:
            client.close()
            raise BackendError(f"{type(error).__name__}: {error}") from None
        finally:
            self._give_back(client)

    def _take(self) -> http.client.HTTPConnection | None:
        try:
            return self._idle.pop()  # as one step: two threads never get the same
        except IndexError:
            return None

    def _give_back(self, client: http.client.HTTPConnection) -> None:
        if client.sock is not None and not self._is_closed:
            self._idle.append(client)
        else:
            client.close()

    def _connected(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._within_s, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._within_s)

    def _asked(self, client: http.client.HTTPConnection, body: bytes, until: float) -> dict[str, Any] | None:
        client.response_class = partial(_Response, until)  # type: ignore[assignment] # it is called as a class is
        if client.sock is not None:
            client.sock.settimeout(self._within_s)
        headers = dict(self._headers)
        if self._secret:
            headers[SIGNATURE] = sign(body, self._secret, int(time.time()))
        client.request("POST", self._path, body=body, headers=headers)
        with client.getresponse() as answer:
            text = answer.read(ANSWER_MAX_BYTES + 1)
        if len(text) > ANSWER_MAX_BYTES:
            client.close()
            raise BackendError(f"an answer of more than {ANSWER_MAX_BYTES} bytes")
        if answer.status in (401, 403, 404):
            return None
        if answer.status != 200:
            raise BackendError(f"status {answer.status}")
        try:
            value = read_json(text)
        except ValueError as error:
            raise BackendError(f"its answer is no JSON: {error}") from None
        if not isinstance(value, dict):
            raise BackendError("its answer is no JSON object")
        return value


def sign(body: bytes, secret: bytes, now_s: int) -> str:
    """Return the signature header of a question: the time, and HMAC-SHA256 of `TIME.BODY` in hex."""
    return f"t={now_s},v1={hmac.digest(secret, f'{now_s}.'.encode() + body, 'sha256').hex()}"


class Kept(Generic[T]):
    """Answers of the last seconds, bounded."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._values: OrderedDict[tuple[object, ...], tuple[float, T]] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> T | None:
        """Return what was kept, if it is not too old."""
        found = self._values.get(key)
        return found[1] if found is not None and self._clock() < found[0] else None

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()

    def put(self, key: tuple[object, ...], value: T) -> None:
        """Keep an answer."""
        self._values[key] = (self._clock() + self._seconds, value)
        self._values.move_to_end(key)
        if len(self._values) > KEPT_MAX:
            self._values.popitem(last=False)


@dataclass
class HttpConfig:
    """Options of both plugins.

    `url` is https:// (http:// on this machine only). `secret` or `secret_file` signs each question, `headers` go with
    it. `timeout` and `cache` are seconds, `threads` how many questions may be under way at once.
    """

    url: str
    secret: str = ""
    secret_file: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    cafile: str = ""
    timeout: float = 2.0
    cache: float = 30.0
    threads: int = 8


class Asker:
    """A backend and the complaints about it: once a minute, never what was asked. It is asked through `context`."""

    def __init__(self, config: HttpConfig, name: str, context: Context) -> None:
        """Check the options; raises MesimqttError, whose text names the one to mend."""
        if not (0 < config.timeout <= 60 and 1 <= config.threads <= THREADS_MAX and config.cache >= 0):
            bounds = f"timeout is above 0 and at most 60, threads 1 to {THREADS_MAX}, cache from 0 up"
            raise MesimqttError(f"{name}: {bounds}")
        for header, value in config.headers.items():
            if not (_HEADER.fullmatch(header) and _VALUE.fullmatch(value)):
                raise MesimqttError(f"{name}: headers: {header}: a name and a text of one line in ASCII")
        secret = config.secret.encode()
        try:
            if config.secret_file:
                secret = Path(config.secret_file).read_bytes().strip()
            self.backend = Backend(
                config.url,
                secret=secret,
                headers=config.headers,
                cafile=config.cafile,
                within_s=config.timeout,
                threads=config.threads,
            )
        except OSError as error:
            raise MesimqttError(f"{name}: secret_file: {config.secret_file}: {error.strerror}") from None
        except MesimqttError as error:
            raise MesimqttError(f"{name}: {error}") from None
        self._name = name
        self._context = context
        self._warned_at = float("-inf")

    async def ask(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer, None for a no. Raises BackendError, which has been logged."""

        async def answered() -> tuple[dict[str, Any] | None, str]:
            try:
                return await self.backend.ask(question), ""
            except BackendError as error:
                return None, str(error)

        answer, fault = await self._context.ask(answered)
        if fault:
            now = self._context.now()
            if now - self._warned_at >= WARN_S:
                self._warned_at = now
                logger.warning("%s: the backend does not answer as it should, so nobody gets in: %s", self._name, fault)
            raise BackendError(fault)
        return answer
