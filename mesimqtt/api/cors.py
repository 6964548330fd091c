"""Which web pages of other hosts may use the API: none, until the configuration names them (Fetch standard, CORS)."""

from __future__ import annotations

from mesimqtt.domain.hosts import plain_origin

MAX_AGE_S = 600
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADERS = b"authorization, content-type, idempotency-key"
_READABLE = b"retry-after"

Fields = list[tuple[bytes, bytes]]


class Cors:
    """The allow-list. A browser's credentials (cookies) are never asked for: a token comes in a header."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(plain_origin(origin).encode() for origin in origins)
        self._is_for_all = b"*" in self._origins

    def __bool__(self) -> bool:
        return bool(self._origins)

    def fields(self, origin: bytes) -> Fields:
        """Return what an answer to a page of `origin` says beside itself; nothing for a page that is not named."""
        if self._is_for_all:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _READABLE)]
        vary = (b"vary", b"origin")
        if not origin or origin.lower() not in self._origins:
            return [vary]
        return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _READABLE), vary]

    def preflight(self, origin: bytes) -> Fields | None:
        """Return what the answer to a browser that asks first says beside `fields`; None: that page is not named."""
        if self.fields(origin)[0][0] != b"access-control-allow-origin":
            return None
        return [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _HEADERS),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
        ]
