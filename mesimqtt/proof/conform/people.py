"""Who takes part: users with tokens, made for the run or given to it, and groups of them."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.proof.conform.table import Need
from mesimqtt.proof.conform.topics import level_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mesimqtt.proof.conform.client import Client
    from mesimqtt.proof.conform.stage import Stage

POOL = 48  # users made at once
_ROLES = ("alice", "bob", "carol", "dave")


class NotCheckedError(Exception):
    """A check cannot be made here; the text is the reason."""


@dataclass(slots=True)
class Person:
    """A user of one check. `home` is `ROOT/{me}`."""

    stage: Stage
    address: str
    token: str
    level: str = field(init=False)
    home: str = field(init=False)

    def __post_init__(self) -> None:
        self.level = level_of(self.address)
        self.home = f"{self.stage.options.root}/{self.level}"

    async def connect(self, name: str = "sender", **options: Any) -> Client:  # noqa: ANN401 - options of CONNECT
        """Connect a device; see `Stage.connect`."""
        return await self.stage.connect(self, name, **options)

    async def device(self, *filters: str, name: str = "phone", qos: int = 1, **options: Any) -> Client:  # noqa: ANN401 - likewise
        """Connect a device that subscribes under `in/`, to `#` if nothing is said."""
        client = await self.stage.connect(self, name, **options)
        wanted = filters or ("#",)
        codes = await client.subscribe(*wanted, qos=qos)
        if codes != (qos,) * len(wanted):
            raise self.stage.broken(f"SUBACK {qos} for in/{', in/'.join(wanted)}", f"SUBACK {codes}")
        return client


class Maker(Protocol):
    """Whoever can make users, tokens and groups: the operations have the contract's names (section 7)."""

    async def perform(self, op: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - arguments of operations
        """Do one operation. Raises MesimqttError."""
        ...


class Cast(Protocol):
    """Where a check gets its people from."""

    powers: frozenset[Need]
    at_once: int

    @property
    def maker(self) -> Maker | None:
        """Who does what an operator does, if anybody can."""

    def lease(self, stage: Stage, count: int) -> Any:  # noqa: ANN401 - an asynchronous context manager
        """Give `count` people for the time of a `with` block."""

    async def group(self, members: list[Person]) -> str:
        """Return the address of a group of exactly these members."""


class _Remembering:
    """A maker that knows what of its works is still there."""

    def __init__(self, maker: Maker) -> None:
        self._maker = maker
        self.users: set[str] = set()
        self.groups: set[str] = set()

    async def perform(self, op: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - arguments of operations
        """Do one operation. Raises MesimqttError."""
        if op == "user_add":
            self.users.update(arguments["addresses"])
        elif op == "group_add":
            self.groups.add(arguments["address"])
        answer = await self._maker.perform(op, **arguments)
        if op == "user_delete":
            self.users.difference_update(arguments["addresses"])
        elif op == "group_delete":
            self.groups.difference_update(arguments["addresses"])
        return answer


class Made:
    """People made for the run, a pool at a time; no two checks share any, so that checks can run side by side."""

    powers = frozenset({Need.USERS, Need.TOKENS, Need.GROUP, Need.GROUPS, Need.POWER})

    def __init__(self, maker: Maker, *, at_once: int = 16) -> None:
        self.maker = _Remembering(maker)
        self.at_once = at_once
        self._tag = secrets.token_hex(3)
        self._count = 0
        self._pool: list[tuple[str, str]] = []
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def lease(self, stage: Stage, count: int) -> AsyncIterator[list[Person]]:
        """Give people whom nobody else has had."""
        async with self._lock:
            if len(self._pool) < count:
                await self._fill(max(count, POOL))
            taken = [self._pool.pop(0) for _ in range(count)]
        yield [Person(stage, address, token) for address, token in taken]

    async def _fill(self, count: int) -> None:
        names = [f"{_ROLES[number % 4]}-{self._tag}-{self._count + number}" for number in range(count)]
        self._count += count
        self._pool += (await self.make(names)).items()

    async def make(self, names: list[str]) -> dict[str, str]:
        """Make users and return a token for each."""
        await self.maker.perform("user_add", addresses=names)
        issued = await self.maker.perform("token_issue", addresses=names)
        return {each["address"]: each["token"] for each in issued["tokens"]}

    async def group(self, members: list[Person]) -> str:
        """Make a group."""
        self._count += 1
        address = f"team-{self._tag}-{self._count}"
        await self.maker.perform("group_add", address=address)
        await self.maker.perform("group_join", address=address, users=[each.address for each in members])
        return address

    async def clean_up(self) -> None:
        """Delete what was made; what is gone already, or cannot be deleted, is left."""
        for op, addresses in (("group_delete", self.maker.groups), ("user_delete", self.maker.users)):
            if addresses:
                with suppress(MesimqttError):
                    await self.maker.perform(op, addresses=sorted(addresses))


class Given:
    """People whose tokens were given: one check at a time, and what earlier ones left is drained before each."""

    def __init__(self, tokens: dict[str, str], group: str = "", members: tuple[str, ...] = ()) -> None:
        if len(tokens) < 2:
            raise MesimqttError("at least two users are needed: --as alice=TOKEN --as bob=TOKEN")
        if unknown := sorted(set(members) - set(tokens)):
            raise MesimqttError(f"{unknown[0]} is a member of {group}, but has no --as {unknown[0]}=TOKEN")
        self.maker: Maker | None = None
        self.at_once = 1
        self.powers = frozenset({Need.GROUP} if group else set())
        self._tokens = dict(sorted(tokens.items(), key=lambda pair: pair[0] not in members))
        self._group = group
        self._members = set(members)
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def lease(self, stage: Stage, count: int) -> AsyncIterator[list[Person]]:
        """Give the first of the people; nobody else has them meanwhile."""
        if count > len(self._tokens):
            raise NotCheckedError(f"needs {count} users: give more --as NAME=TOKEN, or --command")
        async with self._lock:
            people = [Person(stage, address, token) for address, token in list(self._tokens.items())[:count]]
            await asyncio.gather(*map(_drain, people))
            yield people

    async def group(self, members: list[Person]) -> str:
        """Return the group that was given, if these are its members."""
        if self._members != {each.address for each in members}:
            raise NotCheckedError(f"needs a group of {len(members)}: give --group with as many members, or --command")
        return self._group


async def _drain(person: Person) -> None:
    """Acknowledge what waits for a user, so that a new device of his begins with nothing."""
    client = await person.device(name="conform-drain", exact=True)
    while True:
        await person.stage.quiet(client)
        if not client.received():
            break
    await client.leave()
