"""One run of the kit: the road first, then every check beside the others, then the laws over all that was heard."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.proof.conform.links import UnreachableError
from mesimqtt.proof.conform.people import NotCheckedError
from mesimqtt.proof.conform.restarts import Restarts
from mesimqtt.proof.conform.stage import BrokenError, Options, Stage, Venue
from mesimqtt.proof.conform.table import Check, Level, Need, Statement, checks, statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Without these nothing else can be seen: a client connects with a token, and a message arrives.
CONNECTS, ARRIVES = "C5.4", "C2.6"


class State(StrEnum):
    """What came of a statement."""

    KEPT = "kept"
    BROKEN = "broken"
    DIFFERS = "differs"  # from a default or an option: no failure
    UNCHECKED = "not checked"
    UNREACHED = "not reached"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Result:
    """One statement and what came of it. `log` is what was said and heard, if it was not kept."""

    statement: Statement
    state: State
    how: str = ""
    why: str = ""
    expected: str = ""
    came: str = ""
    log: tuple[str, ...] = field(default=(), repr=False)


async def run(venue: Venue, progress: Callable[[int, int], None] = lambda _done, _all: None) -> list[Result]:
    """Hold the contract against a server; results are in the contract's order.

    Raises:
        UnreachableError: nobody listens there.

    """
    wanted = [each for each in statements().values() if is_wanted(each, venue.options)]
    chosen = {each.number: checks()[each.number] for each in wanted if each.number in checks()}
    played = list({id(each): each for each in chosen.values() if each.run is not None}.values())
    found: dict[int, Result] = {}
    blocked = await _road(venue)
    restarting = [check for check in played if Need.RESTART in check.needs and not _missing(venue, check)]

    async def play(chosen: list[Check], at_once: int) -> None:
        limit = asyncio.Semaphore(at_once)
        async with asyncio.TaskGroup() as tasks:
            for check in chosen:
                tasks.create_task(one(check, limit))

    async def one(check: Check, limit: asyncio.Semaphore) -> None:
        async with limit:
            found[id(check)] = await _play(venue, check, blocked)
        if venue.restarts is not None:
            await venue.restarts.ended()
        progress(len(found), len(played))

    await play([check for check in played if check not in restarting], venue.cast.at_once)
    # Last, because a restart ends every connection; where people can be shared out, one serves all who need it.
    for group in [restarting] if venue.cast.at_once > 1 else [[check] for check in restarting]:
        if venue.restart is not None and group:
            venue.restarts = Restarts(venue.restart, len(group))
            await play(group, len(group))
    return [_result(venue, each, chosen.get(each.number), found, blocked) for each in wanted]


def is_wanted(statement: Statement, options: Options) -> bool:
    """Tell whether a statement belongs to the sections or numbers that were asked for."""
    return not options.only or any(
        word.upper().removeprefix("C") in {statement.section, statement.number[1:]} for word in options.only
    )


async def _road(venue: Venue) -> str:
    """Look whether there is anything to look at; return the number of what stands in the way."""
    (await venue.dial()).close()  # nobody there: said at once, in one sentence
    number = CONNECTS
    try:
        async with Stage(venue) as stage:
            alice, bob = await stage.people(2)
            sender, reader = await alice.connect(), await bob.connect("phone")
            number = ARRIVES
            await reader.subscribe("#")
            await sender.say(f"u/{bob.level}/{stage.cid()}")
            await reader.hear(f"u/{alice.level}/")
    except BrokenError:
        return number
    venue.speaks_five = await _speaks_five(venue)
    return ""


async def _speaks_five(venue: Venue) -> bool:
    async with Stage(venue) as stage:
        [person] = await stage.people(1)
        try:
            await stage.connect(person, "five", clean=True, five=True)
        except BrokenError:
            return False
    return True


async def _play(venue: Venue, check: Check, blocked: str) -> Result:
    statement = statements()[check.numbers[0]]
    reason = _missing(venue, check)
    if not reason and blocked and check.on_road:
        return Result(statement, State.UNREACHED, check.how, f"{blocked} is not kept, so there is nothing to see")
    stage = Stage(venue)
    try:
        if not reason and check.run is not None:
            async with stage:
                await check.run(stage)
    except NotCheckedError as error:
        reason = str(error)
    except BrokenError as error:
        return _broken(statement, check, stage, error.expected, error.came)
    except UnreachableError as error:
        return _broken(statement, check, stage, "a connection", str(error))
    except MesimqttError as error:
        reason = f"what it needs could not be done: {error}"
    except Exception as error:  # noqa: BLE001 - whatever a server says must not end the run
        return _broken(statement, check, stage, "what can be read", f"{type(error).__name__}: {error}")
    return Result(statement, State.UNCHECKED if reason else State.KEPT, check.how, reason)


def _missing(venue: Venue, check: Check) -> str:
    options = venue.options
    if check.lasts_s > options.longest_s:
        return f"takes {check.lasts_s:g} s: give --slow" + (f", or --longest {check.lasts_s:g}" * (check.lasts_s > 120))
    there = set(venue.cast.powers)
    there |= {Need.RESTART} if venue.restart else set()
    there |= {Need.FREE} if options.free else set()
    there |= {Need.CAP} if 0 < options.inbox_cap <= 1000 else set()
    there |= {Need.WEBSOCKET} if venue.websocket else set()
    there |= {Need.FIVE} if venue.speaks_five else set()
    missing = [need for need in Need if need in check.needs and need not in there]
    return str(missing[0]) if missing else ""


def _broken(statement: Statement, check: Check, stage: Stage, expected: str, came: str) -> Result:
    state = State.DIFFERS if statement.level is Level.MAY else State.BROKEN
    return Result(statement, state, check.how, "", expected, came, tuple(stage.log))


def _result(
    venue: Venue, statement: Statement, check: Check | None, found: dict[int, Result], blocked: str
) -> Result:  # fmt: skip
    if check is None:
        return Result(statement, State.NOTE if statement.level is Level.NOTE else State.UNCHECKED, why=statement.why)
    if check.law is not None:
        if blocked:
            why = f"{blocked} is not kept, so there is nothing to see"
            return Result(statement, State.UNREACHED, check.how, why)
        came = check.law(venue.heard)
        state = State.BROKEN if came else State.KEPT
        return Result(statement, state, check.how, "", statement.words if came else "", came)
    one = found[id(check)]
    return Result(statement, one.state, one.how, one.why, one.expected, one.came, one.log)


def broken(results: Iterable[Result]) -> list[str]:
    """Return the numbers of what was not kept."""
    return [each.statement.number for each in results if each.state is State.BROKEN]
