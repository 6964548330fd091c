"""Modules that the configuration names: imported, made and put in their order (docs/modules.md)."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.messaging import operations
from mesimqtt.messaging.bot import DEVICE
from mesimqtt.messaging.modules import OBSERVED, unjudged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesimqtt.messaging.bot import Bot
    from mesimqtt.messaging.messaging import Messaging
    from mesimqtt.settings import LoadedModule

log = logging.getLogger(__name__)


class ModuleServer:
    """What a module is given at start: the server's operations, and bots (hooks.Server)."""

    def __init__(self, messaging: Messaging) -> None:
        self._messaging = messaging

    async def perform(self, op: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Do one operation with the power of the operator; what it sends is judged by no module."""
        before = unjudged.set(True)
        try:
            # To its end, though the module's time is over: what is committed must be in force.
            return await asyncio.shield(operations.perform(self._messaging, op, arguments))
        finally:
            unjudged.reset(before)

    def bot(self, address: str, device: str = DEVICE) -> Bot:
        """Return a bot (docs/bots.md); its user is made if there is none, and then it comes online."""
        messaging = self._messaging
        bot = messaging.bots.add(address, device)
        if not bot.is_connected:
            messaging.bots.spawn(self._make_user(address))
        return bot

    async def _make_user(self, address: str) -> None:
        try:
            await self.perform("user_add", addresses=[address])
        except MesimqttError as error:
            log.error("bot %s is offline: %s", address, error)  # noqa: TRY400 - the text says all


def load_modules(messaging: Messaging, entries: Iterable[LoadedModule]) -> None:
    """Put the configured modules into the server, in their order.

    Raises:
        MesimqttError: one cannot be imported or made; the text names its entry.

    """
    for number, entry in enumerate(entries):
        where = f"modules.load[{number}]: {entry.call}"
        name = entry.name or entry.call
        made = _make(_found(entry.call, where), entry.options, where)
        if not attach(messaging, name, made, answer_s=entry.answer_s, on_error=entry.on_error):
            methods = ", ".join(("on_message", *OBSERVED))
            raise MesimqttError(f"{where}: it is neither a function nor has it one of the methods {methods}")
        log.info("module %s is loaded", name)


def attach(messaging: Messaging, name: str, thing: object, *, answer_s: float = 0.0, on_error: str = "") -> bool:
    """Take a function that judges, or an object whose methods do; False if it is neither."""
    modules = messaging.modules
    if inspect.isroutine(thing):
        modules.add(name, thing, answer_s=answer_s, on_error=on_error)
        return True
    judge = getattr(thing, "on_message", None)
    if judge is not None:
        modules.add(name, judge, answer_s=answer_s, on_error=on_error)
    observed = [what for what in OBSERVED if callable(getattr(thing, what, None))]
    for what in observed:
        modules.observe(name, what, getattr(thing, what))
    if callable(started := getattr(thing, "started", None)):
        started(ModuleServer(messaging))
    return judge is not None or bool(observed)


def _found(path: str, where: str) -> Any:  # noqa: ANN401 - whatever stands there
    package, colon, name = path.partition(":")
    if not colon or not package or not name:
        raise MesimqttError(f"{where}: write package.module:name")
    try:
        module = importlib.import_module(package)
    except Exception as error:
        how = "; install it, or name its folder in PYTHONPATH" if isinstance(error, ModuleNotFoundError) else ""
        raise MesimqttError(f"{where}: cannot be imported: {type(error).__name__}: {error}{how}") from error
    if not hasattr(module, name):
        raise MesimqttError(f"{where}: {package} has no {name}")
    return getattr(module, name)


def _make(found: Any, options: dict[str, Any], where: str) -> Any:  # noqa: ANN401 - likewise
    """Return the module itself: a class, and whatever has options, is called with them."""
    if not options and not inspect.isclass(found):
        return found
    try:
        return found(**options)
    except Exception as error:
        raise MesimqttError(f"{where}: {type(error).__name__}: {error}; check its options") from error
