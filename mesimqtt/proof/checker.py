"""What must hold after any number of crashes, as pure functions over what senders and receivers wrote down."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesimqtt.proof import rules_deliveries, rules_messages, rules_people, rules_statuses
from mesimqtt.proof.steps import DELIVERED, FAILED, READ, may_follow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mesimqtt.proof.history import History


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server took a message: it sent PUBACK, or the status SENT, to `sender` for his `cid`."""

    sender: str
    receiver: str
    cid: str
    by: str = "PUBACK"


@dataclass(frozen=True, slots=True)
class Delivery:
    """`receiver` got a message. `sender` and `cid` are as the payload tells them, `mid` and `seq` as the topic does."""

    receiver: str
    connection: int
    sender: str
    cid: str
    mid: str
    seq: int
    dup: bool = False


@dataclass(frozen=True, slots=True)
class StatusStep:
    """`sender` was told a status of (`mid`, `peer`); `text` is the payload as it came."""

    sender: str
    connection: int
    cid: str
    mid: str
    peer: str
    code: int
    text: str
    reason: str = ""


def check(accepted: Iterable[Accepted], deliveries: Iterable[Delivery], steps: Iterable[StatusStep]) -> list[str]:
    """Return a sentence for everything that is not as promised; an empty list is a pass."""
    accepted, deliveries, steps = list(accepted), list(deliveries), list(steps)
    return [
        *lost(accepted, deliveries),
        *doubled(deliveries),
        *out_of_order(deliveries),
        *gaps(deliveries),
        *backward(steps),
        *unmatched(deliveries, steps),
        *without_verdict(accepted, steps),
    ]


def lost(accepted: Iterable[Accepted], deliveries: Iterable[Delivery]) -> Iterator[str]:
    """Everything accepted was delivered to the user whom it was for."""
    arrived = {(one.sender, one.receiver, one.cid) for one in deliveries}
    for key, by in {(one.sender, one.receiver, one.cid): one.by for one in accepted}.items():
        if key not in arrived:
            yield f"lost: {key[2]} of {key[0]} for {key[1]}, accepted by {by}"


def doubled(deliveries: Iterable[Delivery]) -> Iterator[str]:
    """Nothing is doubled for the user: one mid for each message, and a mid again only on a later connection."""
    mids: dict[tuple[str, str, str], str] = {}
    seen: Counter[tuple[str, int, str]] = Counter()
    owner: dict[tuple[str, str], tuple[str, str, str]] = {}
    for one in deliveries:
        key = (one.receiver, one.sender, one.cid)
        first = mids.setdefault(key, one.mid)
        if first != one.mid:
            yield f"doubled: {one.cid} of {one.sender} came to {one.receiver} as {first} and as {one.mid}"
        if owner.setdefault((one.receiver, one.mid), key) != key:
            other = owner[one.receiver, one.mid][2]
            yield f"one mid for two: {one.mid} came to {one.receiver} as {one.cid} and as {other}"
        seen[one.receiver, one.connection, one.mid] += 1
        if seen[one.receiver, one.connection, one.mid] == 2:
            yield f"repeated without a lost link: {one.mid} came twice to {one.receiver} on connection {one.connection}"


def out_of_order(deliveries: Iterable[Delivery]) -> Iterator[str]:
    """In a conversation seq grows: among first deliveries always, and among all of them on each connection."""
    highest: dict[tuple[str, str], int] = defaultdict(int)
    on_connection: dict[tuple[str, str, int], int] = defaultdict(int)
    known: dict[tuple[str, str], int] = {}
    for one in deliveries:
        place, pair = (one.receiver, one.sender, one.connection), (one.receiver, one.sender)
        is_first = (one.receiver, one.mid) not in known
        if known.setdefault((one.receiver, one.mid), one.seq) != one.seq:
            yield f"{one.mid} came to {one.receiver} as seq {known[one.receiver, one.mid]} and as {one.seq}"
        if one.seq <= on_connection[place] or (is_first and one.seq <= highest[pair]):
            before = max(on_connection[place], highest[pair] if is_first else 0)
            yield f"out of order: {one.receiver} got seq {one.seq} of {one.sender} after {before}"
        on_connection[place] = max(on_connection[place], one.seq)
        highest[pair] = max(highest[pair], one.seq)


