"""A trial in parts: each with a seed and a data folder of its own, in a process of its own beside others."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mesimqtt.proof.trial import FAILURES_KEPT_MAX, Failure, Outcome, broke, keeping, merged

if TYPE_CHECKING:
    from collections.abc import Callable

    Part = Callable[[int, int, Path, Callable[[], None]], "Era"]

_DONE = "."
_NUMBERED = re.compile(r"[\w-]*\d[\w-]*")


@dataclass(frozen=True, slots=True)
class Era:
    """What came of one part: complaints, and figures as an `Outcome` has them."""

    complaints: list[str]
    figures: dict[str, float] = field(default_factory=dict)


def in_eras(
    name: str,
    part: Part,
    count: int,
    *,
    seed: int,
    size: int,
    folder: Path,
    progress: Callable[[int], None],
    prefix: tuple[str, ...] = (),
    jobs: int = 0,
) -> Outcome:
    """Run `count` tries of a trial in parts of `size`, the seeds from `seed` on, as many at once as there are cores.

    `part` is `part(seed, count, folder, done)` at the top of a module. `prefix` stands before the command of its
    process. `jobs`: at most so many at once. What counts as tried is what `done` was told, not what was asked for; a
    part that breaks by itself is a complaint.
    """
    parts = [(seed + number, min(size, count - number * size)) for number in range((count + size - 1) // size)]
    tried = 0
    counting, over = threading.Lock(), dict[tuple[int, int], Era]()

    def done() -> None:
        nonlocal tried
        with counting:
            tried += 1
            progress(tried)

    def one(chosen: tuple[int, int]) -> Era:
        place = folder / str(chosen[0])
        place.mkdir()
        try:
            era = (part if len(parts) == 1 and not prefix else beside.run)(*chosen, place, done)
        except Exception as error:  # noqa: BLE001 - what the others show counts all the same
            era = Era([broke(error)])
        if not beside.has_ended:  # what was cut off has shown nothing
            over[chosen] = era
        return era

    def until_now() -> Outcome:
        """Return what those parts have shown that are over: of the others nothing was looked at in the end."""
        whole = {chosen: over[chosen] for chosen in parts if chosen in over}
        return _outcome(name, whole, sum(tries for _, tries in whole))

    beside = _Beside(part, prefix)
    with keeping(until_now):
        eras = _at_once(min(len(parts), jobs or os.cpu_count() or 1), one, parts, beside)
    return _outcome(name, dict(zip(parts, eras, strict=True)), tried)


def _outcome(name: str, eras: dict[tuple[int, int], Era], tried: int) -> Outcome:
    failures = [
        Failure(said, f"python -m mesimqtt.proof {name} --count {tries} --seed {number}")
        for (number, tries), each in eras.items()
        for said in few(each.complaints)
    ]
    first, last = (min(eras)[0], max(eras)[0]) if eras else (0, 0)
    seeds = f"{first}..{last}" if len(eras) > 1 else str(first) if eras else ""
    failed = sum(len(each.complaints) for each in eras.values())
    figures = merged(each.figures for each in eras.values())
    return Outcome(tried, seeds, tuple(failures[:FAILURES_KEPT_MAX]), failed, figures)


def _at_once(
    jobs: int, one: Callable[[tuple[int, int]], Era], parts: list[tuple[int, int]], beside: _Beside
) -> list[Era]:
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, chosen) for chosen in parts]
        try:
            return [future.result() for future in futures]
        except BaseException:  # Ctrl-C: the threads would wait for their processes
            pool.shutdown(wait=False, cancel_futures=True)
            beside.end()
            raise


def few(complaints: list[str]) -> list[str]:
    """Return the first of each kind of complaint, with how many more there are like it."""
    kinds: dict[str, list[str]] = {}
    for said in complaints:
        kinds.setdefault(_NUMBERED.sub("#", said), []).append(said)
    return [f"{each[0]} (and {len(each) - 1} like it)" if len(each) > 1 else each[0] for each in kinds.values()]


class _Beside:
    """A part in processes of its own, each with a process group: Ctrl-C reaches none of them, `end` all."""

    def __init__(self, part: Part, prefix: tuple[str, ...]) -> None:
        self._command = [*prefix, sys.executable, "-m", __name__, f"{part.__module__}:{part.__name__}"]
        self._running: set[int] = set()
        self.has_ended = False
        self._starting = threading.Lock()

    def run(self, seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
        """Run the part in a new process."""
        with self._starting:
            if self.has_ended:
                return Era(["interrupted"])
            process = subprocess.Popen(
                [*self._command, str(seed), str(count), str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._running.add(process.pid)
        last = ""
        with process:
            for line in process.stdout or ():
                if line.strip() == _DONE:
                    done()
                else:
                    last = line
            self._running.discard(process.pid)
        if process.returncode or not last:
            return Era([f"the trial itself broke: its process ended with {process.returncode}"])
        return Era(**json.loads(last))

    def end(self) -> None:
        """Kill every process with all that it has started, and start no more."""
        with self._starting:
            self.has_ended = True
        for pid in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Run one part; print a dot a try, then what came of it as JSON."""
    module, _, function = arguments[0].partition(":")
    part: Part = getattr(importlib.import_module(module), function)
    try:
        era = part(int(arguments[1]), int(arguments[2]), Path(arguments[3]), lambda: print(_DONE, flush=True))
    except Exception as error:  # noqa: BLE001 - who started it says so
        era = Era([broke(error)])
    print(json.dumps(asdict(era)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
