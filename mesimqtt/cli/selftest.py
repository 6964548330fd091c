"""`mesimqtt selftest`: the proof, repeated on this machine by whoever wants to see it."""

from __future__ import annotations

import json as json_module
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesimqtt.cli.options import Json, UsageError
from mesimqtt.cli.output import emit, line, tell
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mesimqtt.proof.report import Report
    from mesimqtt.proof.trial import Outcome, Trial

_TOLD_EVERY_S = 30.0  # where no bar can be drawn
_BAR = 30


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command(
        "selftest",
        short_help="Repeat the proof on this machine.",
        epilog="Example: mesimqtt selftest --kills 50 --cuts 1000 --seeds 100   (one alone: mesimqtt selftest kills)",
    )(selftest)


def selftest(
    trials: Annotated[
        list[str] | None, typer.Argument(metavar="TRIAL", help="Which trials (--list names them); all if none.")
    ] = None,
    *,
    kills: Annotated[int | None, typer.Option("--kills", metavar="N", min=0, help="How many times kill -9.")] = None,
    cuts: Annotated[int | None, typer.Option("--cuts", metavar="N", min=0, help="How many power cuts.")] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", metavar="N", min=0, help="How many simulated hours, a seed each.")
    ] = None,
    counts: Annotated[
        list[str] | None, typer.Option("--count", metavar="TRIAL=N", help="How often another trial; repeatable.")
    ] = None,
    minutes: Annotated[
        float, typer.Option("--minutes", metavar="M", min=0, help="Go on with new seeds for that long.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", metavar="S", min=1, help="The first seed.")] = 1,
    form: Annotated[
        str,
        typer.Option("--form", metavar="FORM", help="short (a minute), usual (some minutes), long (an hour or two)."),
    ] = "usual",
    report: Annotated[
        Path, typer.Option("--report", metavar="FILE", help="Where the report goes: FILE.md and FILE.json.")
    ] = Path("mesimqtt-selftest"),
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="DIR", help="Where trials keep their data meanwhile.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Say which trials there are, and run none.")] = False,
    json: Json = False,
) -> None:
    """Break servers of its own on purpose, look whether every promise holds, and write a report.

    Nothing is asked of a server that runs already, and no data folder is touched.
    Exit code 1: a promise was broken; 2: nothing was tried; 130: it was interrupted (Ctrl-C, SIGTERM), and the report
    has what was over by then.
    """
    asked = {name: n for name, n in (("kills", kills), ("cuts", cuts), ("seeds", seeds)) if n is not None}
    chosen = _counts(form, trials or (), asked | dict(_count(text) for text in counts or ()))
    if listing:
        _list(chosen)
        return
    from mesimqtt.proof.selftest import Plan
    from mesimqtt.proof.selftest import selftest as run
    from mesimqtt.proof.trial import terminable

    _writable(report)  # not only after an hour
    plan = Plan(chosen, seed, minutes, _usable(folder))
    with terminable():
        found = run(plan, _Bar() if sys.stderr.isatty() else _Lines())
    raise typer.Exit(_tell(found, report, json=json))


def _tell(found: Report, report: Path, *, json: bool) -> int:
    """Write and print the report; return the exit code."""
    _write(found, report)
    if json:
        emit(found.as_json())
    else:
        line(found.markdown(), is_clean=True)
        line(f"the report is in {' and '.join(map(str, _files(report)))}")
    if "interrupted" in found.facts:
        return 130
    if not found.failed and not any(each.has_shown for each in found.results):
        return 2
    return 1 if found.failed else 0


def _counts(form: str, trials: Sequence[str], asked: dict[str, int]) -> dict[str, int]:
    """Return how often each trial that was chosen is to be tried."""
    from mesimqtt.proof.selftest import usual_counts

    if form not in {"short", "usual", "long"}:
        raise UsageError("--form takes short, usual or long")
    known = usual_counts(form)
    unknown = [name for name in [*trials, *asked] if name not in known]
    if unknown:
        raise UsageError(f"there is no trial {unknown[0]}; mesimqtt selftest --list names them")
    return {name: n for name, n in (known | asked).items() if not trials or name in trials}


