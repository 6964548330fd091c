"""What the broker's own plugins reach through their context: tokens, the claim on the root, the keeper."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from mesimqtt.hooks import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mesimqtt.broker.throttle import LoginKeeper
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.ports import Claim, Keeper
    from mesimqtt.hooks import ConnectRequest, Identity
    from mesimqtt.messaging.access import AccessRules

# The one user that all clients without a token are in open mode (contract section 6). No address begins with a
# space, so that this is never somebody with an inbox.
OPEN_USER = " open"


class TokenCheck(Protocol):
    """Verifies what a CONNECT brings (contract section 5)."""

    def check_connect(self, request: ConnectRequest) -> Identity | Refusal:
        """Return who is connecting, or why not."""


class Services(Protocol):
    """What the composition root hands to the broker; plugins find it as `context.services`."""

    @property
    def tokens(self) -> TokenCheck:
        """Return what verifies tokens."""

    @property
    def claim(self) -> Claim | None:
        """Return the owner of every topic under the root, if messaging runs."""

    @property
    def keeper(self) -> Keeper | None:
        """Return where sessions and retained messages survive a restart; None keeps them in memory."""

    @property
    def failed_logins(self) -> LoginKeeper | None:
        """Return where failed logins survive a restart; None keeps them in memory."""

    def notify_denied(self, connection: Connection, topic: str, rule: str) -> None:
        """Tell the client on `in/session` that a free topic was denied (contract section 4)."""

    def count(self, what: str) -> None:
        """Count something for `mesimqtt stats`."""

    def is_user(self, address: str) -> bool:
        """Tell whether there is such a user; for the server's own decisions, never for an answer to a client."""

    def is_disabled(self, address: str) -> bool:
        """Tell whether there is such a user whom nobody is to let in, however he shows who he is."""

    def is_member(self, user: str, group: str) -> bool:
        """Tell whether `user` belongs to `group`."""

    @property
    def modules(self) -> Mapping[str, str]:
        """Return the names of server-side modules by the Python module that they are written in."""

    def rules_loaded(self, rules: AccessRules, changed: Callable[[], None]) -> None:
        """Take the rules in force; `changed` is to be called when members of a group that they name change."""


class _NoTokens:
    """Knows no token."""

    def check_connect(self, request: ConnectRequest) -> Identity | Refusal:
        """Refuse everyone."""
        return Refusal(5, f"no token is known here, {request.remote_address} brought one")


class BareServices:
    """Services of a broker that stands alone: free topics in memory, no tokens, no messaging."""

    tokens: TokenCheck = _NoTokens()
    claim: Claim | None = None
    keeper: Keeper | None = None
    failed_logins: LoginKeeper | None = None
    modules: Mapping[str, str] = MappingProxyType({})

    def notify_denied(self, connection: Connection, topic: str, rule: str) -> None:
        """Tell nobody: there is no messaging to tell it through."""

    def count(self, what: str) -> None:
        """Count nothing: nobody can ask for it."""

    def is_user(self, address: str) -> bool:  # noqa: ARG002 - the port's
        """Know no user."""
        return False

    def is_disabled(self, address: str) -> bool:  # noqa: ARG002 - the port's
        """Know no user."""
        return False

    def is_member(self, user: str, group: str) -> bool:  # noqa: ARG002 - the port's
        """Know no group."""
        return False

    def rules_loaded(self, rules: AccessRules, changed: Callable[[], None]) -> None:
        """Keep nothing: nobody can ask for it, and no member changes."""
