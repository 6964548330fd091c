"""Every scenario by name: what is measured, in which unit, and on whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from mesimqtt.bench.connections import Storm, measure_idle
from mesimqtt.bench.figures import Figures, Periods
from mesimqtt.bench.five import USER_PROPERTY, measure_five
from mesimqtt.bench.group import MEMBERS, ONLINE, measure_group
from mesimqtt.bench.hostile import measure_hostile
from mesimqtt.bench.messaging import PAIRS, measure_inbox, measure_messaging, measure_open
from mesimqtt.bench.offline import measure_offline
from mesimqtt.bench.paced import measure_paced
from mesimqtt.bench.relay import Relay, Shape, load_filters, measure_relay
from mesimqtt.bench.servers import Target
from mesimqtt.bench.webhooks import ENVIRONMENT, measure_webhooks
from mesimqtt.bench.wire import NO_PROPERTIES, connect
from mesimqtt.domain.errors import MesimqttError

CONNECTS = 4_000
IDLE = 5_000
QUEUE = 20_000
FILTER_CONNECTIONS = 100
FILTERS_EACH = 100
LONG_ROAD = 20_000
REFERENCE = "relay-q1-50"  # what messaging is held against
_QUEUE_LIMITS = {
    "MESIMQTT_LIMITS__QUEUE_MESSAGES_MAX": str(2 * QUEUE),
    "MESIMQTT_LIMITS__QUEUE_BYTES_MAX": str(64 * 1024 * 1024),
}

_FILTER_LIMITS = {"MESIMQTT_LIMITS__FILTERS_MAX": "5000"}
_HOSTILE = {
    "mute": "1 000 clients that never read, flooded",
    "half-open": "10 000 half-open connections",
    "subscribe": "a storm of SUBSCRIBE and UNSUBSCRIBE",
    "filters": "5 000 filters on one client",
}
NATS = "nats-server"

_CONNECTING = [f"c{number:04d}" for number in range(CONNECTS)]
_PAIRS = [f"{side}{number}" for number in range(PAIRS) for side in "ab"]

Measure = Callable[[Target, Periods], Figures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One line of the table. `is_ours_only` if no other broker has anything to hold against it.

    `peer` is another one than the run's, for this line only; `users` are those that our server must know;
    `environment` is set for the servers only.
    """

    name: str
    title: str
    measure: Measure
    unit: str = "msg/s"
    is_ours_only: bool = False
    peer: str = ""
    is_quick: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    users: Sequence[str] = ()


def all_scenarios() -> list[Scenario]:
    """Return all scenarios in the order of the table."""
    return [*_relays(), *_fives(), *_fans(), *_connections(), *_messaging(), *_groups(), *_webhooks(), *_hostiles()]


def select_scenarios(patterns: Sequence[str], *, quick: bool) -> list[Scenario]:
    """Return the scenarios whose name is, begins with, or matches one of `patterns`; all if there are none."""
    known = all_scenarios()
    if not patterns:
        return [one for one in known if one.is_quick or not quick]
    wanted: set[str] = set()
    for pattern in patterns:
        names = [one.name for one in known if one.name == pattern]
        names = names or [one.name for one in known if _matches(one.name, pattern)]
        if not names:
            every = ", ".join(one.name for one in known)
            raise MesimqttError(f"no scenario is called {pattern!r}; there are: {every}")
        wanted.update(names)
    return [one for one in known if one.name in wanted]


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern) or fnmatchcase(name, pattern)


def _relays() -> list[Scenario]:
    made = []
    for qos in (0, 1, 2):
        for pairs in (1, 50, 500):
            title = f"relay QoS {qos}, {pairs} pair{'s' if pairs > 1 else ''}, window 100"
            is_quick = pairs == 50
            made.append(_relay(f"relay-q{qos}-{pairs}", title, pairs, qos, 100, is_quick))
    for qos in (0, 1):
        shape = Shape(publishers=50, subscribers=50, qos=qos, is_mixed=True)
        title = f"relay QoS {qos}, 50 pairs, mixed sizes and topics"
        made.append(Scenario(name=f"mixed-q{qos}-50", title=title, measure=_shape(shape), is_quick=qos == 1))
    for qos in (0, 1):
        for pairs in (50, 500):
            title = f"relay QoS {qos}, {pairs} pairs, one at a time"
            made.append(_relay(f"single-q{qos}-{pairs}", title, pairs, qos, 1, pairs == 500))
    return made


