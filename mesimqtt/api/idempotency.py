"""Idempotency-Key: a request that is sent again has its effect once, and gets the same answer again."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any

from mesimqtt.api.problems import ProblemError
from mesimqtt.domain.errors import OperationError, StoreError
from mesimqtt.messaging.sending import CID_BASE_MAX
from mesimqtt.store import idempotency as rows
from mesimqtt.topics import CID_PATTERN

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from mesimqtt.messaging.messaging import Messaging

KEYS_MAX = 100_000  # of one user
BYTES_MAX = 256 * 1024 * 1024  # of the answers to them
PURGE_S = 60.0
PURGED_MAX = 200  # in one transaction: each answer may be as large as one can be
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_NONCE_BYTES = 12

log = logging.getLogger(__name__)

Answer = tuple[int, bytes]
Place = tuple[str, str]


class Idempotency:
    """Does what a key stands for once. `kept_s` is how long an answer is given again.

    Only what was done is kept: after a refusal the same request is judged afresh, as a message is by its cid. An answer
    may hold a token, so it is sealed with what only who has the key and the server's secret knows.
    """

    def __init__(self, messaging: Messaging, kept_s: int) -> None:
        self._messaging = messaging
        self._kept_ms = kept_s * 1000
        self._running: dict[Place, tuple[bytes, asyncio.Future[Answer]]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}  # of a user: keys, bytes of answers
        self._purge_at = 0.0

    async def once(self, user: str, key: str, digest: bytes, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer to what `digest` says was asked; `work` does it. Raises ProblemError, and what it raises.

        Whoever asks the same at the same time waits for the one that does it.
        """
        place = (user, key)
        running = self._running.get(place)
        if running is not None:
            _same(running[0], digest)
            return await asyncio.shield(running[1])
        found = self._found(user, key, digest)
        if found is not None:
            return found
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_seen)
        self._running[place] = (digest, future)
        try:
            await self._check_room(user)
            answer = await work()
            await self._keep(user, key, digest, answer)
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else StoreError("the server is stopping"))
            raise
        finally:
            del self._running[place]
        future.set_result(answer)
        return answer

    def tick(self, now: float) -> None:
        """Forget what is older than it must be."""
        if now >= self._purge_at:
            self._purge_at = now + PURGE_S
            before_ms = self._messaging.now_ms() - self._kept_ms
            if rows.is_any_older(self._messaging.store.read, before_ms):
                self._sizes.clear()
                self._purge(before_ms)

    def _purge(self, before_ms: int) -> None:
        """Forget a bounded number in one transaction, and go on in the next ones until there is no more.

        So what runs out goes as fast as it was made: each of those answers took a commit, too.
        """

        def done(gone: int | BaseException) -> None:
            if gone == PURGED_MAX:  # not after a failure: the next look is soon enough
                self._purge(before_ms)

        self._messaging.store.committer.call(lambda connection: rows.purge(connection, before_ms, PURGED_MAX), done)

    def _found(self, user: str, key: str, digest: bytes) -> Answer | None:
        since_ms = self._messaging.now_ms() - self._kept_ms
        kept = rows.find(self._messaging.store.read, user, _hash(key), since_ms)
        if kept is None:
            return None
        _same(kept.digest, digest)
        return kept.status, self._open(user, key, kept.answer)

    async def _keep(self, user: str, key: str, digest: bytes, answer: Answer) -> None:
        now_ms = self._messaging.now_ms()
        kept = rows.Kept(digest, answer[0], self._seal(user, key, answer[1]))

        def work(connection: sqlite3.Connection) -> None:
            rows.add(connection, user, _hash(key), kept, now_ms)

        try:
            await self._messaging.store.committer.run(work)
        except StoreError:  # it is done, and that is what is told
            log.warning("http: an answer could not be kept for its Idempotency-Key")
        else:
            if user in self._sizes:
                keys, size = self._sizes[user]
                self._sizes[user] = keys + 1, size + len(kept.answer)

    async def _check_room(self, user: str) -> None:
        """Refuse who has too many keys; they are counted in the reader's thread: of 100 000 it takes half a second."""
        found = self._sizes.get(user)
        if found is None:
            found = await self._messaging.store.ask(lambda connection: rows.size(connection, user))
            found = self._sizes.setdefault(user, found)
        if found[0] >= KEYS_MAX or found[1] >= BYTES_MAX:
            bound = f"{KEYS_MAX} idempotency keys, with {BYTES_MAX} bytes of answers,"
            raise OperationError("rate-limited", f"at most {bound} are kept for you", retry_after=60)

    def _seal(self, user: str, key: str, text: bytes) -> bytes:
        nonce = self._messaging.chance.draw(_NONCE_BYTES)
        return nonce + self._cipher(user, key).encrypt(nonce, text, None)

    def _open(self, user: str, key: str, sealed: bytes) -> bytes:
        return self._cipher(user, key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)

    def _cipher(self, user: str, key: str) -> AESGCM:
        # Imported here: only a request with a key needs it.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - as said

        return AESGCM(self._messaging.signer.derive(b"idempotency", f"{user}\0{key}".encode()))


def read_key(header: bytes | None) -> str:
    """Return the key of a header, '' where there is none. Raises ProblemError, also for an empty one."""
    if header is None:
        return ""
    key = header.decode("latin-1")
    if not _KEY.fullmatch(key):
        raise ProblemError(400, "bad-idempotency-key", "an Idempotency-Key is 1 to 255 visible ASCII characters")
    return key


def digest_of(operation: str, arguments: dict[str, Any]) -> bytes:
    """Return what two requests with one key must have in common: the operation and its arguments."""
    text = json.dumps(arguments, sort_keys=True, ensure_ascii=False)
    return blake2b(f"{operation}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def cid_of(key: str) -> str:
    """Return the cid of a message that is sent with a key: the key itself where it can be one.

    So the same send is the same message also where the answer was never kept, and over MQTT, too.
    """
    return (
        key
        if CID_PATTERN.fullmatch(key) and len(key) <= CID_BASE_MAX
        else f"key-{blake2b(key.encode(), digest_size=16).hexdigest()}"
    )


def _hash(key: str) -> bytes:
    return sha256(key.encode()).digest()


def _same(kept: bytes, digest: bytes) -> None:
    if kept != digest:
        raise ProblemError(
            422, "idempotency-key-reused", "this Idempotency-Key was used for another request: take a new one for this"
        )


def _seen(future: asyncio.Future[Answer]) -> None:
    """Look at an exception that nobody waits for: whoever did it has it, too."""
    if not future.cancelled():
        future.exception()
