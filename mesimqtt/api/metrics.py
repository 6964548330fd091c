"""The server's figures for Prometheus, read when they are asked for: counting costs the data plane nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mesimqtt import __version__
from mesimqtt.store.timing import BOUNDS_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mesimqtt.engine.counters import Counters
    from mesimqtt.messaging.messaging import Messaging

_HEALTHS = ("ok", "disk-full", "locked", "io-error", "fault")
# Counter of the engine -> name and meaning of the metric.
_ENGINE = {
    "messages_in": ("mqtt_publish_received", "PUBLISH packets from clients"),
    "messages_out": ("mqtt_publish_sent", "PUBLISH packets to clients"),
    "acks_in": ("mqtt_acknowledgements_received", "PUBACK, PUBREC, PUBREL and PUBCOMP from clients"),
    "acks_out": ("mqtt_acknowledgements_sent", "PUBACK, PUBREC, PUBREL and PUBCOMP to clients"),
    "bytes_in": ("mqtt_received_bytes", "Bytes from clients"),
    "bytes_out": ("mqtt_sent_bytes", "Bytes to clients"),
    "dropped": ("mqtt_publish_dropped", "Messages of free topics that a full queue did not take"),
    "sockets": ("mqtt_sockets_opened", "Network connections, authenticated or not"),
    "connections": ("mqtt_connections_opened", "Authenticated connections"),
}


class _Figures(Collector):
    """Turns what the server counts anyway into metric families."""

    def __init__(self, messaging: Messaging, engine: Callable[[], Counters], lag_ms: Callable[[], float]) -> None:
        self._messaging = messaging
        self._engine = engine
        self._lag_ms = lag_ms

    def collect(self) -> Iterator[Metric]:
        """Give every family once."""
        stats = self._messaging.stats()
        yield InfoMetricFamily("mesimqtt", "The running version", {"version": __version__})
        yield GaugeMetricFamily("mesimqtt_uptime_seconds", "Since the start", stats["uptime_s"])
        yield GaugeMetricFamily("mesimqtt_loop_lag_seconds", "How late the loop's last tick was", self._lag_ms() / 1000)
        yield GaugeMetricFamily("mesimqtt_users", "Users, also disabled ones", stats["users"])
        yield GaugeMetricFamily("mesimqtt_messages", "Messages in the store", stats["messages"])
        yield GaugeMetricFamily("mesimqtt_devices_online", "Devices of users that are connected", stats["connections"])
        yield from self._counted(stats["counters"])
        yield from self._store(stats)
        counters = self._engine()
        yield GaugeMetricFamily("mqtt_connections", "Authenticated connections now", counters.connected)
        for name, (metric, meaning) in _ENGINE.items():
            yield CounterMetricFamily(metric, meaning, getattr(counters, name))

    @staticmethod
    def _counted(counters: dict[str, int]) -> Iterator[Metric]:
        refused = CounterMetricFamily("mesimqtt_refused", "Refusals told to senders", labels=["status"])
        status = CounterMetricFamily("mesimqtt_statuses", "Status steps committed", labels=["status"])
        events = CounterMetricFamily("mesimqtt_events", "All else that the server counts", labels=["event"])
        for name, count in counters.items():
            kind, _, what = name.partition(".")
            if kind == "refused":
                refused.add_metric([what], count)
            elif kind == "status":
                status.add_metric([what], count)
            elif name != "accepted":
                events.add_metric([name], count)
        yield CounterMetricFamily("mesimqtt_messages_accepted", "Messages committed", counters.get("accepted", 0))
        yield from (refused, status, events)

    def _store(self, stats: dict[str, Any]) -> Iterator[Metric]:
        health = GaugeMetricFamily("mesimqtt_store_health", "1 for the state that the store is in", labels=["state"])
        for state in _HEALTHS:
            health.add_metric([state], float(stats["health"] == state))
        yield health
        yield GaugeMetricFamily("mesimqtt_store_bytes", "The database on disk, with its log", stats["database_bytes"])
        durations = self._messaging.store.committer.durations
        total, buckets = 0, []
        for bound, count in zip([*BOUNDS_MS, None], durations.counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound is None else str(bound / 1000), total))
        commits = HistogramMetricFamily("mesimqtt_commit_seconds", "Transactions of the committer, flushed to disk")
        commits.add_metric([], buckets, durations.sum_ms / 1000)
        yield commits


class Metrics:
    """Everything that `/metrics` tells."""

    def __init__(self, messaging: Messaging, engine: Callable[[], Counters], *, lag_ms: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Figures(messaging, engine, lag_ms))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def text(self) -> str:
        """Return the figures in Prometheus' text format."""
        return generate_latest(self._registry).decode()
