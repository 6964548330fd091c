"""Rules about statuses and time: they only grow, receipts are true, what is expired is not delivered."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from mesimqtt.proof.steps import DELIVERED, EXPIRED, FAILED, GONE, READ, is_end, may_follow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.proof.history import History, Marked, Told


def backward(history: History) -> Iterator[str]:
    """To each device the status of (mid, recipient) moves along the contract's steps, and a repeat is equal to it."""
    newest: dict[tuple[str, str, str, str], Told] = {}
    texts: dict[tuple[str, str, str, int, str], str] = {}
    for one in history.told:
        key = (one.user, one.device, one.mid, one.peer)
        before = newest.get(key)
        if before is not None and before.code != one.code and not may_follow(before.code, before.reason, one.code):
            yield (
                f"backward: {one.cid} of {one.user} for {one.peer or one.group} went from {before.code:#x} to "
                f"{one.code:#x} on {one.device}"
            )
        same = (one.user, one.mid, one.peer, one.code, one.reason)
        if texts.setdefault(same, one.text) != one.text:
            yield f"a repeat differs: {texts[same]} and {one.text}"
        newest[key] = one


def forged(history: History) -> Iterator[str]:
    """Nobody is told DELIVERED before a device of the recipient acknowledged it, nor READ before he said so."""
    acked: dict[tuple[str, str], int] = {}
    for one in history.acked:
        acked.setdefault((one.user, one.mid), one.at)
    marks: dict[tuple[str, str], list[Marked]] = defaultdict(list)
    for mark in history.marked:
        marks[mark.user, mark.place].append(mark)
    for told in history.told:
        if told.code not in (DELIVERED, READ) or not told.peer:
            continue
        sent = history.by_cid.get((told.user, told.cid))
        what = f"{told.cid} of {told.user} ({told.mid}) is told as {told.code} for {told.peer}"
        if sent is None or not (sent.to == f"u/{told.peer}" or (sent.to[0] == "g" and sent.to[2:] == told.group)):
            yield f"forged: {what}, and it was never sent to him"
        elif told.code == DELIVERED and acked.get((told.peer, told.mid), told.at + 1) > told.at:
            if not _is_marked(history, marks, told):
                yield f"forged: {what}, and he has not acknowledged it"
        elif told.code == READ and not _is_marked(history, marks, told):
            yield f"forged: {what}, and he has not said so"


def too_late(history: History) -> Iterator[str]:
    """Name what was handed over after its expiry, and what was told as expired before it."""
    for got in history.got:
        sent = history.by_body.get(got.body)
        if sent is None or not sent.expiry or got.is_event:
            continue
        late = got.written - (history.drawn_at(got.mid) + (sent.when + sent.expiry) * 1000)
        if late > 0:
            who = f"{got.user}/{got.device}"
            yield f"too late: {sent.cid} of {sent.user} was handed to {who} {late} ms after its expiry"
    for told in history.told:
        sent = history.by_cid.get((told.user, told.cid)) if told.code == EXPIRED else None
        if sent is None:
            continue
        if sent.expiry is None:
            yield f"too early: {told.cid} of {told.user} is told as expired, and it has no expiry"
        elif (early := (sent.when + sent.expiry) * 1000 + history.drawn_at(told.mid) + history.epoch_ms - told.ts) > 0:
            yield f"too early: {told.cid} of {told.user} is told as expired {early} ms before its time"


def two_verdicts(history: History) -> Iterator[str]:
    """Each (mid, recipient) ends once, and as its sender was told."""
    ends: dict[tuple[str, str], str] = {}
    for step in history.steps:
        if is_end(step.code):
            end = f"{step.code:#x} {step.reason}".rstrip()
            if (first := ends.get((step.mid, step.recipient))) is not None:
                yield f"two verdicts: {step.mid} for {step.recipient} is {first} and {end}"
            ends[step.mid, step.recipient] = end
    states = {(one.mid, one.recipient): one.code for one in history.verdicts}
    last: dict[tuple[str, str, str], Told] = {}
    for told in history.told:
        if not history.finished_at or told.at <= history.finished_at:  # the states are of then: later steps follow them
            last[told.user, told.mid, told.peer] = told
    for (user, mid, peer), told in last.items():
        state = states.get((mid, peer))
        if (
            state is not None
            and is_end(told.code)
            and state != told.code
            and (told.code, state) != (FAILED, READ)
            and state not in GONE
        ):
            yield f"two verdicts: {told.cid} of {user} was told {told.code:#x} for {peer} and ended as {state:#x}"


def _is_marked(history: History, marks: dict[tuple[str, str], list[Marked]], told: Told) -> bool:
    place = f"g/{told.group}" if told.group else f"u/{told.user}"
    seqs = history.seqs
    seq = seqs.get(told.mid, 0)
    return any(
        mark.at <= told.at and (mark.mid == told.mid or (mark.is_upto and seqs.get(mark.mid, -1) >= seq))
        for mark in marks[told.peer, place]
    )
