"""Who may enter and who may use which free topic: the plugins' opinions combined (`engine.ports.Gate`).

Our own plugins answer at once (`hooks.Authenticator`, `hooks.AccessPolicy`). A plugin written for amqtt
answers by a coroutine: the engine holds that connection until the answer is there. The rule is amqtt's:
every opinion must be positive and there must be one; None is no opinion; an exception is a refusal.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

from mesimqtt.broker.foreign import ForeignAccess, ForeignAuth
from mesimqtt.hooks import AccessPolicy, Action, Authenticator, Decision, Identity, Refusal
from mesimqtt.messaging.audit import AuditLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin

    from mesimqtt.broker.sessions import Sessions
    from mesimqtt.engine.connection import Connection
    from mesimqtt.hooks import ConnectRequest

DECISIONS_MAX = 10_000
NO_OPINION = Decision(allow=False, rule="default")
_ORDINARY_ENDS = frozenset({"", "DISCONNECT", "connection lost", "taken over"})
_SETTLED = frozenset({"root", "sys"})  # decided here, whatever plugins would say

logger = logging.getLogger(__name__)

_Key = tuple[str, str, str, Action, str]


class Gate:
    """Combines the opinions of all auth and topic plugins, fast ones synchronously and cached."""

    def __init__(
        self,
        auth_plugins: list[BaseAuthPlugin],
        topic_plugins: list[BaseTopicPlugin],
        *,
        root: str,
        sessions: Sessions,
        notify_denied: Callable[[Connection, str, str], None],
        clock: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        """Sort the plugins into ours and amqtt's. `wake` is called when an answer came outside of a read."""
        self._authenticators = [plugin for plugin in auth_plugins if isinstance(plugin, Authenticator)]
        self._policies = [plugin for plugin in topic_plugins if isinstance(plugin, AccessPolicy)]
        foreign_auth = [plugin for plugin in auth_plugins if not isinstance(plugin, Authenticator)]
        foreign_access = [plugin for plugin in topic_plugins if not isinstance(plugin, AccessPolicy)]
        self._foreign_auth = ForeignAuth(foreign_auth, sessions, clock=clock, wake=wake) if foreign_auth else None
        self._foreign_access: ForeignAccess | None = None
        if foreign_access:
            self._foreign_access = ForeignAccess(foreign_access, sessions, clock=clock, wake=wake)
        self._root = root
        self._notify_denied = notify_denied
        self._clock = clock
        self._decisions: OrderedDict[_Key, Decision] = OrderedDict()
        self.log = AuditLog()
        self.epoch = 0

    def authenticate(self, connection: Connection, request: ConnectRequest) -> Identity | Refusal | None:
        """Return the verdict, or None where a plugin of amqtt's is being asked."""
        identity: Identity | None = None
        for plugin in self._authenticators:
            verdict = self._check(plugin, request)
            if isinstance(verdict, Refusal):
                return self._refused(request, verdict)
            if verdict is None:
                continue
            if identity is not None and identity.user != verdict.user:
                return self._refused(request, Refusal(5, "auth plugins name different users"))
            identity = identity or verdict
        if self._foreign_auth is not None:
            refusal = self._foreign_auth.ask(connection, request, identity, self.log)
            return None if refusal is None else self._refused(request, refusal)
        return identity or self._refused(request, Refusal(5, "no auth plugin accepted it"))

    def decide(self, connection: Connection, action: Action, topic: str) -> Decision | None:
        """Return the decision, or None where a plugin of amqtt's is being asked."""
        identity = connection.identity
        if identity is None:
            return NO_OPINION
        key = (identity.user, identity.jti, connection.client_id, action, topic)
        decision = self._decisions.get(key)
        if decision is not None:
            self._decisions.move_to_end(key)
        else:
            decision = self._decide_now(identity, connection.client_id, action, topic)
            self._decisions[key] = decision
            if len(self._decisions) > DECISIONS_MAX:
                self._decisions.popitem(last=False)
        if self._foreign_access is None or decision.rule in _SETTLED or not (decision.allow or decision is NO_OPINION):
            return decision
        return self._foreign_access.decide(connection, action, topic, decision)

    def audit(self, connection: Connection, action: Action, topic: str, rule: str) -> None:
        """Write that a free topic was denied, and tell the publisher on `in/session` (contract section 4)."""
        user = connection.identity.user if connection.identity is not None else ""
        self.log.denied(user, connection.client_id, action.value, topic, rule, self._clock())
        if action in (Action.PUBLISH, Action.WILL):
            self._notify_denied(connection, topic, rule)

    def closed(self, connection: Connection) -> None:
        """Write why the server closed a connection; refusals, which have their line, and ordinary ends are left out."""
        is_refused = connection.identity is None and connection.version != 0
        if not is_refused and connection.close_reason not in _ORDINARY_ENDS:
            user = connection.identity.user if connection.identity is not None else ""
            reason = connection.close_reason
            self.log.closed(connection.remote_address, connection.client_id, user, reason, self._clock())

    def permissions_changed(self) -> None:
        """Forget every decision: a rule, a token or a user has changed."""
        self.epoch += 1
        self._decisions.clear()
        if self._foreign_access is not None:
            self._foreign_access.forget()

    @property
    def is_volatile(self) -> bool:
        """Tell whether decisions change without anybody saying so: amqtt's topic plugins."""
        return self._foreign_access is not None

    def disconnected(self, connection: Connection) -> None:
        """Forget what amqtt's plugins answered for a connection."""
        if self._foreign_access is not None:
            self._foreign_access.disconnected(connection)

    def tick(self, now: float) -> None:
        """Do what is due: the audit log's summary."""
        self.log.tick(now)

    async def close(self) -> None:
        """Cancel what is still being asked."""
        for foreign in (self._foreign_auth, self._foreign_access):
            if foreign is not None:
                await foreign.close()

    def _decide_now(self, identity: Identity, client_id: str, action: Action, topic: str) -> Decision:
        first = topic.partition("/")[0]
        if first == self._root:
            return Decision(allow=False, rule="root")  # unclaimed, so nobody's (contract section 2)
        if first.startswith("$") and action in (Action.PUBLISH, Action.WILL):
            return Decision(allow=False, rule="sys")
        allowed: Decision | None = None
        for plugin in self._policies:
            try:
                decision = plugin.check_access(identity, client_id, action, topic)
            except Exception:  # whatever a plugin raises is logged and stops nothing
                logger.exception("plugin %s failed in check_access", type(plugin).__name__)
                return Decision(allow=False, rule=type(plugin).__name__)
            if decision is not None and not decision.allow:
                return decision
            allowed = allowed or decision
        return allowed or NO_OPINION

    def _check(self, plugin: Authenticator, request: ConnectRequest) -> Identity | Refusal | None:
        try:
            return plugin.check_connect(request)
        except Exception:  # whatever a plugin raises is logged and stops nothing
            logger.exception("plugin %s failed in check_connect", type(plugin).__name__)
            return Refusal(5, f"plugin {type(plugin).__name__} failed")

    def _refused(self, request: ConnectRequest, refusal: Refusal) -> Refusal:
        self.log.refused(request.remote_address, request.client_id, request.username, refusal.reason, self._clock())
        return refusal
