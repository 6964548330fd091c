"""A whole server in virtual time: real engine, messaging and store, and clients at its edge; no sockets, no sleep."""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from mesimqtt.domain.chance import SeededChance
from mesimqtt.engine.engine import Engine
from mesimqtt.hooks import Decision
from mesimqtt.messaging import operations
from mesimqtt.messaging.messaging import Messaging
from mesimqtt.messaging.module_loader import attach
from mesimqtt.settings import Settings
from mesimqtt.store.database import FILE_NAME, Database
from mesimqtt.store.sessions import SessionKeeper
from mesimqtt.store.store import Store
from mesimqtt.testing import wire
from mesimqtt.testing.peer import Peer
from mesimqtt.tokens import TokenSigner

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from mesimqtt.engine.connection import Connection
    from mesimqtt.hooks import Action, ConnectRequest, Identity, Refusal
    from mesimqtt.messaging.bot import Bot

START_MS = 1_790_000_000_000
YEAR_S = 31_536_000
T = TypeVar("T")
SECRET = b"0123456789abcdef0123456789abcdef"
_TICK_MS = 250


class FakeLoop:
    """What the store asks of an event loop: a queue of callables, run when the world says so."""

    def __init__(self) -> None:
        self.queue: deque[tuple[Any, ...]] = deque()

    def call_soon(self, call: Callable[..., object], *args: object) -> None:
        """Run `call` at the world's next turn."""
        self.queue.append((call, *args))

    call_soon_threadsafe = call_soon

    def run(self) -> None:
        """Run all that waits, and what that adds."""
        while self.queue:
            call, *args = self.queue.popleft()
            call(*args)


class TokenGate:
    """Lets in who has a good token, as the auth plugin does; free topics are open."""

    def __init__(self, messaging: Messaging) -> None:
        self.messaging = messaging

    def authenticate(self, connection: Connection, request: ConnectRequest) -> Identity | Refusal | None:  # noqa: ARG002 - the port's
        """Let in who has a token."""
        return self.messaging.check_connect(request)

    def decide(self, connection: Connection, action: Action, topic: str) -> Decision:  # noqa: ARG002 - the port's
        """Allow every free topic."""
        return Decision(allow=True, rule="open")

    def audit(self, connection: Connection, action: Action, topic: str, rule: str) -> None:  # noqa: ARG002 - the port's
        """Tell the client what was denied."""
        self.messaging.notify_denied(connection, topic, rule)


