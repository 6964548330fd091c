"""Plugins with `isolate: true`: each in a thread with a loop of its own, so that it holds up nobody but itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from mesimqtt.broker.foreign import PluginFaultError
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.hooks import AccessPolicy, Authenticator

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from amqtt.plugins.base import BasePlugin
    from amqtt.plugins.manager import PluginManager

    AnyCoroutine = Callable[..., Coroutine[Any, Any, Any]]

OPTION = "isolate"
WAITING_MAX = 1_000  # calls that wait for, or are in, one plugin's thread
CONTEXT_S = 10.0  # how long a plugin waits for an answer of the server
CLOSE_S = 0.2  # for a plugin, and again for its thread: less than the broker waits for both

logger = logging.getLogger(__name__)


def take_isolated(plugins: dict[str, Any] | list[Any] | None) -> set[str]:
    """Take `isolate` out of the plugins' options, which amqtt checks strictly; return the names of those that have it.

    Raises:
        MesimqttError: its value is neither true nor false.

    """
    found: set[str] = set()
    entries = plugins if isinstance(plugins, list) else [plugins or {}]
    for path, options in (item for entry in entries if isinstance(entry, dict) for item in entry.items()):
        if isinstance(options, dict) and OPTION in options:
            wanted = options.pop(OPTION)
            if not isinstance(wanted, bool):
                raise MesimqttError(f"broker.plugins: {path}: {OPTION} is true or false")
            if wanted:
                found.add(path)
    return found


class PluginThread:
    """A thread with an event loop, in which the coroutines of one plugin run."""

    def __init__(self, name: str, server: asyncio.AbstractEventLoop) -> None:
        """Start it."""
        self.name = name
        self.loop = asyncio.new_event_loop()
        self._server = server
        self._is_over = asyncio.Event()
        self._waiting = 0
        self._thread = threading.Thread(target=self._run, name=f"mesimqtt-{name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        finally:
            self.loop.close()
            with contextlib.suppress(RuntimeError):  # the server's loop is closed, too
                self._server.call_soon_threadsafe(self._is_over.set)

    async def call(self, coroutine: AnyCoroutine, **arguments: object) -> Any:  # noqa: ANN401 - the plugin's
        """Run a coroutine there and wait for it here.

        Raises:
            PluginFaultError: so many calls wait already that this one has no prospect.

        """
        if self._waiting >= WAITING_MAX:
            raise PluginFaultError(f"plugin {self.name} has {WAITING_MAX} calls waiting")
        self._waiting += 1
        call = _Call(self, asyncio.get_running_loop(), coroutine, arguments)
        self.loop.call_soon_threadsafe(call.begin)
        try:
            return await call.answer
        finally:
            self.loop.call_soon_threadsafe(call.give_up)

    def ended(self) -> None:
        """Take note that a call has come to its end there, whether or not somebody still waits for it here."""
        self._waiting -= 1

    async def close(self) -> None:
        """Stop the loop; a thread that does not give way is left to the end of the process."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        try:
            await asyncio.wait_for(self._is_over.wait(), CLOSE_S)
        except TimeoutError:
            logger.warning("plugin %s does not end; it is left behind", self.name)


