"""Plugins written for amqtt, asked by their coroutines: who may enter, who may use a topic.

Identity of a client that only such plugins let in: the user is the session's user name (as the plugin left
it), else the client id. A client that `AnonymousAuthPlugin` alone let in is the user `anonymous`, whatever name it
gave, and one that `UserAuthCertPlugin` alone let in is the device of its certificate, which is its client id: nobody
has verified the user name, and it must not open another user's folder.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amqtt.contexts import Action as AmqttAction

from mesimqtt.domain.addresses import check_address
from mesimqtt.domain.errors import AddressError
from mesimqtt.hooks import Action, Decision, Identity, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
    from amqtt.session import Session

    from mesimqtt.broker.sessions import PluginSession, Sessions
    from mesimqtt.engine.connection import Connection
    from mesimqtt.hooks import ConnectRequest

    Settle = Callable[[ConnectRequest, Identity | Refusal], Identity | Refusal]

CONNECTS_ASKED_MAX = 1_000  # clients that wait for an auth plugin at the same time
TOPICS_ASKED_MAX = 10_000  # the same for a topic plugin; every receiver of a message is asked for
ANSWERS_PER_CONNECTION_MAX = 10_000
# A foreign plugin has no way to say that its rules changed. An answer lives so long here, and once
# more so long in the engine's routes (see `Broker._tick`): a second in all. Of a plugin that is slow, twice as long as
# it takes for what is asked at once: else the first answers would be too old when the last is there, again and again.
ANSWER_KEPT_S = 0.5
_SLOW = 2.0
ANONYMOUS_USER = "anonymous"
CLOSE_S = 0.5  # at the end, for what is being asked

# What those of amqtt's plugins that do not look at the user name have verified of a client.
_VERIFIED = {
    "amqtt.plugins.authentication.AnonymousAuthPlugin": "nothing",
    "amqtt.contrib.cert.UserAuthCertPlugin": "client id",
}

# amqtt's LDAP plugins write the user name into a search as it is, and take a bind with an empty password, which many
# directories allow to everybody (RFC 4513, section 5.1.2), for a right one. Neither is asked of them.
_LDAP = "amqtt.contrib.ldap."
_LDAP_MEANING = frozenset("*()\\\0")

_ACTIONS = {
    Action.PUBLISH: AmqttAction.PUBLISH,
    Action.WILL: AmqttAction.PUBLISH,
    Action.SUBSCRIBE: AmqttAction.SUBSCRIBE,
    Action.RECEIVE: AmqttAction.RECEIVE,
}

# What a plugin may raise: also what would end the program, which is not its to end, and what no program expects.
FAULTS = (Exception, SystemExit, KeyboardInterrupt, BaseExceptionGroup)
ANYTHING = (BaseException,)

logger = logging.getLogger(__name__)


class PluginFaultError(Exception):
    """A plugin raised, took too long or answered nonsense; the text goes to the log only."""


def name_of(plugin: object) -> str:
    """Return the class name of a plugin, also of one that runs in a thread of its own."""
    return str(getattr(plugin, "plugin_name", type(plugin).__name__))


def _path_of(plugin: object) -> str:
    kind = type(plugin)
    return str(getattr(plugin, "plugin_path", f"{kind.__module__}.{kind.__qualname__}"))


def _verified_by(plugin: object) -> str:
    """Return what is known of a client whom a plugin has let in."""
    return _VERIFIED.get(_path_of(plugin), "user name")


def _is_trap(plugin: object, session: Session, *, is_login: bool) -> bool:
    """Tell whether a question would be understood as another one."""
    if not _path_of(plugin).startswith(_LDAP):
        return False
    name = session.username or ""
    return not name or not _LDAP_MEANING.isdisjoint(name) or (is_login and not session.password)


class _Asked:
    """The running questions: bounded, kept from the garbage collector, cancelled at the end."""

    def __init__(self, most: int, on_room: Callable[[Connection], None] | None = None) -> None:
        self._most = most
        self._on_room = on_room
        self._tasks: dict[asyncio.Task[None], Connection] = {}
        self._put_off: dict[Connection, None] = {}

    @property
    def is_full(self) -> bool:
        """Tell whether no further question may be asked now."""
        return len(self._tasks) >= self._most

    def start(self, question: Coroutine[object, object, None], connection: Connection) -> None:
        """Ask about a connection, in a task of its own."""
        task = asyncio.get_running_loop().create_task(question)
        self._tasks[task] = connection
        task.add_done_callback(self._ended)

    def put_off(self, connection: Connection) -> None:
        """Tell by `on_room` when a question about a connection, for which there is no room now, can be asked."""
        self._put_off[connection] = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        # Not for each that ends: whoever goes on looks at all receivers of his message again.
        if self._on_room is not None and self._put_off and 2 * len(self._tasks) <= self._most:
            waiting, self._put_off = self._put_off, {}
            for connection in waiting:
                asyncio.get_running_loop().call_soon(self._on_room, connection)

    def is_wanted(self) -> bool:
        """Tell whether the answer to the question that runs here is still awaited: then its plugin has cancelled it."""
        task = asyncio.current_task()
        if task is None or task not in self._tasks:
            return False
        task.uncancel()
        return True

    def drop_gone(self) -> None:
        """Ask no longer about connections that are gone: who comes and goes keeps nobody else out."""
        for task, connection in list(self._tasks.items()):
            if connection.closing:
                del self._tasks[task]
                task.cancel()

    async def close(self) -> None:
        """Cancel what is running; a plugin that does not heed that is left behind."""
        tasks = list(self._tasks)
        self._tasks.clear()
        self._put_off.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)


@dataclass(frozen=True, slots=True)
class Fault(Refusal):
    """A refusal for which the client can do nothing: a plugin failed. It counts as no failed login."""


async def answer_of(
    ask: Callable[..., Coroutine[object, object, object]], name: str, answer_s: float, **about: object
) -> bool | None:
    """Return a plugin's answer; whatever else comes of it is logged with the plugin's name.

    Raises:
        PluginFaultError: it raised, took too long or answered nonsense.

    """
    limit = asyncio.timeout(answer_s)
    try:
        async with limit:
            answer = await ask(**about)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        logger.warning("plugin %s cancelled itself", name)
        raise PluginFaultError(f"plugin {name} failed") from None
    except ANYTHING:  # whatever a plugin raises is logged and stops nothing
        if limit.expired():
            logger.warning("plugin %s did not answer in %g s", name, answer_s)
            raise PluginFaultError(f"plugin {name} did not answer") from None
        logger.exception("plugin %s failed in %s", name, ask.__name__)
        raise PluginFaultError(f"plugin {name} failed") from None
    if answer is None or answer is True or answer is False:
        return answer
    logger.error("plugin %s answered with a %s instead of True, False or None", name, type(answer).__name__)
    raise PluginFaultError(f"plugin {name} answered nonsense")


class ForeignAuth:
    """Asks `authenticate(session=…)` of every auth plugin that only has amqtt's coroutine."""

    def __init__(
        self,
        plugins: list[BaseAuthPlugin],
        sessions: Sessions,
        *,
        clock: Callable[[], float],
        wake: Callable[[], None],
        answer_s: float,
    ) -> None:
        """Take the plugins in the order of the configuration."""
        self._plugins = plugins
        self._sessions = sessions
        self._clock = clock
        self._wake = wake
        self._answer_s = answer_s
        self._asked = _Asked(CONNECTS_ASKED_MAX)
        self.close = self._asked.close

    def ask(
        self, connection: Connection, request: ConnectRequest, identity: Identity | None, settle: Settle
    ) -> Refusal | None:
        """Begin to ask; the answer goes through `settle` to `connection.authenticated`.

        `identity` is what faster plugins found.
        """
        if self._asked.is_full:
            self._asked.drop_gone()
        if self._asked.is_full:
            return Fault(5, "too many clients wait for an auth plugin")
        self._asked.start(self._ask(connection, request, identity, settle), connection)
        return None

    async def _ask(
        self, connection: Connection, request: ConnectRequest, identity: Identity | None, settle: Settle
    ) -> None:
        session = self._sessions.begin(connection, request)
        try:
            verdict = settle(request, await self._verdict(session, identity))
        except asyncio.CancelledError:
            if not self._asked.is_wanted():
                self._sessions.end(connection)
                raise
            verdict = settle(request, Fault(5, "a plugin cancelled the question"))
        if isinstance(verdict, Refusal):
            self._sessions.end(connection)
        else:
            session.username = None if session.is_anonymous else verdict.user
        connection.authenticated(verdict, self._clock())
        if connection.closing:  # gone meanwhile, or its will was denied
            self._sessions.end(connection)
        self._wake()

    async def _verdict(self, session: PluginSession, identity: Identity | None) -> Identity | Refusal:
        verified: set[str] = set()
        for plugin in self._plugins:
            name = name_of(plugin)
            if _is_trap(plugin, session, is_login=True):
                return Refusal(5, f"plugin {name} is not asked about such a user name, or without a password")
            try:
                answer = await answer_of(plugin.authenticate, name, self._answer_s, session=session)
            except PluginFaultError as error:
                return Fault(5, str(error))
            if answer is None:
                continue
            if not answer:
                said = session.verdict
                return said if isinstance(said, Refusal) else Refusal(5, f"plugin {name} said no")
            verified.add(_verified_by(plugin))
        if identity is None and not verified:
            return Refusal(5, "no auth plugin accepted it")
        found = session.verdict if isinstance(session.verdict, Identity) else _foreign_identity(session, verified)
        if identity is not None and isinstance(session.verdict, Identity) and session.verdict.user != identity.user:
            return Fault(5, "auth plugins name different users")
        return identity or found


