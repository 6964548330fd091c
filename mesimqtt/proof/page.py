"""The figures of PROOF.md, from the reports of long runs: `python -m mesimqtt.proof.page PROOF.md REPORT.json ...`.

Among the reports may be that of the planted bugs, `build/mutants.json` (`make mutants`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.report import Report, read

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN, END = "<!-- figures: written by `make proof` -->", "<!-- end of the figures -->"
_PLAIN = frozenset({"date", "version"})  # facts that need no name


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
    if cut := [each.name for each in report.results if each.outcome.interrupted]:
        print(f"interrupted, so that they show less than was asked: {', '.join(cut)}; run them again", file=sys.stderr)
        return 2
    page.write_text(f"{before}{BEGIN}\n\n{report.markdown()}\n{END}{after}")
    return 1 if report.failed else 0


def merged(documents: Sequence[dict[str, Any]]) -> Report:
    """Return several reports as one: of a trial that stands in several, the last counts.

    What is not the same for all of them, such as date and commit, is said for the trials of each.
    """
    planted = [document for document in documents if "planted" in document]
    last = {
        result.name: (result, document["facts"])
        for document in documents
        if document not in planted
        for result in read(document)
    }
    facts = _facts([(name, facts) for name, (_, facts) in last.items()])
    facts |= {"planted bugs": _planted(planted[-1])} if planted else {}
    return Report(facts, [result for result, _ in last.values()])


def _facts(found: list[tuple[str, dict[str, str]]]) -> dict[str, str]:
    """Return what is so for all trials, then for those of each report what is not."""
    common = dict(set.intersection(*(set(facts.items()) for _, facts in found))) if found else {}
    said: dict[str, str] = {name: value for _, facts in found[:1] for name, value in facts.items() if name in common}
    trials: dict[str, list[str]] = {}
    for trial, facts in found:
        own = [value if name in _PLAIN else f"{name}: {value}" for name, value in facts.items() if name not in common]
        if own:
            trials.setdefault("; ".join(own), []).append(trial)
    return said | {", ".join(names): own for own, names in trials.items()}


def _planted(document: dict[str, Any]) -> str:
    missed = [bug["bug"] for bug in document["bugs"] if not bug["by"]]
    noticed = f"{document['killed']} of {document['planted']} noticed by the suite"
    but = [f"not: {', '.join(missed)}"] if missed else []
    return "; ".join([noticed, *but, *document.get("facts", {}).values()])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
