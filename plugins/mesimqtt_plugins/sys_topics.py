"""The server's own figures under `$SYS/broker/`, with mosquitto's names and spelling, for scope admin."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amqtt.contexts import BaseContext
from amqtt.plugins.base import BasePlugin

from mesimqtt import __version__
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.broker.context import Context
    from mesimqtt.engine.counters import Counters
    from mesimqtt.engine.engine import Engine

ROOT = "$SYS/broker/"
SPANS_MIN = (1, 5, 15)
# Counter of the engine -> the topic of its total and the topic of its moving averages; '' for none.
COUNTED = {
    "packets_in": ("messages/received", "load/messages/received"),
    "packets_out": ("messages/sent", "load/messages/sent"),
    "messages_in": ("publish/messages/received", "load/publish/received"),
    "messages_out": ("publish/messages/sent", "load/publish/sent"),
    "dropped": ("publish/messages/dropped", "load/publish/dropped"),
    "bytes_in": ("bytes/received", "load/bytes/received"),
    "bytes_out": ("bytes/sent", "load/bytes/sent"),
    "expired": ("clients/expired", ""),
    "sockets": ("", "load/sockets"),
    "connections": ("", "load/connections"),
}

logger = logging.getLogger(__name__)


class Averages:
    """Events per minute, as moving averages over 1, 5 and 15 minutes, computed as mosquitto does."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._values: dict[tuple[str, int], float] = {}

    def update(self, counters: Counters, elapsed_s: float) -> None:
        """Take what the counters gained in `elapsed_s` seconds."""
        for name, (_, load) in COUNTED.items():
            if not load:
                continue
            now = getattr(counters, name)
            per_minute = (now - self._before.get(name, 0)) * 60.0 / elapsed_s
            self._before[name] = now
            for minutes in SPANS_MIN:
                weight = math.exp(-elapsed_s / (60.0 * minutes))
                value = self._values.get((load, minutes), 0.0)
                self._values[load, minutes] = per_minute + weight * (value - per_minute)

    def shown(self) -> dict[str, str]:
        """Return topic and value of each average."""
        return {f"{load}/{minutes}min": f"{value:.2f}" for (load, minutes), value in self._values.items()}


def figures(engine: Engine, *, uptime_s: int, clients_max: int, memory: tuple[int, int]) -> dict[str, str]:
    """Return what can be counted now, by topic; one look at every session and every retained message."""
    sessions = engine.sessions.values()
    in_flight = waiting = waiting_bytes = 0
    for session in sessions:
        if session.window is not None:
            in_flight += session.window.in_flight
        elif session.kept is not None:
            in_flight += len(session.kept.inflight)
        waiting += len(session.queue)
        waiting_bytes += session.held_bytes
    retained = engine.retained.match("#")
    total, connected = len(sessions), engine.counters.connected
    stored_bytes = sum(len(message.payload) for message in retained) + waiting_bytes
    shared = sum(len(share.members) for share in engine.shares.values())
    resident, largest = memory
    values: dict[str, object] = {
        "uptime": f"{uptime_s} seconds",
        "clients/total": total,
        "clients/maximum": clients_max,
        "clients/inactive": total - connected,
        "clients/disconnected": total - connected,
        "clients/active": connected,
        "clients/connected": connected,
        "messages/stored": len(retained) + waiting,
        "messages/inflight": in_flight,
        "store/messages/count": len(retained) + waiting,
        "store/messages/bytes": stored_bytes,
        "subscriptions/count": sum(len(session.subscriptions) for session in sessions) - shared,
        "shared_subscriptions/count": shared,
        "retained messages/count": len(engine.retained),
        "heap/current": resident,
        "heap/maximum": largest,
    }
    counters = engine.counters
    for name, (topic, _) in COUNTED.items():
        if topic:
            values[topic] = getattr(counters, name)
    return {topic: str(value) for topic, value in values.items()}


def _memory() -> tuple[int, int]:
    """Return the memory of this process, now and the most so far; without /proc both are 0."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0, 0
    largest = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
    return pages * os.sysconf("SC_PAGE_SIZE"), largest


class SysTopics(BasePlugin[BaseContext]):
    """Publishes the figures every `interval` seconds: what changed, and only while somebody listens under `$SYS`."""

    def __init__(self, context: Context) -> None:
        """Check the interval; nothing runs before the broker does."""
        super().__init__(context)
        if not self.config.interval > 0:
            raise MesimqttError("SysTopics: interval is a number of seconds above 0")
        self._engine: Callable[[], Engine] = context.engine
        self._retain = context.retain_figure
        self._clock = context.now
        self._see = context.see
        self._averages = Averages()
        self._told: dict[str, str] = {}
        self._clients_max = 0
        self._began = self._averaged = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def on_broker_post_start(self) -> None:
        """Publish for the first time, so that who subscribes finds something."""
        self._began = self._averaged = self._clock()
        self._averages.update(self._engine().counters, self.config.interval)
        self._retain(f"{ROOT}version", f"mesimqtt version {__version__}")
        self._publish()
        self._again()

    async def on_broker_pre_shutdown(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()

    async def on_broker_client_subscribed(self, *, client_id: str, topic: str, qos: int) -> None:  # noqa: ARG002 - amqtt's
        """Bring up to date what a new listener gets: while nobody listened, nothing was published."""
        if topic.startswith("$SYS"):
            self._publish()

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.config.interval, self._tick)

    def _tick(self) -> None:
        self._again()
        try:
            self._turn()
        except Exception:
            logger.exception("SysTopics: the figures could not be published; they are tried again")

    def _turn(self) -> None:
        engine, now = self._engine(), self._clock()
        self._averages.update(engine.counters, max(now - self._averaged, 0.001))
        self._averaged = now
        self._clients_max = max(self._clients_max, len(engine.sessions))
        if any(engine.tree.match(ROOT + topic) for topic in self._told):
            self._publish()

    def _publish(self) -> None:
        engine = self._engine()
        self._clients_max = max(self._clients_max, len(engine.sessions))
        uptime_s = int(self._clock() - self._began)
        values = figures(engine, uptime_s=uptime_s, clients_max=self._clients_max, memory=self._see(_memory))
        for topic, value in {**values, **self._averages.shown()}.items():
            if self._told.get(topic) != value:
                self._told[topic] = value
                self._retain(ROOT + topic, value)

    @dataclass
    class Config:
        """`interval`: seconds between two publications, 10 by default."""

        interval: float = 10.0
