"""What a self-test found, as Markdown for people and JSON for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.promises import PROMISES, UNTRIED
from mesimqtt.proof.trial import FAILURES_KEPT_MAX, Failure, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# A figure whose name ends so is a measurement, of which the worst counts; any other is a count, which adds up.
_MEASURED = ("_s", "_ms", "_us", "_mb", "_mib", "_kb", "_max", "_ratio", "_percent")
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Result:
    """All that was tried by one trial."""

    name: str
    title: str
    promises: tuple[str, ...]
    unit: str
    outcome: Outcome
    seconds: float

    @property
    def verdict(self) -> str:
        """`held`, `BROKEN` or `skipped`."""
        if self.outcome.failed:
            return "BROKEN"
        return "skipped" if self.outcome.skipped and not self.outcome.tried else "held"


@dataclass(slots=True)
class Report:
    """One self-test: where and when it ran, and what came of each trial."""

    facts: Mapping[str, str]
    results: list[Result] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many tries broke a promise."""
        return sum(result.outcome.failed for result in self.results)

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs; `Report.read` reads the results back."""
        return {
            "format": FORMAT,
            "facts": dict(self.facts),
            "failed": self.failed,
            "trials": [
                {
                    "name": each.name,
                    "title": each.title,
                    "promises": list(each.promises),
                    "verdict": each.verdict.lower(),
                    "tried": each.outcome.tried,
                    "unit": each.unit,
                    "seeds": each.outcome.seeds,
                    "failed": each.outcome.failed,
                    "failures": [{"what": one.what, "repeat": one.repeat} for one in each.outcome.failures],
                    "figures": dict(each.outcome.figures),
                    "skipped": each.outcome.skipped,
                    "seconds": round(each.seconds, 1),
                }
                for each in self.results
            ],
        }

    def markdown(self) -> str:
        """Return the report for people."""
        return "\n".join([*self._head(), *self._promises(), *self._trials(), *self._failures(), *self._facts()])

    def _head(self) -> Iterator[str]:
        broken = [each for each in self.results if each.outcome.failed]
        tried = [each for each in self.results if each.outcome.tried]
        yield f"{len(tried)} trials, {sum(each.seconds for each in self.results) / 60:.0f} minutes: " + (
            f"**{self.failed} broken promises** in {', '.join(each.name for each in broken)}."
            if broken
            else "**no promise was broken.**"
        )
        yield ""

    def _promises(self) -> Iterator[str]:
        yield "| promise | tried by | |"
        yield "|---|---|---|"
        for number, promise in PROMISES.items():
            by = [each for each in self.results if number in each.promises and each.outcome.tried]
            said = ", ".join(f"{_count(each.outcome.tried)} {each.unit}" for each in by)
            broken = any(each.outcome.failed for each in by)
            verdict = "BROKEN" if broken else "held" if by else f"not tried{_because(number)}"
            yield f"| {number} {promise} | {said or '-'} | {verdict} |"
        yield ""

    def _trials(self) -> Iterator[str]:
        yield "| trial | tried | seeds | failed | took | counted and measured |"
        yield "|---|---|---|---|---|---|"
        for each in self.results:
            out = each.outcome
            figures = ", ".join(f"{name} {_count(value)}" for name, value in out.figures.items())
            took = f"{each.seconds:.0f} s"
            yield (
                f"| **{each.name}**: {each.title} | {_count(out.tried)} {each.unit} | {out.seeds} | {out.failed} "
                f"| {took} | {f'skipped: {out.skipped}' if out.skipped else figures} |"
            )
        yield ""

    def _failures(self) -> Iterator[str]:
        for each in self.results:
            for failure in each.outcome.failures:
                yield f"- **{each.name}**: {failure.what}"
                yield f"  again: `{failure.repeat}`"
        if self.failed:
            yield ""

    def _facts(self) -> Iterator[str]:
        for name, value in self.facts.items():
            yield f"- {name}: {value}"
        yield ""


def read(document: Mapping[str, Any]) -> Iterator[Result]:
    """Yield the results of a report written as JSON. Raises KeyError, TypeError or ValueError if it is none."""
    if document["format"] != FORMAT:
        raise ValueError(f"a report of format {document['format']}, not {FORMAT}")
    for each in document["trials"]:
        failures = tuple(Failure(one["what"], one["repeat"]) for one in each["failures"])
        outcome = Outcome(
            each["tried"], each["seeds"], failures, each["failed"], dict(each["figures"]), each["skipped"]
        )  # fmt: skip
        yield Result(each["name"], each["title"], tuple(each["promises"]), each["unit"], outcome, each["seconds"])


def together(outcomes: Iterable[Outcome]) -> Outcome:
    """Return several rounds of one trial as one outcome."""
    found = list(outcomes)
    figures: dict[str, float] = {}
    for outcome in found:
        for name, value in outcome.figures.items():
            before = figures.get(name, 0)
            figures[name] = max(before, value) if name.endswith(_MEASURED) else before + value
    failures = [failure for outcome in found for failure in outcome.failures]
    return Outcome(
        tried=sum(outcome.tried for outcome in found),
        seeds=", ".join(outcome.seeds for outcome in found if outcome.seeds),
        failures=tuple(failures[:FAILURES_KEPT_MAX]),
        failed=sum(outcome.failed for outcome in found),
        figures=figures,
        skipped=next((outcome.skipped for outcome in found if outcome.skipped), ""),
    )


def _because(number: str) -> str:
    return f": {UNTRIED[number]}" if number in UNTRIED else ""


def _count(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value == int(value) else f"{value:.3g}"
