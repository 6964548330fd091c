"""The server inside another program: `App` for any thread, `AsyncApp` for the loop that it runs in (docs/embed.md)."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from mesimqtt.app import ready_line, running
from mesimqtt.broker.asgi import LISTENER, WebSocketMount
from mesimqtt.broker.loop import loop_factory, run
from mesimqtt.configuration import load_settings
from mesimqtt.domain.errors import MesimqttError, OperationError
from mesimqtt.listening import choose, reachable
from mesimqtt.messaging.bot import DEVICE, Bot
from mesimqtt.messaging.module_loader import attach

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from mesimqtt.app import App as Running
    from mesimqtt.broker.broker import Broker
    from mesimqtt.hooks import Judge
    from mesimqtt.messaging.messaging import Messaging
    from mesimqtt.settings import Settings

T = TypeVar("T")
Answer = dict[str, Any]
_STOP_S = 30.0


class AsyncApp:
    """The verbs of `App` as coroutines, for the event loop in which the server runs."""

    def __init__(self, settings: Settings, data: Path) -> None:
        self.settings = settings
        self.data = data
        self.modules: list[tuple[str, object, float, str]] = []
        self.bots: list[Bot] = []
        self.running: Running | None = None
        self._context: AbstractAsyncContextManager[Running] | None = None

    @property
    def broker(self) -> Broker | None:
        """Return the running broker."""
        return self.running.broker if self.running is not None else None

    async def start(self) -> Self:
        """Serve, in this event loop. Raises MesimqttError, whose text says what to do."""
        if self._context is not None:
            raise MesimqttError("it is running already")
        self._context = running(self.settings, self.data, prepare=self._prepare)
        try:
            self.running = await self._context.__aenter__()
        except BaseException:
            self._context = None
            raise
        try:
            for bot in self.bots:
                await self._make_bot(bot)
        except BaseException:
            await self.stop()
            raise
        return self

    async def stop(self) -> None:
        """Commit what is under way and end. Raises StoreError if the disk had failed."""
        context, self._context, self.running = self._context, None, None
        if context is not None:
            await context.__aexit__(None, None, None)

    def _prepare(self, messaging: Messaging) -> None:
        for name, thing, answer_s, on_error in self.modules:
            attach(messaging, name, thing, answer_s=answer_s, on_error=on_error)

    async def bot(self, address: str, device: str = DEVICE) -> Bot:
        """Return a bot that is online; its user is made if there is none."""
        bot = self.declared(address, device)
        await self._make_bot(bot)
        return bot

    def declared(self, address: str, device: str = DEVICE) -> Bot:
        """Return the bot of that user and device, made at the first call."""
        for bot in self.bots:
            if (bot.address, bot.device) == (address, device):
                return bot
        self.bots.append(Bot(address, device))
        return self.bots[-1]

    async def _make_bot(self, bot: Bot) -> None:
        if self.running is not None:
            await self.user(bot.address)
            self.running.messaging.bots.adopt(bot)
            await bot.wait_online()

    async def perform(self, op: str, **arguments: Any) -> Answer:  # noqa: ANN401 - JSON
        """Do one operation with the power of the operator, on a stopped server too. Raises OperationError."""
        return await self.perform_as("", op, **arguments)

    async def perform_as(self, user: str, op: str, **arguments: Any) -> Answer:  # noqa: ANN401 - JSON
        """Do one operation as `user` may do it, in his own name. Raises OperationError."""
        if self.running is not None:  # to its end, though the caller gives up: what is committed must be in force
            return await asyncio.shield(self.running.perform(op, arguments, user))
        async with running(self.settings, self.data, listen=False) as opened:
            return await opened.perform(op, arguments, user)

    async def user(self, *addresses: str) -> None:
        """Make users; who is there stays as he is."""
        await self.perform("user_add", addresses=list(addresses))

    async def token(self, address: str, *, ttl: int | None = None, device: str | None = None) -> str:
        """Return a new token of a user, good for `ttl` seconds, for the client id `device` alone if one is named."""
        arguments = {"addresses": [address], "ttl": ttl, "device": device}
        issued = await self.perform("token_issue", **{key: each for key, each in arguments.items() if each is not None})
        return str(issued["tokens"][0]["token"])

    async def group(self, address: str, *members: str) -> None:
        """Make a group, or find it there, and let members in."""
        try:
            await self.perform("group_add", address=address)
        except OperationError as error:
            if error.code != "group-exists":
                raise
        if members:
            await self.perform("group_join", address=address, users=list(members))

    async def send(
        self,
        sender: str,
        to: str | None = None,
        text: str = "",
        *,
        group: str | None = None,
        **params: Any,  # noqa: ANN401 - JSON
    ) -> Answer:
        """Send a text in a user's name; return its mid, cid and status once it is committed. Raises OperationError."""
        where = {"to": to} if group is None else {"group": group}
        return await self.perform("send", sender=sender, text=text, **where, **params)

    async def status(self, mid: str) -> Answer:
        """Return the status of a message for each recipient."""
        return await self.perform("status", mid=mid)

    async def wait_failed(self) -> str:
        """Wait until the server cannot go on; return why."""
        return await self.running.wait_failed() if self.running is not None else "it is not running"


