"""Rules about people and bounds: nothing after a removal or a revocation, nothing left, nothing too large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.history import (
    DELETED,
    DISABLED,
    ENABLED,
    EVER_MS,
    GROUP_DELETED,
    GROUP_MADE,
    JOINED,
    LEFT,
    MADE,
    REVOKED,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.proof.history import History

CLOSED_MS = 1_000  # within which the connections are closed of whom may no longer be there (contract section 5)


def after_removal(history: History) -> Iterator[str]:
    """Who is not in a group gets nothing that was accepted meanwhile, and nothing of his is accepted."""
    spans = {
        group: _spans(history, {LEFT, GROUP_DELETED}, {JOINED, GROUP_MADE}, group)
        for group in {one.group for one in history.changes if one.what in (LEFT, GROUP_DELETED)}
    }
    # When each was handed over first: a scheduled one was sent after it was due, and by then.
    written: dict[str, int] = {}
    for got in history.got:
        written[got.mid] = min(written.get(got.mid, got.written), got.written)
    for got in history.got:
        if got.place[0] == "g" and not got.is_copy and not got.is_event and got.seq:
            sent = history.by_body.get(got.body)
            when = sent.when * 1000 if sent is not None else 0
            sent_at = {history.drawn_at(got.mid) + when, *([written[got.mid]] if when else [])}
            away = spans.get(got.place[2:], {}).get(got.user, ())
            if all(_is_within(away, at) for at in sent_at):
                yield f"after removal: {got.user}/{got.device} got {got.mid} of {got.place}, accepted after he had left"
    for key, mid in history.mids.items():
        sent = history.by_cid.get(key)
        if sent is None or sent.to[0] != "g" or sent.when:
            continue
        if _is_within(spans.get(sent.to[2:], {}).get(sent.user, ()), history.drawn_at(mid)):
            yield f"after removal: {sent.cid} of {sent.user} to {sent.to} was accepted after he had left"


def after_revocation(history: History) -> Iterator[str]:
    """Name what went in or out a second after a token was revoked, or a user disabled or deleted."""
    spans = _spans(history, {DISABLED, REVOKED, DELETED}, {ENABLED, MADE}, "", grace_ms=CLOSED_MS)
    for got in history.got:
        if _is_within(spans.get(got.user, ()), got.written):
            yield f"after revocation: {got.user}/{got.device} was handed {got.mid} at {got.written}"
    for key, mid in history.mids.items():
        sent = history.by_cid.get(key)
        if sent is not None and _is_within(spans.get(sent.user, ()), history.drawn_at(mid)):
            yield f"after revocation: {sent.cid} of {sent.user} was accepted at {history.drawn_at(mid)}"
    for online in history.online:
        if _is_within(spans.get(online.user, ()), online.written):
            yield f"after revocation: {online.user}/{online.device} was let in at {online.at}"


def too_large(history: History) -> Iterator[str]:
    """Nothing grew over its bound."""
    for bound in history.bounds:
        if bound.largest > bound.most:
            yield f"too large: {bound.name} came to {bound.largest:g}, the bound is {bound.most:g}"


def left_over(history: History) -> Iterator[str]:
    """Nothing is left when the server has stopped."""
    for what in history.leftovers:
        yield f"left over: {what}"


def _spans(
    history: History, begins: set[str], ends: set[str], group: str, *, grace_ms: int = 0
) -> dict[str, list[tuple[int, int]]]:
    """Return from when to when each user certainly was out: from the end of one change to the begin of another."""
    found: dict[str, list[tuple[int, int]]] = {}
    changes = sorted((one for one in history.changes if one.group == group), key=lambda one: one.at)
    for index, one in enumerate(changes):
        if one.what not in begins:
            continue
        users = [one.user] if one.user else sorted(history.members.get(group, ()))
        for user in users:
            back = (later.begin for later in changes[index + 1 :] if later.what in ends and later.user in (user, ""))
            before = [
                other.begin
                for other in changes[:index]
                if other.what in ends and other.user == user and other.at > one.at
            ]
            found.setdefault(user, []).append((one.at + grace_ms, min([*before, next(back, EVER_MS)])))
    return found


def _is_within(spans: list[tuple[int, int]] | tuple[()], at: int) -> bool:
    return any(begin < at < end for begin, end in spans)
