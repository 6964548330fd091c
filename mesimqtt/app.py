"""The composition root: settings -> store, messaging, broker, control socket, HTTP door."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from math import ceil
from typing import TYPE_CHECKING, Any

from mesimqtt.api.control import ControlServer
from mesimqtt.api.health import Health, demand_of
from mesimqtt.api.names import SOCKET_NAME
from mesimqtt.domain.errors import StoreError
from mesimqtt.engine.counters import Counters
from mesimqtt.messaging import operations
from mesimqtt.messaging.keys import Keys
from mesimqtt.messaging.messaging import Messaging
from mesimqtt.messaging.module_loader import load_modules
from mesimqtt.messaging.operations import OPERATOR, Caller
from mesimqtt.record.outside import Outside
from mesimqtt.services.webhooks.dispatcher import Dispatcher
from mesimqtt.store.database import FILE_NAME, sentence
from mesimqtt.store.layout import KEYS_NAME, SECRET_NAME
from mesimqtt.store.sessions import SessionKeeper
from mesimqtt.store.store import Store
from mesimqtt.store.throttle import FailedLogins
from mesimqtt.store.tokens import newest as newest_token
from mesimqtt.tokens import TokenSigner, load_secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from mesimqtt.api.door import Door
    from mesimqtt.api.metrics import Metrics
    from mesimqtt.broker.broker import Broker
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.ports import Claim, Keeper
    from mesimqtt.messaging.access import AccessRules
    from mesimqtt.settings import Settings

log = logging.getLogger(__name__)
TICK_S = 0.25


class Services:
    """What the broker's plugins reach through their context."""

    def __init__(self, messaging: Messaging, keeper: Keeper, failed_logins: FailedLogins) -> None:
        self._messaging = messaging
        self._keeper = keeper
        self.failed_logins = failed_logins

    @property
    def tokens(self) -> Messaging:
        """Return what verifies tokens."""
        return self._messaging

    @property
    def claim(self) -> Claim:
        """Return the owner of every topic under the root."""
        return self._messaging.claim

    @property
    def keeper(self) -> Keeper:
        """Return where sessions and retained messages survive a restart."""
        return self._keeper

    def notify_denied(self, connection: Connection, topic: str, rule: str) -> None:
        """Tell the client on `in/session` that a free topic was denied."""
        self._messaging.notify_denied(connection, topic, rule)

    def count(self, what: str) -> None:
        """Count something for `stats`."""
        self._messaging.count(what)

    def is_user(self, address: str) -> bool:
        """Tell whether there is such a user."""
        return self._messaging.is_user(address)

    def is_disabled(self, address: str) -> bool:
        """Tell whether there is such a user whom nobody is to let in."""
        user = self._messaging.find_user(address)
        return user is not None and not user.active

    def is_member(self, user: str, group: str) -> bool:
        """Tell whether `user` belongs to `group`."""
        return self._messaging.access.is_member(user, group)

    @property
    def modules(self) -> Mapping[str, str]:
        """Return the modules' names by the Python module that they are written in."""
        return self._messaging.modules.names

    def rules_loaded(self, rules: AccessRules, changed: Callable[[], None]) -> None:
        """Take the rules in force, and whom to tell that members of a group have changed."""
        self._messaging.access.loaded(rules, changed)


