"""Messaging as one object: its parts wired together, and what operations call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.addresses import encode_address
from mesimqtt.domain.chance import SYSTEM
from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.ids import MidFactory
from mesimqtt.domain.rates import RateLimit, parse_windows
from mesimqtt.engine import codes
from mesimqtt.hooks import Identity, Refusal
from mesimqtt.messaging import operations
from mesimqtt.messaging.accept import Acceptor
from mesimqtt.messaging.access import Access
from mesimqtt.messaging.admission import Admission
from mesimqtt.messaging.asides import Asides
from mesimqtt.messaging.bots import Bots
from mesimqtt.messaging.changes import Changes
from mesimqtt.messaging.deletion import Deletion
from mesimqtt.messaging.delivery import Delivery
from mesimqtt.messaging.departures import Departures
from mesimqtt.messaging.directory import Directory
from mesimqtt.messaging.enrolment import Enrolment
from mesimqtt.messaging.entry import NOT_AUTHORIZED, Entry
from mesimqtt.messaging.fan_out import FanOut
from mesimqtt.messaging.group_changes import GroupChanges
from mesimqtt.messaging.groups import Groups
from mesimqtt.messaging.history import History
from mesimqtt.messaging.hub import Hub
from mesimqtt.messaging.inbox import Inbox
from mesimqtt.messaging.inboxes import Inboxes
from mesimqtt.messaging.keys import Keys
from mesimqtt.messaging.lifetimes import Lifetimes
from mesimqtt.messaging.modules import Modules
from mesimqtt.messaging.particulars import Particulars
from mesimqtt.messaging.people import People
from mesimqtt.messaging.pins import Pins
from mesimqtt.messaging.policies import Policies
from mesimqtt.messaging.presence import Presence
from mesimqtt.messaging.queries import Queries
from mesimqtt.messaging.receipts import Receipts
from mesimqtt.messaging.retention import Retention
from mesimqtt.messaging.round_robin import RoundRobin
from mesimqtt.messaging.router import Router
from mesimqtt.messaging.scheduled import Schedule
from mesimqtt.messaging.search import Search
from mesimqtt.messaging.sending import Letter, Sending
from mesimqtt.messaging.statuses import Statuses
from mesimqtt.messaging.sweeper import Sweeper
from mesimqtt.messaging.transient import Transients
from mesimqtt.messaging.typing import Typing
from mesimqtt.messaging.vanish import Vanishing
from mesimqtt.messaging.webhooks import Webhooks
from mesimqtt.messaging.withdrawal import Withdrawals
from mesimqtt.store import messages as message_rows
from mesimqtt.store import users

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from mesimqtt.domain.chance import Chance
    from mesimqtt.engine.connection import Connection
    from mesimqtt.hooks import ConnectRequest
    from mesimqtt.messaging.devices import Device
    from mesimqtt.messaging.model import Target, User
    from mesimqtt.messaging.operations_base import Caller
    from mesimqtt.settings import Settings
    from mesimqtt.store.batch import Batch
    from mesimqtt.store.committer import Health
    from mesimqtt.store.store import Store
    from mesimqtt.tokens import TokenSigner

log = logging.getLogger(__name__)


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
        chance: Chance = SYSTEM,
    ) -> None:
        self.settings = settings
        self.store = store
        self.signer = signer
        self.now, self.now_ms, self.chance = now, now_ms, chance
        started_mid = message_rows.last_mid(store.read)
        hub = self._hub = _make_hub(settings, store, now, now_ms, chance, after=started_mid)
        directory = self.directory = hub.directory
        hub.spawn = spawn or hub.spawn
        self.people = People(hub, Policies(settings, store))
        self.presence, self._typing = Presence(hub, self.people), Typing(hub, self.people)
        self._receipts = Receipts(hub)
        self._lifetimes = Lifetimes(hub, self.policies, self._receipts, self._delete_users)
        self._statuses = Statuses(hub)
        self._delivery = Delivery(hub, self._receipts)
        self._transients = Transients(hub, self._statuses)
        self.modules = Modules(hub, self._statuses)
        self._round_robin = RoundRobin(hub, self._delivery, self._receipts, started_mid=started_mid)
        self._fan_out = FanOut(hub, self._delivery, Inboxes(hub, self._receipts), self._round_robin)
        self._acceptor = self._make_acceptor(hub)
        self._enrolment = Enrolment(hub, self._receipts, started_mid=started_mid)
        self._enrolment.knows_sent = self._delivery.sent.__contains__
        hub.news = self._enrolment.news
        self._sweeper = self._make_sweeper(started_mid)
        self.entry = Entry(hub, signer, self.policies)
        self.keys = keys or Keys(settings.tokens, signer, None, now=now, fetches=False)
        self.keys.on_changed = self.entry.forget_all
        self.access = Access(settings, directory.is_member)
        self._queries = Queries(hub)
        self.history, self.inbox, self.search, self.retention = History(hub), Inbox(hub), Search(hub), Retention(hub)
        self._make_groups()
        self.claim = self._make_claim()
        self.check_health: Callable[[], Awaitable[dict[str, Any]]] | None = None
        self.read_metrics: Callable[[], str] | None = None
        self.bots = Bots(hub, self.claim, self._receipts)
        self.on_user_deleted: Callable[[str], None] = _nothing  # the engine's sessions of that name go, too
        self.on_revoked: Callable[[str, str], None] = _nothing  # user, or token id: its delayed wills go
        self._follow_commits()
        self.webhooks = Webhooks(hub, signer)

    def _follow_commits(self) -> None:
        committer = self.store.committer
        committer.on_seal = self._receipts.seal
        committer.on_committed = self._committed
        committer.on_failed = self._failed
        committer.on_refused = self._acceptor.refused

    def _make_acceptor(self, hub: Hub) -> Acceptor:
        """Return the acceptor, with all that looks after messages before and after it."""
        withdrawals = Withdrawals(hub, self._statuses, self._receipts, self._delivery)
        admission = Admission(hub, self._statuses, self._fan_out)
        self.schedule = Schedule(hub, self._statuses, admission)
        particulars = Particulars(hub, self._statuses, withdrawals, self.schedule)
        parts = (self._statuses, self._delivery, self._receipts, self._transients, self.modules)
        acceptor = Acceptor(hub, *parts, particulars, admission)
        self.schedule.acceptor = acceptor
        self._sending = Sending(hub, self._statuses, acceptor)
        self._deletion = Deletion(hub, withdrawals)
        self._vanishing = Vanishing(hub, self._receipts, withdrawals)
        return acceptor

    def _make_sweeper(self, started_mid: int) -> Sweeper:
        parts = (self._statuses, self._receipts, self._transients, self._enrolment, self._round_robin)
        sweeper = Sweeper(self._hub, *parts, started_mid=started_mid)
        sweeper.tasks += [self._vanishing.tick, self.schedule.tick]
        return sweeper

    def _make_groups(self) -> None:
        hub, round_robin, delivery = self._hub, self._round_robin, self._delivery
        departures = Departures(hub, self._receipts)
        changes = Changes(hub, self._fan_out, self.access.members_changed)
        self.groups = Groups(hub, delivery, self._fan_out.inboxes, round_robin, departures, changes)
        self.group_changes = GroupChanges(hub, self.groups, changes, delivery, self._receipts, round_robin, departures)
        self.pins = Pins(hub, self.groups)
        self.invitations = RateLimit(parse_windows(self.settings.rates.invitations))
        self.lookups = RateLimit(parse_windows(self.settings.rates.lookups))

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
            round_robin=self._round_robin,
        )

    @property
    def policies(self) -> Policies:
        """Return what holds for classes of users."""
        return self.people.policies

    # ---- for the broker ------------------------------------------------------------------------------------------

    def check_connect(self, request: ConnectRequest) -> Identity | Refusal:
        """Return who a CONNECT is from, or why it is refused."""
        verdict = self.entry.check_connect(request)
        if isinstance(verdict, Identity) and self.bots.owns(verdict.user, request.client_id):
            return Refusal(NOT_AUTHORIZED, "that device is a bot of this server", codes.CLIENT_ID_NOT_VALID)
        return verdict

    def expect_everybody(self) -> None:
        """Prepare for those who come back after a start."""
        self._hub.spawn(self.entry.read_ahead())

    @property
    def probe(self) -> bytes:
        """Return the password with which the server's own health check connects."""
        return self.entry.probe

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

    def tell_closing(self, hints: Mapping[Connection, float]) -> None:
        """Tell devices on `in/session` that the server stops, and in how many seconds each is to come back."""
        self._enrolment.closing(hints)

    def count(self, what: str) -> None:
        """Count something that happened elsewhere, for `stats`."""
        self._hub.count(what)

    def tick(self, now: float) -> None:
        """Do what time has made due, all of it: what parts raise is raised at the end, of several as a group."""
        failed: list[Exception] = []
        for part in (
            self.claim.audit, self._sweeper, self.search, self.retention, self.modules, self.bots, self._lifetimes,
            self._typing, self.presence, self._round_robin, self.groups, self.keys, self.webhooks, self._delivery.room,
        ):  # fmt: skip
            try:
                part.tick(now)
            except Exception as error:  # noqa: BLE001 - raised below
                failed.append(error)
        if failed:
            raise failed[0] if len(failed) == 1 else ExceptionGroup("several periodic tasks failed", failed)

    def close(self) -> None:
        """Begin nothing more: what waits for a module was never acknowledged, and comes again; so does a bot's."""
        self.entry.close()
        self.bots.close()
        self.modules.close()

    def _committed(self, batch: Batch) -> None:
        self._acceptor.committed(batch)
        self.search.touched(batch.touched)

    def _failed(self, batch: Batch, health: Health) -> None:
        if health == "disk-full":
            self.store.drop_ballast()
        self._acceptor.failed(batch, health)

    # ---- for operations --------------------------------------------------------------------------------------------

    def user_changed(self, address: str, *, reason: str) -> None:
        """Take note that a user's row changed; a disabled user loses his connections."""
        self.entry.forget(address)
        user = self._hub.directory.user(address)
        if user is None:
            self._hub.directory.epoch += 1
            return
        row = users.by_id(self.store.read, user.id)
        user.active, user.is_leaving = row is not None and bool(row.active), False
        if row is not None:
            self.people.dress(user, row)
        self._hub.directory.epoch += 1
        self.presence.review(user, None)
        if not user.active:
            self._close(user.devices, f"user {reason}")
            self.on_revoked(user.address, "")

    def token_revoked(self, number: int, jti: str) -> None:
        """Close the connections that a revoked token of this user opened."""
        user = self._hub.directory.user_by_id(number)
        if user is None:  # his row is damaged
            self.entry.forget_all()
        else:
            self.entry.forget(user.address)
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
        self.entry.forget(address)
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
        self.entry.forget(address)
        self.on_user_deleted(address)

    @staticmethod
    def _close(devices: list[Device], reason: str) -> None:
        for device in list(devices):
            device.connection.close(reason, codes.NOT_AUTHORIZED)

    def find_user(self, address: str) -> User | None:
        """Return a user, None if there is none."""
        return self._hub.directory.user(address)

    def target_of(self, sender: User, peer: str) -> Target | None:
        """Return where a message of a user's to another would lead, None if he may not know of that one."""
        return self._hub.directory.target(sender, f"u/{encode_address(peer)}".encode(), "u", peer)

    async def send(self, sender: str, kind: str, name: str, letter: Letter, *, is_operator: bool) -> dict[str, Any]:
        """Send a message to a user (`kind` u) or group (g); return SENT once it is committed.

        Raises:
            OperationError: it was refused; `code` is the status' name.

        """
        return await self._sending.send(self.party(sender), kind, name, letter, is_operator=is_operator)

    async def send_all(self, sender: str, places: list[tuple[str, str]], letter: Letter) -> dict[str, Any]:
        """Send a message to several users and groups; return a status for each."""
        return await self._sending.send_all(self.party(sender), places, letter)

    def scheduled(self, address: str, *, after: tuple[int, int], limit: int) -> list[dict[str, Any]]:
        """Return what a user has scheduled after (due, mid)."""
        return self.schedule.waiting(self.party(address), after=after, limit=limit)

    async def cancel(self, address: str, mid: int) -> bool:
        """Cancel a user's message that waits for its time; False if there is none."""
        return await self.schedule.cancel(self.party(address), mid)

    async def hide(self, address: str, mids: list[int]) -> list[int]:
        """Delete messages for one user alone; return those that are his."""
        return await self._deletion.hide(self.party(address), mids)

    async def status(
        self, mid: str, *, asker: str | None = None, limit: int = 1000, cursor: str | None = None
    ) -> dict[str, Any]:
        """Return the statuses of one message."""
        waiting = self.schedule.status(mid, asker)
        return waiting or await self._queries.status(mid, asker=asker, limit=limit, cursor=cursor)

    def trace(self, mid: str, *, after: str = "") -> dict[str, Any]:
        """Return where a message is and how it got there."""
        return self.schedule.trace(mid) or self._queries.trace(mid, after=after)

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


def _make_hub(
    settings: Settings, store: Store, now: Callable[[], float], now_ms: Callable[[], int], chance: Chance, *, after: int
) -> Hub:
    cache = settings.store
    directory = Directory(store, settings.root, users_max=cache.cache_users, groups_max=cache.cache_groups)
    mids = MidFactory(now_ms, node=settings.node, after=after)
    return Hub(settings, store, store.committer, directory, mids, now, now_ms, chance=chance)


def _nothing(*_whom: str) -> None:
    """Stand in for an engine: a command on a stopped server has none."""
