"""A keeper without a store: kept sessions live as long as the process does."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from mesimqtt.engine.session import RELEASED, Queued

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.engine.letter import Letter
    from mesimqtt.engine.retained import RetainedMessage
    from mesimqtt.engine.session import Session
    from mesimqtt.engine.will import Will
    from mesimqtt.hooks import Identity

    _Page = tuple[Session, int, int, Callable[[list[Queued]], None]]


class MemoryKeeper:
    """Keeps queues in memory; every commit succeeds at once."""

    def __init__(self) -> None:
        self._keys = 0
        self._queues: dict[int, dict[int, Queued]] = {}
        self._pages: deque[_Page] | None = None  # asked for while one is being taken

    def save_session(self, session: Session) -> None:
        """Give the session a key."""
        self._keys += 1
        session.key = self._keys

    def resumed(self, session: Session) -> None:
        """Nothing to do: the session itself knows."""

    def left(self, session: Session) -> None:
        """Nothing to do: the session itself knows."""

    def drop_session(self, session: Session) -> None:
        """Forget its queue."""
        self._queues.pop(session.key, None)

    def save_subscription(self, session: Session, topic_filter: str, grant: int) -> None:
        """Nothing to do: the session itself holds it."""

    def drop_subscription(self, session: Session, topic_filter: str) -> None:
        """Nothing to do: the session itself holds it."""

    def enqueue(self, session: Session, first: int, *letters: Letter) -> None:
        """Keep messages."""
        queue = self._queues.get(session.key)
        if queue is None:
            queue = self._queues[session.key] = {}
        queue.update((n, Queued(n, letter)) for n, letter in enumerate(letters, first))

    def released(self, session: Session, first: int, last: int) -> None:
        """Keep only the packet ids of these."""
        queue = self._queues.get(session.key, {})
        for n in range(first, last + 1):
            if n in queue:
                queue[n] = Queued(n, RELEASED, released=True)

    def dequeue(self, session: Session, first: int, last: int) -> None:
        """Forget messages."""
        queue = self._queues.get(session.key, {})
        for n in range(first, last + 1):
            queue.pop(n, None)
        if not queue:
            self._queues.pop(session.key, None)

    def page(self, session: Session, after: int, limit: int, done: Callable[[list[Queued]], None]) -> None:
        """Call `done` at once, or where it is asked for in such a call, after that."""
        if self._pages is not None:
            self._pages.append((session, after, limit, done))
            return
        self._pages = deque(((session, after, limit, done),))
        try:
            while self._pages:
                session, after, limit, done = self._pages.popleft()
                done(self._page(session, after, limit))
        finally:
            self._pages = None

    def _page(self, session: Session, after: int, limit: int) -> list[Queued]:
        queue = self._queues.get(session.key, {})
        if after + 1 in queue:  # dense numbers: usually no search
            last = after + limit
            return [queue[n] for n in range(after + 1, last + 1) if n in queue]
        return list(islice((item for n, item in queue.items() if n > after), limit))

    def incoming(self, session: Session, packet_id: int) -> None:
        """Nothing to do: the session itself holds it."""

    def forget_incoming(self, session: Session, packet_id: int) -> None:
        """Nothing to do: the session itself holds it."""

    def keep_will(self, session: Session, identity: Identity, will: Will) -> int:  # noqa: ARG002 - the port's
        """Nothing to do: the connection itself holds it."""
        return 0

    def will_left(self, key: int, at: float) -> None:
        """Nothing to do: no will has a key."""

    def drop_will(self, key: int) -> None:
        """Nothing to do: no will has a key."""

    def will_published(self, key: int) -> None:
        """Nothing to do: no will has a key."""

    def retain(self, message: RetainedMessage) -> None:
        """Nothing to do: the engine itself holds it."""

    def after_commit(self, call: Callable[[bool], None]) -> None:
        """Every commit succeeds at once."""
        call(True)
