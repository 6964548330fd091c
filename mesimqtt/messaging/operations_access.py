"""Operations on access: the rules in force, and what they say of a user and a topic (contract section 7: `acl`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from mesimqtt.domain.access_rules import SCOPES, is_filter
from mesimqtt.domain.addresses import decode_address
from mesimqtt.domain.errors import AddressError
from mesimqtt.engine.packets import MalformedError, check_text
from mesimqtt.hooks import Action, Decision, Identity
from mesimqtt.messaging.access import PLUGIN, Step
from mesimqtt.messaging.operations_base import Answer, ArgumentError, Desk, Scope, checked_address, operation
from mesimqtt.store import users
from mesimqtt.tokens import TokenError
from mesimqtt.topics import TopicError, parse_in_filter, parse_out

if TYPE_CHECKING:
    from mesimqtt.messaging.access import AccessRules
    from mesimqtt.settings import Settings

_ROUTING = "mesimqtt_plugins.routing.MessageRouting"
# Plugins of ours that have no say on topics, or whose say is shown.
_SILENT = frozenset({
    PLUGIN, _ROUTING, "mesimqtt_plugins.auth.TokenAuth", "mesimqtt_plugins.sys_topics.SysTopics",
    "mesimqtt_plugins.http_auth.HttpAuth",
})  # fmt: skip
_SHARE = "$share/"
_TEXT_MAX = 65_535  # bytes of a string of the protocol


@operation(Scope.ADMIN, example={"user": "alice", "action": "publish", "topic": "m/alice/out/u/bob"}, is_lookup=True)
async def acl_explain(
    desk: Desk,
    *,
    user: str,
    action: str,
    topic: str,
    client_id: str = "",
    scope: str = "user",
    token: str | None = None,
) -> Answer:
    """Tell whether a user may publish to a topic or subscribe to a filter, which rule says so, and what all others say.

    `token` is a JWT of that user, whose scope and own rules then count.
    """
    checked_address(user)
    if action not in ("publish", "subscribe"):
        raise ArgumentError("action is publish or subscribe")
    if scope not in SCOPES:
        raise ArgumentError(f"scope is one of {', '.join(SCOPES)}")
    _check_topic(action, topic)
    _check_text("a client id", client_id)
    identity = Identity(user, scope=scope) if token is None else _of_token(desk, user, token)
    decision, steps = _explained(desk, identity, Action(action), topic, client_id)
    return {
        "allow": decision.allow,
        "rule": decision.rule,
        "user": user,
        "action": action,
        "topic": topic,
        "client_id": client_id,
        "scope": identity.scope,
        "steps": [asdict(step) for step in steps],
    }


@operation(Scope.ADMIN, is_lookup=True)
async def acl_list(desk: Desk) -> Answer:
    """List the rules for free topics that are in force, in the order in which they are tried."""
    rules = _rules(desk)
    return {
        "rules": [{"name": rule.name, "rule": rule.text} for rule in rules.rules],
        "rules_file": rules.file,
        "others": _others(desk.messaging.settings),
    }


def _rules(desk: Desk) -> AccessRules:
    rules = desk.messaging.access.rules
    if rules is None:
        others = ", ".join(_others(desk.messaging.settings)) or "no plugin"
        raise ArgumentError(f"the configuration does not name {PLUGIN}: there, {others} decides on free topics")
    return rules


def _others(settings: Settings) -> list[str]:
    """Return the plugins of the configuration that may have a say of their own."""
    return [name for name in _plugins(settings) if name not in _SILENT]


def _plugins(settings: Settings) -> list[str]:
    plugins = settings.broker.get("plugins") or {}
    return [str(name) for each in plugins for name in (each if isinstance(each, dict) else [each])]


def _check_topic(action: str, topic: str) -> None:
    _check_text("a topic", topic)
    if not topic:
        raise ArgumentError(f"a topic has 1 to {_TEXT_MAX} bytes")
    if action == "publish" and set(topic) & set("+#"):
        raise ArgumentError("nobody can publish to a filter: + and # are for subscribing")
    if action == "subscribe" and not is_filter(topic.split("/")):
        raise ArgumentError("this is no topic filter: + and # fill a whole level, # the last one")


def _check_text(what: str, text: str) -> None:
    """Raise ArgumentError for what no client can write in a packet."""
    raw = text.encode()
    try:
        check_text(raw)
    except MalformedError:
        raise ArgumentError(f"{what} is text without control characters") from None
    if len(raw) > _TEXT_MAX:
        raise ArgumentError(f"{what} has at most {_TEXT_MAX} bytes")


def _of_token(desk: Desk, user: str, token: str) -> Identity:
    try:
        claims = desk.messaging.signer.verify(token.strip(), desk.now_s)
    except TokenError as error:
        raise ArgumentError(f"the token is not good: {error}; only a JWT has rules of its own") from None
    if claims.user != user:
        raise ArgumentError("the token belongs to another user")
    return Identity(user, jti=claims.jti, scope=claims.scope, acl=claims.acl)


def _explained(
    desk: Desk, identity: Identity, action: Action, topic: str, client_id: str
) -> tuple[Decision, list[Step]]:
    settings = desk.messaging.settings
    steps = [_user_step(desk, identity.user)]
    if steps[0].said == "deny":
        return Decision(allow=False, rule="user"), steps
    wanted = topic
    if topic.startswith(_SHARE) and action is Action.SUBSCRIBE:
        name, _, wanted = topic[len(_SHARE) :].partition("/")
        if not name or set(name) & set("+#") or not wanted or wanted.partition("/")[0] == settings.root:
            steps.append(Step("share", "deny", "write $share/NAME/FILTER, with a filter outside of the root"))
            return Decision(allow=False, rule="share"), steps
        steps.append(Step("share", "pass", f"a shared subscription: what counts is its filter {wanted}"))
    first, limits = wanted.partition("/")[0], settings.limits
    most = limits.root_topic_max if first == settings.root else limits.topic_max
    if len(topic.encode()) > most or (first != settings.root and wanted.count("/") >= limits.topic_levels_max):
        why = f"more than {most} bytes" + (f" or {limits.topic_levels_max} levels" if first != settings.root else "")
        return Decision(allow=False, rule="limit"), [*steps, Step("limit", "deny", why)]
    if first == settings.root and users.find(desk.read, identity.user) is None:
        why = "no such user here: whoever lets him in, he has no folder"
        return Decision(allow=False, rule="root"), [*steps, Step("root", "deny", why)]
    if first == settings.root:
        step = _folder_step(settings, identity.user, action, wanted)
        return Decision(step.said == "allow", step.layer), [*steps, step]
    decision, tried = _rules(desk).explain(identity, client_id, action, wanted)
    steps += tried
    for name in _others(settings) if decision.allow else ():
        steps.append(Step("plugin", "pass", f"{name} is not asked here; if it decides on topics, it may still say no"))
    return decision, steps


def _user_step(desk: Desk, address: str) -> Step:
    row = users.find(desk.read, address)
    if row is None:
        return Step("user", "pass", "no such user here: only another auth plugin, or auto_create, could let him in")
    if not row.active:
        return Step("user", "deny", f"disabled; mesimqtt user enable {address}")
    return Step("user", "pass", "known and enabled")


def _folder_step(settings: Settings, user: str, action: Action, topic: str) -> Step:
    """Tell what messaging says of a topic under the root: the two folders, and what stands in them."""
    if _ROUTING not in _plugins(settings):
        return Step("root", "deny", f"the configuration does not name {_ROUTING}: all under the root is closed")
    _root, _, rest = topic.partition("/")
    level, _, inside = rest.partition("/")
    side, _, tail = inside.partition("/")
    wanted_side = "out" if action is Action.PUBLISH else "in"
    try:
        owner = decode_address(level)
    except AddressError:
        owner = ""
    if owner != user or side != wanted_side:
        here = f"{settings.root}/{{user}}/{wanted_side}/"
        return Step("root", "deny", f"a client may {action.value} only under its own {here}; no rule changes that")
    if action is Action.SUBSCRIBE:
        if parse_in_filter(tail) is None:
            return Step(
                "folder", "deny", "filters are in/#, in/{class}/#, in/u/{peer}/#, in/g/{group}/# and in/session"
            )
        return Step("folder", "allow", "the user's own in/")
    return _out_step(tail)


def _out_step(tail: str) -> Step:
    try:
        parse_out(tail)
    except TopicError as error:
        return Step("folder", "deny", f"bad-request: {error}")
    return Step("folder", "allow", "the user's own out/; whether the message is accepted, its status tells")
