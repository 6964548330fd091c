"""Who may use which free topic: rules of the configuration and of the token (contract section 6)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from amqtt.plugins.base import BaseTopicPlugin

from mesimqtt.broker.services import OPEN_USER
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.hooks import Action, Decision, Identity
from mesimqtt.messaging.access import NO_RULE, AccessRules

if TYPE_CHECKING:
    from amqtt.contexts import Action as AmqttAction
    from amqtt.session import Session

    from mesimqtt.broker.context import Context

logger = logging.getLogger(__name__)
_OPEN = Decision(allow=True, rule="open")


class FolderAccess(BaseTopicPlugin):
    """Denies every free topic but those that a rule or the token opens. Topics under the root are not its business."""

    def __init__(self, context: Context) -> None:
        """Parse the rules; raises MesimqttError, whose text names the rule."""
        super().__init__(context)
        self._is_open = context.settings.open
        self._context = context
        try:
            self._rules = AccessRules(
                self.config.rules,
                self.config.rules_file,
                root=context.settings.root,
                is_member=context.services.is_member,
            )
        except MesimqttError as error:
            raise MesimqttError(f"FolderAccess: {error}") from None
        context.services.rules_loaded(self._rules, context.permissions_changed)
        context.on_reload(self.reload)

    def check_access(self, identity: Identity, client_id: str, action: Action, topic: str) -> Decision | None:
        """Decide on a topic (publish, will, receive) or a filter (subscribe)."""
        decision = self._rules.decide(identity, client_id, action, topic)
        if self._is_open and decision.rule == NO_RULE and identity.user == OPEN_USER:
            return _OPEN  # a rule that denies holds in open mode as well
        return decision

    def reload(self) -> None:
        """Read the file of rules again; what it says is in force at once, for connected clients too."""
        try:
            self._rules.reload()
        except MesimqttError as error:
            logger.error("FolderAccess: %s; the rules from before stay in force", error)  # noqa: TRY400 - told in full
            return
        self._context.permissions_changed()

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

        `rules` is a list of `{"allow": "publish|subscribe|all", "topic": FILTER}`, or of the same with `deny`
        instead of `allow`, each narrowed if wanted by `"users": [ADDRESS, …]`, `"groups": [GROUP, …]` (a member
        of any of them) and `"scope": "user|backend|admin"`. In FILTER, `%u` stands for the user and `%g` for any
        group that he belongs to (both percent-encoded), `%c` for the client id. The first rule that matches decides.
        `rules_file` is a YAML file of further rules, which is read again on SIGHUP.
        """

        rules: Any = field(default_factory=list)  # looked at by `parse_rules`, whose errors say what to write
        rules_file: str = ""