def _fives() -> list[Scenario]:
    nats = Shape(publishers=50, subscribers=50, qos=0)
    made = [
        Scenario(
            name="nats-q0-50",
            title="relay QoS 0, 50 pairs, window 100, against nats-server",
            measure=_shape(nats),
            peer=NATS,
        ),
        Scenario(
            name="paced-q1-50",
            title="relay QoS 1, 50 pairs, 500 a second in all",
            measure=lambda target, periods: measure_paced(
                target.address, target.process, replace(periods, measure_s=4 * periods.measure_s)
            ),
            is_quick=True,
        ),
    ]
    for name, qos, properties, what in (
        ("five-q0-50", 0, NO_PROPERTIES, "MQTT 5.0 on both ends"),
        ("five-q1-50", 1, NO_PROPERTIES, "MQTT 5.0 on both ends"),
        ("property-q1-50", 1, USER_PROPERTY, "MQTT 5.0, one user property"),
    ):
        shape = Shape(publishers=50, subscribers=50, qos=qos)
        title = f"relay QoS {qos}, 50 pairs, window 100, {what}"
        made.append(Scenario(name=name, title=title, measure=_five(shape, properties), is_quick=qos == 1))
    return made


def _five(shape: Shape, properties: bytes) -> Measure:
    return lambda target, periods: measure_five(target, periods, shape, properties)


def _hostiles() -> list[Scenario]:
    return [
        Scenario(
            name=f"hostile-{kind}",
            title=title,
            measure=_hostile(kind),
            is_ours_only=True,
            environment=_FILTER_LIMITS if kind == "filters" else {},
        )
        for kind, title in _HOSTILE.items()
    ]


def _hostile(kind: str) -> Measure:
    return lambda target, periods: measure_hostile(target, periods, kind)


def _relay(name: str, title: str, pairs: int, qos: int, window: int, is_quick: bool) -> Scenario:
    shape = Shape(publishers=pairs, subscribers=pairs, qos=qos, window=window)
    return Scenario(name=name, title=title, measure=_shape(shape), is_quick=is_quick)


def _shape(shape: Shape) -> Measure:
    # What has tens of thousands of deliveries on the road turns round slowly: count it for longer.
    is_long = shape.window * max(shape.publishers, shape.subscribers) > LONG_ROAD
    times = (5 if shape.qos == 2 else 2) if is_long else 1

    def measure(target: Target, periods: Periods) -> Figures:
        longer = replace(periods, warm_up_s=times * periods.warm_up_s, measure_s=times * periods.measure_s)
        return measure_relay(target.address, target.process, shape, longer)

    return measure


def _fans() -> list[Scenario]:
    out = Shape(publishers=1, subscribers=1000, qos=0)
    made = [Scenario(name="fanout-1000", title="fan-out to 1 000, QoS 0", measure=_shape(out), is_quick=True)]
    for qos in (0, 1):
        shape = Shape(publishers=50, subscribers=1, qos=qos)
        title = f"fan-in from 50, QoS {qos}"
        made.append(Scenario(name=f"fanin-50-q{qos}", title=title, measure=_shape(shape), is_quick=qos == 1))
    title = "relay QoS 0, 50 pairs, 10 000 other filters"
    made.append(Scenario(name="filters-10000", title=title, measure=_with_filters, is_quick=True))
    return made


