"""The broker: amqtt's configuration, plugin manager and context on our engine and our sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import amqtt.broker
from amqtt.errors import BrokerError
from amqtt.events import BrokerEvents

from mesimqtt.broker.bridge import Bridge
from mesimqtt.broker.configuration import broker_config, load_plugins, warn_of_gaps
from mesimqtt.broker.context import Context
from mesimqtt.broker.drain import Drain
from mesimqtt.broker.foreign import ANSWER_KEPT_S, FAULTS, name_of
from mesimqtt.broker.gate import Gate
from mesimqtt.broker.isolated import Isolated
from mesimqtt.broker.listeners import HTTP, Listeners
from mesimqtt.broker.pump import PumpTransport
from mesimqtt.broker.services import BareServices
from mesimqtt.broker.sessions import PluginSession, Sessions
from mesimqtt.broker.subscriptions import PluginSubscriptions
from mesimqtt.broker.throttle import Throttle
from mesimqtt.broker.traffic import Traffic
from mesimqtt.broker.views import RetainedView, plugin_sessions, plugin_subscriptions
from mesimqtt.broker.watchdog import Watchdog
from mesimqtt.broker.websocket import take_over
from mesimqtt.broker.wire import Wire
from mesimqtt.domain.chance import SYSTEM
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.engine.engine import Engine
from mesimqtt.engine.retained import RetainedMessage
from mesimqtt.record.outside import Outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from amqtt.adapters import ReaderAdapter, WriterAdapter
    from amqtt.plugins.manager import PluginManager
    from amqtt.session import Session

    from mesimqtt.broker.protocol import Listener
    from mesimqtt.broker.services import Services
    from mesimqtt.domain.chance import Chance
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.ports import Claim
    from mesimqtt.settings import Settings

TICK_S = 0.25
PLUGIN_S = 0.5  # at the end, for each of a plugin's two shutdown events
COMMIT_S = 1.0  # at the end, for the commit of what clients have sent

logger = logging.getLogger(__name__)


def _nobody() -> None:
    """Tell nobody: a broker that stands alone."""


class Broker(amqtt.broker.Broker):
    """An amqtt broker whose data plane is ours.

    `services` is what our own plugins reach through their context; without it the broker stands alone,
    with free topics in memory. `clock` gives seconds that never jump. `http` makes the protocol of a connection to
    the HTTP listener; None: there is no such listener. `outside` is where sockets, files and memory are looked at.
    """

    http: Callable[[Listener, str | None], Any] | None = None

    def __init__(
        self,
        settings: Settings,
        *,
        services: Services | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Chance = SYSTEM,
        outside: Outside | None = None,
        make_listeners: Callable[[Wire, Settings, Outside], Listeners] = Listeners,
    ) -> None:
        """Load the configuration and the plugins; raises MesimqttError, whose text says what to mend."""
        # amqtt's own __init__ is not called: it makes the queues and tasks of the engine that we replace.
        self.logger = logger
        self.settings = settings
        self.services: Services = services or BareServices()
        self.config, isolated = broker_config(settings.broker)
        self.listeners_config = self.config.listeners
        self.claim: Claim | None = None
        self.on_reload: list[Callable[[], None]] = []
        self._loop = loop or asyncio.get_running_loop()
        self._clock = clock
        self._chance = chance
        self.outside = outside or Outside()
        self._init_states()
        self.plugins_manager: PluginManager[Any] = load_plugins(
            Context(self, settings, self.services), self.config, isolated, self._loop
        )
        self._plugin_sessions = Sessions()
        self._sessions: dict[str, Any] = {}  # amqtt's context adds here the clients that a plugin makes up
        self.gate = self._make_gate()
        self.bridge = Bridge(
            self.plugins_manager._event_plugin_callbacks,  # noqa: SLF001 - no public way; held by the contract test
            self._plugin_sessions,
            loop=self._loop,
            answer_s=settings.plugins.answer_s,
            on_connected=self._connected,
            on_reauthenticated=self.gate.connected,
            on_disconnected=self.gate.disconnected,
        )
        self.engine = self._make_engine()
        self.wire = self._make_wire()
        self._watchdog: Watchdog | None = None
        self._plugin_subscriptions = PluginSubscriptions(self.engine, self.gate, settings.root)
        self._listeners = make_listeners(self.wire, settings, self.outside)
        self.drain = Drain(self.wire, settings.drain, clock=clock, chance=chance)
        self._ticker: asyncio.TimerHandle | None = None
        self._forget_at = 0.0
        self._due = 0.0  # when the next tick should come; 0: whenever

    def _make_engine(self) -> Engine:
        return Engine(
            self.settings.limits,
            gate=self.gate,
            claim=self.claim,
            keeper=self.services.keeper,
            observer=self.bridge,
            now=self._clock(),
            mqtt=self.settings.mqtt,
            chance=self._chance,
        )

    def _make_wire(self) -> Wire:
        wire = Wire(self.engine, self.settings.limits, self._loop, self._clock)
        self.engine.wake = wire.wake
        self.engine.untaken = wire.untaken
        self._plugin_sessions.tls_of = wire.tls_of
        wire.on_closed = self.gate.closed
        wire.on_refused = self.gate.handshake_failed
        wire.traffic = Traffic(self.settings.rates, self.engine.counters, self.services.count) or None
        return wire

    def _make_gate(self) -> Gate:
        return Gate(
            self.plugins_manager._auth_plugins,  # noqa: SLF001 - no public way; held by the contract test
            self.plugins_manager._topic_plugins,  # noqa: SLF001 - likewise
            root=self.settings.root,
            sessions=self._plugin_sessions,
            notify_denied=self.services.notify_denied,
            clock=self._clock,
            wall=self.outside.wall_s,
            wake=self.wake,
            is_disabled=self.services.is_disabled,
            throttle=Throttle(self.settings.rates, self.services.failed_logins, self._clock()),
            answer_s=self.settings.plugins.answer_s,
        )

    @property
    def bound(self) -> list[tuple[str, str, int]]:
        """Return (listener, host, port) of every socket that accepts connections."""
        return self._listeners.bound

    def kind(self, listener: str) -> str:
        """Return what a listener speaks, as in a URL: `mqtt`, `mqtts`, `ws` or `wss`."""
        return self._listeners.kind(listener)

    def take_over(self, address: str, transport: asyncio.Transport, head: bytes) -> None:
        """Go on as MQTT over WebSocket with a connection of the HTTP listener; `head` is its request."""
        listener = self._listeners.get(HTTP)
        if listener is not None:
            take_over(listener, address, transport, head)

    def reload(self) -> None:
        """Read again what stands in files of its own: certificates, rules of plugins. Connections stay."""
        for call in (self._listeners.reload, *self.on_reload):
            try:
                call()
            except Exception:
                logger.exception("a file could not be read again; what was read before stays in force")

    def wake(self) -> None:
        """Write in this loop turn what the engine has put out. To be called after work outside of a read."""
        self.wire.wake()

    def permissions_changed(self) -> None:
        """Forget cached decisions and let the engine look at its subscriptions again."""
        self.gate.permissions_changed()
        self.engine.permissions_changed()
        self.wake()

    async def start(self) -> None:
        """Start plugins and listeners. Raises MesimqttError, whose text says what to do."""
        if self.transitions.state not in ("new", "stopped"):
            raise BrokerError(f"the broker is {self.transitions.state}, it cannot be started")
        self.transitions.start()
        self.engine.draining = self.wire.is_leaving = self.wire.is_stopping = False
        await self.bridge.run(BrokerEvents.PRE_START)
        self.engine.tick(self._clock())  # what fell due while there was no server comes before anybody is back
        try:
            await self._start_listeners()
        except MesimqttError:
            await self._listeners.close()
            self.transitions.starting_fail()
            raise
        self.transitions.starting_success()
        is_claimed = self.claim is not None or self.services.claim is None
        warn_of_gaps(self.plugins_manager, root=self.settings.root, is_claimed=is_claimed)
        await self.bridge.run(BrokerEvents.POST_START)
        self._watch()
        self._tick()

    async def leave(self, tell: Callable[[], None] = _nobody) -> None:
        """Stop accepting and let every client go, in order; `tell` tells them before. HTTP goes on, to be refused."""
        if self.transitions.state != "started" or self.drain.has_begun:
            return
        self.drain.begin()
        await self._listeners.close(but=HTTP)
        tell()
        await self.bridge.run(BrokerEvents.PRE_SHUTDOWN, timeout_s=PLUGIN_S)
        await self.drain.let_go()
        self.wire.stop_reading()

    async def shutdown(self) -> None:
        """Stop accepting, write what is due, close every connection; at the latest after 3 s."""
        if self.transitions.state != "started":
            return
        await self.leave()
        self.transitions.shutdown()
        await self._listeners.close()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._watchdog is not None:
            self._watchdog.stop()
        await self._committed(min(COMMIT_S, self.drain.left_s))
        self.engine.goodbye([each for each in self.wire.protocols if each.is_open])
        await self.wire.close(self.drain.left_s)
        await self.gate.close()
        await self.bridge.runner.close()
        await self.bridge.run(BrokerEvents.POST_SHUTDOWN, timeout_s=PLUGIN_S)
        await self._close_plugins()
        self.transitions.stopping_success()

    async def _close_plugins(self) -> None:
        try:
            async with asyncio.timeout(PLUGIN_S):
                await self.plugins_manager.close()
        except TimeoutError:
            logger.warning("a plugin did not close within %g s", PLUGIN_S)
        except FAULTS:  # whatever a plugin raises is logged and stops nothing
            logger.exception("a plugin failed in close")

    def _stood_still(self, now: float) -> bool:
        """Tell, once, whether nothing was read for a while: nobody is to be judged for a silence that was ours."""
        is_late = 0.0 < self._due < now - TICK_S
        self._due = 0.0 if is_late else now + TICK_S
        return is_late

    def _watch(self) -> None:
        """Have a thread look at what holds up the loop; our own plugins are part of the server."""
        names: dict[str, str] = {}
        for plugin in self.plugins_manager.plugins:
            module = type(plugin).__module__
            if not isinstance(plugin, Isolated) and not module.startswith("mesimqtt_plugins"):
                names[module] = f"{names[module]} or {name_of(plugin)}" if module in names else name_of(plugin)
        if self.settings.plugins.blocked_s:
            blocked_s = self.settings.plugins.blocked_s
            self._watchdog = Watchdog(names, modules=self.services.modules, beat_s=TICK_S, blocked_s=blocked_s)
            self._watchdog.start()

    async def _committed(self, timeout_s: float) -> None:
        """Wait until everything that clients have sent is committed, so that its acknowledgements can leave."""
        if self.services.keeper is None:
            return
        done = asyncio.Event()
        self.services.keeper.after_commit(lambda _is_committed: done.set())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), timeout_s)

    def _connected(self, connection: Connection) -> None:
        self._sessions.pop(connection.client_id, None)
        self._plugin_subscriptions.connected(connection)
        self.gate.connected(connection)

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(TICK_S, self._tick)
        now = self._clock()
        if self._watchdog is not None:
            self._watchdog.beat()
        if self._stood_still(now):
            return
        if self.gate.is_volatile and now >= self._forget_at:
            self._forget_at = now + ANSWER_KEPT_S
            self.engine.permissions_changed()
        for tick in (self.engine.tick, self.gate.tick, self.wire.tick, self._listeners.tick):
            try:
                tick(now)
            except Exception:
                logger.exception("a periodic task failed; it is tried again")
        self.wire.wake()

    async def _start_listeners(self) -> None:
        for name, listener in self.listeners_config.items():
            await self._listeners.open(name, listener)
        if self.http is not None:
            await self._listeners.open_http(self.listeners_config["default"], self.http)

    async def _client_connected(self, listener_name: str, reader: ReaderAdapter, writer: WriterAdapter) -> None:
        """Take a connection that comes as adapters (amqtt's `external_connected`)."""
        listener = self._listeners.get(listener_name)
        if listener is None:
            raise BrokerError(f"Invalid listener name '{listener_name}'")
        await PumpTransport(listener.protocol(), reader, writer).run()

    @property
    def sessions(self) -> dict[str, Any]:
        """Return amqtt's (session, handler) pairs by client id; handler is None, there are none."""
        return {**self._sessions, **plugin_sessions(self.engine, self._plugin_sessions)}

    @property
    def subscriptions(self) -> dict[str, Any]:
        """Return amqtt's (session, qos) pairs by topic filter."""
        return plugin_subscriptions(self.engine, self._plugin_sessions)

    @property
    def retained_messages(self) -> RetainedView:  # type: ignore[override] # a mapping, not a dict of its own
        """Return the engine's retained messages as a mutable mapping."""
        return RetainedView(self.engine, self._retain)

    async def internal_message_broadcast(self, topic: str, data: bytes, qos: int | None = None) -> None:
        """Publish on behalf of a plugin. `$SYS/…` is retained, as clients expect of statistics."""
        if self._is_under_root(topic):
            return
        if topic.startswith("$SYS/"):
            self._retain(topic, bytes(data), qos or 0)
            return
        # Without a QoS amqtt uses the subscription's: the highest is lowered to that of each receiver.
        self.engine.publish(topic, bytes(data), 2 if qos is None else qos, False)
        self.wake()

    async def retain_message(
        self,
        source_session: Session | None,
        topic_name: str | None,
        data: bytes | bytearray | None,
        qos: int | None = None,
    ) -> None:
        """Retain, or with no data clear, a message on behalf of a plugin."""
        if topic_name is None or self._is_under_root(topic_name):
            return
        self._retain(topic_name, bytes(data or b""), qos or 0)
        self.bridge.retained(source_session, topic_name, bytes(data or b""), qos)

    def create_offline_session(self, client_id: str) -> tuple[Any, Session]:
        """Return amqtt's (handler, session) for a client that has not come yet; there is no handler."""
        session = PluginSession()
        session.client_id = client_id
        session.transitions.disconnect()
        return None, session

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """Subscribe a client on behalf of a plugin; one that is not connected when it comes."""
        topic_filter, qos = subscription
        return await self._plugin_subscriptions.add(topic_filter, qos, session)

    def retain_figure(self, topic: str, value: str) -> None:
        """Publish a figure of the server itself, for whoever is subscribed and whoever comes."""
        self._retain(topic, value.encode(), 0)

    def _retain(self, topic: str, payload: bytes, qos: int) -> None:
        if topic.startswith("$"):  # statistics are of this process: nothing to keep over a restart
            self.engine.retained.put(RetainedMessage(topic, payload, qos))
        self.engine.publish(topic, payload, qos, not topic.startswith("$"))
        self.wake()

    def _is_under_root(self, topic: str) -> bool:
        if topic.partition("/")[0] != self.settings.root:
            return False
        logger.warning("a plugin may not publish under %s/: that is messaging's alone", self.settings.root)
        return True
