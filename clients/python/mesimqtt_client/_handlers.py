"""The decorators of both clients: `@client.on_message` and the like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt_client._events import GroupEvent, Presence, ReadMark, SessionNews, StatusUpdate
    from mesimqtt_client._status import State

MessageT = TypeVar("MessageT")
ReturnT = TypeVar("ReturnT")


class Handlers(Generic[MessageT]):
    """Handlers by kind, in the order of registration.

    The device subscribes to a kind with its first handler: one that does not listen to messages must not confirm them.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, list[Callable[..., Any]]] = {}

    def on_message(self, handler: Callable[[MessageT], ReturnT]) -> Callable[[MessageT], ReturnT]:
        """Call `handler` for each message from others, once; its PUBACK leaves when all handlers have returned."""
        self._add("message", handler)
        return handler

    def on_own(self, handler: Callable[[MessageT], ReturnT]) -> Callable[[MessageT], ReturnT]:
        """Call `handler` for each message that another device of this user sent (`message.to`, `message.group`)."""
        self._add("own", handler)
        return handler

    def on_status(self, handler: Callable[[StatusUpdate], ReturnT]) -> Callable[[StatusUpdate], ReturnT]:
        """Call `handler` for each status of any message of this user, also of earlier runs and other devices."""
        self._add("status", handler)
        return handler

    def on_read(self, handler: Callable[[ReadMark], ReturnT]) -> Callable[[ReadMark], ReturnT]:
        """Call `handler` when another device of this user has read something."""
        self._add("read", handler)
        return handler

    def on_presence(self, handler: Callable[[Presence], ReturnT]) -> Callable[[Presence], ReturnT]:
        """Call `handler` for each presence signal of somebody else."""
        self._add("presence", handler)
        return handler

    def on_event(self, handler: Callable[[GroupEvent], ReturnT]) -> Callable[[GroupEvent], ReturnT]:
        """Call `handler` for each change of a group of this user."""
        self._add("event", handler)
        return handler

    def on_session(self, handler: Callable[[SessionNews], ReturnT]) -> Callable[[SessionNews], ReturnT]:
        """Call `handler` for news of this session; without one they are logged."""
        self._add("session", handler)
        return handler

    def on_state(self, handler: Callable[[State, str], ReturnT]) -> Callable[[State, str], ReturnT]:
        """Call `handler` with each new state of the connection and its reason ('' if there is none)."""
        self._add("state", handler)
        return handler

    def _add(self, kind: str, handler: Callable[..., Any]) -> None:
        raise NotImplementedError
