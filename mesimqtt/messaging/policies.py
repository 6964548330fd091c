"""The policies in force: those of the configuration, those that operations have made, and what differs for one user."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

from mesimqtt.domain.policies import CLOSED, DEFAULT, Policy, PolicyError, with_rules
from mesimqtt.domain.rates import RateLimit, parse_windows
from mesimqtt.domain.strict_json import read_kept
from mesimqtt.store import policies as rows

if TYPE_CHECKING:
    from mesimqtt.settings import Settings
    from mesimqtt.store.store import Store

log = logging.getLogger(__name__)
_CACHE_MAX = 10_000


class Policies:
    """Policies by name. A user whose policy is gone has the default one."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._policies: dict[str, Policy] = {}
        self._special: OrderedDict[tuple[str, str], Policy] = OrderedDict()
        self._limits: OrderedDict[str, RateLimit] = OrderedDict()
        self._lost: Policy | None = None  # of whom the policy is not to be found, while one is damaged: it may be that
        self.reload()

    def reload(self) -> None:
        """Read again what operations have made; what stands in the configuration goes before it."""
        made: dict[str, Policy] = {}
        self._lost = None
        for name, rules in rows.load(self._store.read).items():
            if rules is None:
                self._lost = made[name] = CLOSED
                continue
            try:
                made[name] = with_rules(Policy(), rules)
            except PolicyError as error:  # made by a version that knew more
                log.warning("policy %s: %s; the default one holds instead", name, error)
        self._policies = {**made, **self._settings.policies}
        self._special.clear()

    @property
    def names(self) -> list[str]:
        """Return the names of all policies."""
        return sorted(self._policies)

    def is_configured(self, name: str) -> bool:
        """Tell whether a policy stands in the configuration, so that no operation can change it."""
        return name in self._settings.policies

    def named(self, name: str) -> Policy | None:
        """Return a policy by its name."""
        return self._policies.get(name)

    def of(self, name: str, rules: str) -> Policy:
        """Return what holds for a user: his policy, with what differs for him (JSON)."""
        policy = self._policies.get(name or DEFAULT) or self._lost or self._policies[DEFAULT]
        if rules == "{}":
            return policy
        found = self._special.get((name, rules))
        if found is None:
            try:
                found = with_rules(policy, read_kept(rules))
            except PolicyError as error:
                log.warning("a user of policy %s: %s", name or DEFAULT, error)
                found = policy
            if len(self._special) >= _CACHE_MAX:
                self._special.popitem(last=False)
            self._special[name, rules] = found
        return found

    def limit(self, windows: str) -> RateLimit | None:
        """Return what counts for these windows, the same for all whom they bound; None: no bound."""
        found = self._limits.get(windows)
        if found is None:
            found = RateLimit(parse_windows(windows))
            if len(self._limits) >= _CACHE_MAX:
                self._limits.popitem(last=False)
            self._limits[windows] = found
        return found or None
