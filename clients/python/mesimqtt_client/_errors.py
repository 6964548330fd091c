"""What a caller may have to catch. Bad input is a ValueError or TypeError, raised at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesimqtt_client._status import Status


class MesimqttClientError(Exception):
    """The ancestor of the errors below."""


class MessageFailed(MesimqttClientError):  # noqa: N818 - it says what happened
    """The server's verdict on a message is a failure. The fields are those of the status (contract section 4)."""

    def __init__(
        self,
        status: Status,
        reason: str | None = None,
        *,
        recipient: str | None = None,
        limit: int | None = None,
        rule: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        to = f" for {recipient!r}" if recipient else ""
        why = ", ".join(
            text
            for text in (
                reason,
                f"limit {limit}" if limit is not None else None,
                f"rule {rule}" if rule else None,
                f"retry after {retry_after:g} s" if retry_after is not None else None,
            )
            if text
        )
        super().__init__(f"{status.title}{to}{': ' + why if why else ''}")
        self.status = status
        self.reason = reason
        self.recipient = recipient
        self.limit = limit
        self.rule = rule
        self.retry_after = retry_after


class OutboxFull(MesimqttClientError):  # noqa: N818 - it says what happened
    """Too much is unacknowledged: wait (`flush`) or drop, but do not retry in a tight loop."""


class ConnectionDenied(MesimqttClientError, ConnectionError):  # noqa: N818 - it says what happened
    """The server refuses this token or user for good. The client has stopped; make a new one with a valid token."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the server refuses the connection: {reason}; check the token and the user")
        self.reason = reason


class ConnectionLost(MesimqttClientError, ConnectionError):  # noqa: N818 - it says what happened
    """The connection went while an rpc was under way: it may have been done, its answer is lost."""


class ClientClosed(MesimqttClientError):  # noqa: N818 - it says what happened
    """The client is closed; a new one is needed."""


class RpcError(MesimqttClientError):
    """The server refused an operation. `code` is a stable word, e.g. `no-such-user`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message or code)
        self.code = code