class App:
    """A running server, or (without listeners) the data folder opened for one command."""

    def __init__(
        self,
        settings: Settings,
        data: Path,
        store: Store,
        messaging: Messaging,
        failed: asyncio.Future[str],
        outside: Outside | None = None,
    ) -> None:
        self.name = ""  # of one of several applications on this server
        self.settings = settings
        self.data = data
        self.store = store
        self.messaging = messaging
        self.broker: Broker | None = None
        self.webhooks: Dispatcher | None = None
        self.bound: list[tuple[str, str, int]] = []
        self._failed = failed
        self.outside = outside = outside or Outside()
        self._control: ControlServer | None = None
        self._door: Door | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._tick_at = outside.now()
        self._registry: Metrics | None = None
        self.lag_ms = 0.0  # how late the last tick was: what everybody else waits for the loop, too
        self.health = Health(
            store, lambda: self.bound, password=messaging.probe, lag_ms=lambda: self.lag_ms, ask=outside.ask
        )
        messaging.check_health = self.health.check
        messaging.read_metrics = lambda: outside.see(self._metrics)

    async def perform(self, op: str, args: dict[str, Any], user: str = "") -> dict[str, Any]:
        """Do one operation as the operator, or as `user` may do it. Raises OperationError."""
        caller = Caller(user, "user") if user else OPERATOR
        return await operations.perform(self.messaging, op, args, bound=self.bound, caller=caller)

    async def wait_failed(self) -> str:
        """Wait until the server cannot go on (the disk failed again and again); return why."""
        return await asyncio.shield(self._failed)  # the caller may give up waiting; the future stays

    async def start(self) -> None:
        """Open listeners and the control socket. Raises MesimqttError, whose text says what to do."""
        from mesimqtt.broker.broker import Broker  # noqa: PLC0415 - amqtt costs half a second, offline commands need none
        from mesimqtt.broker.listeners import Listeners  # noqa: PLC0415 - likewise

        self.webhooks = Dispatcher(self.messaging.webhooks, chance=self.messaging.chance.fraction, ask=self.outside.ask)
        self.messaging.webhooks.serve(self.webhooks)
        keeper = SessionKeeper(self.store)
        with sentence(self.data / FILE_NAME):
            kept, retained, wills = list(keeper.restore()), keeper.restore_retained(), list(keeper.restore_wills())
        self.broker = Broker(
            self.settings,
            services=Services(self.messaging, keeper, FailedLogins(self.store)),
            clock=self.outside.now,
            chance=self.messaging.chance,
            outside=self.outside,
            make_listeners=self.outside.make_listeners or Listeners,
        )
        self.broker.engine.restore(kept, retained, wills)
        self.messaging.on_user_deleted = self.broker.engine.forget_user
        self.messaging.on_revoked = self.broker.engine.revoke
        self._open_door(self.broker)
        await self.broker.start()
        self.bound = [(self.broker.kind(name), host, port) for name, host, port in self.broker.bound]
        options = [self.settings.listeners.get(name) for name, _host, _port in self.broker.bound]
        self.health.demands = {each: demand_of(found, each[1]) for each, found in zip(self.bound, options, strict=True)}
        self._control = ControlServer(self.data / SOCKET_NAME, self.outside.operation(self.perform))
        await self.outside.ask(self._control.start)
        self.messaging.expect_everybody()
        self._tick_at = self.outside.now() - TICK_S
        self._tick()

    def _open_door(self, broker: Broker) -> None:
        """Have the broker listen for HTTP, too, unless it is off."""
        if self.settings.http.bind == "off":
            return
        from mesimqtt.api.application import Application  # noqa: PLC0415 - uvicorn costs 0.1 s, and HTTP may be off
        from mesimqtt.api.door import Door  # noqa: PLC0415 - likewise
        from mesimqtt.api.openapi import html_page, json_page  # noqa: PLC0415 - likewise
        from mesimqtt.api.pages import alive, health_page  # noqa: PLC0415 - likewise
        from mesimqtt.broker.peers import counted_as  # noqa: PLC0415 - the broker's, see `start`

        async def perform(name: str, arguments: dict[str, Any], caller: Caller) -> dict[str, Any]:
            return await operations.perform(self.messaging, name, arguments, bound=self.bound, caller=caller)

        application = Application(self.messaging, perform, counted_as=counted_as)
        application.pages |= {"/healthz": health_page(self.health.check), "/livez": alive}
        application.pages |= {"/openapi.json": json_page, "/docs": html_page}
        self._door = Door(
            self.settings.http,
            application,
            clock=self.outside.now,
            wall=self.outside.wall_s,
            take_over=broker.take_over,
            stalled_s=self.settings.limits.stalled_s,
        )
        broker.http = self._door.connection

    def reload(self) -> None:
        """Read again what stands in files of its own: certificates, keys of others, rules of plugins."""
        if self.broker is not None:
            self.broker.reload()
        self.messaging.keys.reload()
        self.messaging.webhooks.reload()

    async def leave(self) -> None:
        """Stop accepting, tell every client when to come back, and let them go after the commit of what they sent."""
        if self._control is not None:
            await self.outside.ask(self._control.close)
        if self.broker is not None:
            await self.broker.leave(self._tell_closing)

    def hurry(self) -> None:
        """Wait for no client any more while the server ends."""
        if self.broker is not None:
            self.broker.drain.hurry()
        if self._door is not None:
            self._door.hurry()

    def _tell_closing(self) -> None:
        if self.broker is None:
            return
        if self._door is not None:
            self._door.drain(ceil(self.broker.drain.hint_max_s))
        self.messaging.tell_closing(self.broker.engine.hints)

    async def close(self) -> None:
        """Take leave, commit what is under way, close every connection, close the store."""
        await self.leave()
        if self._ticker is not None:
            self._ticker.cancel()
        self.messaging.close()
        if self._door is not None:
            await self._door.close()
        if self.broker is not None:
            await self.store.committer.drain()
            await self.broker.shutdown()
            self.messaging.webhooks.close()
        if self.webhooks is not None:
            await self.webhooks.close()
        await self.store.close()

    def _metrics(self) -> str:
        from mesimqtt.api.metrics import Metrics  # noqa: PLC0415 - prometheus_client costs 20 ms, and few ask

        if self._registry is None:
            engine = self.broker.engine.counters if self.broker is not None else Counters()
            self._registry = Metrics(self.messaging, lambda: engine, lag_ms=lambda: self.lag_ms)
        return self._registry.text()

    def _tick(self) -> None:
        loop, now = asyncio.get_running_loop(), self.outside.now()
        self.lag_ms = max(0.0, now - self._tick_at - TICK_S) * 1000
        self._tick_at = now
        self._ticker = loop.call_later(TICK_S, self._tick)
        try:
            self.messaging.tick(now)
            if self._door is not None:
                self._door.tick(now)
        except Exception:
            log.exception("a periodic task failed; it is tried again")


