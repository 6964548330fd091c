"""People: who may write to whom, who blocks whom, and who may learn what of whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.domain.policies import AUDIENCES, PRIVACY, RECEIPTS, Block
from mesimqtt.domain.status import Status
from mesimqtt.domain.strict_json import read_kept
from mesimqtt.messaging.model import NOT_HELD, Verdict
from mesimqtt.store import ties, users
from mesimqtt.store.ties import Tie

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Target, Thread, User
    from mesimqtt.messaging.policies import Policies
    from mesimqtt.store.tokens import Arrival
    from mesimqtt.store.users import UserRow

BLOCKS_READ_MAX = 10_000
_UNKNOWN = Verdict(Status.INVALID_DESTINATION)  # to the letter what is said of nobody
_NO_INCOMING = Verdict(Status.DENIED, "policy.incoming")
_BLOCKED = Verdict(Status.BLOCKED)
_SILENT = Verdict(Status.BLOCKED, is_silent=True)
_NOBODY_BLOCKED: dict[str, tuple[int, int]] = {}


class People:
    """Judges senders and askers. What it answers is remembered by targets, until a change is told here."""

    def __init__(self, hub: Hub, policies: Policies) -> None:
        self._hub = hub
        self.policies = policies
        self.on_seen: Callable[[User, Iterable[str] | None], None] = _nothing  # whose presence who may see has changed
        hub.directory.dress = self.dress
        hub.directory.judges.append(self.judge)
        hub.hides = self.hides
        hub.is_held = self.is_held
        hub.mended |= {"policy": lambda _: self.policies_changed(), "tie": self._ties_mended}

    def dress(self, user: User, row: UserRow | Arrival) -> None:
        """Give a user in memory what his row says of policy and privacy."""
        user.privacy = _privacy(row.privacy) if row.privacy != "{}" else {}
        user.blocks = None if row.is_blocking else _NOBODY_BLOCKED
        self._place(user, (row.policy, row.rules))

    def _place(self, user: User, key: tuple[str, str]) -> None:
        user.policy_key = key
        policy = user.policy = self.policies.of(*key)
        messages = self._hub.settings.rates.messages if policy.messages is None else policy.messages
        user.rate = self.policies.limit(messages)
        user.is_bounded = user.rate is not None or policy.payload_max > 0 or not policy.outgoing
        user.is_discreet = user.blocks is not _NOBODY_BLOCKED or self.audience(user, "receipts") != "all"

    def user(self, address: str) -> User | None:
        """Return a user as he is in memory, None if there is none."""
        return self._hub.directory.user(address)

    def policies_changed(self) -> None:
        """Take the policies anew for everybody in memory."""
        self.policies.reload()
        for user in self._hub.directory.in_memory():
            self._place(user, user.policy_key)
        self._hub.directory.epoch += 1

    def ties_changed(self, address: str, peers: Iterable[str], *, are_blocks: bool = False) -> None:
        """Take note that a user's contacts, pairs or blocks changed: what is remembered of both sides is judged again.

        Theirs alone: a user who changes his mind all day costs nobody else anything.
        """
        directory = self._hub.directory
        user = directory.user(address)
        if user is None:
            return
        if are_blocks:
            self._blocks_changed(user)
        for each in (user, *map(directory.cached, peers)):
            if each is not None:
                each.targets.clear()
        self.on_seen(user, peers)

    def privacy_changed(self, address: str) -> None:
        """Take note that a user decided otherwise what others see."""
        user = self._hub.directory.cached(address)
        row = users.find(self._hub.store.read, address)
        if user is not None and row is not None:
            self.dress(user, row)
            self.on_seen(user, None)

    # ---- who may write to whom -------------------------------------------------------------------------------------

    def judge(self, sender: User, target: Target) -> Verdict | None:
        """Return why nothing of the sender's may go to a target; None if it may."""
        peer = target.peer
        if peer is None:
            group = target.group
            if group is not None:
                target.held = self._holding(sender, group.id)
            return None
        if peer is sender:
            return None
        if not self.may_know(sender, peer):
            return _UNKNOWN
        if not peer.policy.incoming:
            return _NO_INCOMING
        if self.is_blocked(peer, sender, Block.MESSAGES):
            return _SILENT if peer.policy.silent_blocks else _BLOCKED
        return None

    def _holding(self, sender: User, group: int) -> frozenset[int]:
        found = ties.towards(self._hub.store.read, Tie.BLOCK, sender.address, group)
        return frozenset(user for user, kinds in found if int(kinds) & Block.GROUP) or NOT_HELD

    def may_know(self, asker: User, other: User) -> bool:
        """Tell whether their policies let two users know of each other."""
        return asker is other or (self._lets(asker, other) and self._lets(other, asker))

    def _lets(self, user: User, other: User) -> bool:
        mode = user.policy.peers
        if mode == "all":
            return True
        kind = Tie.PAIR if mode == "paired" else Tie.CONTACT
        return ties.has(self._hub.store.read, user.id, kind, other.address)

    # ---- blocks ----------------------------------------------------------------------------------------------------

    def is_blocked(self, by: User, whom: User, kind: Block) -> bool:
        """Tell whether a user keeps another from something."""
        kinds, _since = self._blocks(by).get(whom.address, (0, 0))
        return bool(kinds & kind)

    def _blocks(self, user: User) -> dict[str, tuple[int, int]]:
        if user.blocks is None:
            rows = ties.page(self._hub.store.read, user.id, Tie.BLOCK, "", BLOCKS_READ_MAX)
            user.blocks = {row.peer: (int(row.value), row.since) for row in rows}
        return user.blocks

    def _blocks_changed(self, user: User) -> None:
        has_any = ties.count(self._hub.store.read, user.id, Tie.BLOCK) > 0
        user.blocks = None if has_any else _NOBODY_BLOCKED
        self._place(user, user.policy_key)

    def _ties_mended(self, rows: list[tuple[Any, ...]]) -> None:
        for number in {row[0] for row in rows}:
            if (user := self._hub.directory.known_user(number)) is not None:
                self._blocks_changed(user)

    def is_held(self, user: User, thread: Thread, message: Message) -> bool:
        """Tell whether a message in the store is not for this user, because he blocked its sender before it came."""
        sender = self._hub.directory.party(message.sender_id)
        if sender is None or sender is user or message.kind:
            return False
        kinds, since = self._blocks(user).get(sender.address, (0, 0))
        kind = Block.GROUP if thread.group is not None else Block.MESSAGES
        return bool(kinds & kind) and message.ts > since

    def hides(self, user: User, message: Message, flag: int) -> bool:
        """Tell whether a user keeps a receipt (flag 1: delivered, 2: read) from the sender of a message."""
        if not RECEIPTS[self.audience(user, "receipts")] & flag:
            return True
        sender = self._hub.directory.party(message.sender_id)
        return sender is not None and self.is_blocked(user, sender, Block.MESSAGES)

    # ---- who may learn what ----------------------------------------------------------------------------------------

    @staticmethod
    def audience(user: User, what: str) -> str:
        """Return what a user, or else his policy, says to `presence`, `last_seen`, `profile` or `receipts`."""
        return user.privacy.get(what) or str(getattr(user.policy, what))

    def may_see(self, asker: User | None, other: User, what: str) -> bool:
        """Tell whether somebody may see `presence`, `last_seen` or `profile` of another; None is an operator."""
        if asker is None or asker is other:
            return True
        audience = self.audience(other, what)
        if audience == "nobody" or not self.may_know(asker, other) or self.is_blocked(other, asker, Block.PRESENCE):
            return False
        return audience == "all" or ties.has(self._hub.store.read, other.id, Tie.CONTACT, asker.address)


def _privacy(kept: str) -> dict[str, str]:
    """Return what a user decided; of what damage has made unreadable, nobody sees anything."""
    found = read_kept(kept)
    chosen: dict[str, str] = {}
    for what in found or PRIVACY:
        choices, hidden = (RECEIPTS, "none") if what == "receipts" else (AUDIENCES, "nobody")
        chosen[what] = found[what] if found.get(what) in choices else hidden
    return chosen


def _nothing(_user: User, _followers: Iterable[str] | None) -> None:
    """Tell nobody: people before presence is wired."""
