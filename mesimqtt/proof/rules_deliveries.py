"""Rules about how a message is handed over: in time where nothing is in the way, and marked as what it is."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from mesimqtt.proof.history import BLOCKED, DELETED, DISABLED, REVOKED
from mesimqtt.proof.reasons import is_member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.proof.history import Harmed, History, Online, Sent

PROMPT_MS = 8_000  # within which who is online has a message: a commit, a latency, and room for both to be late
CALM_MS = 30_000  # before that, without harm, in which what had gathered is handed over
FORGET_MS = 90_000  # what a crash may make the server forget of acknowledgements
_KEPT_OFF = (BLOCKED, DELETED, DISABLED, REVOKED)


class Calm:
    """When nothing was made to go wrong: with the server, and with a connection besides."""

    def __init__(self, history: History) -> None:
        self._harmed: dict[int, list[Harmed]] = defaultdict(list)
        for one in history.harmed:
            self._harmed[one.connection].append(one)

    def covers(self, begin: int, end: int, connection: int) -> bool:
        """Tell whether all was well from one time to another."""
        return not any(one.at <= end and one.until >= begin for key in (0, connection) for one in self._harmed[key])


def withheld(history: History) -> Iterator[str]:
    """Name what a device did not get within seconds, online before and after, with nothing in the way.

    A message may expire only undelivered, and a device that can take it is to get it: that its deadline passed is no
    reason why it did not. Judged are devices at QoS 1 without a Receive Maximum, in times without harm.
    """
    calm, ends = Calm(history), {one.connection: one.at for one in history.ended}
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
        for user in _recipients(history, sent, due):
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


def _recipients(history: History, sent: Sent, due: int) -> list[str]:
    """Return who is to get a message for certain: nothing was decided about him, or between both, around that time."""
    unsure = {
        user
        for one in history.changes
        if one.what in _KEPT_OFF
        for user in (one.user, one.group)
        if one.at <= due + PROMPT_MS
    }
    if sent.user in unsure:  # whose scheduled messages are refused when their time comes
        return []
    if sent.to[0] == "u":
        found = [sent.to[2:]]
    else:
        found = [user for user in history.members.get(sent.to[2:], ()) if is_member(history, user, sent.to[2:], 0)]
    return sorted(user for user in found if user != sent.user and user not in unsure)


def denied(history: History) -> Iterator[str]:
    """Name messages that ended as if nobody had confirmed them, though a device did, in time and with nothing amiss."""
    calm, ends = Calm(history), {one.connection: one.at for one in history.ended}
    ended_so = {
        (one.mid, one.recipient)
        for one in history.verdicts
        if one.code == 0x84 or (one.code == 0x80 and one.reason == "unconfirmed")
    }
    for one in history.acked:
        sent = history.by_mid.get(one.mid)
        if (one.mid, one.user) not in ended_so or sent is None or not sent.flags & 1 or sent.expiry is None:
            continue
        deadline = history.drawn_at(one.mid) + (sent.when + sent.expiry) * 1000
        is_blocking = any(each.what == BLOCKED and each.user == one.user for each in history.changes)
        if (
            one.at + PROMPT_MS < deadline
            and not is_blocking
            and ends.get(one.connection, history.finished_at) > one.at + PROMPT_MS
            and calm.covers(one.at - CALM_MS, one.at + PROMPT_MS, one.connection)
            and calm.covers(one.at, one.at + FORGET_MS, 0)
        ):
            yield f"denied: {one.mid} was confirmed by {one.user}/{one.device}, and ended as if nobody had"


def marked_again(history: History) -> Iterator[str]:
    """Name what came with DUP=1 to a device that had subscribed before the message was made [MQTT-3.3.1-2].

    What is older may have been handed over on a connection that lost it, so it is not judged.
    """
    since: dict[int, int] = {}
    for online in history.online:
        since.setdefault(online.connection, online.written)
    known: set[tuple[int, str]] = set()  # a repeat on one connection is `repeated`'s to judge
    for got in history.got:
        key = (got.connection, got.mid)
        is_first = key not in known
        known.add(key)
        if is_first and got.dup and history.drawn_at(got.mid) > since.get(got.connection, got.at):
            yield f"marked again: {got.mid} came to {got.user}/{got.device} with DUP=1 for the first time"
