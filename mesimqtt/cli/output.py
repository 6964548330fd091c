"""What commands print: plain tables for people, JSON for programs, and never a raw control character."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


class OutputEndedError(SystemExit):
    """Whoever read our output has seen enough. A SystemExit: no loop or task that calls back takes it for its own."""


def emit(answer: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Print JSON, on one line; what a terminal might not show as it is (C1, bidi marks) is escaped, as JSON may."""
    text = json.dumps(answer, ensure_ascii=False)
    line(text if text.isprintable() else "".join(map(_in_json, text)), is_clean=True)


def line(text: str, *, is_clean: bool = False) -> None:
    """Print one line at once, in one piece: a log line on the same pipe must not come between its text and its end."""
    sys.stdout.write(f"{text if is_clean else clean(text)}\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Print one line for the person at the terminal, beside the output."""
    sys.stderr.write(f"{clean(text)}\n")
    sys.stderr.flush()


def clean(text: object) -> str:
    """Return text in which control characters are spelled out: a profile or payload must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def _in_json(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def table(head: list[str], rows: list[list[object]]) -> None:
    """Print rows under a head, in columns; nothing but the head where there are no rows."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [head, *cells]) for i in range(len(head))]
    top = "  ".join(text.upper().ljust(width) for text, width in zip(head, widths, strict=True)).rstrip()
    line(f"{_BOLD}{top}{_PLAIN}" if sys.stdout.isatty() else top, is_clean=True)
    for row in cells:
        line("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip(), is_clean=True)


def facts(values: dict[str, object]) -> None:
    """Print names and values, one a line; what is empty is left out."""
    shown = {key: _cell(value) for key, value in values.items() if value not in (None, "", [], {})}
    width = max(map(len, shown), default=0)
    for key, value in shown.items():
        line(f"{key.ljust(width)}  {value}", is_clean=True)


def when(seconds: float | None) -> str:
    """Return a time since 1970 as local date and time."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def when_ms(milliseconds: int | None) -> str:
    """Return a time in milliseconds since 1970 as local date and time."""
    return "" if milliseconds is None else when(milliseconds / 1000)


def program() -> str:
    """Return what to type to run this program again: as it was called, from where the caller is."""
    called = Path(sys.argv[0])
    if called.name != "mesimqtt":
        return f"{shortest(sys.executable)} -m mesimqtt"
    found = shutil.which("mesimqtt")
    return (
        "mesimqtt"
        if found and Path(found).exists() and called.exists() and called.samefile(found)
        else shortest(called)
    )


def shortest(path: str | Path) -> str:
    """Return a path relative to the working folder where it lies below that, else as a whole."""
    whole = os.path.abspath(path)  # noqa: PTH100 - a link, such as an environment's python, stays what it is
    try:
        short = os.path.relpath(whole)
    except OSError:  # the working folder is gone
        return whole
    return whole if short.startswith(os.pardir) else short if os.sep in short else f".{os.sep}{short}"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_cell(each) for each in value)
    return "-" if value is None else clean(value)
