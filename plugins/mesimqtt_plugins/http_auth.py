"""Who may enter, and who may use which topic: asked of the backend over HTTP, its answers kept for a while."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin

from mesimqtt.broker.backend import Asker, BackendError, HttpConfig, Kept
from mesimqtt.broker.foreign import Fault
from mesimqtt.domain.access_rules import SCOPES
from mesimqtt.domain.addresses import check_address
from mesimqtt.domain.errors import AddressError
from mesimqtt.hooks import Identity, Refusal
from mesimqtt.tokens import EXP_MAX, TokenError, looks_like_token, read_acl

if TYPE_CHECKING:
    from amqtt.contexts import Action
    from amqtt.session import Session

    from mesimqtt.broker.context import Context

RETRY_S = 1.0


class HttpAuth(BaseAuthPlugin):
    """Lets in whom the backend lets in, as whom it says, with the rules for free topics that it gives."""

    def __init__(self, context: Context) -> None:
        """Check the options; raises MesimqttError, whose text names the one to mend."""
        super().__init__(context)
        self._asker = Asker(self.config, "HttpAuth", context)
        self._kept: Kept[Identity] = Kept(self.config.cache, context.now)
        self._wall = context.wall

    async def authenticate(self, *, session: Session) -> bool | None:
        """Ask the backend; who it is goes to the session's `verdict`. No answer is a no."""
        password = (session.password or "").encode()
        if self.config.mixed and (not password or looks_like_token(password)):
            return None
        asked = (session.username, session.password, session.client_id)
        key = (hashlib.sha256(repr(asked).encode("utf-8", "surrogatepass")).digest(), session.remote_address)
        verdict: Identity | Refusal | None = self._kept.get(key)
        if verdict is None or (isinstance(verdict, Identity) and 0 < verdict.expires_at <= self._wall()):
            verdict = await self._asked(session)
            if isinstance(verdict, Identity):
                self._kept.put(key, verdict)
        session.verdict = verdict  # type: ignore[attr-defined] # of mesimqtt.broker.sessions.PluginSession
        return isinstance(verdict, Identity)

    async def _asked(self, session: Session) -> Identity | Refusal:
        question = {
            "op": "connect",
            "user": session.username,
            "password": session.password,
            "client_id": session.client_id,
            "address": session.remote_address,
        }
        try:
            answer = await self._asker.ask(question)
        except BackendError:
            return Fault(5, "the HTTP backend does not answer as it should")
        if answer is None or answer.get("allow") is not True:
            return Refusal(5, "the HTTP backend said no")
        try:
            identity = identity_of(answer, session.username)
        except (AddressError, TokenError) as error:
            return Fault(5, f"the HTTP backend's answer cannot be used: {error}")
        if identity.device is not None and identity.device != session.client_id:
            return Refusal(5, "the HTTP backend lets in another device")
        if 0 < identity.expires_at <= self._wall():
            return Refusal(5, "the time until which the HTTP backend lets it in is over")
        return identity

    async def close(self) -> None:
        """Let the threads end."""
        self._asker.backend.close()

    @dataclass
    class Config(HttpConfig):
        """Also `mixed`: true leaves a password that looks like a token, and none at all, to TokenAuth (`mixed` too)."""

        mixed: bool = False


def identity_of(answer: dict[str, Any], username: str | None) -> Identity:
    """Return who an answer of the backend lets in. Raises AddressError and TokenError, which say what is wrong."""
    user = answer.get("user", username)
    scope, expires, device = answer.get("scope", "user"), answer.get("expires", 0), answer.get("device")
    if not isinstance(user, str) or not isinstance(scope, str) or scope not in SCOPES:
        raise TokenError("user is an address, scope user, backend or admin")
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not 0 <= expires < EXP_MAX:
        raise TokenError("expires is seconds since 1970")
    if device is not None and not isinstance(device, str):
        raise TokenError("device is a client id")
    acl = read_acl(answer.get("acl", []))
    # Decisions are kept by jti: whoever gets other rights is another one.
    mark = hashlib.sha256(repr((scope, acl)).encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return Identity(check_address(user), f"http-{mark}", scope, device, float(expires), acl)


class HttpAccess(BaseTopicPlugin):
    """Asks the backend for each client, action and free topic, and again when its answers are too old."""

    tells_changes = True  # the broker keeps our answers until we say that permissions have changed

    def __init__(self, context: Context) -> None:
        """Check the options; raises MesimqttError, whose text names the one to mend."""
        super().__init__(context)
        self._context = context
        self._asker = Asker(self.config, "HttpAccess", context)
        self._kept: Kept[bool] = Kept(self.config.cache, context.now)
        self._forgets: asyncio.TimerHandle | None = None

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        """Ask the backend, unless its answer is still good. No answer is a no, for a second."""
        if session is None or topic is None or action is None:
            return False
        key = (session.username, session.client_id, str(action), topic)
        known = self._kept.get(key)
        if known is not None:
            return known
        user, client_id, wants, about = key
        try:
            answer = await self._asker.ask(
                {"op": "access", "user": user, "client_id": client_id, "action": wants, "topic": about}
            )
        except BackendError:
            self._forget_in(RETRY_S)
            return False
        is_allowed = answer is not None and answer.get("allow") is True
        self._kept.put(key, is_allowed)
        self._forget_in(max(self.config.cache, RETRY_S))
        return is_allowed

    def _forget_in(self, seconds: float) -> None:
        """Have everything decided anew so soon, or sooner if that is due already."""
        loop = asyncio.get_running_loop()
        if self._forgets is not None and self._forgets.when() > loop.time() + seconds:
            self._forgets.cancel()
            self._forgets = None
        if self._forgets is None:
            self._forgets = loop.call_later(seconds, self._forget)

    def _forget(self) -> None:
        self._forgets = None
        self._kept.clear()
        if self._context.loop is not None:  # the server's, which is another than ours where we are isolated
            self._context.loop.call_soon_threadsafe(self._context.permissions_changed)

    async def close(self) -> None:
        """Let the threads end."""
        if self._forgets is not None:
            self._forgets.cancel()
        self._asker.backend.close()

    @dataclass
    class Config(HttpConfig):
        """The same options."""
