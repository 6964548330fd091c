"""Rules about how a message is handed over: in time where nothing is in the way, and marked as what it is."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from mesimqtt.proof.calm import CALM_MS, PROMPT_MS
from mesimqtt.proof.history import DELETED, DISABLED, ENABLED, EVER_MS, REVOKED
from mesimqtt.proof.reasons import UNNOTICED_MS, is_blocked, is_member, was, was_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.proof.history import History, Online, Sent


def withheld(history: History) -> Iterator[str]:
    """Name what a device did not get within seconds, online before and after, with nothing in the way.

    A message may expire only undelivered, and a device that can take it is to get it: that its deadline passed is no
    reason why it did not. Judged are devices at QoS 1 without a Receive Maximum, in times without harm.
    """
    calm, ends = history.calm, history.ends
    online: dict[str, list[Online]] = defaultdict(list)
    for one in history.online:
        if one.qos and one.is_prompt and one.has_cursor:
            online[one.user].append(one)
    arrived: dict[tuple[str, str, str], int] = {}
    for got in history.got:
        arrived.setdefault((got.user, got.device, got.mid), got.at)
    for key in dict.fromkeys((one.user, one.cid) for one in history.told if one.code == 1):
        sent, mid = history.by_cid.get(key), history.mids.get(key)
        if sent is None or mid is None or not _is_plain(history, sent, mid):
            continue
        due = history.drawn_at(mid) + sent.when * 1000
        late = due + PROMPT_MS
        if sent.expiry is not None and sent.expiry * 1000 <= PROMPT_MS:
            continue
        for user in _recipients(history, sent, mid):
            for one in online[user]:
                if (
                    one.at + CALM_MS < due
                    and ends.get(one.connection, history.finished_at) > late + 1_000
                    and ("#" in one.filters or f"{sent.to[0]}/#" in one.filters)
                    and calm.covers(due - CALM_MS, late, one.connection)
                    and arrived.get((user, one.device, mid), late + 1) > late
                ):
                    yield f"withheld: {mid} of {sent.user} did not come to {user}/{one.device} in {PROMPT_MS} ms"


def _is_plain(history: History, sent: Sent, mid: str) -> bool:
    """Tell whether a message is one that nobody changes, takes back or wipes."""
    return sent.expiry != 0 and not sent.amends and not sent.age and mid not in history.recalled


def _recipients(history: History, sent: Sent, mid: str) -> list[str]:
    """Return who is to get a message for certain: nothing kept it off from him between its acceptance and its time."""
    drawn = history.drawn_at(mid)
    due = drawn + sent.when * 1000
    deleted = {one.user for one in history.changes if one.what == DELETED and drawn < one.at <= due + CALM_MS}
    may_send = sent.user not in deleted
    if sent.when:  # what is scheduled is refused when its time comes
        may_send &= not was(history, (DISABLED,), (ENABLED,), sent.user, "", (due, due + PROMPT_MS))
        may_send &= sent.to[0] == "u" or not was_out(history, sent.user, sent.to[2:], due, due)
    if not may_send:
        return []
    if sent.to[0] == "u":
        found = {sent.to[2:]}
    else:
        members = history.members.get(sent.to[2:], ())
        found = {user for user in members if is_member(history, user, sent.to[2:], 0)}
    return sorted(
        user
        for user in found - deleted - {sent.user}
        if not is_blocked(history, user, sent.user, due)
        and not was(history, (DISABLED, REVOKED), (ENABLED,), user, "", (drawn, due + PROMPT_MS))
    )


def denied(history: History) -> Iterator[str]:
    """Name messages that ended as if nobody had confirmed them, though a device did, in time and with nothing amiss.

    Whom the recipient blocks when a message has its time may be kept off in the midst of its delivery, which counts as
    never delivered (docs/people.md). A block before or after is no reason, nor one of somebody else.
    """
    ended_so = {
        (one.mid, one.recipient)
        for one in history.verdicts
        if one.code == 0x84 or (one.code == 0x80 and one.reason == "unconfirmed")
    }
    for one in history.acked:
        sent = history.by_mid.get(one.mid)
        if (one.mid, one.user) not in ended_so or sent is None or not sent.flags & 1 or sent.expiry is None:
            continue
        due = history.drawn_at(one.mid) + sent.when * 1000
        deadline = due + sent.expiry * 1000
        settled, late_ms = history.settled_at(one), history.calm.done_by(due) - due if sent.when else PROMPT_MS
        if (
            settled is not None
            and settled < deadline
            and not is_blocked(history, one.user, sent.user, due, late_ms=late_ms)
        ):
            yield f"denied: {one.mid} was confirmed by {one.user}/{one.device}, and ended as if nobody had"


def marked_again(history: History) -> Iterator[str]:
    """Name what came with DUP=1 though it cannot have been sent to that device before [MQTT-3.3.1-1, 3.3.1-2].

    That is what comes at QoS 0, what comes first in a new session, and what comes first of all where it was made after
    the device had come, or while it certainly was away. What was made before a crash or a stop may have been on its
    way: the server does not know, and says so.
    """
    entered = {one.connection: one for one in history.entered}
    since: dict[int, int] = {}
    for online in history.online:
        since.setdefault(online.connection, online.written)
    earlier = _earlier(history)
    restarts = [*(one.at for one in history.crashed), *history.stopped]
    here: set[tuple[int, str]] = set()  # a repeat on one connection is `repeated`'s to judge
    known: set[tuple[str, str, str]] = set()
    for got in history.got:
        key = (got.user, got.device, got.mid)
        is_first_here, is_first = (got.connection, got.mid) not in here, key not in known
        here.add((got.connection, got.mid))
        known.add(key)
        if not got.dup or not is_first_here:
            continue
        what = f"marked again: {got.mid} came to {got.user}/{got.device} with DUP=1"
        if not got.qos:
            yield f"{what} at QoS 0"
        elif got.connection in entered and not entered[got.connection].is_resumed:
            yield f"{what} in a new session"
        elif is_first:
            sent = history.by_body.get(got.body)
            due = history.drawn_at(got.mid) + (sent.when * 1000 if sent is not None else 0)
            away = earlier.get(got.connection, EVER_MS) + UNNOTICED_MS
            is_made_there = due > since.get(got.connection, got.at)
            is_made_away = due > away and not any(due - PROMPT_MS <= at <= got.at for at in restarts)
            if is_made_there or is_made_away:
                yield f"{what} for the first time"


def unmarked(history: History) -> Iterator[str]:
    """Name what came to a device again, in the session in which it had it before, without DUP=1 [MQTT-3.3.1-1].

    In a new session nothing was sent before; and of work that is taken over from another member (docs/groups.md),
    which has DUP=1 for the first time, there is none in these histories.
    """
    entered = {one.connection: one for one in history.entered}
    sessions: dict[tuple[str, str], int] = {}
    session_of: dict[int, int] = {}
    for one in history.entered:
        device = (one.user, one.device)
        sessions[device] = sessions.get(device, 0) + (not one.is_resumed)
        session_of[one.connection] = sessions[device]
    had: dict[tuple[str, str, str], int] = {}  # in which session a device last had it
    for got in history.got:
        if got.connection not in entered or not got.qos:
            continue
        key, session = (got.user, got.device, got.mid), session_of[got.connection]
        if had.get(key) == session and not got.dup:
            yield f"unmarked: {got.mid} came again to {got.user}/{got.device}, and DUP=0 says that it is the first time"
        had[key] = session


def _earlier(history: History) -> dict[int, int]:
    """Return when all connections of a device before each of its own had ended; where there were none: always."""
    found: dict[int, int] = {}
    last: dict[tuple[str, str], int] = {}
    for one in sorted(history.ended, key=lambda one: one.connection):
        found[one.connection] = last.get((one.user, one.device), -EVER_MS)
        last[one.user, one.device] = max(one.at, last.get((one.user, one.device), one.at))
    for entered in history.entered:
        if entered.connection not in found:
            found[entered.connection] = last.get((entered.user, entered.device), -EVER_MS)
    return found
