"""Change the heart of the server at random, a little at a time, and see whether a test notices: `make mutants-random`.

A change is shown to the tests that run its line, the quickest first. What survives is either no change of behaviour at
all, which a person has to see, or a behaviour that no test looks at: there the missing test is worth more than the
change. Everything follows from `--seed`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from mutants.copies import HOME, Copy, CopyError, Run
from mutants.lines import HEART
from mutants.planted import KILLED, SURVIVED, noticed
from mutants.sites import Site, sites

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FILES = tuple(
    f"mesimqtt/{name}.py"
    for name in (
        "messaging/accept", "messaging/delivery", "messaging/departures", "messaging/devices", "messaging/enrolment",
        "messaging/fan_out", "messaging/receipts", "messaging/scheduled", "messaging/statuses", "messaging/sweeper",
        "messaging/transient", "messaging/withdrawal", "store/batch", "store/committer", "store/conversations",
        "engine/batch", "engine/kept", "engine/publish", "engine/qos", "engine/window", "domain/ids",
        "domain/messages", "domain/seqset", "domain/status",
    )
)  # fmt: skip
TESTS = (
    "tests/unit/domain", "tests/unit/engine", "tests/unit/store", "tests/unit/messaging", "tests/unit/test_topics.py",
    "tests/unit/test_tokens.py", "tests/conformance",
)  # fmt: skip
UNRUN = "no test runs it"
QUICK = 40  # tests that are asked first
LINES_TIMEOUT_S = 7200.0


@dataclass(frozen=True, slots=True)
class Change:
    """One small change of one file."""

    file: str
    site: Site

    def __str__(self) -> str:
        return f"{self.file}:{self.site.line}: {self.site.what}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a change, and which test noticed it."""

    change: str
    outcome: str
    by: str
    seconds: float


class Covers:
    """Which tests run a line, the quickest first."""

    def __init__(self, found: dict[str, object]) -> None:
        self._tests: list[list[object]] = found["tests"]  # type: ignore[assignment] # as lines.py writes it
        self._lines: dict[str, dict[str, list[int]]] = found["lines"]  # type: ignore[assignment] # likewise

    def of(self, change: Change) -> list[str]:
        """Return the tests that run the line of a change."""
        numbers = self._lines.get(change.file, {}).get(str(change.site.line), [])
        found = sorted((self._tests[number][1], self._tests[number][0]) for number in numbers)
        return [str(test) for _, test in found]


def covers(copy: Copy, kept: Path) -> Covers:
    """Return which tests run which lines; found out anew, which takes minutes, when sources or tests have changed."""
    state = blake2b(digest_size=16)
    for path in sorted([*_python(copy.folder / "mesimqtt"), *_python(copy.folder / "tests")]):
        state.update(path.read_bytes())
    path = kept / f"mutants-lines-{state.hexdigest()}.json"
    if not path.exists():
        print("finding out which test runs which line; this takes some minutes", flush=True)
        kept.mkdir(exist_ok=True)
        plugins = ("mutants.witness", "mutants.lines")
        options = ("--lines", str(path), "--hangs-after=0")  # followed through every line, tests take long
        run = copy.pytest(TESTS, *options, timeout_s=LINES_TIMEOUT_S, plugins=plugins, keeps_compiled=True)
        if run.code:
            path.unlink(missing_ok=True)
            raise CopyError(f"without a change these fail already: {noticed(run)}\n{run.output[-2000:]}")
    return Covers(json.loads(path.read_text(encoding="utf-8")))


def _python(folder: Path) -> Iterable[Path]:
    return folder.rglob("*.py")


def drawn(count: int, seed: int, files: Iterable[str]) -> list[Change]:
    """Draw changes of files, every site as likely as any other."""
    every = [Change(file, site) for file in files for site in sites((HOME / file).read_text(encoding="utf-8"))]
    return random.Random(seed).sample(every, min(count, len(every)))


def judge(copy: Copy, change: Change, tests: Sequence[str]) -> Answer:
    """Make a change and show it to these tests."""
    began = time.monotonic()
    by: tuple[str, ...] = ()
    if tests:
        text = (copy.folder / change.file).read_text(encoding="utf-8")
        with copy.patched(change.file, change.site.changed(text)):
            for some in (tests[:QUICK], tests[QUICK:]):
                if some and not by:
                    by = _noticed(copy.pytest(some, "-x", timeout_s=60 + 2 * len(some)))
    outcome = KILLED if by else SURVIVED if tests else UNRUN
    return Answer(str(change), outcome, by[0] if by else "", round(time.monotonic() - began, 1))


def _noticed(run: Run) -> tuple[str, ...]:
    """Return who noticed a change; that nothing can be run any more is noticed, too."""
    by, but = noticed(run)
    return by or ((but.partition("\n")[0],) if but else ())


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw and judge changes; print those that no test notices."""
    parser = argparse.ArgumentParser(prog="python -m mutants.sampled", description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="how many changes (default: 50)")
    parser.add_argument("--seed", type=int, default=1, help="from which number everything follows")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="how many at once (default: cores)")
    parser.add_argument(
        "--file", action="append", help=f"a file to change (default: {len(FILES)} of {', '.join(HEART)})"
    )
    asked = parser.parse_args(arguments)
    changes = drawn(asked.count, asked.seed, asked.file or FILES)
    with tempfile.TemporaryDirectory(prefix="mesimqtt-mutants-") as folder:
        try:
            first = Copy(Path(folder) / "copy0")
            first.prove()
            found = covers(first, HOME / "build")
        except CopyError as error:
            print(error, file=sys.stderr)
            return 2
        copies: SimpleQueue[Copy] = SimpleQueue()
        copies.put(first)
        for number in range(1, asked.workers):
            copies.put(first.clone(Path(folder) / f"copy{number}"))

        def one(change: Change) -> Answer:
            copy = copies.get()
            try:
                answer = judge(copy, change, found.of(change))
            finally:
                copies.put(copy)
            print(f"{answer.outcome:16} {answer.seconds:6.1f} s  {answer.change}  {answer.by}", flush=True)
            return answer

        with ThreadPoolExecutor(asked.workers) as pool:
            answers = list(pool.map(one, changes))
    left = [answer for answer in answers if answer.outcome != KILLED]
    told = {"seed": asked.seed, "changes": len(answers), "left": len(left), "answers": [asdict(one) for one in answers]}
    (HOME / "build/mutants-random.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"{len(answers) - len(left)} of {len(answers)} changes noticed (seed {asked.seed}); to be looked at:")
    for answer in left:
        print(f"    {answer.change}  ({answer.outcome})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
