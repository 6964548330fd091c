"""The self-test: every trial in turn, as often as was asked, again with new seeds while there is time."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mesimqtt import __version__
from mesimqtt.bench.machine import file_system, machine_facts
from mesimqtt.proof.report import Report, Result, together
from mesimqtt.proof.trial import Failure, Interrupted, Outcome, broke
from mesimqtt.proof.trials import TRIALS, trial

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mesimqtt.proof.trial import Trial


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try: how often each trial (none: not at all), from which seed, and for at least how long."""

    counts: Mapping[str, int]
    seed: int = 1
    minutes: float = 0.0
    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))


class Show(Protocol):
    """Who shows how far it is."""

    def begin(self, chosen: Trial, count: int) -> Callable[[int], None]:
        """Show that a trial begins; return what is to be told how many of its tries are done."""
        ...

    def end(self, chosen: Trial, outcome: Outcome) -> None:
        """Show what came of a trial."""
        ...


def usual_counts(form: str = "usual") -> dict[str, int]:
    """Return how often each trial is tried in a form of the self-test: `short`, `usual` or `long`."""
    return {name: int(getattr(listed, form)) for name, listed in TRIALS.items()}


def selftest(plan: Plan, show: Show, *, make: Callable[[str], Trial] = trial) -> Report:
    """Run the plan and return what was found; an interrupted run reports what was done until then."""
    began, report = time.monotonic(), Report(_facts(plan.folder))
    rounds: dict[str, list[Outcome]] = {}
    seconds: dict[str, float] = {}
    chosen = [make(name) for name, count in plan.counts.items() if count]
    number = 0
    try:
        while not number or (time.monotonic() - began) < plan.minutes * 60:
            for each in chosen:
                if number and (time.monotonic() - began) >= plan.minutes * 60:
                    break
                count, since = plan.counts[each.name], time.monotonic()
                outcome = _try(each, count, plan.seed + number * count, plan.folder, show.begin(each, count))
                show.end(each, outcome)
                rounds.setdefault(each.name, []).append(outcome)
                seconds[each.name] = seconds.get(each.name, 0.0) + time.monotonic() - since
                if outcome.interrupted:
                    raise KeyboardInterrupt  # noqa: TRY301 - as between two trials
            number += 1
    except KeyboardInterrupt:
        cut = [f"{name} after {some[-1].tried}" for name, some in rounds.items() if some[-1].interrupted]
        report.facts = {**report.facts, "interrupted": "yes" + "".join(f": {each}" for each in cut)}
    report.results = [
        Result(each.name, each.title, each.promises, each.unit, together(rounds[each.name]), seconds[each.name])
        for each in chosen
        if each.name in rounds
    ]
    return report


def _try(chosen: Trial, count: int, seed: int, where: Path, progress: Callable[[int], None]) -> Outcome:
    """Run a trial in a folder of its own. One that breaks by itself is a failure: it has shown nothing."""
    folder = Path(tempfile.mkdtemp(prefix=f"mesimqtt-{chosen.name}-", dir=where))
    try:
        return chosen.run(count, seed=seed, folder=folder, progress=progress)
    except Interrupted as stopped:
        return stopped.outcome
    except KeyboardInterrupt:
        return Outcome(0, "", interrupted=True)
    except Exception as error:  # noqa: BLE001 - the report says it, and the other trials still run
        again = f"python -m mesimqtt.proof {chosen.name} --count {count} --seed {seed}"
        return Outcome(0, str(seed), (Failure(broke(error), again),), 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _facts(folder: Path) -> dict[str, str]:
    kind, mount = file_system(folder)
    return {
        **origin(),
        **machine_facts(),
        "data": f"{kind} on {mount}" + (": in memory, where a sync means nothing" if kind == "tmpfs" else ""),
    }


def origin() -> dict[str, str]:
    """Return when this is, and which version and commit runs."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "version": f"mesimqtt {__version__}{_commit()}",
    }


def _commit() -> str:
    """Return the commit of the source tree that runs, if it is one."""
    tree = Path(__file__).resolve().parents[2]
    if not (tree / ".git").exists() or not (git := shutil.which("git")):
        return ""
    asked = [git, "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return f", commit {found.stdout.strip()}" if found.returncode == 0 else ""
