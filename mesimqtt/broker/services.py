"""What the broker's own plugins reach through their context: tokens, the claim on the root, the keeper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mesimqtt.hooks import Refusal

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.ports import Claim, Keeper
    from mesimqtt.hooks import ConnectRequest, Identity

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

    def notify_denied(self, connection: Connection, topic: str, rule: str) -> None:
        """Tell the client on `in/session` that a free topic was denied (contract section 4)."""


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

    def notify_denied(self, connection: Connection, topic: str, rule: str) -> None:
        """Tell nobody: there is no messaging to tell it through."""