class World:
    """One server, its clock and its clients.

    Each further keyword is a section of the settings with what differs from the defaults:
    `World(folder, messaging={"inbox_messages_max": 10})`.
    """

    peer_type: ClassVar[type[Peer]] = Peer
    synchronous: ClassVar[str] = "OFF"  # what survives here survives in the same process

    def __init__(
        self, folder: Path, *, start_ms: int = START_MS, **sections: Mapping[str, Any] | Iterable[tuple[str, Any]]
    ) -> None:
        self.folder = folder
        self.loop = FakeLoop()
        self.ms = start_ms
        base = Settings()
        base = replace(base, store=replace(base.store, ballast_bytes=0))  # no disk of a test gets full
        self.settings: Settings = replace(
            base, **{name: replace(getattr(base, name), **dict(values)) for name, values in sections.items()}
        )
        self.peers: list[Peer] = []
        self.fatal: list[str] = []
        self.tokens: dict[str, str] = {}
        self.asked: list[asyncio.Task[None]] = []
        self.chance = SeededChance(1)  # the same test draws the same; its restarts go on drawing
        self._asyncio = asyncio.new_event_loop()
        self.open()

    # ---- the server ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the server on the folder, with nothing in memory."""
        self.store = self.open_store()
        signer = TokenSigner(SECRET, issuer=self.settings.tokens.issuer)
        self.asked = []
        self.messaging = Messaging(
            self.settings, self.store, signer, now=self.now, now_ms=self.now_ms,
            spawn=lambda coroutine: self.asked.append(self._asyncio.create_task(coroutine)), chance=self.chance,
        )  # fmt: skip
        self.engine = make_engine(self.messaging)

    def open_store(self) -> Store:
        """Open the store: its work is done at once, in the caller's thread."""
        loop: Any = self.loop
        database = self.make_database()
        if database is None and not (self.folder / FILE_NAME).exists():
            _settle(self.folder)
        store = Store(
            self.folder, self.settings.store, loop=loop, now=self.now, now_ms=self.now_ms,
            on_fatal=self.fatal.append, inline=True, database=database,
        )  # fmt: skip
        store.read.execute(f"PRAGMA synchronous = {self.synchronous}")
        return store

    def make_database(self) -> Database | None:
        """Return the database for the store; None: the folder's own."""
        return None

    def restart(self, *, kill: bool = True) -> None:
        """Stop the server, at once or in good order, and start it again on the same folder."""
        if not kill:
            self.turn()
            for peer in list(self.peers):
                peer.connection.close("the server is stopping")
            self.run(self.store.close())
        for peer in self.peers:
            peer.read_out()
        self.peers.clear()
        self._cancel()
        self.loop.queue.clear()
        self.store.abandon()
        self.open()

    def close(self) -> None:
        """Let go of the folder."""
        self._cancel()
        self.store.abandon()
        self._asyncio.close()

    def _cancel(self) -> None:
        """End what is still being asked or handled: its server is gone."""
        for task in self.asked:
            task.cancel()
        if self.asked:
            self._asyncio.run_until_complete(asyncio.wait(self.asked))
        self.asked.clear()

    def now(self) -> float:
        """Return monotonic seconds."""
        return (self.ms - START_MS) / 1000 + 1000

    def now_ms(self) -> int:
        """Return milliseconds since 1970."""
        return self.ms

    def turn(self) -> None:
        """Run everything that can run without time passing, clients' acknowledgements included."""
        while True:
            self.loop.run()
            self._answer()
            if not sum(peer.exchange() for peer in self.peers) and not self.loop.queue:
                return

    def _answer(self) -> None:
        """Let what was asked by rpc go on, unless an operation of the test's own is just being driven."""
        self.asked = [task for task in self.asked if not task.done()]
        while self.asked and not self._asyncio.is_running():
            self._asyncio.run_until_complete(asyncio.sleep(0))
            self.asked = [task for task in self.asked if not task.done()]
            if not self.loop.queue and all(_is_waiting(task) for task in self.asked):
                return
            self.loop.run()

    def advance(self, seconds: float) -> None:
        """Let virtual time pass, with the ticks that belong to it."""
        end = self.ms + round(seconds * 1000)
        while self.ms < end:
            self.ms = min(self.ms + _TICK_MS, end)
            self.tick()

    def jump(self, seconds: float) -> None:
        """Let much time pass at once; the clients keep their connections alive."""
        self.ms += round(seconds * 1000)
        for peer in self.peers:
            peer.connection.receive(wire.PINGREQ, self.now())
        self.advance(1.25)

    def tick(self) -> None:
        """Do what the broker's ticker does four times a second."""
        self.engine.tick(self.now())
        self.messaging.tick(self.now())
        self.turn()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, with the server's turns in between."""

        async def drive() -> T:
            task = asyncio.ensure_future(coroutine)
            for _ in range(1000):
                if task.done():
                    break
                self.turn()
                await asyncio.sleep(0)
            return await task

        return self._asyncio.run_until_complete(drive())

    def do(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Do one operation, as the command line does."""
        answer = self.run(operations.perform(self.messaging, op, arguments))
        self.turn()
        return answer

    # ---- people ------------------------------------------------------------------------------------------------------

    def user(self, *addresses: str) -> None:
        """Make users, each with a token."""
        self.do("user_add", addresses=list(addresses))
        for token in self.do("token_issue", addresses=list(addresses), ttl=5 * YEAR_S)["tokens"]:
            self.tokens[token["address"]] = token["token"]

    def bot(self, address: str, device: str = "bot") -> Bot:
        """Return a bot that is online; its user is made."""
        self.do("user_add", addresses=[address])
        bot = self.messaging.bots.add(address, device)
        self.turn()
        return bot

    def module(self, thing: object, *, name: str = "module", answer_s: float = 0.0, on_error: str = "") -> None:
        """Put a module into the server: a function that judges, or an object with methods (docs/modules.md)."""
        assert attach(self.messaging, name, thing, answer_s=answer_s, on_error=on_error)

    def group(self, address: str, *members: str) -> None:
        """Make a group of users."""
        self.do("group_add", address=address)
        if members:
            self.do("group_join", address=address, users=list(members))

    def connect(
        self, user: str, device: str = "phone", *, clean: bool = False, token: str = "", **options: Any
    ) -> Peer:
        """Connect a device; its CONNACK is taken. A user who is not there is made."""
        if not token and user not in self.tokens:
            self.user(user)
        connection = self.engine.open("192.0.2.1", "default", self.now())
        peer = self.peer_type(self, user, device, connection)
        password = (token or self.tokens[user]).encode()
        self.peers.append(peer)
        peer.send(wire.connect(device, clean=clean, user=user, password=password, keep_alive=0, **options))
        peer.connack = peer.other.pop(0) if peer.other else None
        return peer

    def listener(
        self, user: str, device: str = "phone", *, qos: int = 1, filters: Iterable[str] = ("#",), **options: Any
    ) -> Peer:
        """Connect a device that subscribes under `in/`."""
        peer = self.connect(user, device, **options)
        for rest in filters:
            assert [qos] == peer.subscribe(rest, qos=qos)
        return peer

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Read from the store."""
        return self.store.read.execute(sql, values).fetchall()


def make_engine(messaging: Messaging) -> Engine:
    """Return the engine over messaging, as the composition root makes it, with what the store kept of sessions."""
    keeper = SessionKeeper(messaging.store)
    kept, retained, wills = list(keeper.restore()), keeper.restore_retained(), list(keeper.restore_wills())
    engine = Engine(
        messaging.settings.limits, gate=TokenGate(messaging), claim=messaging.claim, keeper=keeper,
        observer=None, now=messaging.now(), chance=messaging.chance,
    )  # fmt: skip
    messaging.on_user_deleted = engine.forget_user
    messaging.on_revoked = engine.revoke
    engine.restore(kept, retained, wills)
    engine.tick(messaging.now())
    return engine


@cache
def _first_database() -> bytes:
    """Return the file that a server leaves which was started on an empty folder and stopped."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder))
        database.open()
        database.close()
        return database.path.read_bytes()


def _settle(folder: Path) -> None:
    """Put the first database into a folder: to make all tables again costs more than most tests do."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE_NAME
    path.touch(mode=0o600)
    path.write_bytes(_first_database())


def _is_waiting(task: asyncio.Task[None]) -> bool:
    """Tell whether a task waits for something that only the world's own turns can bring."""
    return getattr(task, "_fut_waiter", None) is not None
