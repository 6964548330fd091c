"""The figures of PROOF.md, from the reports of long runs: `python -m mesimqtt.proof.page PROOF.md REPORT.json ...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.report import Report, Result, read

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN, END = "<!-- figures: written by `make proof` -->", "<!-- end of the figures -->"


def main(arguments: Sequence[str]) -> int:
    """Put the figures of the reports between the marks of the page."""
    page, *paths = map(Path, arguments)
    text = page.read_text()
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end or not paths:
        print(f"{page} needs the lines {BEGIN} and {END}, and at least one report is needed", file=sys.stderr)
        return 2
    report = merged([json.loads(path.read_text()) for path in paths])
    page.write_text(f"{before}{BEGIN}\n\n{report.markdown()}\n{END}{after}")
    return 1 if report.failed else 0


def merged(documents: Sequence[dict[str, Any]]) -> Report:
    """Return several reports as one: of a trial that stands in several, the last counts."""
    facts: dict[str, str] = {}
    results: dict[str, Result] = {}
    for document in documents:
        facts |= document["facts"]
        results |= {result.name: result for result in read(document)}
    return Report(facts, list(results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
