"""What the dispatcher asks of whoever sends a request, so that a test can have its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


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
