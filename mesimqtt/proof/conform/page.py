"""The statements in docs/conformance.md, from the table: `python -m mesimqtt.proof.conform.page PAGE`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mesimqtt.proof.conform.report import SECTIONS
from mesimqtt.proof.conform.table import Level, Need, checks, statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mesimqtt.proof.conform.table import Check, Statement

BEGIN, END = "<!-- statements: written by python -m mesimqtt.proof.conform.page -->", "<!-- end of the statements -->"


def main(arguments: Sequence[str]) -> int:
    """Put the statements between the marks of the page."""
    path = Path(arguments[0])
    path.write_text(renewed(path.read_text("utf-8")), "utf-8")
    return 0


def renewed(text: str) -> str:
    """Return the page with its statements as they are now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(_lines())
    return f"{before}{BEGIN}\n{lines}\n{END}{after}"


def _lines() -> Iterator[str]:
    yield from _counts()
    for section, title in SECTIONS.items():
        yield f"\n## {section} {title}\n"
        yield "| | the contract | level | how it is checked |"
        yield "|---|---|---|---|"
        for each in [one for one in statements().values() if one.section == section]:
            how = _how(each, checks().get(each.number))
            yield f"| {each.number} | {_cell(each.words)} | {each.level} | {_cell(how)} |"


def _counts() -> Iterator[str]:
    total = Counter(each.level for each in statements().values())
    yield "## Coverage\n"
    binding = total[Level.MUST] + total[Level.MAY]
    kinds = ", ".join(f"{total[level]} {level}" for level in Level)
    yield f"{len(statements())} statements: {kinds}."
    yield f"Of the {binding} that bind, {len(checks())} have a check. The others, and why not:\n"
    for each in statements().values():
        if each.level is not Level.NOTE and each.number not in checks():
            yield f"- {each.number}: {each.why}"


def _how(statement: Statement, check: Check | None) -> str:
    if check is None:
        return f"*{statement.why}*"
    needs = [_NEEDS[need] for need in Need if need in check.needs]
    needs += [f"{check.lasts_s:g} s"] if check.lasts_s > 4 else []
    law = "Law: " if check.law is not None else ""
    return f"{law}{check.how}" + (f" (needs {', '.join(needs)})" if needs else "")


_NEEDS = {
    Need.USERS: "users made for it", Need.TOKENS: "tokens issued for it", Need.GROUP: "a group",
    Need.GROUPS: "changes of groups", Need.POWER: "an operator", Need.RESTART: "a restart", Need.CAP: "`--inbox-cap`",
    Need.FREE: "`--free`", Need.WEBSOCKET: "`--ws`", Need.FIVE: "MQTT 5.0",
}  # fmt: skip


def _cell(text: str) -> str:
    return text.strip("|- ;,").replace("|", "\\|").strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
