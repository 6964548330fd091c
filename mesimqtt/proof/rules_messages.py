"""Rules about messages: none lost, none doubled, none out of nowhere, one order for all; pure functions."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from mesimqtt.proof.history import DELETED
from mesimqtt.proof.reasons import is_blocked, is_member, is_true, may_be_refused, may_stay_sent, may_vanish_unsaid
from mesimqtt.proof.steps import ACCEPTED, DELIVERED, FAILED, GONE, READ, SENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.proof.history import Acked, Got, History, Kept, Online, Sent

TRANSIENT_MS = 60_000  # for which the cid of a message of expiry 0 is kept


def doubled(history: History) -> Iterator[str]:
    """One cid of a sender is one message, whatever was sent again, wherever."""
    mids: dict[tuple[str, str], str] = {}
    bodies: dict[str, str] = {}
    pairs = [((one.user, one.cid), one.mid) for one in history.told if one.code in ACCEPTED]
    pairs += [((one.sender, one.cid), one.mid) for one in history.kept if one.cid]
    for key, mid in pairs:
        if mids.setdefault(key, mid) != mid and not _is_anew(history, history.by_cid.get(key), mids[key], mid):
            yield f"doubled: {key[1]} of {key[0]} is {mids[key]} and {mid}"
    for got in history.got:
        if not got.body or got.is_event:
            continue
        first = bodies.setdefault(got.body, got.mid)
        if first != got.mid and not _is_anew(history, history.by_body.get(got.body), first, got.mid):
            yield f"doubled: {got.body[:40]!r} came as {bodies[got.body]} and as {got.mid} to {got.user}/{got.device}"


def _is_anew(history: History, sent: Sent | None, first: str, second: str) -> bool:
    """Tell whether a resend of expiry 0 may be a message of its own.

    Its cid is kept for 60 s and in memory alone (contract section 4): until then, and until the server has stopped.
    """
    if sent is None or sent.expiry != 0:
        return False
    begin, end = sorted((history.drawn_at(first), history.drawn_at(second)))
    lost = [*history.stopped, *(one.at for one in history.crashed)]
    return end - begin > TRANSIENT_MS or any(begin <= at <= end for at in lost)


def shown_twice(history: History) -> Iterator[str]:
    """Name what a user was shown twice on one of his devices."""
    seen: set[tuple[str, str, str]] = set()
    for one in history.shown:
        key = (one.user, one.device, one.mid)
        if key in seen:
            yield f"shown twice: {one.mid} to {one.user}/{one.device}"
        seen.add(key)


def repeated(history: History) -> Iterator[str]:
    """Name what came again though its acknowledgement was in the store, or on the same connection."""
    acked: dict[tuple[str, str, str], list[Acked]] = defaultdict(list)
    for one in history.acked:
        acked[one.user, one.device, one.mid].append(one)
    on_connection: set[tuple[int, str]] = set()
    for got in history.got:
        if (got.connection, got.mid) in on_connection:
            yield f"repeated: {got.mid} came twice to {got.user}/{got.device} on connection {got.connection}"
        on_connection.add((got.connection, got.mid))
        for ack in acked[got.user, got.device, got.mid]:
            settled = history.settled_at(ack) if ack.connection < got.connection else None
            if settled is not None and settled < got.written:
                what = f"{got.mid} came to {got.user}/{got.device} {got.at - ack.at} ms after its acknowledgement"
                yield f"repeated: {what}, which was in the store"
                break


def unexpected(history: History) -> Iterator[str]:
    """Name what came and was not sent so: by another, to another, never, or refused."""
    refused = {one.mid for one in history.told if one.code >= FAILED and one.mid}
    refused -= {one.mid for one in history.told if one.code in ACCEPTED} | {one.mid for one in history.kept}
    for got in history.got:
        if got.is_event or not got.body:
            continue
        sent = history.by_body.get(got.body)
        where = f"{got.mid} to {got.user}/{got.device}"
        if sent is None:
            yield f"unexpected: {got.body[:40]!r} was never sent and came as {where}"
            continue
        expected = sent.to if got.is_copy or sent.to[0] == "g" else f"u/{sent.user}"
        is_own = sent.user == got.user
        if got.sender != sent.user or got.place != expected or (got.is_copy and not is_own):
            yield f"unexpected: {sent.cid} of {sent.user} to {sent.to} came as {where} in {got.place} of {got.sender}"
        elif sent.to[0] == "u" and not got.is_copy and sent.to != f"u/{got.user}":
            yield f"unexpected: {sent.cid} of {sent.user} was for {sent.to} and came as {where}"
        elif got.at < sent.at:
            yield f"unexpected: {sent.cid} of {sent.user} came before it was sent, as {where}"
        elif got.mid in refused and sent.expiry != 0:
            yield f"unexpected: {sent.cid} of {sent.user} was refused and came as {where}"


def out_of_order(history: History) -> Iterator[str]:
    """In a conversation a device gets growing seqs: on each connection all, over all connections what is new to it."""
    on_connection: dict[tuple[int, str], int] = {}
    highest: dict[tuple[str, str, str], int] = {}
    known: set[tuple[str, str, str]] = set()
    for got in history.got:
        if not got.seq:
            continue
        place = history.conversation(place_of(got), got.mid)
        here, ever = (got.connection, place), (got.user, got.device, place)
        if got.seq <= on_connection.get(here, 0):
            yield (
                f"out of order: {got.user}/{got.device} got seq {got.seq} after {on_connection[here]} "
                f"in {got.place} on connection {got.connection}"
            )
        key = (got.user, got.device, got.mid)
        if key not in known and got.seq <= highest.get(ever, 0):
            yield f"out of order: {got.user}/{got.device} first got seq {got.seq} of {got.place} after {highest[ever]}"
        known.add(key)
        on_connection[here] = max(on_connection.get(here, 0), got.seq)
        highest[ever] = max(highest.get(ever, 0), got.seq)


def disagreeing(history: History) -> Iterator[str]:
    """All devices of all users agree on what stands at each seq of a conversation."""
    mids: dict[tuple[str, int], str] = {
        (history.conversation(one.place, one.mid), one.seq): one.mid for one in history.kept if one.seq
    }
    said: dict[str, str] = {}
    for got in history.got:
        if got.seq:
            place = history.conversation(place_of(got), got.mid)
            if mids.setdefault((place, got.seq), got.mid) != got.mid:
                yield f"disagreeing: seq {got.seq} of {place} is {mids[place, got.seq]} and {got.mid} to {got.user}"
        if said.setdefault(got.mid, got.body) != got.body:
            yield f"disagreeing: {got.mid} says one thing to {got.user}/{got.device} and another to others"


def gaps(history: History) -> Iterator[str]:
    """Name what a device lacks of what came after its first subscription, but for the legal gaps (section 3)."""
    if not history.finished_at:
        return
    got: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in history.got:
        got[one.user, one.device].add(one.mid)
    verdicts = {(one.mid, one.recipient): one.code for one in history.verdicts}
    since: dict[tuple[str, str], Online] = {}
    for online in history.online:
        since.setdefault((online.user, online.device), online)
    current = {(one.user, one.device) for one in history.online if one.at <= history.finished_at}
    current -= {(one.user, one.device) for one in history.online if _is_deleted_after(history, one.user, one.at)}
    kept_of: dict[str, list[Kept]] = defaultdict(list)
    for kept in history.kept:
        if not kept.is_event:
            for user in _readers(history, kept):
                kept_of[user].append(kept)
    for (user, device), online in since.items():
        if (user, device) not in current or online.qos == 0 or not online.has_cursor:
            continue
        missing = [
            kept
            for kept in kept_of[user]
            if kept.mid not in got[user, device]
            and history.drawn_at(kept.mid) > online.at
            and _selects(online, kept, user)
            and not _is_excused(history, kept, user, verdicts.get((kept.mid, user), 0))
        ]
        for kept in missing[:3]:
            what = f"{kept.mid}, seq {kept.seq} of {kept.place}, {kept.cid} of {kept.sender}"
            yield f"gap: {user}/{device} never got {what}"
        if len(missing) > 3:
            yield f"gap: {user}/{device} lacks {len(missing) - 3} more"


def lost(history: History) -> Iterator[str]:
    """Every accepted message came to each of its recipients, or has a verdict why not, and the reason is true."""
    if not history.finished_at:
        return
    arrived = {(one.user, one.mid) for one in history.got}
    told_sent = {(one.user, one.cid) for one in history.told if one.code == SENT}
    refused = {(one.user, one.cid) for one in history.told if one.code >= FAILED}
    taken = {(one.user, one.cid) for one in history.taken} - refused
    verdicts: dict[str, list[tuple[str, int, str]]] = defaultdict(list)
    for one in history.verdicts:
        verdicts[one.mid].append((one.recipient, one.code, one.reason))
    for key in sorted(told_sent | taken):
        sent = history.by_cid.get(key)
        if sent is None or sent.expiry == 0 or _is_deleted_after(history, sent.user, sent.at):
            continue  # nobody is told of what a deleted user sent
        mid = history.mids.get(key)
        if mid is None or mid not in verdicts:
            if key in told_sent or not may_be_refused(history, sent):
                yield f"lost: {key[1]} of {key[0]} to {sent.to} was accepted, and the store knows nothing of it"
            continue
        for recipient, code, reason in verdicts[mid]:
            yield from _judge(history, sent, mid, (recipient, code, reason), (recipient, mid) in arrived)


def _judge(
    history: History,
    sent: Sent,
    mid: str,
    found: tuple[str, int, str],
    has_arrived: bool,
) -> Iterator[str]:
    recipient, code, reason = found
    what = f"{sent.cid} of {sent.user} ({mid}) for {recipient}"
    if code in (DELIVERED, READ):
        if not has_arrived and code == DELIVERED:
            yield f"lost: {what} is told as delivered, and nobody got it"
    elif code == SENT:
        if (
            recipient
            and sent.to != f"u/{sent.user}"
            and sent.flags & 1
            and not may_stay_sent(history, sent, mid, recipient)
        ):
            yield f"no verdict: {what} is still only sent"
    elif not is_true(history, sent, mid, recipient, code, reason):
        yield f"lost: {what} ended as {code:#x} {reason}, and there was no reason for it"


def place_of(got: Got) -> str:
    """Return a conversation's one name: the group, or both of the pair in order."""
    if got.place[0] == "g":
        return got.place[2:]
    return "/".join(sorted((got.user, got.place[2:])))


