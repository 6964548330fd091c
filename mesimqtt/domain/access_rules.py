"""Rules for free topics, pure: how they are written, what they match, and why not (contract section 6)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.addresses import check_address, decode_address, encode_address
from mesimqtt.domain.errors import AddressError, MesimqttError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    IsMember = Callable[[str, str], bool]  # (user, group)

PUBLISH = "publish"
SUBSCRIBE = "subscribe"
SCOPES = ("user", "backend", "admin")
_ACTIONS = {PUBLISH: (PUBLISH,), SUBSCRIBE: (SUBSCRIBE,), "all": (PUBLISH, SUBSCRIBE)}
_KEYS = ("allow", "deny", "topic", "users", "groups", "scope")
_PLACE = re.compile("%[uc]")
_GROUP = "%g"
_NO_PLACE = re.compile("%(?![ucg]|[0-9A-F]{2})[A-Za-z]")  # %2F and the like is part of an address
_UNUSABLE = set("/+#\0")  # a user or client id that holds one of these matches no rule that names it


def is_filter(levels: Sequence[str]) -> bool:
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
    if list(wanted) == ["#"]:
        return list(rule) in (["#"], ["+", "#"])
    if list(wanted) == ["", "#"]:
        wanted = ["", "+", "#"]  # its parent level would be the empty topic, which there is not
    for index, level in enumerate(rule):
        if level == "#":
            return True  # also the parent level itself: `a/#` matches `a`
        if index >= len(wanted) or wanted[index] == "#" or level not in ("+", wanted[index]):
            return False
    return len(rule) == len(wanted)


def overlaps(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether some topic is matched by both filters; a level with a place counts as any level."""
    for mine, theirs in zip(one, other, strict=False):
        if "#" in (mine, theirs):
            return True
        if mine != theirs and "+" not in (mine, theirs) and "%" not in mine:
            return False
    longer = one if len(one) > len(other) else other
    return len(one) == len(other) or longer[min(len(one), len(other))] == "#"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants to use a free topic. An identity of a foreign auth plugin need not be an address."""

    user: str
    scope: str
    client_id: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. The first that matches decides; `name` is its place, such as `rules[0]`, `text` what was written."""

    name: str
    text: str
    is_allowing: bool
    actions: tuple[str, ...]
    levels: tuple[str, ...]
    users: frozenset[str] | None
    groups: frozenset[str] | None
    scope: str | None
    has_places: bool
    group_level: int  # the level that holds %g, -1 for none

    @property
    def names_groups(self) -> bool:
        """Tell whether a change of members can change what this rule says."""
        return self.groups is not None or self.group_level >= 0

    def miss(self, asker: Asker, action: str, wanted: Sequence[str], is_member: IsMember) -> str:
        """Return why this rule does not match `wanted`; '' if it does."""
        if action not in self.actions:
            return f"is for {self.actions[0]} only"
        if self.users is not None and asker.user not in self.users:
            return "names other users"
        if self.scope is not None and asker.scope != self.scope:
            return f"is for scope {self.scope}"
        if self.has_places and not self._begins_like(wanted):  # spares filling in a name
            return "the topic does not match"
        levels = self._filled(asker)
        if levels is None:
            return "the user or client id cannot stand in a topic"
        if self.group_level >= 0:
            levels = self._with_group(levels, wanted, asker.user, is_member)
        if levels is None or not covers(levels, wanted):
            if not self.is_allowing and set(wanted) & {"+", "#"} and overlaps(self.levels, wanted):
                return "not the whole filter: the topics that both match are left out of its messages"
            return "the topic does not match"
        if self.groups is not None and not any(is_member(asker.user, group) for group in self.groups):
            return f"not a member of {' or '.join(sorted(self.groups))}"
        return ""

    def _begins_like(self, wanted: Sequence[str]) -> bool:
        first = self.levels[0]
        return first in ("+", "#", wanted[0]) or "%" in first or (not self.is_allowing and wanted[0] in ("+", "#"))

    def _filled(self, asker: Asker) -> Sequence[str] | None:
        """Return the filter with %u and %c replaced.

        Where one of them has no usable value, an allowing rule opens nothing (None), a denying one denies them all.
        """
        if not self.has_places:  # asked for every retained message that a new subscription selects
            return self.levels
        values: dict[str, str] = {}
        if asker.client_id and not set(asker.client_id) & _UNUSABLE:
            values["%c"] = asker.client_id
        try:
            values["%u"] = encode_address(asker.user)
        except AddressError:
            values.pop("%u", None)
        filled = []
        for level in self.levels:
            if all(place in values for place in _PLACE.findall(level)):
                # One pass, so that a client id which holds "%u" stays what it is.
                filled.append(_PLACE.sub(lambda match: values[match[0]], level))
            elif self.is_allowing:
                return None
            else:
                filled.append("+")
        return filled

    def _with_group(
        self, levels: Sequence[str], wanted: Sequence[str], user: str, is_member: IsMember
    ) -> Sequence[str] | None:
        """Return the filter with %g replaced by the group that `wanted` names, if the user belongs to it."""
        index = self.group_level
        if index >= len(wanted):
            return None
        # The client id, which may hold "%g" itself, stands in no level beside %g: see `_place_of_group`.
        before, _, after = self.levels[index].partition(_GROUP)
        level = wanted[index]
        if len(level) <= len(before) + len(after) or not (level.startswith(before) and level.endswith(after)):
            return None
        try:
            group = decode_address(level[len(before) : len(level) - len(after)])
        except AddressError:
            return None  # another spelling, or a wildcard
        return [*levels[:index], level, *levels[index + 1 :]] if is_member(user, group) else None


