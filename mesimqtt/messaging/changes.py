"""A change of a group and the event that tells of it are one: both are committed, in the order of seq, or neither."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import StoreError
from mesimqtt.domain.messages import Change, MessageKind
from mesimqtt.messaging.rights import Bench

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from mesimqtt.messaging.fan_out import FanOut
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Group, Thread, User

    Work = Callable[[Bench, int], dict[str, Any] | None]
    Apply = Callable[[int], list[User]]


class Changes:
    """Commits changes of groups.

    What a change takes from somebody is taken in memory at once, so that a send is committed before the change or
    refused; what it gives counts from its commit on. `members_changed` is called as soon as the members in memory are
    others: rules for free topics may name groups.
    """

    def __init__(self, hub: Hub, fan_out: FanOut, members_changed: Callable[[], None]) -> None:
        self._hub = hub
        self._fan_out = fan_out
        self.members_changed = members_changed
        self._taking: dict[int, list[Callable[[], None]]] = {}  # by group: what uncommitted changes take from somebody

    async def change(
        self,
        group: Group,
        by: User | None,
        work: Work,
        applied: Apply,
        taken: Callable[[], None] | None = None,
        *,
        is_member: bool = True,
    ) -> None:
        """Commit a change with its event, and then let it count.

        `taken` is what it takes from somebody in memory, at once and again after the members were read anew;
        `applied(seq)` makes it true in memory and returns who else is to be told.
        """

        def write(connection: sqlite3.Connection, seq: int) -> bytes:
            event = work(Bench(connection, group.id, by if is_member else None), seq)
            if event is None:
                raise _Nothing
            event = {"event": event.pop("event"), "group": group.address} | event
            if by is not None and event.get("users") != [by.address]:
                event["by"] = by.address
            return as_json(event)

        if taken is not None:
            taken()
            self._taking.setdefault(group.id, []).append(taken)
            self._hub.directory.epoch += 1
        try:
            await self.commit(group.thread, write, applied)
        except BaseException:
            self._done_taking(group, taken)
            if taken is not None:
                self.refresh(group)
            raise
        self._done_taking(group, taken)

    def _done_taking(self, group: Group, taken: Callable[[], None] | None) -> None:
        waiting = self._taking.get(group.id, [])
        if taken in waiting:
            waiting.remove(taken)
        if not waiting:
            self._taking.pop(group.id, None)

    def refresh(self, group: Group) -> None:
        """Read a group's members again, less what changes on their way are about to take."""
        self._hub.directory.refresh_group(group.address)
        for taken in self._taking.get(group.id, []):
            taken()
        self.members_changed()

    async def commit(self, thread: Thread, write: Callable[[sqlite3.Connection, int], bytes], applied: Apply) -> None:
        """Commit an event and what `write(connection, seq)` does in the same transaction, which returns its payload."""
        hub, now_ms = self._hub, self._hub.now_ms()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        mid = hub.mids.draw()
        expires_at = now_ms + hub.settings.messaging.expiry_default_s * 1000
        change = Change(
            mid, thread, 0, "", f"{mid:016x}", now_ms, expires_at, None, 0, "", b"", None, MessageKind.EVENT
        )

        def work(connection: sqlite3.Connection, seq: int) -> None:
            change.payload = write(connection, seq)

        def settled(health: str) -> None:
            error = change.error
            if health:
                error = StoreError(f"the store cannot write now ({health}); nothing was changed")
            if error is None:
                thread.last_seq = change.seq
                extra = applied(change.seq)
                if thread.group is not None:  # a new one's is the directory's from now on
                    change.conversation = thread.group.thread
                self._hub.directory.epoch += 1
                self._fan_out.event(change, *extra)
            if not future.done():
                if error is None or isinstance(error, _Nothing):
                    future.set_result(None)
                else:
                    future.set_exception(error)

        change.work, change.settled, change.error = work, settled, None
        hub.committer.batch.accepts.append(change)
        hub.committer.wake()
        await future


class _Nothing(Exception):  # noqa: N818 - no error: there is nothing to change, and so nothing to tell
    """There is nothing to change."""


def as_json(event: dict[str, Any]) -> bytes:
    """Return an event's payload."""
    return json.dumps(event, ensure_ascii=False).encode()
