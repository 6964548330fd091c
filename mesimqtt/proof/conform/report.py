"""What came of a run: a table and its failures for a person, one JSON object for a program."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.conform.runner import Result, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECTIONS = {
    "1": "Addresses and devices", "2": "Folders, topics, parameters", "3": "Devices, offline, history", "4": "Status",
    "5": "Tokens", "6": "Free topics",
}  # fmt: skip
SHOWN = (State.KEPT, State.BROKEN, State.DIFFERS, State.UNCHECKED, State.UNREACHED)
CHECKED = frozenset({State.KEPT, State.BROKEN, State.DIFFERS})
LOG_SHOWN = 16  # lines, of those of one failure
LINE_SHOWN = 200


def exit_code(results: Sequence[Result]) -> int:
    """Return 0 if what was checked is kept, 1 if something is broken, 2 if anything was not reached or all left out."""
    states = {each.state for each in results}
    if State.BROKEN in states:
        return 1
    return 2 if State.UNREACHED in states or not states & CHECKED else 0


def rows(results: Sequence[Result]) -> list[list[object]]:
    """Return the table: a row for each section, and one for all."""
    found = []
    for number, title in SECTIONS.items():
        count = Counter(each.state for each in results if each.statement.section == number)
        if count:
            found.append([f"{number} {title}", *(count[state] for state in SHOWN)])
    total = Counter(each.state for each in results)
    return [*found, ["all", *(total[state] for state in SHOWN)]]


def failures(results: Sequence[Result]) -> Iterator[str]:
    """Give the lines about everything that is broken or differs."""
    for each in results:
        if each.state not in {State.BROKEN, State.DIFFERS}:
            continue
        yield ""
        yield f"{each.statement.number} {each.state}: {each.statement.words}"
        yield f"  how it is checked: {each.how}"
        yield f"  expected: {each.expected}"
        yield f"  came:     {each.came}"
        lines = each.log[-LOG_SHOWN:]
        if lines:
            yield "  said (>) and heard (<):" + (f" (the last {LOG_SHOWN})" if len(each.log) > LOG_SHOWN else "")
            yield from (f"    {line[:LINE_SHOWN]}{'…' * (len(line) > LINE_SHOWN)}" for line in lines)


def unchecked(results: Sequence[Result]) -> Iterator[str]:
    """Give the lines about what was not checked, by reason."""
    reasons: dict[str, list[str]] = {}
    for each in results:
        if each.state in {State.UNCHECKED, State.UNREACHED}:
            reasons.setdefault(each.why, []).append(each.statement.number)
    for reason, numbers in reasons.items():
        yield f"{', '.join(numbers)}: {reason}"


def verdict(results: Sequence[Result]) -> str:
    """Return the last line."""
    count = Counter(each.state for each in results)
    checked = sum(count[state] for state in CHECKED)
    parts = [
        f"{count[State.KEPT]} of {checked} statements that were checked are kept" if checked else "nothing was checked"
    ]
    for state in (State.BROKEN, State.UNREACHED):
        numbers = [each.statement.number for each in results if each.state is state]
        parts += [f"{state}: {', '.join(numbers)}"] if numbers else []
    return "; ".join(parts)


def document(server: str, results: Sequence[Result]) -> dict[str, Any]:
    """Return all of it, for a program."""
    count = Counter(each.state for each in results)
    return {
        "server": server,
        "conforms": not exit_code(results),
        "counts": {str(state): count[state] for state in State},
        "statements": [
            {
                "number": each.statement.number,
                "level": str(each.statement.level),
                "words": each.statement.words,
                "state": str(each.state),
                "how": each.how,
                "why": each.why,
                "expected": each.expected,
                "came": each.came,
                "log": list(each.log),
            }
            for each in results
        ],
    }
