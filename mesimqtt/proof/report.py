"""What a self-test found, as Markdown for people and JSON for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.promises import PROMISES, UNTRIED
from mesimqtt.proof.trial import FAILURES_KEPT_MAX, Failure, Outcome, merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
        """`held`, `BROKEN`, `interrupted`, `skipped` or `not tried`."""
        if self.outcome.failed:
            return "BROKEN"
        if self.outcome.interrupted:
            return "interrupted"
        if self.outcome.tried:
            return "held"
        return "skipped" if self.outcome.skipped else "not tried"

    @property
    def has_shown(self) -> bool:
        """Whether it says anything of its promises: it tried them, or broke before it could."""
        return bool(self.outcome.tried or self.outcome.failed)


@dataclass(slots=True)
class Report:
    """One self-test: where and when it ran, and what came of each trial."""

    facts: Mapping[str, str]
    results: list[Result] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many tries failed: a promise was broken, or the trial itself."""
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
                    "largest": sorted(each.outcome.largest),
                    "skipped": each.outcome.skipped,
                    "interrupted": each.outcome.interrupted,
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
        tried = sum(each.has_shown for each in self.results)
        yield (
            f"{tried} trials, {sum(each.seconds for each in self.results) / 60:.0f} minutes: "
            + (
                f"**{self.failed} {'try' if self.failed == 1 else 'tries'} failed** in "
                f"{', '.join(each.name for each in broken)}."
                if broken
                else "**no promise was broken.**"
                if tried
                else "**nothing was tried.**"
            )
            + self._but()
        )
        yield ""

    def _but(self) -> str:
        skipped = [each.name for each in self.results if each.outcome.skipped]
        said = f" Skipped, with the reason below: {', '.join(skipped)}." if skipped else ""
        return said + (
            " It was interrupted: of the trial that ran, what was over counts." if "interrupted" in self.facts else ""
        )

    def _promises(self) -> Iterator[str]:
        yield "| promise | tried by | |"
        yield "|---|---|---|"
        for number, promise in PROMISES.items():
            by = [each for each in self.results if number in each.promises and each.has_shown]
            said = ", ".join(f"{_count(each.outcome.tried)} {each.unit}" for each in by)
            broken = any(each.outcome.failed for each in by)
            held = "interrupted" if any(each.outcome.interrupted for each in by) else "held"
            verdict = "BROKEN" if broken else held if by else f"not tried{_because(number)}"
            yield f"| {number} {promise} | {said or '-'} | {verdict} |"
        yield ""

    def _trials(self) -> Iterator[str]:
        yield "| trial | tried | seeds | failed | took | counted and measured |"
        yield "|---|---|---|---|---|---|"
        for each in self.results:
            out = each.outcome
            figures = [f"{name} {_count(value)}" for name, value in out.figures.items()]
            figures += [f"skipped: {out.skipped}"] if out.skipped else [] if each.has_shown else ["not tried"]
            figures += ["**interrupted**"] if out.interrupted else []
            took = f"{each.seconds:.0f} s"
            yield (
                f"| **{each.name}**: {each.title} | {_count(out.tried)} {each.unit} | {out.seeds} | {out.failed} "
                f"| {took} | {', '.join(figures)} |"
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
            each["tried"], each["seeds"], failures, each["failed"], dict(each["figures"]), each["skipped"],
            frozenset(each.get("largest", ())), each.get("interrupted", False),
        )  # fmt: skip
        yield Result(each["name"], each["title"], tuple(each["promises"]), each["unit"], outcome, each["seconds"])


def together(outcomes: Iterable[Outcome]) -> Outcome:
    """Return several rounds of one trial as one outcome."""
    found = list(outcomes)
    largest = frozenset(name for outcome in found for name in outcome.largest)
    failures = [failure for outcome in found for failure in outcome.failures]
    return Outcome(
        tried=sum(outcome.tried for outcome in found),
        seeds=", ".join(outcome.seeds for outcome in found if outcome.seeds),
        failures=tuple(failures[:FAILURES_KEPT_MAX]),
        failed=sum(outcome.failed for outcome in found),
        figures=merged((outcome.figures for outcome in found), largest),
        skipped=next((outcome.skipped for outcome in found if outcome.skipped), ""),
        largest=largest,
        interrupted=any(outcome.interrupted for outcome in found),
    )


def _because(number: str) -> str:
    return f": {UNTRIED[number]}" if number in UNTRIED else ""


def _count(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value == int(value) else f"{value:.3g}"
