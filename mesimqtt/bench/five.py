"""MQTT 5.0 beside 3.1.1: the same load, the same server, in turn, so that nothing else differs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mesimqtt.bench.relay import Relay
from mesimqtt.bench.wire import FIVE, NO_PROPERTIES, user_property

if TYPE_CHECKING:
    from mesimqtt.bench.figures import Figures, Periods
    from mesimqtt.bench.relay import Shape
    from mesimqtt.bench.servers import Target

USER_PROPERTY = user_property("unit", "celsius")


def measure_five(target: Target, periods: Periods, shape: Shape, properties: bytes = NO_PROPERTIES) -> Figures:
    """Measure `shape` with 5.0 on both ends; `slower by %` compares it with 3.1.1 on the same server."""
    relays = [Relay(target.address, shape)]
    try:
        relays.append(Relay(target.address, replace(shape, version=FIVE, properties=properties)))
        three, five = relays
        older = [three.run(target.process, periods)]
        newer = [five.run(target.process, periods), five.run(target.process, periods)]
        older.append(three.run(target.process, periods))
    finally:
        for relay in relays:
            relay.close()
    before, rate = (sum(one.rate for one in runs) / 2 for runs in (older, newer))
    costs = [one.broker_us for one in newer if one.broker_us is not None]
    costs_before = [one.broker_us for one in older if one.broker_us is not None]
    extra = {"3.1.1 per s": before, "slower by %": 100 * (1 - rate / before) if before else 0.0}
    if costs_before:
        extra["CPU µs on 3.1.1"] = sum(costs_before) / len(costs_before)
    # Faults are counted from the first message on, so the last run of each has them all.
    return replace(
        newer[-1],
        rate=rate,
        broker_us=sum(costs) / len(costs) if costs else None,
        lost=newer[-1].lost + older[-1].lost,
        duplicates=newer[-1].duplicates + older[-1].duplicates,
        disconnects=newer[-1].disconnects + older[-1].disconnects,
        extra=extra,
    )
