"""The context that plugins get: amqtt's BrokerContext, and for our own plugins the services behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from amqtt.broker import BrokerContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesimqtt.broker.broker import Broker
    from mesimqtt.broker.services import Services
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.ports import Claim
    from mesimqtt.settings import Settings

T = TypeVar("T")


class Context(BrokerContext):
    """All that amqtt's context offers, working on our engine, plus settings and services."""

    def __init__(self, broker: Broker, settings: Settings, services: Services) -> None:
        """Make the context from which the plugin manager copies one for each plugin."""
        super().__init__(broker)
        self.settings = settings
        self.services = services
        self._broker = broker

    def permissions_changed(self) -> None:
        """Decide everything anew: a rule of a plugin has changed. Live subscriptions are looked at again."""
        self._broker.permissions_changed()

    def engine(self) -> Engine:
        """Return the engine, to look at and count; there is none before all plugins are loaded."""
        return self._broker.engine

    def now(self) -> float:
        """Return seconds that never jump."""
        return self._broker.outside.now()

    def wall(self) -> float:
        """Return seconds since 1970, as the wall clock has them."""
        return self._broker.outside.wall_s()

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Return what somebody else answers; a recording remembers it."""
        return await self._broker.outside.ask(question)

    def see(self, look: Callable[[], T]) -> T:
        """Return what a look at the machine shows; a recording remembers it."""
        return self._broker.outside.see(look)

    def retain_figure(self, topic: str, value: str) -> None:
        """Publish one figure under `$SYS/`, retained for as long as this process lives."""
        self._broker.retain_figure(topic, value)

    def on_reload(self, call: Callable[[], None]) -> None:
        """Call `call` whenever the operator asks for files to be read again (SIGHUP)."""
        self._broker.on_reload.append(call)

    def claim_root(self, claim: Claim) -> None:
        """Hand every topic under the claim's root to its owner; only while plugins are being loaded."""
        self._broker.claim = claim