class _Call:
    """One coroutine on its way to a plugin's thread and back. `begin` and `give_up` run there, the rest here."""

    def __init__(
        self,
        thread: PluginThread,
        here: asyncio.AbstractEventLoop,
        coroutine: AnyCoroutine,
        arguments: dict[str, object],
    ) -> None:
        self.answer: asyncio.Future[Any] = here.create_future()
        self._thread = thread
        self._here = here
        self._coroutine = coroutine
        self._arguments = arguments
        self._task: asyncio.Task[Any] | None = None

    def begin(self) -> None:
        """Start the coroutine."""
        self._task = self._thread.loop.create_task(self._run())
        self._task.add_done_callback(self._done)

    def give_up(self) -> None:
        """Cancel it, if it still runs."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> Any:  # noqa: ANN401 - the plugin's
        try:
            return await self._coroutine(**self._arguments)
        except (SystemExit, KeyboardInterrupt) as error:  # it would end the thread, and every later answer
            raise PluginFaultError(f"plugin {self._thread.name} raised {type(error).__name__}") from error

    def _done(self, task: asyncio.Task[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the server's loop is closed: nobody waits any more
            self._here.call_soon_threadsafe(self._ended, task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._thread.ended()
        error = PluginFaultError("cancelled itself") if task.cancelled() else task.exception()
        if self.answer.done():
            return
        if error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(task.result())


class IsolatedContext:
    """The context of an isolated plugin: what it asks of the server is done, and answered, by the server's loop."""

    def __init__(self, context: Any, thread: PluginThread, server: asyncio.AbstractEventLoop) -> None:  # noqa: ANN401 - amqtt's
        self._context = context
        self._server = server
        self.loop = thread.loop
        self.logger = context.logger
        self.config = context.config

    async def broadcast_message(self, topic: str, data: bytes, qos: int | None = None) -> None:
        """Send a message to all that subscribe to `topic`."""
        await self._done(self._context.broadcast_message(topic, data, qos))

    async def retain_message(self, topic_name: str, data: bytes | bytearray, qos: int | None = None) -> None:
        """Retain a message."""
        await self._done(self._context.retain_message(topic_name, data, qos))

    async def add_subscription(self, client_id: str, topic: str | None, qos: int | None) -> None:
        """Subscribe a client."""
        await self._done(self._context.add_subscription(client_id, topic, qos))

    @property
    def sessions(self) -> list[Any]:
        """Return the sessions of now."""
        return list(self._answer(lambda: list(self._context.sessions)))

    def get_session(self, client_id: str) -> Any:  # noqa: ANN401 - amqtt's
        """Return the session of a client."""
        return self._answer(lambda: self._context.get_session(client_id))

    @property
    def retained_messages(self) -> dict[str, Any]:
        """Return the retained messages of now; to change one, use `retain_message`."""
        return dict(self._answer(lambda: dict(self._context.retained_messages)))

    @property
    def subscriptions(self) -> dict[str, Any]:
        """Return the subscriptions of now."""
        return dict(self._answer(lambda: dict(self._context.subscriptions)))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - anything
        raise AttributeError(f"an isolated plugin has no context.{name}; take `{OPTION}` out of its options to use it")

    async def _done(self, work: Coroutine[Any, Any, None]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._server))

    def _answer(self, question: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever was asked
        async def ask() -> Any:  # noqa: ANN401 - as above
            return question()

        return asyncio.run_coroutine_threadsafe(ask(), self._server).result(CONTEXT_S)


class Isolated:
    """Stands for a plugin that runs in its thread; its coroutines can be awaited from the server's loop."""

    def __init__(self, plugin: BasePlugin[Any], server: asyncio.AbstractEventLoop) -> None:
        """Give the plugin a thread and a context that works from there."""
        self.plugin_name = type(plugin).__name__
        self.plugin_path = f"{type(plugin).__module__}.{type(plugin).__qualname__}"
        self._plugin = plugin
        self._thread = PluginThread(self.plugin_name, server)
        plugin.context = IsolatedContext(plugin.context, self._thread, server)

    def callback(self, coroutine: AnyCoroutine) -> AnyCoroutine:
        """Return what runs one of the plugin's coroutines in its thread."""
        return _Remote(self, self._thread, coroutine)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the plugin's
        found = getattr(self._plugin, name)
        return self.callback(found) if iscoroutinefunction(found) else found

    async def close(self) -> None:
        """Let the plugin end, then its thread."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._thread.call(self._plugin.close)
        except TimeoutError:
            logger.warning("plugin %s did not close within %g s", self.plugin_name, CLOSE_S)
        except Exception:  # whatever a plugin raises is logged and stops nothing
            logger.exception("plugin %s failed in close", self.plugin_name)
        finally:
            await self._thread.close()


class _Remote:
    """A coroutine function of an isolated plugin. `__self__` names the plugin, as a bound method's does."""

    def __init__(self, plugin: Isolated, thread: PluginThread, coroutine: AnyCoroutine) -> None:
        self.__self__ = plugin
        self.__name__ = getattr(coroutine, "__name__", "a coroutine")
        self._thread = thread
        self._coroutine = coroutine

    async def __call__(self, **arguments: object) -> Any:  # noqa: ANN401 - the plugin's
        return await self._thread.call(self._coroutine, **arguments)


def isolate(
    manager: PluginManager[Any], paths: Iterable[object], isolated: set[str], server: asyncio.AbstractEventLoop
) -> None:
    """Put the plugins that are `isolated` into threads, wherever the manager keeps them. `paths` names all, in order.

    Raises:
        MesimqttError: one of them answers without a coroutine, which only works on the server's loop.

    """
    moved: dict[int, Any] = {}
    for path, plugin in zip(paths, manager.plugins, strict=True):
        if path not in isolated:
            continue
        if isinstance(plugin, (Authenticator, AccessPolicy)):
            raise MesimqttError(f"broker.plugins: {path} answers at once and cannot be isolated; take {OPTION} out")
        moved[id(plugin)] = Isolated(plugin, server)
    lists: list[list[Any]] = [manager._plugins, manager._auth_plugins, manager._topic_plugins]  # noqa: SLF001 - held by the contract test
    for kept in lists if moved else []:
        kept[:] = [moved.get(id(plugin), plugin) for plugin in kept]
    for callbacks in manager._event_plugin_callbacks.values() if moved else []:  # noqa: SLF001 - likewise
        for index, callback in enumerate(callbacks):
            function = getattr(callback, "func", callback)  # EventLoggerPlugin gives partials
            owner = moved.get(id(getattr(function, "__self__", None)))
            if owner is not None:
                callbacks[index] = owner.callback(callback)
