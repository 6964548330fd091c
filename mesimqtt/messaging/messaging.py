"""Messaging as one object: its parts wired together, and what operations call."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.addresses import encode_address
from mesimqtt.domain.errors import AddressError, OperationError
from mesimqtt.domain.ids import MidFactory
from mesimqtt.domain.status import TITLES, Status
from mesimqtt.engine import codes
from mesimqtt.hooks import Identity, Refusal
from mesimqtt.messaging import operations
from mesimqtt.messaging.accept import Acceptor
from mesimqtt.messaging.access import Access
from mesimqtt.messaging.asides import Asides
from mesimqtt.messaging.bots import Bots
from mesimqtt.messaging.delivery import Delivery
from mesimqtt.messaging.directory import Directory
from mesimqtt.messaging.enrolment import Enrolment
from mesimqtt.messaging.entry import NOT_AUTHORIZED, Entry
from mesimqtt.messaging.groups import Groups
from mesimqtt.messaging.history import History
from mesimqtt.messaging.hub import Hub
from mesimqtt.messaging.inbox import Inbox
from mesimqtt.messaging.keys import Keys
from mesimqtt.messaging.lifetimes import Lifetimes
from mesimqtt.messaging.modules import Modules
from mesimqtt.messaging.people import People
from mesimqtt.messaging.policies import Policies
from mesimqtt.messaging.presence import Presence
from mesimqtt.messaging.queries import Queries
from mesimqtt.messaging.receipts import Receipts
from mesimqtt.messaging.router import Router
from mesimqtt.messaging.statuses import Statuses
from mesimqtt.messaging.sweeper import Sweeper
from mesimqtt.messaging.transient import Transients
from mesimqtt.messaging.typing import Typing
from mesimqtt.messaging.webhooks import Webhooks
from mesimqtt.store import history as history_rows
from mesimqtt.store import messages as message_rows
from mesimqtt.store import users
from mesimqtt.topics import TopicError, format_params, parse_out

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from mesimqtt.engine.connection import Connection
    from mesimqtt.hooks import ConnectRequest
    from mesimqtt.messaging.devices import Device
    from mesimqtt.messaging.model import User
    from mesimqtt.messaging.operations_base import Caller
    from mesimqtt.settings import Settings
    from mesimqtt.store.batch import Batch
    from mesimqtt.store.committer import Health
    from mesimqtt.store.store import Store
    from mesimqtt.tokens import TokenSigner

log = logging.getLogger(__name__)
_CODES = frozenset({"store", "cid-reused"})  # reasons that say more to a program than the name of their status


class Messaging:
    """The messaging service of one server. `claim` is what the engine's claimed topics go to."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        signer: TokenSigner,
        *,
        now: Callable[[], float],
        now_ms: Callable[[], int],
        keys: Keys | None = None,
        spawn: Callable[[Coroutine[Any, Any, None]], object] | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.signer = signer
        self.now, self.now_ms = now, now_ms
        started_mid = message_rows.last_mid(store.read)
        history_rows.recover_own(store.read, started_mid - history_rows.UNKEPT_MIDS)
        hub = self._hub = _make_hub(settings, store, now, now_ms, after=started_mid)
        directory = hub.directory
        if spawn is not None:
            hub.spawn = spawn
        self.people = People(hub, Policies(settings, store))
        self.presence, self._typing = Presence(hub, self.people), Typing(hub, self.people)
        self._receipts = Receipts(hub)
        self._lifetimes = Lifetimes(hub, self.policies, self._receipts, self._delete_users)
        self._statuses = Statuses(hub)
        self._delivery = Delivery(hub, self._receipts)
        self._transients = Transients(hub, self._statuses)
        self.modules = Modules(hub, self._statuses)
        self._acceptor = Acceptor(hub, self._statuses, self._delivery, self._receipts, self._transients, self.modules)
        self._enrolment = Enrolment(hub, self._receipts, started_mid=started_mid)
        hub.news = self._enrolment.news
        self._sweeper = Sweeper(hub, self._statuses, self._receipts, self._transients, self._enrolment)
        self._entry = Entry(hub, signer, self.policies)
        self.keys = keys or Keys(settings.tokens, signer, None, now=now, fetches=False)
        self.keys.on_changed = self._entry.forget
        self.access = Access(settings, directory.is_member)
        self._queries = Queries(hub)
        self.history, self.inbox = History(hub), Inbox(hub)
        self.groups = Groups(hub, self._delivery, self._receipts, self.access.members_changed)
        self.claim = self._make_claim()
        self.check_health: Callable[[], Awaitable[dict[str, Any]]] | None = None
        self.read_metrics: Callable[[], str] | None = None
        self.bots = Bots(hub, self.claim, self._receipts)
        self.on_user_deleted: Callable[[str], None] = _nothing  # the engine's sessions of that name go, too
        self.on_revoked: Callable[[str, str], None] = _nothing  # user, or token id: its delayed wills go
        store.committer.on_seal = self._receipts.seal
        store.committer.on_committed = self._acceptor.committed
        store.committer.on_failed = self._failed
        self.webhooks = Webhooks(hub, signer)

    def _make_claim(self) -> Router:
        asides = Asides(
            self._hub,
            statuses=self._statuses,
            receipts=self._receipts,
            transients=self._transients,
            typing=self._typing,
            perform=self._rpc,
        )
        return Router(
            self._hub,
            statuses=self._statuses,
            delivery=self._delivery,
            receipts=self._receipts,
            transients=self._transients,
            acceptor=self._acceptor,
            enrolment=self._enrolment,
            asides=asides,
            presence=self.presence,
            typing=self._typing,
        )

    @property
    def policies(self) -> Policies:
        """Return what holds for classes of users."""
        return self.people.policies

    # ---- for the broker ------------------------------------------------------------------------------------------

    def check_connect(self, request: ConnectRequest) -> Identity | Refusal:
        """Return who a CONNECT is from, or why it is refused."""
        verdict = self._entry.check_connect(request)
        if isinstance(verdict, Identity) and self.bots.owns(verdict.user, request.client_id):
            return Refusal(NOT_AUTHORIZED, "that device is a bot of this server", codes.CLIENT_ID_NOT_VALID)
        return verdict

    @property
    def probe(self) -> bytes:
        """Return the password with which the server's own health check connects."""
        return self._entry.probe

    def notify_denied(self, connection: Connection, topic: str, rule: str) -> None:
        """Tell a user on `in/session` that a publish to a free topic was denied, at most one a second."""
        device = connection.claim_state
        if device is None:
            return
        now = self.now()
        if now - device.denied_at >= 1.0:
            device.denied_at = now
            self._enrolment.news(device.user, {"event": "denied", "topic": topic, "rule": rule})

    def is_user(self, address: str) -> bool:
        """Tell whether there is such a user; for the server's own decisions, never for an answer to a client."""
        return self._hub.directory.user(address) is not None

    def count(self, what: str) -> None:
        """Count something that happened elsewhere, for `stats`."""
        self._hub.count(what)

    def tick(self, now: float) -> None:
        """Do what time has made due."""
        self.claim.audit.tick(now)
        self._sweeper.tick(now)
        self.modules.tick(now)
        self.bots.tick(now)
        self._lifetimes.tick(now)
        self._typing.tick(now)
        self.presence.tick(now)
        self.keys.tick(now)
        self.webhooks.tick(now)

    def close(self) -> None:
        """Begin nothing more: what waits for a module was never acknowledged, and comes again; so does a bot's."""
        self.bots.close()
        self.modules.close()

    def _failed(self, batch: Batch, health: Health) -> None:
        if health == "disk-full":
            self.store.drop_ballast()
        self._acceptor.failed(batch, health)

    # ---- for operations --------------------------------------------------------------------------------------------

    def user_changed(self, address: str, *, reason: str) -> None:
        """Take note that a user's row changed; a disabled user loses his connections."""
        self._entry.forget()
        user = self._hub.directory.user(address)
        if user is None:
            self._hub.directory.epoch += 1
            return
        row = users.by_id(self.store.read, user.id)
        user.active = row is not None and bool(row.active)
        if row is not None:
            self.people.dress(user, row)
        self._hub.directory.epoch += 1
        self.presence.review(user, None)
        if not user.active:
            self._close(user.devices, f"user {reason}")
            self.on_revoked(user.address, "")

    def token_revoked(self, jti: str) -> None:
        """Close the connections that a revoked token opened."""
        self._entry.forget()
        for user in self._hub.directory.online():
            self._close(
                [d for d in user.devices if d.connection.identity and d.connection.identity.jti == jti], "token revoked"
            )
        self.on_revoked("", jti)

    async def user_leaving(self, address: str) -> None:
        """Give what waits for a user who is being deleted its verdict `user-deleted`; take him out of his groups."""
        user = self._hub.directory.user(address)
        if user is None:
            return
        user.active, user.is_leaving = False, True
        self._hub.directory.epoch += 1
        self._entry.forget()
        self._close(user.devices, "user deleted")
        await self._hub.committer.drain()  # what was accepted for him before is there to be judged
        await self._lifetimes.withdraw_inbox(user)
        for group in users.groups_of(self.store.read, user.id):
            await self.groups.leave(group, [address])
        await self._hub.committer.drain()

    async def _delete_users(self, addresses: list[str]) -> None:
        await operations.perform(self, "user_delete", {"addresses": addresses})

    def user_deleted(self, number: int, address: str) -> None:
        """Forget a deleted user."""
        user = self._hub.directory.known_user(number)
        if user is not None:
            self._close(user.devices, "user deleted")
        self._hub.directory.forget_user(address)
        self.presence.gone(number, address)
        self._entry.forget()
        self.on_user_deleted(address)

    @staticmethod
    def _close(devices: list[Device], reason: str) -> None:
        for device in list(devices):
            device.connection.close(reason, codes.NOT_AUTHORIZED)

    async def group_add(self, address: str, owner: str | None = None) -> bool:
        """Create a group; False if it was there."""
        is_new = await self.groups.add(address, owner)
        if is_new:
            self.webhooks.group_changed(address, "created")
        return is_new

    async def group_join(self, address: str, users: list[str]) -> list[str]:
        """Add members; return who is new."""
        return await self.groups.join(address, users)

    async def group_leave(self, address: str, users: list[str]) -> list[str]:
        """Remove members; return who was one."""
        return await self.groups.leave(address, users)

    async def group_delete(self, address: str) -> None:
        """Delete a group."""
        await self.groups.delete(address)
        self.webhooks.group_changed(address, "deleted")

    def group_changed(self, address: str) -> None:
        """Take note that a group's row or rights changed."""
        self._hub.directory.refresh_group(address)

    async def send(
        self,
        sender: str,
        *,
        to: str | None = None,
        group: str | None = None,
        type: int = 0,  # noqa: A002 - the contract's word
        expiry: int | None = None,
        payload: bytes,
        cid: str | None = None,
    ) -> dict[str, Any]:
        """Send a message as `sender`; return its mid, cid and SENT once it is committed.

        Raises:
            OperationError: it was refused; `code` is the status' name.

        """
        user = self.party(sender)
        if not user.active:
            raise OperationError("user-disabled", f"{sender!r} is disabled; first: mesimqtt user enable {sender}")
        if len(payload) > self.settings.limits.payload_max:
            raise OperationError("bad-request", f"a message has at most {self.settings.limits.payload_max} bytes")
        pairs: dict[str, str | int] = {"type": type} if type else {}
        if expiry is not None:
            pairs["expiry"] = expiry
        cid = cid or f"op-{self._hub.mids.draw():016x}"
        try:
            level = encode_address(to if to is not None else group or "")
            tail = f"/{format_params(pairs)}" if pairs else ""
            out = parse_out(f"{'u' if to is not None else 'g'}/{level}/{cid}{tail}")
        except (AddressError, TopicError) as error:
            raise OperationError("bad-request", str(error)) from None
        self._hub.directory.counters(user)
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        watched = self._statuses.watched
        watched[user.id, cid] = lambda code, text: None if future.done() else future.set_result((code, text))
        try:
            self._acceptor.message(user, out, payload, None, 0, 0)
            code, text = await asyncio.wait_for(future, self.settings.messaging.offline_answer_s + 5)
        except TimeoutError:
            again = f"look at: mesimqtt stats; then send again, with --cid {cid}"
            raise OperationError("store", f"no verdict in time; {again}") from None
        finally:
            watched.pop((user.id, cid), None)
        answer: dict[str, Any] = json.loads(text)
        if code >= Status.FAILED:
            raise _refusal(code, answer, self._told(code, answer, sender, to, group))
        return answer

    def _told(self, code: int, answer: dict[str, Any], sender: str, to: str | None, group: str | None) -> str:
        """Return a refusal as a sentence for the operator, who may know everything."""
        reason = answer.get("reason") or answer.get("rule")
        if code == Status.INVALID_DESTINATION and to is not None:
            return f"no user {to!r}; make it with: mesimqtt user add {to}"
        if code == Status.INVALID_DESTINATION and self._hub.directory.group(group or "") is None:
            return f"no group {group!r}; make it with: mesimqtt group add {group}"
        if code == Status.INVALID_DESTINATION:
            return f"{sender!r} is not a member of {group!r}; first: mesimqtt group join {group} {sender}"
        if reason == "store":
            return f"not sent: the store cannot take it now ({self.store.health}); look at: mesimqtt stats"
        return f"{to or group}: {TITLES[code]}{f' ({reason})' if reason else ''}"

    async def status(
        self, mid: str, *, asker: str | None = None, limit: int = 1000, cursor: str | None = None
    ) -> dict[str, Any]:
        """Return the statuses of one message."""
        return await self._queries.status(mid, asker=asker, limit=limit, cursor=cursor)

    def trace(self, mid: str, *, after: str = "") -> dict[str, Any]:
        """Return where a message is and how it got there."""
        return self._queries.trace(mid, after=after)

    def party(self, address: str) -> User:
        """Return a user; raise OperationError if there is none."""
        user = self._hub.directory.user(address)
        if user is None:
            raise OperationError("no-such-user", f"no user {address!r}; make it with: mesimqtt user add {address}")
        return user

    def stats(self) -> dict[str, Any]:
        """Return counters and health."""
        return self._queries.stats()

    async def _rpc(self, op: str, args: dict[str, Any], caller: Caller) -> dict[str, Any]:
        return await operations.perform(self, op, args, caller=caller)


def _refusal(code: int, answer: dict[str, Any], told: str) -> OperationError:
    reason = answer.get("reason")
    return OperationError(reason if reason in _CODES else TITLES[code], told, retry_after=answer.get("retry_after", 0))


def _make_hub(
    settings: Settings, store: Store, now: Callable[[], float], now_ms: Callable[[], int], *, after: int
) -> Hub:
    directory = Directory(store, settings.root, cache_max=settings.store.cache_users)
    mids = MidFactory(now_ms, node=settings.node, after=after)
    return Hub(settings, store, store.committer, directory, mids, now, now_ms)


def _nothing(*_whom: str) -> None:
    """Stand in for an engine: a command on a stopped server has none."""
