"""Whether what a verdict says did happen, at a time that fits, and what may be refused without its sender knowing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.history import (
    BLOCKED,
    DELETED,
    DISABLED,
    ENABLED,
    EVER_MS,
    GROUP_DELETED,
    GROUP_MADE,
    JOINED,
    LEFT,
    MADE,
    UNBLOCKED,
)
from mesimqtt.proof.steps import (
    BLOCKED_CODE,
    DELETED_CODE,
    DENIED,
    EXPIRED,
    FAILED,
    INVALID,
    NOT_MEMBER,
    UNCONFIRMED,
    WIPED,
)

if TYPE_CHECKING:
    from mesimqtt.proof.history import History, Kept, Marked, Sent

UNNOTICED_MS = 180_000  # a connection that is gone is open to the server: 1.5 times the longest keep-alive
_SOON_MS = 10_000
_MARK_LATE_MS = 120_000  # for which a read mark may be on its way before it counts
_AMENDED_MS = 3_600_000  # within which a message is changed or taken back (contract section 2)


def may_stay_sent(history: History, sent: Sent, mid: str, recipient: str) -> bool:
    """Tell whether a message is judged at its deadline only.

    Its recipient blocks the sender in a group; or he blocked him after it was sent and before he confirmed it, or read
    it; or it was written to him at QoS 0 (and may be lost on its way), nobody confirmed it, and no device that could
    was there before, or he left the group since.
    """
    drawn, is_group = history.drawn_at(mid), sent.to[0] == "g"
    if is_group and is_blocked(history, recipient, sent.user, drawn + sent.when * 1000):
        return True
    confirmed = [one for one in history.acked if one.mid == mid and one.user == recipient]
    if any(
        is_blocked(history, recipient, sent.user, one.at, late_ms=history.calm.done_by(one.at, one.connection) - one.at)
        for one in confirmed
    ) or any(
        is_blocked(history, recipient, sent.user, one.at, late_ms=_MARK_LATE_MS)
        for one in _marks(history, recipient, sent.user, sent.to, mid)
    ):
        return True  # whom somebody blocks gets no receipt, of what he wrote before neither (docs/people.md)
    if not _may_be_written(history, sent, mid, recipient):
        return False
    is_there = any(one.user == recipient and one.qos and one.written < drawn for one in history.online)
    return not is_there or (is_group and not is_member(history, recipient, sent.to[2:], drawn))


def is_true(history: History, sent: Sent, mid: str, recipient: str, code: int, reason: str) -> bool:
    """Tell whether what a verdict says did happen, at a time at which it can be why."""
    if code == EXPIRED:
        return sent.expiry is not None and _deadline(history, sent, mid) <= history.finished_at
    if code == DELETED_CODE:
        return history.first_of(mid) in history.recalled
    if code == WIPED:
        return history.by_mid.get(history.first_of(mid), sent).age > 0
    if code == FAILED:
        return _is_failed_so(history, sent, mid, recipient, reason)
    return _is_refused_so(history, sent, mid, recipient, code, reason)


def _is_failed_so(history: History, sent: Sent, mid: str, recipient: str, reason: str) -> bool:
    """Tell whether an accepted message may have failed: who or what it was for went since."""
    drawn = history.drawn_at(mid)
    if reason == "user-deleted":
        return was(history, (DELETED,), (MADE,), recipient or sent.to[2:], "", (drawn, EVER_MS))
    if reason == "group-deleted":
        return sent.to[0] == "g" and was(history, (GROUP_DELETED,), (GROUP_MADE,), "", sent.to[2:], (drawn, EVER_MS))
    is_over = sent.expiry is not None and _deadline(history, sent, mid) <= history.finished_at
    return reason == UNCONFIRMED and is_over and _may_be_written(history, sent, mid, recipient)


def _is_refused_so(history: History, sent: Sent, mid: str, recipient: str, code: int, reason: str) -> bool:
    """Tell whether it may not have been taken, or given out, when it was sent, or when its time came."""
    drawn, place, is_group = history.drawn_at(mid), sent.to[2:], sent.to[0] == "g"
    due = drawn + sent.when * 1000
    latest = history.calm.done_by(due) if sent.when else due  # a server that is down, or cannot write, sends it later
    if code == NOT_MEMBER:
        return is_group and (
            (recipient != "" and was_out(history, recipient, place, due, EVER_MS))
            or (sent.when > 0 and was_out(history, sent.user, place, due, latest))
        )
    if code == BLOCKED_CODE:
        return is_blocked(history, recipient or place, sent.user, due, late_ms=latest - due + _SOON_MS)
    if code == INVALID:
        if is_group and not recipient:
            return was(history, (GROUP_DELETED,), (GROUP_MADE,), "", place, (due, latest))
        return was(history, (DELETED,), (MADE,), recipient or place, "", (due, latest))
    if code == DENIED and reason == "user-disabled":
        return sent.when > 0 and was(history, (DISABLED,), (ENABLED,), sent.user, "", (due, latest))
    return False


def _may_be_written(history: History, sent: Sent, mid: str, recipient: str) -> bool:
    """Tell whether a message may have been written to a device at QoS 0.

    Writing counts as acknowledgement (contract section 3), also of what is lost on its way: so it is enough that such
    a device was subscribed, or looked so to the server, some time between SENT and the deadline.
    """
    if any(one.user == recipient and one.mid == mid and one.qos == 0 for one in history.got):
        return True
    kind, place = sent.to[0], f"{sent.to[0]}/{sent.user if sent.to[0] == 'u' else sent.to[2:]}"
    drawn = history.drawn_at(mid)
    deadline = history.finished_at if sent.expiry is None else _deadline(history, sent, mid)
    return any(
        one.user == recipient
        and one.qos == 0
        and {"#", f"{kind}/#", f"{place}/#"} & set(one.filters)
        and one.written <= deadline
        and drawn <= history.ends.get(one.connection, deadline) + UNNOTICED_MS
        for one in history.online
    )


def may_be_refused(history: History, sent: Sent) -> bool:
    """Tell whether a message may have been refused without its sender knowing: the status went down with the link.

    What it was refused for must have been so between the first time that it was sent and its acknowledgement. What is
    scheduled is accepted whoever blocks whom; what it ends as when its time comes is a status like any other.
    """
    kind, name = sent.to[0], sent.to[2:]
    end = max((one.at for one in history.taken if (one.user, one.cid) == (sent.user, sent.cid)), default=sent.at)
    if name not in (history.members if kind == "g" else history.users):
        return True
    if sent.amends and _may_be_unchangeable(history, sent, end):
        return True
    if kind == "g":
        return was_out(history, sent.user, name, sent.at, end)
    is_barred = not sent.when and is_blocked(history, name, sent.user, sent.at, late_ms=end - sent.at + _SOON_MS)
    return is_barred or was(history, (DELETED,), (MADE,), name, "", (sent.at, end))


def _may_be_unchangeable(history: History, sent: Sent, end: int) -> bool:
    """Tell whether what a message changes may have been past changing when it came.

    It is not the sender's, or in another conversation; another was to take it back before; it was wiped by its age, had
    expired, or was too old.
    """
    original = history.by_mid.get(first := history.first_of(sent.amends))
    if original is None or (original.user, original.to) != (sent.user, sent.to):
        return True
    drawn = history.drawn_at(first)
    parties = {sent.user, sent.to[2:]}
    return (
        original.age > 0
        or end - drawn > _AMENDED_MS
        or (original.expiry is not None and drawn + original.expiry * 1000 <= end)
        or any(
            one.is_recall and one.cid != sent.cid and one.at <= end and history.first_of(one.amends) == first
            for one in history.sent
        )
        or any(one.what in (DELETED, GROUP_DELETED) and {one.user, one.group} & parties for one in history.changes)
    )


def is_member(history: History, user: str, group: str, begin: int) -> bool:
    """Tell whether a user was in a group for certain from a time on, and is still."""
    if group not in history.members or user not in history.members[group]:
        return False
    inside = user in history.first_members.get(group, ())
    spans = [one for one in history.changes if one.group == group and one.user in (user, "")]
    since = 0
    for one in spans:
        if one.what == JOINED:
            inside, since = True, one.at
        elif one.what in (LEFT, GROUP_DELETED):
            inside = False
    return inside and since <= begin


def is_blocked(history: History, user: str, peer: str, at: int, *, late_ms: int = _SOON_MS) -> bool:
    """Tell whether a user may have blocked another at a time, or up to `late_ms` later."""
    began: int | None = None
    for one in history.changes:
        if (one.user, one.group) != (user, peer) or one.what not in (BLOCKED, UNBLOCKED):
            continue
        if one.what == BLOCKED:
            began = one.begin if began is None else began
        elif began is not None:
            if began <= at + late_ms and one.at >= at - _SOON_MS:
                return True
            began = None
    return began is not None and began <= at + late_ms


def may_vanish_unsaid(history: History, kept: Kept, user: str) -> bool:
    """Tell whether a message may have disappeared for who read it while he blocked its sender: that one is not told."""
    sent = history.by_cid.get((kept.sender, kept.cid))
    return (
        sent is not None
        and sent.age > 0
        and any(
            is_blocked(history, user, kept.sender, one.at + sent.age * 1000, late_ms=_MARK_LATE_MS)
            for one in _marks(history, user, kept.sender, sent.to, kept.mid)
        )
    )


def _marks(history: History, user: str, sender: str, to: str, mid: str) -> list[Marked]:
    """Return the read marks of a user that a message to `to` may have been read by."""
    place, seq = to if to[0] == "g" else f"u/{sender}", history.seqs.get(mid, EVER_MS)
    return [
        one
        for one in history.marked
        if one.user == user
        and (one.mid == mid or (one.is_upto and one.place == place and history.seqs.get(one.mid, 0) >= seq))
    ]


def was_out(history: History, user: str, group: str, begin: int, end: int) -> bool:
    """Tell whether a user may have been out of a group some time between: he left, or one of the two was deleted."""
    since: int | None = None if user in history.first_members.get(group, ()) else -EVER_MS
    for one in history.changes:
        if one.what == JOINED and (one.user, one.group) == (user, group):
            if since is not None and _meets(since, one.at, begin, end):
                return True
            since = None
        elif since is None and (
            (one.what in (LEFT, GROUP_DELETED) and one.group == group and one.user in (user, ""))
            or (one.what == DELETED and one.user == user)
        ):
            since = one.begin
    return since is not None and _meets(since, EVER_MS, begin, end)


def was(
    history: History, begins: tuple[str, ...], ends: tuple[str, ...], user: str, group: str, between: tuple[int, int]
) -> bool:
    """Tell whether it may have been so, some time between, as the changes `begins` make it and `ends` undo it."""
    since: int | None = None
    for one in history.changes:
        if (one.user, one.group) != (user, group):
            continue
        if one.what in begins and since is None:
            since = one.begin
        elif one.what in ends and since is not None:
            if _meets(since, one.at, *between):
                return True
            since = None
    return since is not None and _meets(since, EVER_MS, *between)


def _meets(since: int, until: int, begin: int, end: int) -> bool:
    return since <= end + _SOON_MS and until >= begin - _SOON_MS


def _deadline(history: History, sent: Sent, mid: str) -> int:
    return history.drawn_at(mid) + (sent.when + (sent.expiry or 0)) * 1000
