"""Tries spread over the cores: each job follows from its seed alone, so it is the same on any machine."""

from __future__ import annotations

import importlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mesimqtt.proof.trial import FAILURES_KEPT_MAX, Failure, Outcome, keeping, merged, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_INLINE_MAX = 4  # so few jobs are done sooner than processes are started
NO_APSW = "needs apsw: pip install 'mesimqtt[proof]'"
BROKEN_APSW = "apsw is installed and cannot be loaded ({}): pip install --force-reinstall apsw"


class Done(NamedTuple):
    """What came of one job: sentences of what is not as promised, and what was counted."""

    seed: int
    tried: int
    failures: list[str]
    figures: dict[str, float]


class Job(Protocol):
    """A function of a module, so that another process can run it: from a seed, so many tries, in a folder."""

    def __call__(self, seed: int, tries: int, folder: Path) -> Done:
        """Do the job."""
        ...


def lacking() -> str:
    """Return why SQLite cannot be put on a disk of ours here, '' if it can: a library may be there and not load."""
    try:
        importlib.import_module("mesimqtt.proof.powercut.connection")  # the one place that imports it
    except (ImportError, AttributeError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "apsw":
            return NO_APSW
        return BROKEN_APSW.format(" ".join(str(error).split()))
    return ""


def run(
    name: str,
    job: Job,
    count: int,
    per_job: int,
    *,
    seed: int,
    folder: Path,
    progress: Callable[[int], None],
    extra: str = "",
) -> Outcome:
    """Try `count` times, `per_job` in a job; the job that begins with try n has the seed `seed` + n."""
    if reason := lacking():
        return Outcome(0, "", skipped=reason)
    jobs = [(seed + n, min(per_job, count - n)) for n in range(0, count, per_job)]
    failures: list[Failure] = []
    figures: dict[str, float] = {}
    tried = failed = 0

    def outcome() -> Outcome:
        return Outcome(tried, f"{seed}..{seed + max(tried, 1) - 1}", tuple(failures), failed, figures)

    with keeping(outcome):
        for done in _all(job, jobs, folder):
            tried += done.tried
            failed += len(done.failures)
            again = f"python -m mesimqtt.proof {name} --count {done.tried} --seed {done.seed}{extra}"
            failures += [Failure(what, again) for what in done.failures[: FAILURES_KEPT_MAX - len(failures)]]
            figures = merged((figures, done.figures))
            progress(tried)
    return outcome()


def _all(job: Job, jobs: list[tuple[int, int]], folder: Path) -> Iterator[Done]:
    if len(jobs) <= _INLINE_MAX:
        for seed, tries in jobs:
            yield _one(job, seed, tries, folder)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(jobs)), mp_context=context) as pool:
        futures = [pool.submit(_one, job, seed, tries, folder) for seed, tries in jobs]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one(job: Job, seed: int, tries: int, folder: Path) -> Done:
    """Run one job in this process; what the server logs about its bad disk is no news here."""
    own = folder / str(os.getpid())
    own.mkdir(exist_ok=True)
    with quiet():
        return job(seed, tries, own)