def ready_line(scheme: str, host: str, port: int) -> str:
    """Return the line that tells of a listener, so that a script can wait for it (contract section 7)."""
    kind = spoken(scheme)
    if not port:  # a Unix socket
        return f"ready {kind} {host}"
    return f"ready {kind} {f'[{host}]' if ':' in host else host}:{port}"


def spoken(scheme: str) -> str:
    """Return what a listener speaks, with TLS or without: `mqtt`, `ws` or `http`."""
    return scheme.removesuffix("s") if scheme != "ws" else scheme


def _open_store(
    settings: Settings, data: Path, outside: Outside, failed: asyncio.Future[str], *, inline: bool
) -> Store:
    def on_fatal(reason: str) -> None:
        log.critical(reason)
        if not failed.done():
            failed.set_result(reason)

    return Store(
        data,
        settings.store,
        loop=asyncio.get_running_loop(),
        now=outside.now,
        now_ms=outside.now_ms,
        on_fatal=on_fatal,
        inline=inline,
        make_runner=outside.make_runner,
    )


def _make_messaging(settings: Settings, data: Path, store: Store, outside: Outside, *, fetches: bool) -> Messaging:
    chance, now = outside.chance, outside.now
    if not (data / SECRET_NAME).exists() and newest_token(store.read):
        log.warning("%s is gone: another one is made, and no token that was signed before lets anybody in", SECRET_NAME)
    signer = TokenSigner(
        load_secret(data / SECRET_NAME, chance),
        issuer=settings.tokens.issuer,
        leeway_s=settings.tokens.leeway_s,
        foreign_issuers=settings.tokens.foreign_issuers,
    )
    keys = Keys(settings.tokens, signer, data / KEYS_NAME, now=now, fetches=fetches)
    with sentence(data / FILE_NAME):
        return Messaging(settings, store, signer, now=now, now_ms=outside.now_ms, keys=keys, chance=chance)


@asynccontextmanager
async def running(
    settings: Settings,
    data: Path,
    *,
    listen: bool = True,
    prepare: Callable[[Messaging], None] | None = None,
    outside: Outside | None = None,
) -> AsyncIterator[App]:
    """Open the data folder and, if `listen`, serve; close everything at the end.

    `prepare` is called before anybody can connect. `outside` is the world as the server is to find it.

    Raises:
        MesimqttError: the folder, the configuration or a listener cannot be used; the text says what to do.

    """
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    outside = outside or Outside()
    store = _open_store(settings, data, outside, failed, inline=not listen)
    try:
        if listen:
            store.check(time.monotonic)
        outside.opened(store)
        messaging = _make_messaging(settings, data, store, outside, fetches=listen)
        if listen:
            load_modules(messaging, settings.modules.load)
            if prepare is not None:
                prepare(messaging)
        app = App(settings, data, store, messaging, failed, outside)
    except BaseException:
        await store.close()
        raise
    try:
        if listen:
            await app.start()
        yield app
    finally:
        await app.close()
    if failed.done():
        raise StoreError(failed.result())
