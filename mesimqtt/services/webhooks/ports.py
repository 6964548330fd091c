"""What the dispatcher asks of whoever sends a request, so that a test can have its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Ask = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


class Reply(NamedTuple):
    """What an endpoint answered. `status` 0: nothing, and `error` says why; `retry_after_s` 0: it did not say."""

    status: int
    body: bytes = b""
    retry_after_s: float = 0.0
    error: str = ""


class Post(Protocol):
    """Sends one request at a time to one endpoint."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, is_private: bool) -> Reply:
        """Send and return what was answered; an endpoint that cannot be reached is a Reply, too."""

    async def close(self) -> None:
        """Let go of the connection."""


class AskedPoster:
    """A poster whose requests somebody else makes: `ask` returns what a coroutine does, there or from a recording."""

    def __init__(self, poster: Post, ask: Ask) -> None:
        self._poster = poster
        self._ask = ask

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, is_private: bool) -> Reply:
        """Send and return what was answered."""

        async def posted() -> tuple[Any, ...]:
            return tuple(await self._poster.post(url, body, headers, is_private=is_private))

        return Reply(*await self._ask(posted))

    async def close(self) -> None:
        """Let go of the connection."""
        await self._ask(self._poster.close)