def _foreign_identity(session: Session, verified: set[str]) -> Identity | Refusal:
    if session.is_anonymous or verified == {"nothing"}:
        return Identity(user=ANONYMOUS_USER)
    user: Any = session.username or session.client_id or ""
    if "user name" not in verified and user != session.client_id:
        return Refusal(5, "the certificate is the client id's, and the user name is another")
    if not isinstance(user, str):
        return Fault(5, f"an auth plugin made the user name a {type(user).__name__}")
    try:
        return Identity(user=check_address(user))
    except AddressError as error:
        return Refusal(5, f"the user name is no address: {error}")


class ForeignAccess:
    """Asks `topic_filtering(…)` of every topic plugin that only has amqtt's coroutine."""

    def __init__(
        self,
        plugins: list[BaseTopicPlugin],
        sessions: Sessions,
        *,
        clock: Callable[[], float],
        wake: Callable[[], None],
        answer_s: float,
    ) -> None:
        """Take the plugins in the order of the configuration."""
        self._plugins = plugins
        self._sessions = sessions
        self._clock = clock
        self._wake = wake
        self._answer_s = answer_s
        self._asked = _Asked(TOPICS_ASKED_MAX, self._go_on)
        # A plugin of ours says itself when its answers change, so that they need not be asked for again and again.
        self.is_volatile = not all(getattr(plugin, "tells_changes", False) for plugin in plugins)
        self._kept_s = ANSWER_KEPT_S if self.is_volatile else float("inf")
        self._answers: dict[Connection, OrderedDict[tuple[Action, str], tuple[Decision, float]]] = {}
        self._answered_at = 0.0
        self._waiting: dict[tuple[Connection, Action, str], float] = {}  # since when
        self.close = self._asked.close

    def decide(self, connection: Connection, action: Action, topic: str, fast: Decision) -> Decision | None:
        """Return an answer that is good still, or None and ask. `fast` is what faster plugins found."""
        answers = self._answers.get(connection)
        known = answers.get((action, topic)) if answers is not None else None
        if known is not None and self._clock() - known[1] <= self._kept_s:
            return known[0]
        key = (connection, action, topic)
        if key in self._waiting:
            return None
        if self._asked.is_full:
            self._asked.put_off(connection)
            return None
        self._waiting[key] = self._clock()
        self._asked.start(self._ask(key, fast), connection)
        return None

    def forget(self) -> None:
        """Forget every answer."""
        self._answers.clear()

    def disconnected(self, connection: Connection) -> None:
        """Forget the answers of a connection."""
        self._answers.pop(connection, None)

    async def _ask(self, key: tuple[Connection, Action, str], fast: Decision) -> None:
        connection, action, topic = key
        try:
            decision = await self._decision(connection, action, topic, fast)
        except asyncio.CancelledError:
            if not self._asked.is_wanted():
                raise
            decision = Decision(allow=False, rule="cancelled")
        finally:
            asked_at = self._waiting.pop(key)
        self._keep(connection, action, topic, decision, asked_at)
        self._go_on(connection)
        if connection.closing:  # it was asked for its will, or is gone meanwhile
            self._answers.pop(connection, None)
            self._sessions.end(connection)

    def _go_on(self, connection: Connection) -> None:
        connection.resume(self._clock())
        self._wake()

    def _keep(self, connection: Connection, action: Action, topic: str, decision: Decision, asked_at: float) -> None:
        now = self._clock()
        if self.is_volatile:  # how slow it was is forgotten as time passes
            passed_s, self._answered_at = now - self._answered_at, now
            self._kept_s = max(ANSWER_KEPT_S, _SLOW * (now - asked_at), self._kept_s - passed_s)
        answers = self._answers.setdefault(connection, OrderedDict())
        answers[action, topic] = (decision, now)
        answers.move_to_end((action, topic))
        while len(answers) > ANSWERS_PER_CONNECTION_MAX or now - next(iter(answers.values()))[1] > self._kept_s:
            answers.popitem(last=False)

    async def _decision(self, connection: Connection, action: Action, topic: str, fast: Decision) -> Decision:
        allowed = fast if fast.allow else None
        session = self._sessions.of(connection)
        for plugin in self._plugins:
            name = name_of(plugin)
            if _is_trap(plugin, session, is_login=False):
                return Decision(allow=False, rule=name)
            about = {"session": session, "topic": topic, "action": _ACTIONS[action]}
            try:
                answer = await answer_of(plugin.topic_filtering, name, self._answer_s, **about)
            except PluginFaultError:
                return Decision(allow=False, rule=name)
            if answer is None:
                continue
            if not answer:
                return Decision(allow=False, rule=name)
            allowed = allowed or Decision(allow=True, rule=name)
        return allowed or fast
