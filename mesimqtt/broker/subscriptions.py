"""Subscriptions that plugins make for clients (amqtt's `context.add_subscription`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesimqtt.engine import routes, shares
from mesimqtt.engine.packets import SUBACK_FAILURE, is_filter
from mesimqtt.hooks import Action

if TYPE_CHECKING:
    from amqtt.session import Session as AmqttSession

    from mesimqtt.broker.gate import Gate
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine

WAITING_MAX = 10_000  # subscriptions for clients that have not come yet


class PluginSubscriptions:
    """Subscribes connected clients at once, and others when they come: only then their rights are known."""

    def __init__(self, engine: Engine, gate: Gate, root: str) -> None:
        self._engine = engine
        self._gate = gate
        self._root = root
        self._waiting: dict[str, dict[str, int]] = {}
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, topic_filter: str, qos: int, session: AmqttSession) -> int:
        """Return the granted QoS, or 0x80 where the filter is wrong or denied."""
        found = shares.split(topic_filter) if topic_filter.startswith(shares.PREFIX) else ("", topic_filter)
        wanted = found[1] if found is not None else ""
        if not is_filter(wanted) or wanted.partition("/")[0] == self._root or qos not in (0, 1, 2):
            return SUBACK_FAILURE
        client_id = session.client_id or ""
        connection = self._find(client_id)
        if connection is not None:
            return await self._subscribe(connection, topic_filter, qos)
        if self._count >= WAITING_MAX:
            return SUBACK_FAILURE
        filters = self._waiting.setdefault(client_id, {})
        self._count += topic_filter not in filters
        filters[topic_filter] = qos
        return qos

    def connected(self, connection: Connection) -> None:
        """Make the subscriptions that waited for this client."""
        if not self._waiting or connection.client_id not in self._waiting:
            return
        filters = self._waiting.pop(connection.client_id)
        self._count -= len(filters)
        task = asyncio.get_running_loop().create_task(self._subscribe_all(connection, filters))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _subscribe_all(self, connection: Connection, filters: dict[str, int]) -> None:
        for topic_filter, qos in filters.items():
            await self._subscribe(connection, topic_filter, qos)

    def _find(self, client_id: str) -> Connection | None:
        found = [s.connection for s in self._engine.sessions.values() if s.client_id == client_id and s.connection]
        return found[0] if found else None

    async def _subscribe(self, connection: Connection, topic_filter: str, qos: int) -> int:
        wanted = shares.inner_filter(topic_filter)
        decision = self._gate.decide(connection, Action.SUBSCRIBE, wanted)
        while decision is None:
            answered: asyncio.Future[float] = asyncio.get_running_loop().create_future()
            connection.wait(answered.set_result)
            await answered
            decision = self._gate.decide(connection, Action.SUBSCRIBE, wanted)
        session, engine = connection.session, self._engine
        if not decision.allow or session is None or not connection.is_open:
            return SUBACK_FAILURE
        if topic_filter not in session.subscriptions and len(session.subscriptions) >= engine.limits.filters_max:
            return SUBACK_FAILURE
        session.subscriptions[topic_filter] = qos
        shares.attach(engine, session, topic_filter, qos)
        if session.key:
            engine.keeper.save_subscription(session, topic_filter, qos)
        routes.invalidate(engine, [topic_filter])
        return qos
