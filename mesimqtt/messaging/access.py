"""Who may use which free topic: the rules in force, what they decide, and how to explain it (contract section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesimqtt.configuration import parse_yaml
from mesimqtt.domain.access_rules import PUBLISH, SUBSCRIBE, Asker, Rule, covers, is_filter, parse_rules
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.files import is_named_pipe
from mesimqtt.hooks import Action, Decision, Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mesimqtt.domain.access_rules import IsMember
    from mesimqtt.settings import Settings

PLUGIN = "mesimqtt_plugins.acl.FolderAccess"
NO_RULE = "default"  # what is said to have decided where no rule and no token did
FILE_MAX = 1024 * 1024  # characters: it is read again while the server runs


@dataclass(frozen=True, slots=True)
class Step:
    """What one layer said of a topic, and why; `said` is allow, deny or pass."""

    layer: str
    said: str
    why: str


class AccessRules:
    """The rules of the configuration, then those of a file of their own; the first that matches decides.

    After them comes the token's own list; what nothing opens is denied. A rule never reaches the root or a `$` topic.
    """

    def __init__(self, rules: object, rules_file: str, *, root: str, is_member: IsMember) -> None:
        """Parse the rules and read the file; raises MesimqttError, whose text names the rule and the key."""
        self._root = root
        self._written = self._parsed([] if rules is None else rules, "rules")
        self._file = rules_file
        self._is_member = is_member
        self.rules: list[Rule] = [*self._written, *self._read_file()]

    @property
    def file(self) -> str:
        """Return the file of rules, '' for none."""
        return self._file

    @property
    def names_groups(self) -> bool:
        """Tell whether a change of a group's members can change a decision."""
        return any(rule.names_groups for rule in self.rules)

    def reload(self) -> None:
        """Read the file again. Raises MesimqttError, and the rules that were in force stay so."""
        self.rules = [*self._written, *self._read_file()]

    def decide(self, identity: Identity, client_id: str, action: Action, topic: str) -> Decision:
        """Decide on a topic (publish, will, receive) or a filter (subscribe)."""
        wanted = topic.split("/")
        reserved = self._reserved(identity.scope, action, wanted)
        if reserved is not None:
            return reserved
        wants = PUBLISH if action in (Action.PUBLISH, Action.WILL) else SUBSCRIBE
        asker = Asker(identity.user, identity.scope, client_id)
        for rule in self.rules:
            if not rule.miss(asker, wants, wanted, self._is_member):
                return Decision(rule.is_allowing, rule.name)
        if _opens(identity.acl, wants, wanted):
            return Decision(allow=True, rule="token")
        return Decision(allow=False, rule=NO_RULE)

    def explain(self, identity: Identity, client_id: str, action: Action, topic: str) -> tuple[Decision, list[Step]]:
        """Return the same decision with what every layer said on the way."""
        decision = self.decide(identity, client_id, action, topic)
        if decision.rule in ("root", "sys"):
            why = "$SYS is read by scope admin; no rule reaches a $ topic" if decision.rule == "sys" else "messaging's"
            return decision, [Step(decision.rule, _said(decision), why)]
        wants = PUBLISH if action in (Action.PUBLISH, Action.WILL) else SUBSCRIBE
        asker, wanted, steps = Asker(identity.user, identity.scope, client_id), topic.split("/"), []
        for rule in self.rules:
            miss = rule.miss(asker, wants, wanted, self._is_member)
            steps.append(Step(rule.name, "pass" if miss else _said(decision), f"{rule.text}{miss and f': {miss}'}"))
            if not miss:
                return decision, steps
        opens = decision.rule == "token"
        steps.append(
            Step("token", "allow" if opens else "pass", f"{len(identity.acl)} rules in the token, {_hit(opens)}")
        )
        if not opens:
            steps.append(Step("default", "deny", "no rule opens it"))
        return decision, steps

    def _reserved(self, scope: str, action: Action, wanted: list[str]) -> Decision | None:
        if wanted[0] == self._root:
            return Decision(allow=False, rule="root")  # messaging's alone, whether it runs or not
        if not wanted[0].startswith("$"):
            return None
        may_read = action in (Action.SUBSCRIBE, Action.RECEIVE) and wanted[0] == "$SYS" and scope == "admin"
        return Decision(may_read, "sys")

    def _parsed(self, values: object, source: str) -> list[Rule]:
        rules = parse_rules(values, source)
        for rule in rules:
            if rule.levels[0] == self._root:
                raise MesimqttError(
                    f"{rule.name}: topic: no rule reaches {self._root}/, it is messaging's; rules are for other topics"
                )
        return rules

    def _read_file(self) -> list[Rule]:
        if not self._file:
            return []
        where = f"rules_file {self._file}"
        if is_named_pipe(Path(self._file)):
            raise MesimqttError(f"{where}: cannot be read: it is a pipe; move it away, and put a file there")
        try:
            with Path(self._file).open(encoding="utf-8") as file:
                text = file.read(FILE_MAX + 1)
            if len(text) > FILE_MAX:
                raise MesimqttError(f"{where}: longer than {FILE_MAX} characters")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise MesimqttError(f"{where}: cannot be read: {reason}; write the path from / on") from None
        values = parse_yaml(text, where)
        if isinstance(values, dict) and values.keys() == {"rules"}:
            values = values["rules"]
        try:
            return self._parsed([] if values is None else values, "rules_file")
        except MesimqttError as error:
            raise MesimqttError(f"{self._file}: {error}") from None


class Access:
    """The rules of this server: those that its plugin has loaded, or, where none runs, those of its configuration."""

    def __init__(self, settings: Settings, is_member: IsMember) -> None:
        """Begin without a plugin."""
        self._settings = settings
        self._rules: AccessRules | None = None
        self._changed: Callable[[], None] = _unchanged
        self.is_member = is_member

    def loaded(self, rules: AccessRules, changed: Callable[[], None]) -> None:
        """Take the rules in force, and what to call when they say something else."""
        self._rules, self._changed = rules, changed

    @property
    def rules(self) -> AccessRules | None:
        """Return the rules, None where the configuration does not name our plugin. Raises MesimqttError."""
        if self._rules is None:
            self._rules = self._configured()
        return self._rules

    def members_changed(self) -> None:
        """Take note that somebody joined or left a group: what a rule says of groups counts at once."""
        if self._rules is not None and self._rules.names_groups:
            self._changed()

    def _configured(self) -> AccessRules | None:
        plugins = self._settings.broker.get("plugins") or {}
        listed: Iterable[Any] = [plugins] if isinstance(plugins, dict) else plugins
        for each in listed:
            if each == PLUGIN or (isinstance(each, dict) and PLUGIN in each):
                options = (each[PLUGIN] if isinstance(each, dict) else None) or {}
                rules, file = options.get("rules", []), str(options.get("rules_file") or "")
                return AccessRules(rules, file, root=self._settings.root, is_member=self.is_member)
        return None


def _opens(acl: tuple[tuple[str, str], ...], wants: str, wanted: list[str]) -> bool:
    for allow, topic_filter in acl:
        levels = topic_filter.split("/")
        if allow == wants and is_filter(levels) and covers(levels, wanted):
            return True
    return False


def _said(decision: Decision) -> str:
    return "allow" if decision.allow else "deny"


def _hit(opens: bool) -> str:
    return "one opens it" if opens else "none opens it"


def _unchanged() -> None:
    """Tell nobody: a command on a stopped server has no broker."""
