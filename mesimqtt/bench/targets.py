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


_RATIOS = {
    "relay-q0-1": 3.0,
    "relay-q0-50": 3.0,
    "relay-q0-500": 3.0,
    "relay-q1-1": 3.0,
    "relay-q1-50": 3.0,
    "relay-q1-500": 3.0,
    "single-q0-500": 0.7,
    "single-q1-500": 0.9,
    "fanout-1000": 2.0,
}
_RATES = {"messaging-w100": 20_000, "connect": 4_000, "inbox-20000": 40_000}
_SLOWER_PERCENT = 5.0
_IDLE_KIB = 6.0
_MESSAGING_RATIO = 0.5
_MESSAGING_P99_MS = 15.0


def check(rows: Mapping[str, Row]) -> list[Verdict]:
    """Hold the rows that were measured against the targets."""
    verdicts = []
    for name, least in _RATIOS.items():
        ratio = rows[name].ratio if name in rows else None
        if ratio is not None:
            verdicts.append(Verdict(name, f"at least {least:g}x the peer", f"{ratio:.2f}x", ratio >= least))
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
    idle = _ours(rows, "idle-5000")
    if idle is not None:
        wanted = f"at most {_IDLE_KIB:g} KiB each"
        verdicts.append(Verdict("idle-5000", wanted, f"{idle.rate:.2f} KiB", idle.rate <= _IDLE_KIB))
    loaded = _ours(rows, "filters-10000")
    if loaded is not None and "slower by %" in loaded.extra:
        slower = loaded.extra["slower by %"]
        wanted = f"at most {_SLOWER_PERCENT:g} % slower than without"
        verdicts.append(Verdict("filters-10000", wanted, f"{slower:.1f} %", slower <= _SLOWER_PERCENT))
    return verdicts


def _ours(rows: Mapping[str, Row], name: str) -> Figures | None:
    row = rows.get(name)
    return row.ours if row is not None else None
