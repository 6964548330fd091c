"""What one check plays on: its people, their devices, what was said, and how an expectation fails."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from mesimqtt.proof.conform.client import Client
from mesimqtt.proof.conform.heard import Heard
from mesimqtt.proof.conform.people import NotCheckedError, Person
from mesimqtt.proof.conform.table import Need
from mesimqtt.testing import wire, wire5

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesimqtt.proof.conform.links import Link
    from mesimqtt.proof.conform.people import Cast
    from mesimqtt.proof.conform.restarts import Restarts

    Dial = Callable[[], Awaitable[Link]]

LOG_MAX = 200  # lines of one check
_KEEP_ALIVE_S = 60


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is made. Seconds: `patience_s` until nothing is believed, `wait_s` until something must have come."""

    root: str = "m"
    patience_s: float = 0.3
    wait_s: float = 5.0
    longest_s: float = 4.0  # checks that wait longer for the server's clock are left out
    free: str = ""  # what free topics that every user may use begin with
    inbox_cap: int = 0  # messages
    only: tuple[str, ...] = ()  # sections or numbers: `4`, `C2.13`


@dataclass(slots=True)
class Venue:
    """The server that is looked at: how it is reached, who is there, and what can be done to it."""

    dial: Dial
    cast: Cast
    options: Options = field(default_factory=Options)
    websocket: Dial | None = None
    restart: Callable[[], Awaitable[None]] | None = None
    restarts: Restarts | None = None
    now_ms: Callable[[], float] = lambda: time.time() * 1000
    speaks_five: bool = True
    heard: Heard = field(default_factory=Heard)
    connections: int = 0


class BrokenError(Exception):
    """An expectation was not met."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected: {expected}; came: {came}")
        self.expected = expected
        self.came = came


class Stage:
    """`async with Stage(venue) as stage:` plays one check; afterwards all its connections are closed."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.options = venue.options
        self.heard = venue.heard
        self.log: list[str] = []
        self._clients: list[Client] = []
        self._tag = secrets.token_hex(3)
        self._cids = 0
        self._people: list[Person] = []
        self._leases = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            if not client.is_closed:
                await client.cut()
        await self._leases.aclose()

    # ---- people and devices ------------------------------------------------------------------------------------

    async def people(self, count: int) -> list[Person]:
        """Return people for this check, the same at each call; the first call says how many there can be."""
        if not self._people:
            self._people = await self._leases.enter_async_context(self.venue.cast.lease(self, count))
        return self._people[:count]

    async def named(self, address: str) -> Person:
        """Make a user with an address of the check's own."""
        tokens = await self._made().make([address])
        return Person(self, address, tokens[address])

    async def group(self, *members: Person) -> str:
        """Return a group of these members."""
        return await self.venue.cast.group(list(members))

    async def perform(self, op: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - arguments of operations
        """Do an operation as the operator or backend."""
        self.note(f"operator: {op} {arguments}")
        maker = self.venue.cast.maker
        if maker is None:
            raise NotCheckedError(Need.POWER)
        return await maker.perform(op, **arguments)

    async def issue(self, person: Person, **options: Any) -> str:  # noqa: ANN401 - options of a token
        """Issue another token of a user."""
        issued = await self.perform("token_issue", addresses=[person.address], **options)
        token: str = issued["tokens"][0]["token"]
        return token

    async def restart(self) -> None:
        """Kill the server and start it again on the same data."""
        if self.venue.restarts is None:
            raise NotCheckedError(Need.RESTART)
        await self.venue.restarts.wait()
        self.note("the server was killed and started again")

    async def connect(
        self, person: Person, name: str = "sender", *, clean: bool = False, five: bool = False,
        token: str | None = None, user: str | None = None, will: tuple[str, bytes] | None = None,
        refused: bool = False, anonymous: bool = False, websocket: bool = False, exact: bool = False,
        **properties: Any,  # noqa: ANN401 - values of properties
    ) -> Client:  # fmt: skip
        """Connect as a user; CONNACK is in `connack`, and must be 0 unless `refused` says that it may be anything.

        `name` is the client id, with the check's own tag unless it is empty or `exact`; `will` is topic and payload.
        """
        if five and not self.venue.speaks_five:
            raise NotCheckedError(Need.FIVE)
        dial = self.venue.websocket if websocket else self.venue.dial
        if dial is None:
            raise NotCheckedError(Need.WEBSOCKET)
        client = Client(self, person, name if exact or not name else f"{name}-{self._tag}", await dial(), five=five)
        self._clients.append(client)
        login: dict[str, Any] = {"user": None if anonymous else person.address if user is None else user}
        login["password"] = person.token if token is None else token
        if five:
            left = wire5.will(will[0], will[1], qos=1) if will else None
            expiry = {} if clean else {"session_expiry_interval": 3600}
            packet = wire5.connect(
                client.name, clean=clean, keep_alive=_KEEP_ALIVE_S, will=left, **login, **{**expiry, **properties}
            )
        else:
            old = (will[0], will[1].decode(), 1, False) if will else None
            packet = wire.connect(client.name, clean=clean or not name, keep_alive=_KEEP_ALIVE_S, will=old, **login)
        self.note(f"{client} > CONNECT{' 5.0' if five else ''}{' clean' if clean else ''} as {login['user']}")
        client.send(packet)
        if refused:
            await client.until(lambda: client.is_closed or client.answers or None, "CONNACK")
            client.connack = client.answers.pop(0) if client.answers else client.connack
            return client
        client.connack = await client.answer("CONNACK")
        self.same("CONNACK accepts", 0, client.connack.code)
        return client

    def next_connection(self) -> int:
        """Return a number for a new connection."""
        self.venue.connections += 1
        return self.venue.connections

    # ---- messages ----------------------------------------------------------------------------------------------

    def cid(self) -> str:
        """Return an id for a message that nobody has used."""
        self._cids += 1
        return f"c{self._cids}-{self._tag}"

    def took_cid(self, person: Person, topic: str) -> None:
        """Remember which cids a user has used, for the laws."""
        self.heard.cids.setdefault(person.address, set()).update(topic.split("/"))

    async def quiet(self, *clients: Client) -> None:
        """Wait until all that was said must have had its effect: a round trip each, then the patience."""
        for client in clients:
            await client.ping()
        await asyncio.sleep(self.options.patience_s)

    async def passes(self, seconds: float) -> None:
        """Let time pass on the server's clock."""
        self.note(f"{seconds:g} s pass")
        await asyncio.sleep(seconds)

    # ---- expectations ------------------------------------------------------------------------------------------

    def same(self, what: str, expected: object, came: object) -> None:
        """Hold that two things are equal. Raises BrokenError."""
        if expected != came:
            raise BrokenError(f"{what}: {expected!r}", repr(came))

    def that(self, condition: object, expected: str, came: object) -> None:
        """Hold that something is so. Raises BrokenError."""
        if not condition:
            raise BrokenError(expected, came if isinstance(came, str) else repr(came))

    def broken(self, expected: str, came: str) -> BrokenError:
        """Return what to raise where an expectation was not met."""
        return BrokenError(expected, came)

    def note(self, text: str) -> None:
        """Keep a line of what was said and heard."""
        if len(self.log) < LOG_MAX:
            self.log.append(text)

    def _made(self) -> Any:  # noqa: ANN401 - the cast that makes people
        cast = self.venue.cast
        if Need.USERS not in cast.powers:
            raise NotCheckedError(Need.USERS)
        return cast
