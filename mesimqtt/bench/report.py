"""The result as a table for a person and as JSON for a program."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mesimqtt.bench.targets import Row, check, messaging_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mesimqtt.bench.figures import Figures

_BUSY = 0.95
_BROKER_BUSY = 0.9
_FOREIGN = 0.1
_HEADINGS = (
    "scenario", "unit", "ours", "peer", "ratio", "CPU µs", "peer", "p50/p99 ms", "peer", "RSS MiB", "peer",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a run found. `failures` are measurements that could not be made."""

    facts: Mapping[str, str]
    limits: Mapping[str, Figures]
    rows: Mapping[str, Row]
    peer: str
    rounds: int
    failures: Sequence[str]

    @property
    def faults(self) -> list[str]:
        """Say of each message that was lost or doubled, and of each measurement that failed."""
        found = list(self.failures)
        for row in self.rows.values():
            for name, figures in (("ours", row.ours), (self.peer, row.peer)):
                if figures is not None and not figures.is_whole:
                    found.append(
                        f"{row.name} on {name}: {figures.lost} lost, {figures.duplicates} twice, "
                        f"{figures.disconnects} connections closed by the server"
                    )
        return found


def as_text(report: Report, *, is_checked: bool) -> str:
    """Return the whole report."""
    lines = [f"{key}: {value}" for key, value in report.facts.items()]
    lines += ["", *_limit_lines(report), "", *_table(report), "", *_notes(report)]
    if is_checked:
        lines += ["", *(str(verdict) for verdict in check(report.rows))]
    faults = report.faults
    lines += ["", *(f"FAULT  {fault}" for fault in faults)]
    if not faults:
        lines.append("Every message arrived exactly once, on both brokers.")
    return "\n".join(lines)


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return json.dumps(
        {
            "facts": dict(report.facts),
            "rounds": report.rounds,
            "peer": report.peer,
            "generator_limits": {name: asdict(figures) for name, figures in report.limits.items()},
            "messaging_ratio": messaging_ratio(report.rows),
            "scenarios": [
                {
                    "name": row.name,
                    "unit": row.unit,
                    "ours": asdict(row.ours) if row.ours else None,
                    "peer": asdict(row.peer) if row.peer else None,
                    "ratio": row.ratio,
                }
                for row in report.rows.values()
            ],
            "check": [asdict(verdict) for verdict in check(report.rows)],
            "faults": report.faults,
        },
        ensure_ascii=False,
        indent=2,
    )


def generator_bound(figures: Figures) -> bool:
    """Tell whether the generator had nothing left while the broker had."""
    if figures.generator_share < _BUSY:
        return False
    return figures.broker_us is None or figures.broker_us * figures.rate / 1e6 < _BROKER_BUSY


def _limit_lines(report: Report) -> list[str]:
    found = ", ".join(f"{name} {figures.rate:,.0f} msg/s" for name, figures in report.limits.items())
    lines = [f"generator limit (against a process that only moves bytes): {found}"] if found else []
    for row in report.rows.values():
        for name, figures in (("ours", row.ours), (report.peer, row.peer)):
            if figures is not None and row.unit == "msg/s" and generator_bound(figures):
                lines.append(f"  the generator, not the broker, was the limit of {row.name} on {name}: read 'at least'")
    return lines


def _table(report: Report) -> list[str]:
    rows = [tuple(heading if heading != "peer" else report.peer for heading in _HEADINGS)]
    rows += [_cells(row) for row in report.rows.values()]
    widths = [max(len(cells[place]) for cells in rows) for place in range(len(_HEADINGS))]
    lines = []
    for cells in rows:
        left = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
        lines.append("  ".join([*left, *right]).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return lines


def _cells(row: Row) -> tuple[str, ...]:
    ours, peer = row.ours, row.peer
    ratio = f"{row.ratio:.2f}" if row.ratio is not None else "-"
    return (
        row.title,
        row.unit,
        _rate(ours),
        _rate(peer),
        ratio,
        _number(ours.broker_us if ours else None, 1),
        _number(peer.broker_us if peer else None, 1),
        _latency(ours),
        _latency(peer),
        _memory(ours),
        _memory(peer),
    )


def _rate(figures: Figures | None) -> str:
    if figures is None:
        return "-"
    return f"{figures.rate:,.0f}" if figures.rate >= 100 else f"{figures.rate:.2f}"


def _number(value: float | None, places: int) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def _latency(figures: Figures | None) -> str:
    if figures is None or figures.p50_ms is None or figures.p99_ms is None:
        return "-"
    return f"{figures.p50_ms:.2f}/{figures.p99_ms:.2f}"


def _memory(figures: Figures | None) -> str:
    return "-" if figures is None or figures.memory_kb is None else f"{figures.memory_kb / 1024:.1f}"


def _notes(report: Report) -> list[str]:
    notes = [
        f"Medians of {report.rounds}, rounds alternating, each server freshly started; 256-byte payloads;",
        "a message takes a slot of its window until it is acknowledged and delivered.",
        "p50/p99: each burst (one write of the generator) counts, for all its messages, until its last one was read;",
        "fan-out: by the last subscriber; messaging: PUBLISH to DELIVERED, each message by itself.",
        "CPU µs: the broker's, all threads, per message delivered (or per connection).",
    ]
    ratio = messaging_ratio(report.rows)
    if ratio is not None:
        notes.append(f"messaging, window 100: {ratio:.2f}x {report.peer}'s plain QoS 1 relay, which stores nothing.")
    foreign = [
        figures.foreign_cores
        for row in report.rows.values()
        for figures in (row.ours, row.peer)
        if figures is not None and figures.foreign_cores is not None
    ]
    if foreign and max(foreign) > _FOREIGN:
        notes.append(f"Other processes took up to {max(foreign):.1f} cores meanwhile: the machine was not quiet.")
    for row in report.rows.values():
        for name, figures in (("ours", row.ours), (report.peer, row.peer)):
            if figures is not None and figures.extra:
                shown = ", ".join(f"{key} {value:,.1f}".removesuffix(".0") for key, value in figures.extra.items())
                notes.append(f"{row.name} on {name}: {shown}")
            if figures is not None and (figures.misordered or figures.strange):
                notes.append(f"{row.name} on {name}: {figures.misordered} out of order, {figures.strange} unexpected")
    return notes
