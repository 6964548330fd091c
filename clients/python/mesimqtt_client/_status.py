"""Statuses, flags and connection states: the words of the contract's section 4."""

from __future__ import annotations

from enum import IntEnum, IntFlag, StrEnum


class Status(IntEnum):
    """What has become of a message for one recipient. The codes are those on the wire."""

    SENT = 1
    DELIVERED = 2
    READ = 3
    DELETED = 0x21
    WIPED = 0x22
    FAILED = 0x80
    USER_OFFLINE = 0x81
    INBOX_FULL = 0x82
    INVALID_DESTINATION = 0x83
    EXPIRED = 0x84
    BAD_REQUEST = 0x85
    BLOCKED = 0x88
    RATE_LIMITED = 0x8C
    DENIED = 0x8D
    GROUP_PAUSED = 0x90
    NOT_MEMBER = 0x91

    def __str__(self) -> str:
        return self.title

    def __format__(self, spec: str) -> str:
        return format(int(self), spec) if spec else self.title

    @property
    def title(self) -> str:
        """The name on the wire, e.g. `inbox-full`."""
        return self.name.lower().replace("_", "-")

    @property
    def is_failure(self) -> bool:
        """Tell whether the message did not reach this recipient."""
        return self >= Status.FAILED

    @property
    def is_success(self) -> bool:
        """Tell whether this is a step forward: sent, delivered or read."""
        return self <= Status.READ


class Flag(IntFlag):
    """The bits of a message's `flags`; without any given, both receipts are wanted."""

    DELIVERY_RECEIPT = 1
    READ_RECEIPT = 2
    TRANSIENT = 4
    FORWARDED = 0x80


FLAGS_DEFAULT = Flag.DELIVERY_RECEIPT | Flag.READ_RECEIPT


class State(StrEnum):
    """The connection of a client. `denied` is final: the same token would be refused again."""

    CONNECTING = "connecting"
    ONLINE = "online"
    OFFLINE = "offline"
    DENIED = "denied"


def parse_status(code: int) -> Status:
    """Return the Status of a code on the wire; an unknown one counts as `failed`, the code stays in the update."""
    try:
        return Status(code)
    except ValueError:
        return Status.FAILED


def parse_step(step: str | Status) -> Status:
    """Return the step that a caller waits for: sent, delivered or read."""
    for status in (Status.SENT, Status.DELIVERED, Status.READ):
        if step in (status, status.title):
            return status
    raise ValueError(f"one waits for 'sent', 'delivered' or 'read', not for {step!r}")


def may_step(before: Status | None, after: Status) -> bool:
    """Tell whether `after` is news after `before`.

    Wider than the server's table (contract section 4), because a returning device is told only the newest step:
    it may see none -> read. Statuses still only grow, so a late repeat changes nothing.
    """
    if before is None:
        return True
    if after in (Status.DELETED, Status.WIPED):
        return before.is_success
    if before.is_failure:
        return before is Status.FAILED and after is Status.READ  # `unconfirmed`, and then read after all
    if after.is_failure:
        return before is Status.SENT
    return before < after
