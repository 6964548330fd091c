"""What the server asks of the world beyond its data: time, chance, threads, sockets, the network. Here: as it is."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from mesimqtt.domain.chance import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from mesimqtt.domain.chance import Chance
    from mesimqtt.store.runner import Runner
    from mesimqtt.store.store import Store

    Perform = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
    Wrap = Callable[[Any, str | None], asyncio.Protocol]

T = TypeVar("T")


class Clock:
    """Milliseconds since 1970 that no jump of the wall clock disturbs: an anchor taken once, plus monotonic time."""

    def __init__(
        self, *, wall_s: Callable[[], float] = time.time, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic_s = monotonic_s
        self._anchor_ms = wall_s() * 1000 - monotonic_s() * 1000

    def now_ms(self) -> int:
        """Return milliseconds since 1970."""
        return int(self._anchor_ms + self._monotonic_s() * 1000)


class Outside:
    """The world as it is. A recorder stands in its place to write down what it says, a replay to say it again.

    `now` is monotonic seconds, `now_ms` milliseconds since 1970, `wall_s` what the wall clock says. `make_runner` makes
    what does the store's work, `wrap` the protocol of a connection, `make_listeners` what opens the listeners;
    None: what always does.
    """

    make_runner: Callable[[str], Runner] | None = None
    wrap: Wrap | None = None
    make_listeners: Callable[..., Any] | None = None

    def __init__(self) -> None:
        self.chance: Chance = SYSTEM
        self.now: Callable[[], float] = time.monotonic
        self.now_ms: Callable[[], int] = Clock().now_ms
        self.wall_s: Callable[[], float] = time.time

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that watches sockets."""
        return asyncio.get_running_loop()

    def opened(self, store: Store) -> None:
        """Take note of the open store."""

    def see(self, look: Callable[[], T]) -> T:
        """Return what a look at the machine shows: memory, a size on disk."""
        return look()

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Return what somebody else answers: another server, a socket of our own."""
        return await question()

    def enter(self, what: str, call: Callable[..., T], *about: str) -> T:  # noqa: ARG002 - for who writes it down
        """Call something of the server from outside of it."""
        return call(*about)

    def operation(self, perform: Perform) -> Perform:
        """Return what performs operations as somebody outside of the server may call it."""
        return perform

    def apart(self, call: Callable[[], None]) -> None:
        """Do what belongs to the outside: sockets that nobody speaks on yet, certificates on disk."""
        call()