def gaps(deliveries: Iterable[Delivery]) -> Iterator[str]:
    """Where nothing is expired, recalled or sent by the receiver himself, a conversation is 1, 2, 3 … without a gap."""
    seqs: dict[tuple[str, str], set[int]] = defaultdict(set)
    mids: dict[tuple[str, str, int], str] = {}
    for one in deliveries:
        seqs[one.receiver, one.sender].add(one.seq)
        if mids.setdefault((one.receiver, one.sender, one.seq), one.mid) != one.mid:
            yield f"seq {one.seq} of {one.sender} for {one.receiver} is two messages"
    for (receiver, sender), found in seqs.items():
        missing = sorted(set(range(1, max(found) + 1)) - found)
        if missing:
            yield f"gap: {receiver} never got seq {missing[:5]} of {sender} ({len(missing)} missing)"


def backward(steps: Iterable[StatusStep]) -> Iterator[str]:
    """Name every status that moves otherwise than along the contract's steps, and every repeat that is not equal.

    Who was away is told the newest alone, so a step may be missing, but none may be taken back.
    """
    newest: dict[tuple[str, str, str], StatusStep] = {}
    cids: dict[tuple[str, str], str] = {}
    for step in steps:
        if step.code < FAILED and cids.setdefault((step.sender, step.cid), step.mid) != step.mid:
            yield f"{step.cid} of {step.sender} is {cids[step.sender, step.cid]} and {step.mid}"
        key = (step.sender, step.mid, step.peer)
        before = newest.get(key)
        if before is not None and before.code == step.code:
            if before.text != step.text:
                yield f"a repeat differs: {before.text} and {step.text}"
        elif before is not None and not may_follow(before.code, before.reason, step.code):
            yield f"backward: {step.cid} of {step.sender} went from {before.code} to {step.code}"
        newest[key] = step


def unmatched(deliveries: Iterable[Delivery], steps: Iterable[StatusStep]) -> Iterator[str]:
    """Name what is told as delivered and was not seen by the receiver under the same mid: the server never guesses."""
    arrived = {one.mid: one.cid for one in deliveries}
    for mid, cid in {step.mid: step.cid for step in steps if step.code in (DELIVERED, READ)}.items():
        if mid not in arrived:
            yield f"guessed: {cid} ({mid}) is told as delivered, and nobody got it"
        elif arrived[mid] != cid:
            yield f"mixed up: {mid} is {cid} to its sender and {arrived[mid]} to its receiver"


def without_verdict(accepted: Iterable[Accepted], steps: Iterable[StatusStep]) -> Iterator[str]:
    """Once all is read back, every accepted message was told as delivered."""
    told = {(step.sender, step.cid) for step in steps if step.code in (DELIVERED, READ)}
    for sender, cid in {(one.sender, one.cid): None for one in accepted}:
        if (sender, cid) not in told:
            yield f"no verdict: {cid} of {sender} was accepted and never told as delivered"


RULES: tuple[Callable[[History], Iterator[str]], ...] = (
    rules_messages.lost,
    rules_messages.doubled,
    rules_messages.shown_twice,
    rules_messages.repeated,
    rules_messages.unexpected,
    rules_messages.out_of_order,
    rules_messages.disagreeing,
    rules_messages.gaps,
    rules_deliveries.marked_again,
    rules_deliveries.unmarked,
    rules_deliveries.withheld,
    rules_deliveries.denied,
    rules_statuses.backward,
    rules_statuses.forged,
    rules_statuses.too_late,
    rules_statuses.two_verdicts,
    rules_people.after_removal,
    rules_people.after_revocation,
    rules_people.too_large,
    rules_people.left_over,
)


def judge(history: History) -> list[str]:
    """Return a sentence for everything in a whole history that is not as promised; an empty list is a pass."""
    return [complaint for rule in RULES for complaint in rule(history)]
