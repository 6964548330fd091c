"""Operations on the server itself: what it does, how it is, where a message is."""

from __future__ import annotations

from dataclasses import asdict

from mesimqtt import __version__
from mesimqtt.domain.errors import OperationError
from mesimqtt.messaging.operations_base import Answer, ArgumentError, Desk, Scope, operation
from mesimqtt.topics import MID_PATTERN


@operation(Scope.BACKEND, example={"mid": "{mid}"}, is_lookup=True)
async def trace(desk: Desk, *, mid: str, after: str = "") -> Answer:
    """Tell where a message is and how it got there: every status it had, and how far each device of its recipients is.

    Of a group's members so many are shown as one page holds; `next` is what to pass as `after` for the rest.
    """
    if not MID_PATTERN.fullmatch(mid):
        raise ArgumentError(f"{mid[:40]!r} is no mid: a mid is 16 hex digits, as in the topic of a message")
    return desk.messaging.trace(mid, after=after)


@operation(Scope.ADMIN, is_lookup=True)
async def stats(desk: Desk) -> Answer:
    """Count users, connections, messages and what the store is doing."""
    return desk.messaging.stats()


@operation(Scope.ADMIN, is_lookup=True)
async def server_info(desk: Desk) -> Answer:
    """Tell version, listeners, data folder and the limits in force."""
    settings = desk.messaging.settings
    return {
        "version": __version__,
        "listeners": [{"kind": kind, "host": host, "port": port} for kind, host, port in desk.bound],
        "data": desk.messaging.store.where,
        "root": settings.root,
        "open": settings.open,
        "limits": asdict(settings.limits),
        "messaging": asdict(settings.messaging),
    }


@operation(Scope.USER)
async def ping(desk: Desk) -> Answer:
    """Answer at once with the server's time in milliseconds; an admin also sees the version and the store's health."""
    answer: Answer = {"pong": desk.now_ms}
    if desk.caller.power is Scope.ADMIN:
        answer |= {"version": __version__, "store": str(desk.messaging.store.health)}
    return answer


@operation(Scope.ADMIN)
async def health(desk: Desk) -> Answer:
    """Try what the server is for: commit something to disk, and an MQTT round trip on each listener; tell the times.

    `status` is ok or failing. What it saw serves everybody who asks within a second.
    """
    if desk.messaging.check_health is None:
        raise OperationError("no-server", "no server runs here; start one with: mesimqtt serve")
    return await desk.messaging.check_health()


@operation(Scope.ADMIN)
async def metrics(desk: Desk) -> Answer:
    """Tell the server's figures in Prometheus' text format, as `/metrics` does."""
    if desk.messaging.read_metrics is None:
        raise OperationError("no-server", "no server runs here; start one with: mesimqtt serve")
    return {"text": desk.messaging.read_metrics()}