def _readers(history: History, kept: Kept) -> list[str]:
    """Return who is to get a message: the other of a pair, or everybody who ever was in the group."""
    if "/" in kept.place:
        return [user for user in kept.place.split("/") if user != kept.sender]
    if kept.place not in history.members:
        return []
    return sorted(history.members[kept.place] - {kept.sender})


def _selects(online: Online, kept: Kept, user: str) -> bool:
    cls = "u/#" if "/" in kept.place else "g/#"
    return kept.sender != user and ("#" in online.filters or cls in online.filters)


def _is_excused(history: History, kept: Kept, user: str, code: int) -> bool:
    """Tell whether a device need not get a message: the legal gaps."""
    if code in GONE or code >= FAILED or kept.expires_at - history.epoch_ms <= history.finished_at:
        return True
    drawn = history.drawn_at(kept.mid)
    sent = history.by_cid.get((kept.sender, kept.cid))
    due = drawn + (sent.when * 1000 if sent is not None else 0)
    if may_vanish_unsaid(history, kept, user):
        return True
    if "/" in kept.place:
        return False
    return is_blocked(history, user, kept.sender, due) or not is_member(history, user, kept.place, drawn)


def _is_deleted_after(history: History, user: str, at: int) -> bool:
    return any(one.what == DELETED and one.user == user and one.at >= at for one in history.changes)
