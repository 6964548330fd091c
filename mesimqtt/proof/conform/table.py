"""The contract as a table of numbered statements, and the check that belongs to each: one place for both."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesimqtt.proof.conform.heard import Heard
    from mesimqtt.proof.conform.stage import Stage

    Run = Callable[[Stage], Awaitable[None]]
    Law = Callable[[Heard], str]
    AddCheck = Callable[[Run], Run]
    AddLaw = Callable[[Law], Law]


class Level(StrEnum):
    """How binding a statement is."""

    MUST = "must"
    MAY = "may"  # a default that an operator may change, or an option: an implementation may differ
    NOTE = "note"  # nothing that can be seen from outside; `why` says so


class Need(StrEnum):
    """What a check needs beyond tokens for a few users, and the reason that is given where it is missing."""

    USERS = "needs users made for it: give --command or --backend"
    TOKENS = "needs tokens issued for it: give --command or --backend"
    GROUP = "needs a group: give --group, --command or --backend"
    GROUPS = "needs to change groups: give --command or --backend"
    POWER = "needs to disable, delete and revoke: give --command or --backend"
    RESTART = "needs to restart the server: give --restart-command"
    CAP = "needs an inbox cap that can be reached: configure one of at most 1000 and give --inbox-cap"
    FREE = "needs free topics that every user may use: open some and give --free"
    WEBSOCKET = "needs the server's WebSocket: give --ws"
    FIVE = "the server does not speak MQTT 5.0"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of the contract, in its own words."""

    number: str
    level: Level
    words: str
    why: str = ""  # it is not checked

    @property
    def section(self) -> str:
        """The section of the contract: `4`."""
        return self.number[1:].partition(".")[0]


@dataclass(frozen=True, slots=True)
class Check:
    """How statements are checked: `run` plays it, or `law` looks at all that was heard in the whole run."""

    numbers: tuple[str, ...]
    how: str
    run: Run | None
    law: Law | None = None
    needs: frozenset[Need] = frozenset()
    lasts_s: float = 0.0  # it waits that long for the server's clock
    on_road: bool = True  # a message must be able to arrive, or there is nothing to see


_CHECKS: dict[str, Check] = {}


@cache
def statements() -> dict[str, Statement]:
    """Return every statement by its number, in the contract's order."""
    rows: list[dict[str, Any]] = json.loads(resources.files(__package__).joinpath("statements.json").read_text("utf-8"))
    return {
        row["number"]: Statement(row["number"], Level(row["level"]), row["words"], row.get("why", "")) for row in rows
    }


def checks() -> dict[str, Check]:
    """Return the check of each statement that has one."""
    import_module("mesimqtt.proof.conform.checks")  # they import this module, and register themselves
    return _CHECKS


def check(*numbers: str, needs: tuple[Need, ...] = (), lasts_s: float = 0.0, on_road: bool = True) -> AddCheck:
    """Register a coroutine as the check of statements; its docstring says how they are checked."""

    def add(run: Run) -> Run:
        _register(Check(numbers, _how(run), run, None, frozenset(needs), lasts_s, on_road))
        return run

    return add


def law(*numbers: str) -> AddLaw:
    """Register a function over all that was heard; it returns what breaks the statement, or nothing."""

    def add(judge: Law) -> Law:
        _register(Check(numbers, _how(judge), None, judge))
        return judge

    return add


def _how(function: Callable[..., object]) -> str:
    return " ".join((inspect.getdoc(function) or "").split())


def _register(one: Check) -> None:
    for number in one.numbers:
        if number not in statements() or number in _CHECKS:
            raise ValueError(f"{number} is no statement, or has a check already")
        _CHECKS[number] = one
