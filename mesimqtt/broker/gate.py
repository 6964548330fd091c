"""Who may enter and who may use which free topic: the plugins' opinions combined (`engine.ports.Gate`).

Our own plugins answer at once (`hooks.Authenticator`, `hooks.AccessPolicy`). A plugin written for amqtt
answers by a coroutine: the engine holds that connection until the answer is there. The rule is amqtt's:
every opinion must be positive and there must be one; None is no opinion; an exception is a refusal.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from mesimqtt.broker.endings import Endings
from mesimqtt.broker.foreign import ANYTHING, Fault, ForeignAccess, ForeignAuth
from mesimqtt.broker.throttle import Throttled
from mesimqtt.engine.engine import STOPPING
from mesimqtt.hooks import AccessPolicy, Action, Authenticator, Decision, Identity, Refusal
from mesimqtt.messaging.audit import AuditLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin

    from mesimqtt.broker.sessions import Sessions
    from mesimqtt.broker.throttle import Throttle
    from mesimqtt.engine.connection import Connection
    from mesimqtt.hooks import ConnectRequest

DECISIONS_MAX = 10_000
NO_OPINION = Decision(allow=False, rule="default")
_ORDINARY_ENDS = frozenset({"", "DISCONNECT", "connection lost", "taken over", STOPPING})
_RULE = 2  # an action and a filter
_CODES, _REASON_CODES = range(1, 6), (0, *range(0x80, 0xA3))  # of a CONNACK that refuses
_SETTLED = frozenset({"root", "sys"})  # decided here, whatever plugins would say

logger = logging.getLogger(__name__)

_Key = tuple[str, str, str, Action, str]


def _nobody_is(_address: str) -> bool:
    """Know of no disabled user: a gate without users."""
    return False


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
        wall: Callable[[], float] = time.time,
        throttle: Throttle | None = None,
        is_disabled: Callable[[str], bool] = _nobody_is,
        answer_s: float = 10.0,
    ) -> None:
        """Sort the plugins into ours and amqtt's. `wake` is called when an answer came outside of a read."""
        authenticators = [plugin for plugin in auth_plugins if isinstance(plugin, Authenticator)]
        self._authenticators = [(plugin, is_own(plugin)) for plugin in authenticators]
        self._policies = [plugin for plugin in topic_plugins if isinstance(plugin, AccessPolicy)]
        foreign_auth = [plugin for plugin in auth_plugins if not isinstance(plugin, Authenticator)]
        foreign_access = [plugin for plugin in topic_plugins if not isinstance(plugin, AccessPolicy)]
        self._foreign_auth: ForeignAuth | None = None
        if foreign_auth:
            self._foreign_auth = ForeignAuth(foreign_auth, sessions, clock=clock, wake=wake, answer_s=answer_s)
        self._foreign_access: ForeignAccess | None = None
        if foreign_access:
            self._foreign_access = ForeignAccess(foreign_access, sessions, clock=clock, wake=wake, answer_s=answer_s)
        self._throttle = throttle
        self._is_disabled = is_disabled
        self._asks_others = bool(foreign_auth) or not all(is_ours for _, is_ours in self._authenticators)
        self._root = root
        self._notify_denied = notify_denied
        self._clock = clock
        self._decisions: OrderedDict[_Key, Decision] = OrderedDict()
        self._endings = Endings(clock, wall)
        self.log = AuditLog()
        self.epoch = 0

    def authenticate(self, connection: Connection, request: ConnectRequest) -> Identity | Refusal | None:
        """Return the verdict, or None where a plugin of amqtt's is being asked."""
        if self._throttle is not None:
            throttled = self._throttle.check(request, self._clock())
            if throttled is not None:
                return self._refused(request, throttled)
        identity: Identity | None = None
        for plugin, is_ours in self._authenticators:
            verdict = self._check(plugin, request, is_ours=is_ours)
            if isinstance(verdict, Refusal):
                return self._settled(request, verdict)
            if verdict is None:
                continue
            if identity is not None and identity.user != verdict.user:
                return self._settled(request, Fault(5, "auth plugins name different users"))
            identity = identity or verdict
        if self._foreign_auth is not None:
            refusal = self._foreign_auth.ask(connection, request, identity, self._settled)
            return None if refusal is None else self._settled(request, refusal)
        return self._settled(request, identity or Refusal(5, "no auth plugin accepted it"))

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
        is_refused = connection.identity is None and bool(connection.client_id)  # the gate was asked, and has said so
        if not is_refused and connection.close_reason not in _ORDINARY_ENDS:
            user = connection.identity.user if connection.identity is not None else ""
            reason = connection.close_reason
            self.log.closed(connection.remote_address, connection.client_id, user, reason, self._clock())

    def handshake_failed(self, address: str, reason: str) -> None:
        """Write why what stands before MQTT failed (PROXY header, TLS): its client sees but a lost connection."""
        self.log.closed(address, "", "", reason, self._clock())

    def permissions_changed(self) -> None:
        """Forget every decision: a rule, a token or a user has changed."""
        self.epoch += 1
        self._decisions.clear()
        if self._foreign_access is not None:
            self._foreign_access.forget()

    @property
    def is_volatile(self) -> bool:
        """Tell whether decisions change without anybody saying so: amqtt's topic plugins."""
        return self._foreign_access is not None and self._foreign_access.is_volatile

    def connected(self, connection: Connection) -> None:
        """Take note until when a connection may stay, also when it was authenticated anew."""
        self._endings.connected(connection)

    def disconnected(self, connection: Connection) -> None:
        """Forget what amqtt's plugins answered for a connection, and until when it might stay."""
        self._endings.disconnected(connection)
        if self._foreign_access is not None:
            self._foreign_access.disconnected(connection)

    def tick(self, now: float) -> None:
        """Do what is due: the audit log's summary, who may stay no longer, and keeping who is throttled."""
        self.log.tick(now)
        self._endings.tick(now)
        if self._throttle is not None:
            self._throttle.tick(now)

    async def close(self) -> None:
        """Cancel what is still being asked; keep who is throttled."""
        if self._throttle is not None:
            self._throttle.save()
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
            name = type(plugin).__name__
            try:
                decision = plugin.check_access(identity, client_id, action, topic)
            except ANYTHING:  # whatever a plugin raises is logged and stops nothing
                logger.exception("plugin %s failed in check_access", name)
                return Decision(allow=False, rule=name)
            if decision is not None and not _is_decision(decision):
                logger.error("plugin %s answered check_access with nonsense: a %s", name, type(decision).__name__)
                return Decision(allow=False, rule=name)
            if decision is not None and not decision.allow:
                return decision
            allowed = allowed or decision
        return allowed or NO_OPINION

    def _check(self, plugin: Authenticator, request: ConnectRequest, *, is_ours: bool) -> Identity | Refusal | None:
        try:
            verdict = plugin.check_connect(request)
        except ANYTHING:  # whatever a plugin raises is logged and stops nothing
            name = type(plugin).__name__
            logger.exception("plugin %s failed in check_connect", name)
            return Fault(5, f"plugin {name} failed")
        if is_ours or verdict is None or is_sound(verdict):
            return verdict
        name = type(plugin).__name__
        logger.error("plugin %s answered check_connect with nonsense: a %s", name, type(verdict).__name__)
        return Fault(5, f"plugin {name} answered nonsense")

    def _settled(self, request: ConnectRequest, verdict: Identity | Refusal) -> Identity | Refusal:
        """Take note of a verdict: what it means for the next CONNECT, and the line in the log."""
        if self._asks_others and isinstance(verdict, Identity):
            verdict = self._fitting(request, verdict)
        if isinstance(verdict, Identity):
            if self._throttle is None:
                return verdict
            throttled = self._throttle.entered(request, verdict.user, self._clock())
            return verdict if throttled is None else self._refused(request, throttled)
        if self._throttle is not None and not isinstance(verdict, Fault):
            self._throttle.failed(request, self._clock())
        return self._refused(request, verdict)

    def _fitting(self, request: ConnectRequest, identity: Identity) -> Identity | Refusal:
        """Return whom other plugins than TokenAuth, which looks at this itself, have let in, if he may be here."""
        if request.certificate_user is not None and request.certificate_user != identity.user:
            return Refusal(5, "the certificate belongs to another user")
        return Refusal(5, "the user is disabled") if self._is_disabled(identity.user) else identity

    def _refused(self, request: ConnectRequest, refusal: Refusal) -> Refusal:
        about = (request.remote_address, request.client_id, request.username, refusal.reason, self._clock())
        if not isinstance(refusal, Throttled):
            self.log.refused(*about)
        elif refusal.is_told:
            self.log.throttled(*about)
        return refusal


