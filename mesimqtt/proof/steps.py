"""Which status may follow which, as contract section 4 says it: on purpose not the server's own table."""

from __future__ import annotations

SENT, DELIVERED, READ, DELETED_CODE, WIPED, FAILED = 1, 2, 3, 0x21, 0x22, 0x80
INVALID, EXPIRED, BLOCKED_CODE, DENIED, NOT_MEMBER = 0x83, 0x84, 0x88, 0x8D, 0x91
UNCONFIRMED = "unconfirmed"
GONE = (DELETED_CODE, WIPED)
FAILURES = range(FAILED, NOT_MEMBER + 1)
ACCEPTED = (SENT, DELIVERED, READ, *GONE)  # who is told one of these has a message in the store


def may_follow(before: int, reason: str, after: int) -> bool:
    """Tell whether a device that was told `before` may be told `after`: it may have missed what is between."""
    if after in GONE:
        return before in (SENT, DELIVERED, READ)
    if before == FAILED and reason == UNCONFIRMED:
        return after == READ
    if before == SENT:
        return after in (DELIVERED, READ) or after in FAILURES
    return (before, after) == (DELIVERED, READ)


def is_end(code: int) -> bool:
    """Tell whether nothing follows a status, but READ after `unconfirmed`."""
    return code in GONE or code in FAILURES
