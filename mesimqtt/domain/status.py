"""Message status: every accepted message ends in exactly one visible verdict (contract section 4)."""

import json
from enum import IntEnum


class Status(IntEnum):
    """The codes of contract section 4; Mesibo's where Mesibo has one."""

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

    @property
    def title(self) -> str:
        """The name on the wire, e.g. `inbox-full`."""
        return self.name.lower().replace("_", "-")


TITLES: dict[int, str] = {status.value: status.title for status in Status}


def may_step(before: int, after: int, *, unconfirmed: bool = False) -> bool:
    """Tell whether contract section 4 allows the step `before` -> `after` of one (mid, recipient).

    `before` is 0 for none. `unconfirmed` says that a `failed` before carried that reason.
    """
    if before == 0:
        return after in (1, 2) or after >= Status.FAILED
    if before == Status.SENT:
        return after in (2, 3, Status.DELETED, Status.WIPED) or after >= Status.FAILED
    if before in (Status.DELIVERED, Status.READ) and after in (Status.DELETED, Status.WIPED):
        return True
    if before == Status.FAILED and unconfirmed:
        return after == Status.READ
    return before == Status.DELIVERED and after == Status.READ


def status_payload(
    cid: str,
    mid: str,
    code: int,
    ts_ms: int,
    *,
    peer: str | None = None,
    group: str | None = None,
    device: str | None = None,
    reason: str | None = None,
    limit: int | None = None,
    rule: str | None = None,
    retry_after: int | None = None,
    counts: dict[str, int] | None = None,
) -> bytes:
    """Return the JSON of `in/status/{cid}`: keys in the contract's order, absent ones left out."""
    fields = {
        "cid": cid,
        "mid": mid,
        "peer": peer,
        "group": group,
        "status": int(code),
        "name": TITLES[code],
        "ts": ts_ms,
        "device": device,
        "reason": reason,
        "limit": limit,
        "rule": rule,
        "retry_after": retry_after,
        "counts": counts,
    }
    return json.dumps(
        {key: value for key, value in fields.items() if value is not None}, ensure_ascii=False, separators=(",", ":")
    ).encode()
