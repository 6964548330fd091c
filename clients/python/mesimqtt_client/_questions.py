"""What a user can ask about what was said: history, inbox, search, sync; for both clients, over rpc."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypedDict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping
    from typing import Unpack


class HistoryOptions(TypedDict, total=False):
    """Which part of a conversation: `before` and `after` are seqs or mids, `order` is newest or oldest first."""

    before: int | str
    after: int | str
    order: str
    limit: int
    cursor: str


class SearchOptions(TypedDict, total=False):
    """Where to search: in one conversation, of one sender, of one type."""

    peer: str
    group: str
    sender: str
    type: int
    limit: int
    cursor: str


class PageOptions(TypedDict, total=False):
    """Which page: `cursor` is the `next` of the page before."""

    limit: int
    cursor: str


class _Asks(Protocol):
    def rpc(self, operation: str, arguments: Mapping[str, Any] | None = None, timeout: float = 10.0) -> Any: ...  # noqa: ANN401 - JSON


class _AsksLater(Protocol):
    def rpc(
        self,
        operation: str,
        arguments: Mapping[str, Any] | None = None,
        timeout: float = 10.0,
    ) -> Awaitable[Any]: ...


class Questions:
    """The blocking client's questions. Each returns the page's JSON; see docs/history.md for what stands in it."""

    def history(
        self: _Asks, peer: str | None = None, *, group: str | None = None, **options: Unpack[HistoryOptions]
    ) -> dict[str, Any]:
        """Return a page of the conversation with `peer` or in `group`, as far as you may see it.

        Raises:
            RpcError, ConnectionLost, TimeoutError: as `rpc`.

        """
        return dict(self.rpc("history", _conversation(peer, group) | options))

    def inbox(self: _Asks, **options: Unpack[PageOptions]) -> dict[str, Any]:
        """Return your conversations, the last active first: last message, how many wait, how many are unread."""
        return dict(self.rpc("inbox", {**options}))

    def search(self: _Asks, text: str, **options: Unpack[SearchOptions]) -> dict[str, Any]:
        """Return messages of your conversations that have all words of `text`, the newest first."""
        return dict(self.rpc("search", {"text": text, **options}))

    def sync(self: _Asks, device: str | None = None, **options: Unpack[PageOptions]) -> dict[str, Any]:
        """Return where each conversation stands, and what is missing to `device` (None: to all of yours together)."""
        return dict(self.rpc("sync", {"device": device, **options}))


class AsyncQuestions:
    """The asyncio client's questions: the same verbs."""

    async def history(
        self: _AsksLater, peer: str | None = None, *, group: str | None = None, **options: Unpack[HistoryOptions]
    ) -> dict[str, Any]:
        """Return a page of the conversation with `peer` or in `group`, as far as you may see it.

        Raises:
            RpcError, ConnectionLost, TimeoutError: as `rpc`.

        """
        return dict(await self.rpc("history", _conversation(peer, group) | options))

    async def inbox(self: _AsksLater, **options: Unpack[PageOptions]) -> dict[str, Any]:
        """Return your conversations, the last active first: last message, how many wait, how many are unread."""
        return dict(await self.rpc("inbox", {**options}))

    async def search(self: _AsksLater, text: str, **options: Unpack[SearchOptions]) -> dict[str, Any]:
        """Return messages of your conversations that have all words of `text`, the newest first."""
        return dict(await self.rpc("search", {"text": text, **options}))

    async def sync(self: _AsksLater, device: str | None = None, **options: Unpack[PageOptions]) -> dict[str, Any]:
        """Return where each conversation stands, and what is missing to `device` (None: to all of yours together)."""
        return dict(await self.rpc("sync", {"device": device, **options}))


def _conversation(peer: str | None, group: str | None) -> dict[str, Any]:
    if (peer is None) == (group is None):
        raise ValueError("name one conversation: a peer or group=")
    return {"peer": peer} if peer is not None else {"group": group}