def _with_filters(target: Target, periods: Periods) -> Figures:
    """Measure the same connections in turn without and with the filters, so that nothing else differs."""
    shape = Shape(publishers=50, subscribers=50, qos=0)
    relay = Relay(target.address, shape)
    try:
        without = [relay.run(target.process, periods)]
        others = load_filters(target.address, relay.tag, connections=FILTER_CONNECTIONS, each=FILTERS_EACH)
        loaded = [relay.run(target.process, periods), relay.run(target.process, periods)]
        others.close()
        without.append(relay.run(target.process, periods))
    finally:
        relay.close()
    bare = sum(one.rate for one in without) / 2
    rate = sum(one.rate for one in loaded) / 2
    # Faults are counted from the first message on, so the last run has them all.
    last = without[-1]
    return replace(
        loaded[-1],
        rate=rate,
        lost=last.lost,
        duplicates=last.duplicates,
        broker_us=_mean([one.broker_us for one in loaded]),
        extra={
            "without them per s": bare,
            "slower by %": 100 * (1 - rate / bare) if bare else 0.0,
            "CPU µs without them": _mean([one.broker_us for one in without]) or 0.0,
        },
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _connections() -> list[Scenario]:
    return [
        Scenario(
            name="connect",
            title="connects, each with its own token",
            measure=_connect,
            unit="conn/s",
            is_quick=True,
            users=_CONNECTING,
        ),
        Scenario(
            name="reconnect",
            title="connects with tokens that were here before",
            measure=_reconnect,
            unit="conn/s",
            is_quick=True,
            users=_CONNECTING,
        ),
        Scenario(name="idle-5000", title="5 000 idle connections", measure=_idle, unit="KiB each", is_quick=True),
        Scenario(
            name="offline-20000",
            title="drain of 20 000 queued, QoS 1",
            measure=lambda target, periods: measure_offline(
                target.address, target.process, count=QUEUE, periods=periods
            ),
            environment=_QUEUE_LIMITS,
            is_quick=True,
        ),
    ]


def _connect(target: Target, _periods: Periods) -> Figures:
    return Storm(target.address, _connects(target)).run(target.process)


def _reconnect(target: Target, _periods: Periods) -> Figures:
    """Let the same clients in twice: the second time is measured."""
    packets = _connects(target)
    Storm(target.address, packets).run(target.process)
    return Storm(target.address, packets).run(target.process)


def _connects(target: Target) -> list[bytes]:
    if target.tokens:
        return [connect(name, user=name, password=target.tokens[name]) for name in _CONNECTING]
    return [connect(name) for name in _CONNECTING]


def _idle(target: Target, _periods: Periods) -> Figures:
    return measure_idle(target.address, target.process, count=IDLE)


def _messaging() -> list[Scenario]:
    made = [
        Scenario(
            name="inbox-20000",
            title="drain of an inbox of 20 000, QoS 1",
            measure=lambda target, periods: measure_inbox(
                target.address, target.process, target.tokens, count=QUEUE, periods=periods
            ),
            is_ours_only=True,
            is_quick=True,
            users=["alice", "bob"],
        )
    ]
    made += [
        Scenario(
            name=f"messaging-w{window}",
            title=f"messaging, {PAIRS} pairs, window {window}, to DELIVERED",
            measure=_windowed(window),
            is_ours_only=True,
            is_quick=window == 100,
            users=_PAIRS,
        )
        for window in (100, 20)
    ]
    made.append(
        Scenario(
            name="messaging-open",
            title="messaging, 500 a second, to DELIVERED",
            measure=lambda target, periods: measure_open(
                target.address, target.process, target.tokens, replace(periods, measure_s=4 * periods.measure_s)
            ),
            is_ours_only=True,
            is_quick=True,
            users=_PAIRS,
        )
    )
    return made


def _groups() -> list[Scenario]:
    return [
        Scenario(
            name="group",
            title=f"a group of {MEMBERS:_} with {len(ONLINE)} online, PUBACK to last delivery".replace("_", " "),
            measure=measure_group,
            is_ours_only=True,
            users=ONLINE,
        )
    ]


def _webhooks() -> list[Scenario]:
    told = {
        "webhooks": ("message.accepted",),
        "webhooks-each-step": ("message.accepted", "message.delivered"),
    }
    return [
        Scenario(
            name=name,
            title=f"messaging, {PAIRS} pairs, window 100, a webhook told {len(events)} events a message",
            measure=_told(events),
            is_ours_only=True,
            environment=ENVIRONMENT,
            users=_PAIRS,
        )
        for name, events in told.items()
    ]


def _told(events: Sequence[str]) -> Measure:
    return lambda target, periods: measure_webhooks(
        target, replace(periods, measure_s=2 * periods.measure_s), events=events, window=100
    )


def _windowed(window: int) -> Measure:
    return lambda target, periods: measure_messaging(
        target.address,
        target.process,
        target.tokens,
        replace(periods, measure_s=2 * periods.measure_s),
        window=window,
    )
