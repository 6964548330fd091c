"""What one measurement yields, and the median of several."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesimqtt.bench.machine import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Periods:
    """How long a measurement warms up and counts, and how long it waits when nothing moves."""

    warm_up_s: float = 0.25
    measure_s: float = 0.8
    stall_s: float = 8.0


QUICK = Periods(warm_up_s=0.15, measure_s=0.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one measurement. `extra` holds what only some scenarios have, by name."""

    rate: float
    broker_us: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    memory_kb: float | None = None
    generator_share: float = 0.0
    foreign_cores: float | None = None
    received: float = 0
    lost: int = 0
    duplicates: int = 0
    misordered: int = 0
    strange: int = 0
    disconnects: int = 0
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Tell whether every message came exactly once."""
        return not (self.lost or self.duplicates or self.disconnects)


# What is wrong is added up over the rounds, never smoothed away by a median.
_SUMMED = frozenset({"lost", "duplicates", "misordered", "strange", "disconnects"})


def median_of(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each figure by itself, and the sum of each fault."""
    values: dict[str, float | None] = {}
    faults: dict[str, int] = {}
    for one in fields(Figures):
        present = [value for figures in rounds if isinstance(value := getattr(figures, one.name), (int, float))]
        if one.name in _SUMMED:
            faults[one.name] = int(sum(present))
        elif one.name != "extra":
            values[one.name] = median(present) if present else None
    names = dict.fromkeys(name for figures in rounds for name in figures.extra)
    extra = {name: median(figures.extra[name] for figures in rounds if name in figures.extra) for name in names}
    return Figures(
        rate=values["rate"] or 0.0,
        broker_us=values["broker_us"],
        p50_ms=values["p50_ms"],
        p99_ms=values["p99_ms"],
        memory_kb=values["memory_kb"],
        generator_share=values["generator_share"] or 0.0,
        foreign_cores=values["foreign_cores"],
        received=values["received"] or 0,
        extra=extra,
        **faults,
    )


def percentile_ms(samples: Sequence[tuple[float, int]], share: float) -> float | None:
    """Return the latency below which `share` of the messages stay, in milliseconds."""
    if not samples:
        return None
    wanted = share * sum(count for _, count in samples)
    passed = 0
    for seconds, count in sorted(samples):
        passed += count
        if passed > wanted:
            return seconds * 1e3
    return max(samples)[0] * 1e3


@dataclass(frozen=True, slots=True)
class Costs:
    """Shares of CPU between two readings."""

    broker_us: float | None
    generator_share: float
    foreign_cores: float | None


def costs(before: Reading, after: Reading, *, seconds: float, messages: float) -> Costs:
    """Spread the CPU time between two readings over `messages` and `seconds`."""
    own = after.own_s - before.own_s
    if before.broker_s is None or after.broker_s is None:
        return Costs(None, own / seconds, None)
    broker = after.broker_s - before.broker_s
    foreign = (after.machine_s - before.machine_s - broker - own) / seconds
    return Costs(broker * 1e6 / messages if messages else None, own / seconds, max(0.0, foreign))
