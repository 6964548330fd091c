"""The table, the JSON, the targets and the faults."""

from __future__ import annotations

import json

from mesimqtt.bench.figures import Figures
from mesimqtt.bench.report import Report, as_json, as_text, generator_bound
from mesimqtt.bench.targets import Row, check, messaging_ratio


def row(name: str, ours: Figures | None, peer: Figures | None = None, unit: str = "msg/s") -> Row:
    return Row(name, f"title of {name}", unit, ours, peer)


def report(*rows: Row, failures: tuple[str, ...] = ()) -> Report:
    return Report(
        facts={"processor": "one"},
        limits={"windowed, QoS 0": Figures(rate=4_000_000.0)},
        rows={one.name: one for one in rows},
        peer="mosquitto",
        rounds=3,
        failures=failures,
    )


def test_the_table_has_both_sides() -> None:
    """A line of the table shows both rates, their ratio, CPU, latency and memory."""
    ours = Figures(rate=300_000.0, broker_us=3.21, p50_ms=1.0, p99_ms=2.5, memory_kb=51_200)
    peer = Figures(rate=100_000.0, broker_us=10.0, p50_ms=3.0, p99_ms=4.0, memory_kb=8_192)
    text = as_text(report(row("relay-q0-50", ours, peer)), is_checked=False)
    line = next(line for line in text.splitlines() if line.startswith("title of relay-q0-50"))

    expected = ["msg/s", "300,000", "100,000", "3.00", "3.2", "10.0", "1.00/2.50", "3.00/4.00", "50.0", "8.0"]
    assert expected == line.split()[3:]
    assert "windowed, QoS 0 4,000,000 msg/s" in text
    assert "processor: one" in text
    assert "exactly once" in text


def test_a_lost_message_is_said_plainly() -> None:
    """A lost or doubled message and a measurement that failed are faults."""
    found = report(row("relay-q1-1", Figures(rate=1.0, lost=3)), failures=("connect on ours: refused",))

    assert [
        "connect on ours: refused",
        "relay-q1-1 on ours: 3 lost, 0 twice, 0 connections closed by the server",
    ] == found.faults
    assert "FAULT  relay-q1-1 on ours: 3 lost" in as_text(found, is_checked=False)
    assert "exactly once" not in as_text(found, is_checked=False)


def test_json_has_the_same_figures() -> None:
    """`--json` prints one object with facts, limits, scenarios, targets and faults."""
    found = json.loads(as_json(report(row("connect", Figures(rate=5_000.0), Figures(rate=10_000.0), "conn/s"))))

    assert 0.5 == found["scenarios"][0]["ratio"]
    assert 5_000.0 == found["scenarios"][0]["ours"]["rate"]
    assert 4_000_000.0 == found["generator_limits"]["windowed, QoS 0"]["rate"]
    assert [True] == [verdict["is_reached"] for verdict in found["check"]]
    assert [] == found["faults"]


def test_targets_are_passed_or_missed() -> None:
    """Each target that was measured yields a line; a slow server misses, and the reader sees by how much."""
    rows = {
        "relay-q0-50": row("relay-q0-50", Figures(rate=500.0), Figures(rate=100.0)),
        "relay-q1-50": row("relay-q1-50", Figures(rate=100.0), Figures(rate=60_000.0)),
        "messaging-w100": row("messaging-w100", Figures(rate=24_000.0)),
        "messaging-open": row("messaging-open", Figures(rate=500.0, p99_ms=15.5)),
        "idle-5000": row("idle-5000", Figures(rate=3.5), Figures(rate=2.0), "KiB each"),
        "filters-10000": row("filters-10000", Figures(rate=95.0, extra={"slower by %": 5.0})),
    }

    assert [
        "PASS  relay-q0-50: wanted at least 5x the peer, found 5.00x",
        "MISS  relay-q1-50: wanted at least 5x the peer, found 0.00x",
        "PASS  messaging-w100: wanted at least 20,000 msg/s, found 24,000",
        "MISS  messaging-w100: wanted at least 0.5x the peer's plain QoS 1 relay, found 0.40x",
        "MISS  messaging-open: wanted p99 under 15 ms, found 15.50 ms",
        "PASS  idle-5000: wanted at most 4 KiB each, found 3.50 KiB",
        "PASS  filters-10000: wanted at most 5 % slower than without, found 5.0 %",
    ] == [str(verdict) for verdict in check(rows)]
    assert 0.4 == messaging_ratio(rows)


def test_connects_are_held_by_rate_and_by_cpu() -> None:
    """A generator that is slower than both brokers does not make the ratio look better than it is."""
    rows = {
        "connect": row("connect", Figures(rate=9.0, broker_us=100.0), Figures(rate=10.0, broker_us=40.0), "conn/s"),
        "reconnect": row("reconnect", Figures(rate=6.0, broker_us=50.0), Figures(rate=10.0, broker_us=40.0), "conn/s"),
    }

    assert [
        "MISS  connect: wanted at least 0.5x the peer's anonymous ones, by rate and by CPU, found 0.40x",
        "PASS  reconnect: wanted at least 0.5x the peer's anonymous ones, by rate and by CPU, found 0.60x",
    ] == [str(verdict) for verdict in check(rows)]


def test_latency_and_attacks_have_targets() -> None:
    """The steady rate is held against the peer's p99, an attack against the idle server and its memory."""
    attack = Figures(rate=500.0, extra={"times idle": 1.9, "RSS growth MiB": 65.0})
    rows = {
        "paced-q1-50": row("paced-q1-50", Figures(rate=500.0, p99_ms=2.0), Figures(rate=500.0, p99_ms=3.0)),
        "five-q1-50": row("five-q1-50", Figures(rate=95.0, extra={"slower by %": 12.0})),
        "hostile-mute": row("hostile-mute", attack),
    }

    assert [
        "MISS  five-q1-50: wanted at most 10 % slower than on 3.1.1, found 12.0 %",
        "PASS  paced-q1-50: wanted p99 at most the peer's 3.00 ms, found 2.00 ms",
        "PASS  hostile-mute: wanted p99 at most 2x idle, found 1.90x",
        "MISS  hostile-mute: wanted RSS growth at most 64 MiB, found 65.0 MiB",
    ] == [str(verdict) for verdict in check(rows)]


def test_a_busy_generator_is_told() -> None:
    """A figure is called the generator's if it had nothing left while the broker had."""
    assert generator_bound(Figures(rate=100_000.0, broker_us=5.0, generator_share=0.99))
    assert not generator_bound(Figures(rate=100_000.0, broker_us=9.9, generator_share=0.99))
    assert not generator_bound(Figures(rate=100_000.0, broker_us=5.0, generator_share=0.7))