def _list(counts: dict[str, int]) -> None:
    from mesimqtt.cli.output import table
    from mesimqtt.proof.trials import trial

    found = [trial(name) for name in counts]
    table(
        ["trial", "tries", "promises", "what is done"],
        [[each.name, f"{counts[each.name]} {each.unit}", ", ".join(each.promises), each.title] for each in found],
    )


def _count(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isdecimal():
        raise UsageError(f"--count takes TRIAL=N, such as kills=50, not {text}")
    return name, int(number)


def _usable(folder: Path | None) -> Path:
    """Return the folder for the data of trials, in which one can be made. Raises MesimqttError: now, not in a trial."""
    try:
        folder = folder or Path(tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="mesimqtt-look-", dir=folder) as made:
            (Path(made) / "file").write_bytes(b"written")
    except OSError as error:
        where = f"the folder {folder}" if folder else "any folder for temporary files"
        said = f"trials cannot keep their data in {where}: {error.strerror}; choose another --folder"
        raise MesimqttError(said) from None
    return folder


def _files(report: Path) -> tuple[Path, Path]:
    """Return the files of a report: FILE.md and FILE.json; who names one of the two means both."""
    if report.suffix in {".md", ".json"}:
        report = report.with_suffix("")
    if not report.name:
        raise UsageError(f"--report takes a file, not the folder {report}")
    return report.with_name(f"{report.name}.md"), report.with_name(f"{report.name}.json")


def _writable(report: Path) -> None:
    """Raise MesimqttError if a report cannot be written there; leave everything as it is."""
    made = [each for each in (report.parent, *report.parent.parents) if not each.exists()]
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        for each in _files(report):
            is_new = not each.exists()
            each.open("a").close()
            if is_new:
                each.unlink()
        for folder in made:
            folder.rmdir()
    except OSError as error:
        raise _cannot_write(report, error) from None


def _write(found: Report, report: Path) -> None:
    page, document = _files(report)
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"# Self-test\n\n{found.markdown()}")
        document.write_text(json_module.dumps(found.as_json(), indent=1) + "\n")
    except OSError as error:
        raise _cannot_write(report, error) from None


def _cannot_write(report: Path, error: OSError) -> MesimqttError:
    return MesimqttError(f"cannot write the report to {report}: {error.strerror}; choose another --report")


class _Lines:
    """Says how far it is in lines, now and then: for logs."""

    def begin(self, chosen: Trial, count: int) -> Callable[[int], None]:
        """Say what begins."""
        tell(f"{chosen.name}: {count} {chosen.unit}: {chosen.title}")
        told = time.monotonic()

        def progress(done: int) -> None:
            nonlocal told
            if time.monotonic() - told >= _TOLD_EVERY_S:
                told = time.monotonic()
                tell(f"{chosen.name}: {done} of {count} {chosen.unit}")

        return progress

    def end(self, chosen: Trial, outcome: Outcome) -> None:
        """Say what came of it."""
        said = "interrupted: " if outcome.interrupted else ""
        said += f"skipped: {outcome.skipped}" if outcome.skipped else f"{outcome.failed} of {outcome.tried} failed"
        tell(f"{chosen.name}: {said}")


class _Bar(_Lines):
    """Draws a bar in the terminal's last line."""

    def begin(self, chosen: Trial, count: int) -> Callable[[int], None]:
        """Draw an empty bar."""

        def progress(done: int) -> None:
            full = _BAR * min(done, count) // count
            bar = "█" * full + "·" * (_BAR - full)
            print(f"\r{chosen.name:<14}{bar} {done}/{count} {chosen.unit} ", end="", file=sys.stderr, flush=True)

        progress(0)
        return progress

    def end(self, chosen: Trial, outcome: Outcome) -> None:
        """Leave the bar, and write what came of it in its place."""
        print("\r\x1b[K", end="", file=sys.stderr)
        super().end(chosen, outcome)
