"""Who may use which free topic: rules of the configuration and of the token (contract section 6)."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from amqtt.plugins.base import BaseTopicPlugin

from mesimqtt.broker.services import OPEN_USER
from mesimqtt.domain.addresses import encode_address
from mesimqtt.domain.errors import AddressError, MesimqttError
from mesimqtt.hooks import Action, Decision, Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amqtt.contexts import Action as AmqttAction
    from amqtt.session import Session

    from mesimqtt.broker.context import Context

_ALLOW = {"publish": ("publish",), "subscribe": ("subscribe",), "all": ("publish", "subscribe")}
_KEYS = {"allow", "topic", "users", "scope"}
_PLACE = re.compile("%[uc]")
_UNUSABLE = set("/+#\0")  # a user or client id that holds one of these matches no rule that names it


def is_filter(levels: list[str]) -> bool:
    """Tell whether `levels` is a legal topic filter [MQTT-4.7.1-2], [MQTT-4.7.1-3]."""
    return (
        bool("".join(levels) or len(levels) > 1)
        and all(level in ("+", "#") or not set(level) & set("+#\0") for level in levels)
        and "#" not in levels[:-1]
    )


def covers(rule: Sequence[str], wanted: Sequence[str]) -> bool:
    """Tell whether every topic that the filter `wanted` matches is matched by the filter `rule` too.

    A topic is a filter without wildcards, so this also tells whether `rule` matches a topic.
    """
    if wanted[0].startswith("$") and rule[0] in ("+", "#"):
        return False  # [MQTT-4.7.2-1]
    if wanted == ["#"]:
        return list(rule) in (["#"], ["+", "#"])
    for index, level in enumerate(rule):
        if level == "#":
            return True  # also the parent level itself: `a/#` matches `a`
        if index >= len(wanted) or wanted[index] == "#" or level not in ("+", wanted[index]):
            return False
    return len(rule) == len(wanted)


@dataclass(frozen=True, slots=True)
class _Rule:
    """One line of `rules`, parsed."""

    actions: tuple[str, ...]
    levels: tuple[str, ...]
    users: frozenset[str] | None
    scope: str | None
    has_places: bool

    def allows(self, identity: Identity, client_id: str, wants: str, wanted: list[str]) -> bool:
        """Tell whether this rule opens `wanted` for that client."""
        if wants not in self.actions or (self.users is not None and identity.user not in self.users):
            return False
        if self.scope is not None and identity.scope != self.scope:
            return False
        levels = self._filled(identity.user, client_id)
        return levels is not None and covers(levels, wanted)

    def _filled(self, user: str, client_id: str) -> Sequence[str] | None:
        """Return the filter with %u and %c replaced, or None where one of them has no usable value."""
        if not self.has_places:  # asked for every retained message that a new subscription selects
            return self.levels
        values: dict[str, str] = {}
        if client_id and not set(client_id) & _UNUSABLE:
            values["%c"] = client_id
        with contextlib.suppress(AddressError):  # an identity of a foreign auth plugin need not be an address
            values["%u"] = encode_address(user)
        filled = []
        for level in self.levels:
            if any(place not in values for place in _PLACE.findall(level)):
                return None
            # One pass, so that a client id which holds "%u" stays what it is.
            filled.append(_PLACE.sub(lambda match: values[match[0]], level))
        return filled


class FolderAccess(BaseTopicPlugin):
    """Denies every free topic but those that a rule or the token opens. Topics under the root are not its business."""

    def __init__(self, context: Context) -> None:
        """Parse the rules; raises MesimqttError, whose text names the rule."""
        super().__init__(context)
        self._open = context.settings.open
        self._root = context.settings.root
        self._rules = [_parse(rule, f"rules[{index}]") for index, rule in enumerate(self.config.rules)]

    def check_access(self, identity: Identity, client_id: str, action: Action, topic: str) -> Decision | None:
        """Decide on a topic (publish, will, receive) or a filter (subscribe)."""
        wants = "publish" if action in (Action.PUBLISH, Action.WILL) else "subscribe"
        wanted = topic.split("/")
        if wanted[0] == self._root:
            return Decision(allow=False, rule="root")  # messaging's alone, whether it runs or not
        if wanted[0].startswith("$"):
            may_read = wants == "subscribe" and wanted[0] == "$SYS" and identity.scope == "admin"
            return Decision(may_read, "sys")
        if self._open and identity.user == OPEN_USER:
            return Decision(allow=True, rule="open")
        for index, rule in enumerate(self._rules):
            if rule.allows(identity, client_id, wants, wanted):
                return Decision(allow=True, rule=f"rules[{index}]")
        for allow, topic_filter in identity.acl:
            levels = topic_filter.split("/")
            if allow == wants and is_filter(levels) and covers(levels, wanted):
                return Decision(allow=True, rule="token")
        return Decision(allow=False, rule="default")

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: AmqttAction | None = None
    ) -> bool | None:
        """Give the same decision the way amqtt asks for it. A session carries no token, so rules alone decide."""
        if session is None or not topic or action is None:
            return False
        identity = Identity(user=session.username or "")
        decision = self.check_access(identity, session.client_id or "", Action(str(action)), topic)
        return decision is not None and decision.allow

    @dataclass
    class Config:
        """Options of FolderAccess.

        `rules` is a list of `{"allow": "publish|subscribe|all", "topic": FILTER}`, each narrowed if
        wanted by `"users": [ADDRESS, …]` and `"scope": "user|backend|admin"`. In FILTER, `%u` stands
        for the user (percent-encoded) and `%c` for the client id.
        """

        rules: list[dict[str, Any]] = field(default_factory=list)


def _parse(rule: dict[str, Any], name: str) -> _Rule:
    unknown = rule.keys() - _KEYS
    if unknown:
        raise MesimqttError(f"FolderAccess: {name}: unknown key {min(unknown)!r}; known are allow, topic, users, scope")
    allow, topic, users, scope = (rule.get(key) for key in ("allow", "topic", "users", "scope"))
    if allow not in _ALLOW:
        raise MesimqttError(f"FolderAccess: {name}: allow is publish, subscribe or all")
    if not isinstance(topic, str) or not is_filter(topic.split("/")):
        raise MesimqttError(f"FolderAccess: {name}: topic is not a topic filter")
    if not (users is None or (isinstance(users, list) and all(isinstance(user, str) for user in users))):
        raise MesimqttError(f"FolderAccess: {name}: users is a list of addresses")
    if scope not in (None, "user", "backend", "admin"):
        raise MesimqttError(f"FolderAccess: {name}: scope is user, backend or admin")
    if topic.startswith("$"):
        raise MesimqttError(f"FolderAccess: {name}: topics under $ cannot be opened; $SYS is for scope admin")
    allowed = None if users is None else frozenset(users)
    return _Rule(_ALLOW[allow], tuple(topic.split("/")), allowed, scope, bool(_PLACE.search(topic)))
