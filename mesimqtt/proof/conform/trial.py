"""The trial `conformance`: the kit against our own server, a real process; drawn from a seed if not all is wanted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from mesimqtt.proof.conform.own import own_server
from mesimqtt.proof.conform.report import CHECKED
from mesimqtt.proof.conform.runner import State, run
from mesimqtt.proof.conform.stage import Options
from mesimqtt.proof.conform.table import checks, statements
from mesimqtt.proof.trial import FAILURES_KEPT_MAX, Failure, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mesimqtt.proof.conform.runner import Result

WAIT_S = 30.0  # for what must come: this machine may be busy with other trials
SLOW_S = 120.0  # with everything else where more is asked for than there is


class Conformance:
    """Tries `count` statements of the contract; if that is more than there are, all, and those that take minutes."""

    name = "conformance"
    title = "the contract, statement by statement, held against a real server from outside"
    promises = ("N14", "P4", "P5", "P6", "P7", "P18", "N2")
    unit = "statements"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Try `count` statements."""
        numbers = list(checks())
        is_all = count >= len(numbers)
        chosen = () if is_all else tuple(sorted(Random(seed).sample(numbers, count)))
        options = Options(only=chosen, wait_s=WAIT_S)
        if count > len(numbers):
            options = replace(options, longest_s=SLOW_S)
        results = asyncio.run(_run(options, folder, progress))
        wrong = wrongs(results, options)
        tried = [each for each in results if each.state in CHECKED or each in wrong]
        figures = {"statements": float(len(statements())), "checks": float(len(numbers))}
        failures = tuple(map(_failure, wrong[:FAILURES_KEPT_MAX]))
        seeds = "all" if is_all else str(seed)
        return Outcome(len(tried), seeds, failures, len(wrong), figures, largest=frozenset(figures))


def wrongs(results: Sequence[Result], options: Options) -> list[Result]:
    """Return what of a run against our own server is a failure: what is broken, and what could not be looked at.

    Our own lacks nothing that a check needs: it may leave out only what takes longer than the run was to last.
    """

    def is_wrong(one: Result) -> bool:
        check = checks().get(one.statement.number)
        has_time = check is not None and check.lasts_s <= options.longest_s
        return one.state in {State.BROKEN, State.UNREACHED} or (one.state is State.UNCHECKED and has_time)

    return list(filter(is_wrong, results))


async def _run(options: Options, folder: Path, progress: Callable[[int], None]) -> list[Result]:
    async with own_server(options, folder) as venue:
        return await run(venue, lambda done, _: progress(done))


def _failure(result: Result) -> Failure:
    number = result.statement.number
    what = f"{number} {result.statement.words}: expected {result.expected}; came {result.came}"
    if result.state is not State.BROKEN:
        what = f"{number} {result.statement.words}: {result.state}: {result.why}"
    return Failure(what, f"mesimqtt conform --slow --only {number}")
