"""Plant every bug of `bugs/` in a copy of the tree, one by one, and see whether the suite notices: `make mutants`.

First an untouched copy passes all the tests that are named. Then each bug is planted, and the tests that it names must
all fail. Where none does, the wider suite is asked; a bug that it does not notice either has survived.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from mesimqtt.proof.selftest import origin
from mutants.catalogue import BugError, missing_tests, read_all
from mutants.copies import HOME, Copy, CopyError, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mutants.catalogue import Bug

BUGS = Path(__file__).parent / "bugs"
NAMED_TIMEOUT_S = 300.0
WIDER_TIMEOUT_S = 1800.0
KILLED, ELSEWHERE, SURVIVED, BROKEN = "killed", "killed elsewhere", "survived", "broken"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one bug. `by` are the tests that noticed it, `but` says what is not as its file says."""

    bug: str
    outcome: str
    by: tuple[str, ...]
    seconds: float  # until it was noticed, or given up
    but: str = ""


def judge(copy: Copy, bug: Bug, *, asks_wider: bool = True) -> Verdict:
    """Plant one bug and see which tests notice. `asks_wider`: the rest of the suite, if those that it names do not."""
    began = time.monotonic()
    text = (copy.folder / bug.file).read_text(encoding="utf-8")
    with copy.patched(bug.file, bug.planted(text)):
        by, but = noticed(copy.pytest(bug.killed_by, timeout_s=NAMED_TIMEOUT_S))
        if by:
            blind = [named for named in bug.killed_by if not any(_is_of(test, named) for test in by)]
            but = f"these do not notice it: {', '.join(blind)}" if blind else ""
            return Verdict(bug.name, KILLED, by, _since(began), but)
        if not but and asks_wider:
            by, but = noticed(copy.pytest(bug.wider, "-x", timeout_s=WIDER_TIMEOUT_S))
    if by:
        return Verdict(bug.name, ELSEWHERE, by, _since(began), "none of the tests that it names notices it")
    return Verdict(bug.name, BROKEN if but else SURVIVED, (), _since(began), but)


def _is_of(test: str, named: str) -> bool:
    """Tell whether a test that failed is the one that is named, or one of its cases."""
    return test == named or test.startswith((f"{named}[", f"{named} ", f"{named}::"))


def noticed(run: Run) -> tuple[tuple[str, ...], str]:
    """Return the tests of a run that failed, or else why it is no run of tests at all."""
    if run.broken or run.code not in (0, 1, -1):
        return (), "\n".join(run.broken) or f"pytest ended with {run.code}:\n{run.output[-2000:]}"
    failed = dict.fromkeys(test for test, _ in run.failed)
    if run.code and not failed and run.last:
        failed[f"{run.last} (never ended)"] = None
    return tuple(failed), ""


def judge_all(
    bugs: Sequence[Bug], folder: Path, workers: int, told: Callable[[Verdict], None], *, asks_wider: bool
) -> list[Verdict]:
    """Judge bugs beside each other, each in a copy that nobody else uses.

    Raises CopyError if the tests fail without any bug, or would not test the copy.
    """
    first = Copy(folder / "copy0")
    first.prove()
    tests = sorted({test for bug in bugs for test in bug.killed_by})
    run = first.pytest(tests, timeout_s=WIDER_TIMEOUT_S, keeps_compiled=True)
    if run.code != 0:
        raise CopyError(f"without a planted bug these fail already: {noticed(run)}\n{run.output[-4000:]}")
    copies: SimpleQueue[Copy] = SimpleQueue()
    copies.put(first)
    for number in range(1, min(workers, len(bugs))):
        copies.put(first.clone(folder / f"copy{number}"))

    def one(bug: Bug) -> Verdict:
        copy = copies.get()
        try:
            verdict = judge(copy, bug, asks_wider=asks_wider)
        finally:
            copies.put(copy)
        told(verdict)
        return verdict

    with ThreadPoolExecutor(min(workers, len(bugs))) as pool:
        return list(pool.map(one, bugs))


def checked(bugs: list[Bug]) -> list[Bug]:
    """Return bugs that can be planted, and whose tests exist. Raises BugError."""
    for bug in bugs:
        bug.planted((HOME / bug.file).read_text(encoding="utf-8"))
        if missing := missing_tests(HOME, bug.killed_by):
            raise BugError(f"{bug.name}: there is no test {', '.join(missing)}")
    return bugs


def explore(bugs: Iterable[Bug], folder: Path) -> None:
    """Print, for each bug, all tests of the wider suite that notice it: to choose those which its file names."""
    copy = Copy(folder / "copy")
    copy.prove()
    for bug in bugs:
        with copy.patched(bug.file, bug.planted((copy.folder / bug.file).read_text(encoding="utf-8"))):
            run = copy.pytest(bug.wider, timeout_s=WIDER_TIMEOUT_S)
        by, but = noticed(run)
        print(f"{bug.name}: {len(by)} tests notice it{but}", *(f"    {test}" for test in by), sep="\n", flush=True)


def as_json(bugs: Sequence[Bug], verdicts: Sequence[Verdict], seconds: float) -> str:
    """Return the result for programs, and for PROOF.md (mesimqtt/proof/page.py)."""
    rows = [
        {**asdict(verdict), "title": bug.title, "promise": bug.promise, "file": bug.file, "suffers": bug.suffers}
        for bug, verdict in zip(bugs, verdicts, strict=True)
    ]
    killed = sum(verdict.outcome in (KILLED, ELSEWHERE) for verdict in verdicts)
    found = {"facts": origin(), "planted": len(bugs), "killed": killed, "seconds": seconds, "bugs": rows}
    return json.dumps(found, indent=1) + "\n"


def tell(verdict: Verdict) -> None:
    """Print one line for a verdict."""
    by = f"{verdict.by[0]}{f' and {len(verdict.by) - 1} more' if len(verdict.by) > 1 else ''}" if verdict.by else ""
    print(f"{verdict.outcome:16} {verdict.seconds:6.1f} s  {verdict.bug:32} {by}", flush=True)
    if verdict.but:
        print(f"    {verdict.but}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant what is asked for; 0 if all were killed by the tests that they name."""
    parser = argparse.ArgumentParser(prog="python -m mutants.planted", description=__doc__)
    parser.add_argument("bugs", nargs="*", help="names of bugs (default: all)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="how many at once (default: cores)")
    parser.add_argument("--json", type=Path, default=HOME / "build/mutants.json", help="where the result goes")
    parser.add_argument("--explore", action="store_true", help="list every test of the wider suite that notices a bug")
    parser.add_argument("--named-only", action="store_true", help="never ask the wider suite")
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        bugs = checked(read_all(BUGS, asked.bugs))
        with tempfile.TemporaryDirectory(prefix="mesimqtt-mutants-") as folder:
            if asked.explore:
                explore(bugs, Path(folder))
                return 0
            verdicts = judge_all(bugs, Path(folder), asked.workers, tell, asks_wider=not asked.named_only)
    except (BugError, CopyError) as error:
        print(error, file=sys.stderr)
        return 2
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(as_json(bugs, verdicts, _since(began)), encoding="utf-8")
    good = sum(verdict.outcome == KILLED and not verdict.but for verdict in verdicts)
    print(f"{good} of {len(bugs)} planted bugs killed by every test that they name, in {_since(began):.0f} s")
    return 0 if good == len(bugs) else 1


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)


if __name__ == "__main__":
    sys.exit(main())