def _is_decision(answer: Any) -> bool:  # noqa: ANN401 - whatever a plugin gave
    parts: list[Any] = [answer.allow, answer.rule] if isinstance(answer, Decision) else [None, None]
    return isinstance(parts[0], bool) and isinstance(parts[1], str)


def is_own(plugin: object) -> bool:
    """Tell whether a plugin is part of this server: what it answers was checked with it, not at each CONNECT."""
    return type(plugin).__module__.startswith("mesimqtt_plugins.")


def is_sound(verdict: Any) -> bool:  # noqa: ANN401 - whatever a plugin gave
    """Tell whether a plugin's verdict holds what it says: the engine believes it from here on."""
    if isinstance(verdict, Refusal):
        codes: list[Any] = [verdict.code, verdict.reason_code]
        return all(isinstance(code, int) for code in codes) and codes[0] in _CODES and codes[1] in _REASON_CODES
    if not isinstance(verdict, Identity):
        return False
    said: Any = verdict
    return (
        isinstance(said.user, str)
        and bool(said.user)
        and isinstance(said.jti, str)
        and isinstance(said.scope, str)
        and (said.device is None or type(said.device) is str)
        and _is_number(said.expires_at)
        and _is_number(said.packet_max)
        and isinstance(said.acl, tuple)
        and (not said.acl or _are_rules(said.acl))
    )


def _is_number(value: Any) -> bool:  # noqa: ANN401 - as above
    return isinstance(value, (int, float)) and value >= 0  # NaN is not


def _are_rules(rules: tuple[Any, ...]) -> bool:
    are_pairs = all(isinstance(rule, tuple) and len(rule) == _RULE for rule in rules)
    return are_pairs and all(isinstance(text, str) for rule in rules for text in rule)
