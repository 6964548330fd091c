"""Keys of others, for tokens that they sign: PEM files, a JWKS file, a JWKS address; read again when they change."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from functools import partial
from typing import TYPE_CHECKING

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.domain.strict_json import read_json
from mesimqtt.files import read_regular
from mesimqtt.messaging.fetch import FetchError, check_url, fetch
from mesimqtt.store.layout import KEYS_NEW_NAME
from mesimqtt.tokens import load_public_keys, parse_jwks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mesimqtt.settings import Tokens
    from mesimqtt.tokens import PublicKey, TokenSigner

    Fetch = Callable[[str], tuple[bytes, Mapping[str, str]]]

LOOK_S = 1.0  # how often the file's time is looked at
FRESH_MIN_S = 60.0
FRESH_MAX_S = 86_400.0
FRESH_DEFAULT_S = 3_600.0
UNKNOWN_S = 60.0  # an unknown kid asks for the keys at most so often; so do failures
_CACHE_MAX = 16 * 1024 * 1024  # bytes
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?([0-9]{1,9})")

log = logging.getLogger(__name__)


class Keys:
    """Gives the signer what it verifies foreign tokens with. Old keys stay in force while new ones cannot be had.

    `cache` is where the keys of the address are kept over a restart. `fetches` is False for a command, which uses
    what is there. `on_changed` is called when the keys are others.
    """

    def __init__(
        self,
        settings: Tokens,
        signer: TokenSigner,
        cache: Path | None,
        *,
        now: Callable[[], float],
        fetches: bool = True,
        fetch_keys: Fetch | None = None,
    ) -> None:
        """Read the files; raises MesimqttError, whose text names what cannot be used. The network is not needed."""
        self._settings = settings
        self._signer = signer
        self._cache = cache
        self._now = now
        self._fetch: Fetch = fetch_keys or partial(fetch, private_hosts=settings.jwks_private_hosts)
        self.on_changed: Callable[[], None] = _nobody
        self._url = settings.jwks_url if fetches else ""
        if settings.jwks_url:
            try:
                check_url(settings.jwks_url)
            except FetchError as error:
                raise MesimqttError(f"tokens.jwks_url: {settings.jwks_url}: {error}") from None
        self._files = load_public_keys(settings.public_keys, settings.jwks_file)
        self._seen = self._stamp()
        self._fetched: list[PublicKey] = self._read_cache()
        self._thread: threading.Thread | None = None
        self._arrived: tuple[list[PublicKey], float, str] | None = None
        self._look_at = self._due = self._not_before = now()
        self._warned_at = float("-inf")
        self._failure = ""
        signer.on_unknown_kid = self._unknown
        self._apply()

    def reload(self) -> None:
        """Read the file and ask the address again, now."""
        self._seen = None
        self._look_at = self._due = self._now()
        self.tick(self._look_at)

    def tick(self, now: float) -> None:
        """Take what was fetched, look whether the file has changed, ask the address if its answer is old."""
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
            self._take(now)
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look(now)
        if self._url and now >= self._due and self._thread is None:
            self._due = now + UNKNOWN_S
            self._thread = threading.Thread(target=self._work, name="jwks", daemon=True)
            self._thread.start()

    def _unknown(self, _kid: str) -> None:
        """Ask the address soon: a token names a key that is not known; at most once a minute."""
        now = self._now()
        is_asked = self._thread is not None or now >= self._due
        if self._url and not is_asked and now >= self._not_before:
            self._not_before = now + UNKNOWN_S
            self._due = now

    def _work(self) -> None:
        """Fetch, in a thread of its own: nothing here touches what the loop uses but `_arrived` and `_failure`."""
        try:
            body, headers = self._fetch(self._settings.jwks_url)
            keys = parse_jwks(body)
            text = body.decode()
        except (FetchError, ValueError) as error:  # TokenError and UnicodeDecodeError among them
            self._failure = str(error)
            return
        found = _MAX_AGE.search(headers.get("cache-control", "").lower())
        fresh_s = float(found[1]) if found else FRESH_DEFAULT_S
        self._arrived = keys, min(max(fresh_s, FRESH_MIN_S), FRESH_MAX_S), text

    def _take(self, now: float) -> None:
        arrived, self._arrived = self._arrived, None
        if arrived is None:
            self._warn(now, f"tokens.jwks_url: {self._failure}; the keys from before stay in force")
            return
        self._fetched, fresh_s, text = arrived
        self._due = now + fresh_s
        self._write_cache(text)
        self._apply()

    def _look(self, now: float) -> None:
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._files = load_public_keys(self._settings.public_keys, self._settings.jwks_file)
        except MesimqttError as error:
            self._warn(now, f"{error}; the keys from before stay in force")
            return
        self._apply()

    def _stamp(self) -> tuple[int, int, int] | None:
        if not self._settings.jwks_file:
            return None
        try:
            status = os.stat(self._settings.jwks_file)  # noqa: PTH116 - once a second, for as long as the server runs
        except OSError:
            return (0, 0, 0)
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _apply(self) -> None:
        self._signer.public_keys = [*self._files, *self._fetched]
        self.on_changed()

    def _warn(self, now: float, text: str) -> None:
        if now - self._warned_at >= UNKNOWN_S:
            self._warned_at = now
            log.warning("%s", text)

    def _read_cache(self) -> list[PublicKey]:
        if self._cache is None or not self._settings.jwks_url:
            return []
        try:
            kept = read_json(read_regular(self._cache, size_max=_CACHE_MAX))
            return parse_jwks(kept["jwks"].encode()) if kept["url"] == self._settings.jwks_url else []
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # TokenError is a ValueError
            log.warning("%s cannot be used; the keys are fetched again", self._cache)
            return []

    def _write_cache(self, jwks: str) -> None:
        if self._cache is None:
            return
        text = json.dumps({"url": self._settings.jwks_url, "jwks": jwks})
        fresh = self._cache.with_name(KEYS_NEW_NAME)
        try:
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(self._cache)
        except OSError as error:  # a full disk must not lock anybody out
            log.warning("cannot write %s: %s", self._cache, error.strerror)


def _nobody() -> None:
    """Tell nobody: no cache of verified tokens is there yet."""