class App:
    """A messaging server of one data folder, in this process.

    Every verb may be called from any thread, but for the one whose event loop runs the server: there `app.aio` has
    the same verbs as coroutines, and `async with App(…) as aio` gives it. On a stopped server a verb opens the data
    folder for itself.

    `mqtt`, `ws`, `http`: ADDR:PORT, port 0 for a free one, "off" for none; None is what the configuration says.
    `config` is a file as for `mesimqtt serve --config`. Beyond loopback without TLS needs `insecure`.
    """

    def __init__(
        self,
        data: str | Path = "mesimqtt-data",
        *,
        mqtt: str | None = None,
        ws: str | None = None,
        http: str | None = None,
        config: str | Path | None = None,
        settings: Settings | None = None,
        insecure: bool = False,
    ) -> None:
        base = settings if settings is not None else load_settings(Path(config) if config is not None else None)
        chosen = choose(base, mqtt=mqtt, ws=ws, http=http)
        self.aio = AsyncApp(_listening(chosen, insecure=insecure), Path(data))
        self.asgi = WebSocketMount(lambda: self.aio.broker)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._leaving: Running | None = None

    # ---- what it does beside serving -----------------------------------------------------------------------------

    def on_message(self, judge: Judge) -> Judge:
        """Let `judge` pass, consume, refuse or change each message before it is accepted. Usable as a decorator."""
        self.module(judge)
        return judge

    def module(self, thing: object, *, name: str = "", answer_s: float = 0.0, on_error: str = "") -> None:
        """Add a function that judges, or an object with on_message, on_status and the like; before the start."""
        if self.aio.running is not None:
            raise MesimqttError("add modules before the server starts: what came in between would pass unjudged")
        called = name or getattr(thing, "__name__", type(thing).__name__)
        self.aio.modules.append((called, thing, answer_s, on_error))

    def bot(self, address: str, device: str = DEVICE) -> Bot:
        """Return a bot; its user is made at the start, or now, if it serves."""
        if self._loop is not None:
            return self.call(self.aio.bot(address, device))
        return self.aio.declared(address, device)

    # ---- serving -------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> AsyncApp:
        await self.aio.start()
        self._loop = asyncio.get_running_loop()
        return self.aio

    async def __aexit__(self, *_: object) -> None:
        self._loop = None
        await self.aio.stop()

    @asynccontextmanager
    async def lifespan(self, _application: object = None) -> AsyncIterator[dict[str, AsyncApp]]:
        """Serve while an ASGI application lives, in its loop: `Starlette(lifespan=app.lifespan)`."""
        async with self as aio:
            yield {"mesimqtt": aio}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Serve in a thread of its own until `stop`. Raises MesimqttError, whose text says what to do."""
        if self._thread is not None:
            raise MesimqttError("it is running already")
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve_apart, args=(ready,), name="mesimqtt", daemon=True)
        self._thread.start()
        ready.wait()
        if not self._thread.is_alive() or self._loop is None:  # it ended before it was ready
            self.stop()
        return self

    def stop(self) -> None:
        """End what `start` began. Raises what ended it before, if anything did."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None and thread.is_alive():
            loop.call_soon_threadsafe(stopping.set)
        thread.join(_STOP_S)
        error, self._error = self._error, None
        if error is not None:
            raise error

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM, with a line `ready mqtt ADDR:PORT` for each listener."""
        run(self._serve(on_ready=self._announce, signals=True))

    def _serve_apart(self, ready: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._serve(on_ready=ready.set, signals=False))
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for it
            self._error = error
        finally:
            ready.set()

    async def _serve(self, *, on_ready: Callable[[], None], signals: bool) -> None:
        self._stopping = stopping = asyncio.Event()
        if signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self._end, stopping)
        async with self:
            on_ready()
            waiting = [asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(self.aio.wait_failed())]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()

    def _end(self, stopping: asyncio.Event) -> None:
        """Take leave in order; asked again, at once."""
        if not stopping.is_set():
            self._leaving = self.aio.running
            stopping.set()
        elif self._leaving is not None:
            self._leaving.hurry()

    def _announce(self) -> None:
        for listener in self.bound:
            sys.stdout.write(f"{ready_line(*listener)}\n")
        sys.stdout.flush()

    @property
    def bound(self) -> list[tuple[str, str, int]]:
        """Return (kind, host, port) of each listener while it serves."""
        return list(self.aio.running.bound) if self.aio.running is not None else []

    @property
    def port(self) -> int:
        """Return the port of the first MQTT listener; 0 while it does not serve."""
        return self.port_of("mqtt")

    def port_of(self, kind: str) -> int:
        """Return the port of the first listener that speaks `mqtt`, `ws` or `http`, with TLS or without; 0 if none."""
        return next((port for scheme, _, port in self.bound if scheme in (kind, f"{kind}s")), 0)

    # ---- verbs for any thread --------------------------------------------------------------------------------------

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where the server runs (`app.call(bot.send("alice", "hi"))`) and return its result."""
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        loop = self._loop
        if here is not None and (loop is None or loop is here):
            coroutine.close()
            raise RuntimeError("this thread runs an event loop, which must not wait: use `await app.aio.…`")
        if loop is None:
            return asyncio.run(coroutine)
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    def perform(self, op: str, **arguments: Any) -> Answer:  # noqa: ANN401 - JSON
        """Do one operation with the power of the operator: `app.perform("user_add", addresses=["alice"])`."""
        return self.call(self.aio.perform(op, **arguments))

    def perform_as(self, user: str, op: str, **arguments: Any) -> Answer:  # noqa: ANN401 - JSON
        """Do one operation as `user` may do it: `app.perform_as("alice", "inbox")`."""
        return self.call(self.aio.perform_as(user, op, **arguments))

    def user(self, *addresses: str) -> None:
        """Make users; who is there stays as he is."""
        self.call(self.aio.user(*addresses))

    def token(self, address: str, *, ttl: int | None = None, device: str | None = None) -> str:
        """Return a new token of a user (see AsyncApp.token)."""
        return self.call(self.aio.token(address, ttl=ttl, device=device))

    def group(self, address: str, *members: str) -> None:
        """Make a group, or find it there, and let members in."""
        self.call(self.aio.group(address, *members))

    def send(
        self,
        sender: str,
        to: str | None = None,
        text: str = "",
        *,
        group: str | None = None,
        **params: Any,  # noqa: ANN401 - JSON
    ) -> Answer:
        """Send a text in a user's name (see AsyncApp.send)."""
        return self.call(self.aio.send(sender, to, text, group=group, **params))

    def status(self, mid: str) -> Answer:
        """Return the status of a message for each recipient."""
        return self.call(self.aio.status(mid))


def _listening(settings: Settings, *, insecure: bool) -> Settings:
    """Return settings with a listener for who brings WebSockets of his own (`App.asgi`), if they are safe."""
    for each in reachable(settings):
        if not each.has_tls and not insecure:
            way = "set ssl in a configuration file, or say insecure=True if a VPN or a TLS proxy stands in front"
            raise MesimqttError(f"{each.danger}; {way}")
    listeners = dict(settings.broker["listeners"])
    listeners.setdefault(LISTENER, {"type": "external"})
    return replace(settings, broker={**settings.broker, "listeners": listeners})