def parse_rules(values: object, source: str) -> list[Rule]:
    """Return the rules of a list as YAML gives it. Raises MesimqttError, which names `source`, number and key."""
    if not isinstance(values, list):
        raise MesimqttError(f"{source}: rules are a list: - {{allow: all, topic: home/%u/#}}")
    return [_parse(rule, f"{source}[{index}]") for index, rule in enumerate(values)]


def _parse(rule: object, name: str) -> Rule:
    if not isinstance(rule, dict):
        raise MesimqttError(f"{name}: a rule is {{allow: publish|subscribe|all, topic: FILTER}}")
    unknown = [str(key) for key in rule if key not in _KEYS]
    if unknown:
        raise MesimqttError(f"{name}: unknown key {min(unknown)!r}; known are {', '.join(_KEYS)}")
    if ("allow" in rule) == ("deny" in rule):
        raise MesimqttError(f"{name}: a rule has one of allow and deny")
    verb = "allow" if "allow" in rule else "deny"
    if not isinstance(rule[verb], str) or rule[verb] not in _ACTIONS:
        raise MesimqttError(f"{name}: {verb} is publish, subscribe or all")
    topic, scope = rule.get("topic"), rule.get("scope")
    if not isinstance(topic, str) or not is_filter(topic.split("/")):
        raise MesimqttError(f"{name}: topic is not a topic filter")
    if strange := _NO_PLACE.search(topic):
        raise MesimqttError(f"{name}: topic: {strange[0]} stands for nothing; there are %u, %c and %g")
    if topic.startswith("$"):
        raise MesimqttError(f"{name}: topic: what begins with $ cannot be opened; $SYS is for scope admin")
    if scope is not None and scope not in SCOPES:
        raise MesimqttError(f"{name}: scope is user, backend or admin")
    levels = tuple(topic.split("/"))
    users, groups = _addresses(rule, "users", name), _addresses(rule, "groups", name)  # before they are shown as text
    return Rule(
        name=name,
        text=_text(rule),
        is_allowing=verb == "allow",
        actions=_ACTIONS[rule[verb]],
        levels=levels,
        users=users,
        groups=groups,
        scope=scope,
        has_places=bool(_PLACE.search(topic)),
        group_level=_place_of_group(levels, name),
    )


def _addresses(rule: Mapping[str, Any], key: str, name: str) -> frozenset[str] | None:
    values = rule.get(key)
    if key not in rule:
        return None
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise MesimqttError(f"{name}: {key} is a list of addresses: {key}: [alice, bob]")
    for value in values:
        try:
            check_address(value)
        except AddressError as error:
            raise MesimqttError(f"{name}: {key}: {value!r}: {error}") from None
    return frozenset(values)


def _place_of_group(levels: tuple[str, ...], name: str) -> int:
    found = [index for index, level in enumerate(levels) if _GROUP in level]
    if len(found) > 1 or any(levels[index].count(_GROUP) > 1 or _PLACE.search(levels[index]) for index in found):
        raise MesimqttError(f"{name}: topic: %g stands once in a rule, and not beside %u or %c in one level")
    return found[0] if found else -1


def _text(rule: Mapping[str, Any]) -> str:
    """Return a rule on one line, as it would be written in YAML."""
    shown = {key: f"[{', '.join(value)}]" if isinstance(value, list) else value for key, value in rule.items()}
    return "{" + ", ".join(f"{key}: {value}" for key, value in shown.items()) + "}"
