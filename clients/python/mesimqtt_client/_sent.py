"""What both clients show of a message on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt_client._protocol import PLACES_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mesimqtt_client._outbox import OutMessage
    from mesimqtt_client._protocol import Core
    from mesimqtt_client._status import Status


class Sent:
    """A view of a message on its way. Its fields grow as statuses come in."""

    __slots__ = ("_record",)

    def __init__(self, record: OutMessage) -> None:
        self._record = record

    def __repr__(self) -> str:
        status = self.status
        return f"<{type(self).__name__} to {self.to!r} cid={self.cid} {'pending' if status is None else status.title}>"

    @property
    def cid(self) -> str:
        """The message's id of this client's making."""
        return self._record.key

    @property
    def mid(self) -> str | None:
        """The server's id of the message, known from SENT on; what `ref`, `edit` and `recall` take."""
        return self._record.mid

    @property
    def to(self) -> str:
        """The address of the user or group."""
        return self._record.address

    @property
    def is_group(self) -> bool:
        """Tell whether `to` is a group."""
        return self._record.is_group

    @property
    def status(self) -> Status | None:
        """The newest status, None before SENT; of a group message, that of the whole (see `recipients`)."""
        return self._record.progress.status

    @property
    def reason(self) -> str | None:
        """Why the message failed, if it did and the server says."""
        failure = self._record.progress.failure
        return None if failure is None else failure.reason

    @property
    def recipients(self) -> dict[str, Status]:
        """The status of each recipient of whom one is known."""
        return self._record.recipients

    @property
    def counts(self) -> Mapping[str, int]:
        """How many members have got and read it, in groups too large for a status each (over 100)."""
        return dict(self._record.counts)

    def _known_mid(self) -> str:
        if self.mid is None:
            raise ValueError("the server has not named this message yet: wait for 'sent' first")
        return self.mid

    def _describe_wait(self, wanted: Status, timeout: float | None, core: Core) -> str:
        so_far = "nothing" if self.status is None else f"{self.status.title!r}"
        connection = f"{core.state}: {core.reason}" if core.reason else str(core.state)
        text = f"no {wanted.title!r} for {self.to!r} within {timeout or 0:g} s, {so_far} so far ({connection})"
        if core.unhandled >= PLACES_MAX:
            text += f"; {core.unhandled} messages wait for their handler, and no status passes them: do not wait in one"
        return text
