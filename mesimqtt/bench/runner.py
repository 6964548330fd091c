"""One whole run: choose, start in turn, measure in alternating rounds, report."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from mesimqtt.bench.figures import QUICK, Figures, Periods, median_of
from mesimqtt.bench.limit import measure_limits
from mesimqtt.bench.machine import (
    MEMORY_FILE_SYSTEMS,
    Cores,
    choose_cores,
    file_system,
    machine_facts,
    pinned,
    raise_file_limit,
)
from mesimqtt.bench.report import Report, as_json, as_text
from mesimqtt.bench.scenarios import REFERENCE, Scenario, select_scenarios
from mesimqtt.bench.servers import (
    Foreign,
    Mosquitto,
    Nats,
    Ours,
    Server,
    find_mosquitto,
    find_nats,
    mosquitto_facts,
    mosquitto_version,
    parse_address,
    provision,
)
from mesimqtt.bench.targets import Row
from mesimqtt.broker.compiled import is_compiled
from mesimqtt.configuration import load_settings
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.domain.rates import parse_windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mesimqtt.settings import Settings

FILES_WANTED = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What `mesimqtt bench` was asked for.

    `folder` is where the data of the measured server lies meanwhile (the system's temporary folder if None);
    `periods` overrides how long each measurement takes.
    """

    against: str | None = None
    scenarios: Sequence[str] = ()
    rounds: int = 3
    json: bool = False
    quick: bool = False
    tmpfs: bool = False
    check: bool = False
    folder: Path | None = None
    periods: Periods | None = None


def run(options: BenchOptions) -> int:
    """Measure and print; return 1 if a message was lost or doubled or a measurement failed, else 0.

    Raises:
        MesimqttError: the run cannot begin; the text says why.

    """
    scenarios = select_scenarios(options.scenarios, quick=options.quick)
    with tempfile.TemporaryDirectory(prefix="mesimqtt-bench-", dir=options.folder) as name:
        folder = Path(name)
        disk = check_file_system(folder, is_tmpfs_allowed=options.tmpfs)
        raise_file_limit(FILES_WANTED)
        cores = choose_cores()
        peer, peer_facts = _peer(options.against, folder, cores)
        facts = {
            **machine_facts(),
            "cores": f"broker {cores.broker}, generator {cores.generator}" if cores.are_apart else "one for both",
            "data folder": disk,
            "compiled": "yes" if is_compiled() else "no",
            "limits of ours": limits_in_force(load_settings(None)),
            peer.name: peer_facts,
        }
        began = perf_counter()
        with pinned(cores.generator), _ended_in_order():
            report = _measure_all(options, scenarios, folder, cores, peer, facts)
        facts["time taken"] = f"{perf_counter() - began:.0f} s"
    print(as_json(report) if options.json else as_text(report, is_checked=options.check))
    return 1 if report.faults else 0


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let SIGTERM unwind, so that no server outlives the run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_file_system(folder: Path, *, is_tmpfs_allowed: bool, mounts: str | None = None) -> str:
    """Return the file system of the data folder; refuse memory, where a commit costs nothing and keeps nothing."""
    kind, point = file_system(folder, mounts)
    if kind in MEMORY_FILE_SYSTEMS and not is_tmpfs_allowed:
        raise MesimqttError(
            f"{folder} lies on {kind}, where a commit costs nothing: choose a folder on a disk with --data, "
            "or accept figures that say nothing about durability with --tmpfs"
        )
    return f"{kind}, mounted on {point}"


def limits_in_force(settings: Settings) -> str:
    """Return the limits that bear on the figures, in one line."""
    limits, messaging = settings.limits, settings.messaging
    rates = parse_windows(settings.rates.messages)
    return ", ".join(
        (
            f"rate {' and '.join(map(str, rates))} per user" if rates else "rate off",
            f"connections per address {limits.connections_per_address or 'off'}",
            f"in flight {limits.inflight_max}",
            f"QoS 2 on the way in {limits.qos2_incoming_max}",
            f"queue {limits.queue_messages_max} messages (raised for offline-20000)",
            f"filters {limits.filters_max} per session",
            f"inbox {messaging.inbox_messages_max} messages",
        )
    )


def _peer(against: str | None, folder: Path, cores: Cores) -> tuple[Server, str]:
    if against is not None:
        return Foreign(parse_address(against), against), "started by somebody else, its CPU and memory not known"
    program = find_mosquitto()
    return Mosquitto(folder, cores.broker, program), f"{mosquitto_version(program)}, {mosquitto_facts()}"


def _nats(folder: Path, cores: Cores, facts: dict[str, str]) -> Server | None:
    program = find_nats()
    if program is None:
        facts["nats-server"] = "not installed: its row has our figures only; `apt install nats-server`"
        return None
    facts["nats-server"] = f"{program}, its MQTT gateway with JetStream, anonymous"
    return Nats(folder, cores.broker, program)


def _measure_all(
    options: BenchOptions, scenarios: list[Scenario], folder: Path, cores: Cores, peer: Server, facts: dict[str, str]
) -> Report:
    periods = options.periods or (QUICK if options.quick else Periods())
    rounds = 1 if options.quick else options.rounds
    _say("preparing users and tokens, and measuring the generator's own limit")
    template = folder / "template"
    tokens = provision(template, sorted({user for one in scenarios for user in one.users}))
    limits = measure_limits(cores, periods, [one.name for one in scenarios])
    ours = Ours(folder, cores.broker, template, tokens)
    rows: dict[str, Row] = {}
    failures: list[str] = []
    for scenario in scenarios:
        other = _nats(folder, cores, facts) if scenario.peer else peer
        sides: list[Server] = [ours] if scenario.is_ours_only or other is None else [ours, other]
        rows[scenario.name] = measure(scenario, sides, rounds, periods, failures)
    if any(one.name.startswith("messaging-w") for one in scenarios) and REFERENCE not in rows:
        (reference,) = select_scenarios([REFERENCE], quick=False)
        rows[REFERENCE] = measure(reference, [peer], rounds, periods, failures)
    return Report(facts=facts, limits=limits, rows=rows, peer=peer.name, rounds=rounds, failures=failures)


def measure(scenario: Scenario, sides: Sequence[Server], rounds: int, periods: Periods, failures: list[str]) -> Row:
    """Measure in alternating rounds, each on a server that has just been started."""
    found: dict[str, list[Figures]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            try:
                with side.started(scenario.environment) as target:
                    figures = scenario.measure(target, periods)
            except (MesimqttError, OSError) as error:
                failures.append(f"{scenario.name} on {side.name}, round {number + 1}: {error}")
                _say(failures[-1])
                continue
            found[side.name].append(figures)
            _say(f"{scenario.name} round {number + 1}: {side.name} {figures.rate:,.1f} {scenario.unit}")
    medians = {name: median_of(figures) for name, figures in found.items() if figures}
    ours = [side.name for side in sides if isinstance(side, Ours)]
    others = [side.name for side in sides if not isinstance(side, Ours)]
    return Row(
        scenario.name,
        scenario.title,
        scenario.unit,
        medians.get(ours[0]) if ours else None,
        medians.get(others[0]) if others else None,
    )


def _say(text: str) -> None:
    """Tell on stderr what is going on; stdout is for the result."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
