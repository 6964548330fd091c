"""What the kit was proven with, for docs/conformance.md: `PYTHONPATH=tests python -m conform.proven PAGE`.

Without a page it plays the whole kit against each of the broken servers, and prints what is found.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from conform.virtual import Hall
from mesimqtt.proof.conform.runner import State
from mesimqtt.proof.conform.table import checks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conform.broken.between import Broken
    from mesimqtt.proof.conform.runner import Result

BEGIN, END = "<!-- broken servers: written by conform.proven, in tests -->", "<!-- end of the broken servers -->"
KINDS = ("access", "messages", "devices", "statuses", "asides", "limits", "tokens")
# Each broken server, and statements that the kit must find broken there: "C2.4 C4.24".
ALL: dict[type[Broken], str] = {
    one: numbers for kind in KINDS for one, numbers in import_module(f"conform.broken.{kind}").ALL.items()
}


def noticed(broken: type[Broken], folder: Path, *only: str) -> tuple[list[Result], list[Exception]]:
    """Play the kit against a broken server; return what is not kept, and what went wrong that should not."""
    hall = Hall(folder, **broken.sections)
    server = broken(hall)
    try:
        results = hall.play(*only, broken=server, **broken.options)
    finally:
        hall.close()
    return [each for each in results if each.state not in {State.KEPT, State.NOTE}], server.mishaps


def renewed(text: str) -> str:
    """Return the page with the broken servers as they are now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(_lines())
    return f"{before}{BEGIN}\n{lines}\n{END}{after}"


def unseen() -> list[str]:
    """Return the numbers of checks that no broken server makes fail."""
    seen = {number for numbers in ALL.values() for number in numbers.split()}
    return [number for number in checks() if number not in seen]


def _lines() -> Iterator[str]:
    without = f" Not seen to fail: {', '.join(unseen())}." if unseen() else ""
    seen = len(checks()) - len(unseen())
    yield f"{len(ALL)} broken servers; {seen} of {len(checks())} checks have been seen to fail.{without}\n"
    yield "| what is wrong with the server | what the kit finds broken |"
    yield "|---|---|"
    for each, numbers in ALL.items():
        yield f"| {(each.__doc__ or '').partition(chr(10))[0]} | {', '.join(numbers.split())} |"


def main(arguments: list[str]) -> int:
    """Renew a page, or play everything."""
    if arguments:
        page = Path(arguments[0])
        page.write_text(renewed(page.read_text("utf-8")), "utf-8")
        return 0
    logging.disable()
    status = 0
    for each, numbers in ALL.items():
        with TemporaryDirectory() as folder:
            results, mishaps = noticed(each, Path(folder))
        found = [one.statement.number for one in results if one.state in {State.BROKEN, State.DIFFERS}]
        missed = [number for number in numbers.split() if number not in found]
        status |= bool(missed or mishaps)
        wrong = f"; MISSED {' '.join(missed)}" * bool(missed) + f"; FAILED {mishaps[:1]}" * bool(mishaps)
        sys.stdout.write(f"{each.__name__}: {' '.join(found)}{wrong}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
