"""Who may enter: a token as password (contract section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amqtt.plugins.base import BaseAuthPlugin

from mesimqtt.broker.services import OPEN_USER
from mesimqtt.broker.throttle import is_loopback
from mesimqtt.hooks import ConnectRequest, Identity, Refusal
from mesimqtt.tokens import looks_like_token

if TYPE_CHECKING:
    from amqtt.session import Session

    from mesimqtt.broker.context import Context


class TokenAuth(BaseAuthPlugin):
    """Lets a client in whose token is valid; in open mode also one on loopback that brings none.

    The name of a user still takes that user's token: else a mistyped one would look like a success.
    """

    def __init__(self, context: Context) -> None:
        """Remember where tokens are verified."""
        super().__init__(context)
        self._open = context.settings.open
        self._tokens = context.services.tokens
        self._is_user = context.services.is_user

    def check_connect(self, request: ConnectRequest) -> Identity | Refusal | None:
        """Return who is connecting, or why not."""
        if self._open and self._is_nobody(request):
            if is_loopback(request.remote_address):
                return Identity(user=OPEN_USER)
            return Refusal(5, "open mode is for clients on this machine; connect with a token")
        if self.config.mixed and not (looks_like_token(request.password or b"") or request.certificate_user):
            return None
        return self._tokens.check_connect(request)

    def _is_nobody(self, request: ConnectRequest) -> bool:
        """Tell whether a client brings no token, and no name of somebody who has one."""
        brings = request.certificate_user is not None or looks_like_token(request.password or b"")
        return not brings and not (request.username and self._is_user(request.username))

    async def authenticate(self, *, session: Session) -> bool | None:
        """Give the same verdict the way amqtt asks for it."""
        request = ConnectRequest(
            client_id=session.client_id or "",
            username=session.username,
            password=None if session.password is None else session.password.encode(),
            clean_start=bool(session.clean_session),
            version=4,
            remote_address=session.remote_address or "",
            listener="",
        )
        return isinstance(self.check_connect(request), Identity)

    @dataclass
    class Config:
        """Keys, times and `single` stand under `tokens`.

        `mixed: true` leaves a password that does not look like a token to the other auth plugins.
        """

        mixed: bool = False
