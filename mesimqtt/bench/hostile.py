"""What good clients notice of bad ones: the same steady load alone and under attack, and what memory that costs."""

from __future__ import annotations

import threading
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from mesimqtt.bench.attackers import attacked
from mesimqtt.bench.figures import percentile_ms
from mesimqtt.bench.loop import BenchError
from mesimqtt.bench.paced import RATE, Paced

if TYPE_CHECKING:
    from mesimqtt.bench.attackers import Attack
    from mesimqtt.bench.figures import Figures, Periods
    from mesimqtt.bench.flow import Sample
    from mesimqtt.bench.servers import Target

LONGER = 4  # than other measurements: one message in a hundred must be many
SETTLE_S = 0.5
ARRIVAL_STEP_S = 0.2
ARRIVAL_DEADLINE_S = 60.0


def measure_hostile(target: Target, periods: Periods, kind: str) -> Figures:
    """Measure 50 good pairs at 500 messages a second, idle and then under attack; p50 and p99 are those under attack.

    `p99 while they come` is that of the time in which the attackers connect; the target is for when they are there.
    """
    paced = Paced(target.address)
    try:
        paced.run(SETTLE_S)
        idle_ms = percentile_ms(paced.run(LONGER * periods.measure_s), 0.99) or 0.0
        before_kb = target.process.memory_kb() or 0
        with attacked(kind, target.address) as attack:
            count, coming = _arrive(paced, attack)
            samples = paced.run(LONGER * periods.measure_s)
            after_kb = target.process.memory_kb() or 0
            paced.drain(periods.stall_s)
        found = paced.figures(samples, RATE)
    finally:
        paced.close()
    under_ms = found.p99_ms or 0.0
    extra = {
        "attackers": float(count),
        "idle p99 ms": idle_ms,
        "p99 while they come ms": percentile_ms(coming, 0.99) or 0.0,
        "times idle": under_ms / idle_ms if idle_ms else 0.0,
        "RSS growth MiB": (after_kb - before_kb) / 1024,
    }
    return replace(found, memory_kb=after_kb, extra=extra)


def _arrive(paced: Paced, attack: Attack) -> tuple[int, list[Sample]]:
    """Keep the good clients going until all attackers are there; return how many, and the latencies meanwhile."""
    found: list[int] = []
    failed: list[BenchError] = []

    def wait() -> None:
        try:
            found.append(attack.wait())
        except BenchError as error:
            failed.append(error)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    samples: list[Sample] = []
    until = monotonic() + ARRIVAL_DEADLINE_S
    while waiter.is_alive() and monotonic() < until:
        samples += paced.run(ARRIVAL_STEP_S)
    if failed or not found:
        raise failed[0] if failed else BenchError("the attackers were not there in time")
    samples += paced.run(SETTLE_S)
    return found[0], samples
