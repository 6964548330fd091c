"""What the figures are meant to reach, as `--check` prints it. Speed never decides the exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesimqtt.bench.scenarios import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mesimqtt.bench.figures import Figures


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of one scenario; `peer` is None where there is nobody to compare with."""

    name: str
    title: str
    unit: str
    ours: Figures | None
    peer: Figures | None

    @property
    def ratio(self) -> float | None:
        """Return our rate over the peer's."""
        if self.ours is None or self.peer is None or not self.peer.rate:
            return None
        return self.ours.rate / self.peer.rate


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of `--check`."""

    name: str
    wanted: str
    found: str
    is_reached: bool

    def __str__(self) -> str:
        return f"{'PASS' if self.is_reached else 'MISS'}  {self.name}: wanted {self.wanted}, found {self.found}"


# One at a time a message is two reads and two writes, for anybody: there is nothing to batch.
_RATIOS = {
    "relay-q0-1": 5.0,
    "relay-q0-50": 5.0,
    "relay-q0-500": 3.0,
    "relay-q1-1": 5.0,
    "relay-q1-50": 5.0,
    "relay-q1-500": 3.0,
    "relay-q2-50": 4.0,
    "relay-q2-500": 3.0,
    "single-q0-500": 1.0,
    "single-q1-500": 1.1,
    "nats-q0-50": 1.2,
    "five-q0-50": 5.0,
    "five-q1-50": 5.0,
    "fanout-1000": 4.0,
}
# Connections: with a token here, anonymous there. By CPU, too: the generator may be slower than either.
_CONNECT_RATIOS = {"connect": 0.5, "reconnect": 0.5}
_RATES = {"messaging-w100": 20_000, "offline-20000": 80_000, "inbox-20000": 40_000}
_SLOWER_PERCENT = {
    "webhooks": (25.0, "without a webhook"),
    "filters-10000": (5.0, "without"),
    "five-q0-50": (10.0, "on 3.1.1"),
    "five-q1-50": (10.0, "on 3.1.1"),
}
_IDLE_KIB = 4.0
_GROUP_MS = 500.0  # PUBACK to the last of a hundred deliveries, in the worst case
_MESSAGING_RATIO = 0.5
_MESSAGING_P99_MS = 15.0
_HOSTILE = "hostile-"
_HOSTILE_TIMES, _HOSTILE_MIB = 2.0, 64.0


def check(rows: Mapping[str, Row]) -> list[Verdict]:
    """Hold the rows that were measured against the targets."""
    verdicts = []
    for name, least in _RATIOS.items():
        ratio = rows[name].ratio if name in rows else None
        if ratio is not None:
            verdicts.append(Verdict(name, f"at least {least:g}x the peer", f"{ratio:.2f}x", ratio >= least))
    verdicts += _check_connects(rows)
    for name, least_rate in _RATES.items():
        ours = rows[name].ours if name in rows else None
        if ours is not None:
            found = f"{ours.rate:,.0f}"
            unit = rows[name].unit
            verdicts.append(Verdict(name, f"at least {least_rate:,} {unit}", found, ours.rate >= least_rate))
    return [*verdicts, *_check_others(rows)]


def messaging_ratio(rows: Mapping[str, Row]) -> float | None:
    """Return our messages a second over the peer's plain QoS 1 relay of as many pairs in the same run."""
    messaging, relay = rows.get("messaging-w100"), rows.get(REFERENCE)
    if messaging is None or messaging.ours is None or relay is None or relay.peer is None or not relay.peer.rate:
        return None
    return messaging.ours.rate / relay.peer.rate


def _check_others(rows: Mapping[str, Row]) -> list[Verdict]:
    verdicts = []
    ratio = messaging_ratio(rows)
    if ratio is not None:
        wanted = f"at least {_MESSAGING_RATIO:g}x the peer's plain QoS 1 relay"
        verdicts.append(Verdict("messaging-w100", wanted, f"{ratio:.2f}x", ratio >= _MESSAGING_RATIO))
    paced = _ours(rows, "messaging-open")
    if paced is not None and paced.p99_ms is not None:
        wanted, found = f"p99 under {_MESSAGING_P99_MS:g} ms", f"{paced.p99_ms:.2f} ms"
        verdicts.append(Verdict("messaging-open", wanted, found, paced.p99_ms < _MESSAGING_P99_MS))
    group = _ours(rows, "group")
    if group is not None:
        worst = group.extra["worst ms"]
        verdicts.append(Verdict("group", f"under {_GROUP_MS:g} ms", f"{worst:.1f} ms", worst < _GROUP_MS))
    idle = _ours(rows, "idle-5000")
    if idle is not None:
        wanted = f"at most {_IDLE_KIB:g} KiB each"
        verdicts.append(Verdict("idle-5000", wanted, f"{idle.rate:.2f} KiB", idle.rate <= _IDLE_KIB))
    for name, (most, than) in _SLOWER_PERCENT.items():
        loaded = _ours(rows, name)
        if loaded is not None and "slower by %" in loaded.extra:
            slower = loaded.extra["slower by %"]
            verdicts.append(Verdict(name, f"at most {most:g} % slower than {than}", f"{slower:.1f} %", slower <= most))
    return [*verdicts, *_check_paced(rows), *_check_hostile(rows)]


def _check_connects(rows: Mapping[str, Row]) -> list[Verdict]:
    verdicts = []
    for name, least in _CONNECT_RATIOS.items():
        row = rows.get(name)
        if row is None or row.ratio is None or row.ours is None or row.peer is None:
            continue
        ratio = row.ratio
        if row.ours.broker_us and row.peer.broker_us:
            ratio = min(ratio, row.peer.broker_us / row.ours.broker_us)
        wanted = f"at least {least:g}x the peer's anonymous ones, by rate and by CPU"
        verdicts.append(Verdict(name, wanted, f"{ratio:.2f}x", ratio >= least))
    return verdicts


def _check_paced(rows: Mapping[str, Row]) -> list[Verdict]:
    row = rows.get("paced-q1-50")
    if row is None or row.ours is None or row.peer is None or row.ours.p99_ms is None or row.peer.p99_ms is None:
        return []
    ours, peer = row.ours.p99_ms, row.peer.p99_ms
    return [Verdict(row.name, f"p99 at most the peer's {peer:.2f} ms", f"{ours:.2f} ms", ours <= peer)]


def _check_hostile(rows: Mapping[str, Row]) -> list[Verdict]:
    verdicts = []
    for name, row in rows.items():
        if row.ours is None or not name.startswith(_HOSTILE):
            continue
        times, growth = row.ours.extra.get("times idle", 0.0), row.ours.extra.get("RSS growth MiB", 0.0)
        verdicts.append(
            Verdict(name, f"p99 at most {_HOSTILE_TIMES:g}x idle", f"{times:.2f}x", times <= _HOSTILE_TIMES)
        )
        wanted, found = f"RSS growth at most {_HOSTILE_MIB:g} MiB", f"{growth:.1f} MiB"
        verdicts.append(Verdict(name, wanted, found, growth <= _HOSTILE_MIB))
    return verdicts


def _ours(rows: Mapping[str, Row], name: str) -> Figures | None:
    row = rows.get(name)
    return row.ours if row is not None else None
