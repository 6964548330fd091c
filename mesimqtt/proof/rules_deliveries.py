"""Rules about how a message is handed over: what a device is given for the first time is no duplicate."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.proof.history import History


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
