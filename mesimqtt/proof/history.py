"""A history: what senders, receivers and operators of a server did and saw, in the order in which it happened.

Whoever tries a server writes one; `checker.judge` says what in it is not as promised. All times are the trial's own
clock in milliseconds, except for those that a server told (`ts`) and those inside of a mid, which are the server's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from mesimqtt.domain.ids import made_at_ms
from mesimqtt.proof.calm import Calm

LEFT, JOINED, GROUP_DELETED, GROUP_MADE = "left", "joined", "group-deleted", "group-made"
DISABLED, ENABLED, REVOKED, DELETED, MADE = "disabled", "enabled", "revoked", "deleted", "made"
BLOCKED, UNBLOCKED = "blocked", "unblocked"  # `group` is whom
EVER_MS = 1 << 50  # until the end of any run


@dataclass(frozen=True, slots=True)
class Sent:
    """`user` wrote a message to `to` (`u/bob`, `g/team`). `body` is what it says, and no other message says it.

    `amends` is the mid that it edits or takes back. `expiry` is in seconds, None where none was asked for.
    """

    at: int
    user: str
    device: str
    cid: str
    to: str
    body: str
    expiry: int | None = None
    when: int = 0
    age: int = 0
    flags: int = 3
    amends: str = ""
    is_recall: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """The server acknowledged the PUBLISH of a message: PUBACK, or 0 in a code of 5.0."""

    at: int
    user: str
    cid: str


@dataclass(frozen=True, slots=True)
class Entered:
    """A device was let in on a connection; `is_resumed`: into the session that it had, as CONNACK says."""

    at: int
    user: str
    device: str
    connection: int
    is_resumed: bool


@dataclass(frozen=True, slots=True)
class Online:
    """A device subscribed on a connection; the server answered at `written`.

    `has_cursor`: what it acknowledges, it never gets again.
    """

    at: int
    written: int
    user: str
    device: str
    connection: int
    qos: int = 1
    has_cursor: bool = True
    filters: tuple[str, ...] = ("#",)
    is_prompt: bool = False  # it lets the server send without waiting for its acknowledgements


@dataclass(frozen=True, slots=True)
class Got:
    """A device received a message in the conversation `place` (`u/alice` or `g/team`, as the receiver sees it).

    `written` is when the server handed it over. `is_copy`: an own message, of another device.
    """

    at: int
    written: int
    user: str
    device: str
    connection: int
    place: str
    sender: str
    mid: str
    seq: int  # 0: expiry 0
    body: str
    dup: bool = False
    is_copy: bool = False
    is_event: bool = False
    qos: int = 1


@dataclass(frozen=True, slots=True)
class Acked:
    """A device acknowledged a mid."""

    at: int
    user: str
    device: str
    connection: int
    mid: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A client showed a message to its user: what a device gets twice is shown once."""

    at: int
    user: str
    device: str
    mid: str


@dataclass(frozen=True, slots=True)
class Told:
    """A device was told a status of a message that `user` sent; `text` is the payload as it came."""

    at: int
    user: str
    device: str
    connection: int
    cid: str
    mid: str
    peer: str
    group: str
    code: int
    reason: str
    ts: int
    text: str


@dataclass(frozen=True, slots=True)
class Marked:
    """`user` published a read mark, honest or not: for a mid, or (`is_upto`) for all of `place` up to it."""

    at: int
    user: str
    place: str
    mid: str
    is_upto: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """An operator, or an owner, changed something: asked for at `begin`, and answered at `at`."""

    begin: int
    at: int
    what: str
    user: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A connection of a device ended, as the client saw it, also one on which it was never let in."""

    at: int
    user: str
    device: str
    connection: int


@dataclass(frozen=True, slots=True)
class Harmed:
    """Something was made to go wrong from `at` to `until`: with one connection, or (0) with all that there is."""

    at: int
    until: int
    what: str
    connection: int = 0


@dataclass(frozen=True, slots=True)
class Crashed:
    """The server's memory was lost."""

    at: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store held of a message at the end: `place` is `a/b` of the pair in order, or the group."""

    mid: str
    sender: str
    cid: str
    place: str
    seq: int
    is_event: bool
    expires_at: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of (message, recipient) at the end."""

    mid: str
    recipient: str
    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """How large something became at the most, and how large it may become."""

    name: str
    largest: float
    most: float


@dataclass
class History:
    """Everything that was seen, by kind, each in the order of time."""

    sent: list[Sent] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    entered: list[Entered] = field(default_factory=list)
    online: list[Online] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    acked: list[Acked] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    marked: list[Marked] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    crashed: list[Crashed] = field(default_factory=list)
    harmed: list[Harmed] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    steps: list[Verdict] = field(default_factory=list)  # every status in the store, of all times, in its order
    stopped: list[int] = field(default_factory=list)  # when the server had stopped in good order
    bounds: list[Bound] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    first_members: dict[str, set[str]] = field(default_factory=dict)  # of each group, before the first change
    finished_at: int = 0  # everybody had been online long enough; 0: the trial was broken off
    epoch_ms: int = 0  # what the server's clock says when the trial's says 0

    def drawn_at(self, mid: str) -> int:
        """Return when the server drew a mid, by the trial's clock."""
        return made_at_ms(int(mid, 16)) - self.epoch_ms

    @cached_property
    def ends(self) -> dict[int, int]:
        """When each connection ended, as its client saw it; one that is not in it never did."""
        return {one.connection: one.at for one in self.ended}

    @cached_property
    def calm(self) -> Calm:
        """When nothing was made to go wrong."""
        return Calm(self.harmed)

    def settled_at(self, acked: Acked) -> int | None:
        """Return by when an acknowledgement was in the store for certain, whatever came then; None where it is not."""
        by = self.calm.done_by(acked.at, acked.connection)
        has_lived = self.ends.get(acked.connection, by) >= by
        return by if has_lived and not self.calm.loses(acked.at, by, acked.connection) else None

    @cached_property
    def recalled(self) -> set[str]:
        """The first messages of all that somebody asked to be taken back: with one go all its edits."""
        return {self.first_of(one.amends) for one in self.sent if one.is_recall}

    def first_of(self, mid: str) -> str:
        """Return the message of which a mid is an edit, or an edit of an edit; itself where it is none."""
        while (sent := self.by_mid.get(mid)) is not None and sent.amends and not sent.is_recall:
            mid = sent.amends
        return mid

    @cached_property
    def members(self) -> dict[str, set[str]]:
        """Everybody who ever was in a group."""
        found = {group: set(users) for group, users in self.first_members.items()}
        for one in self.changes:
            if one.what == JOINED:
                found.setdefault(one.group, set()).add(one.user)
        return found

    @cached_property
    def users(self) -> set[str]:
        """Everybody of whom the history knows that there is, or was, such a user."""
        found = {one.user for one in self.online} | {one.user for one in self.changes if one.user}
        return found.union(*self.first_members.values())

    @cached_property
    def seqs(self) -> dict[str, int]:
        """The seq of each mid that was delivered or is kept."""
        found = {one.mid: one.seq for one in self.got if one.seq}
        return found | {one.mid: one.seq for one in self.kept if one.seq}

    def conversation(self, place: str, mid: str) -> str:
        """Return the one name of a conversation, `a/b` or a group, and, where a party is new, which of that name.

        Who was deleted and made again begins a new conversation.
        """
        parties, drawn = set(place.split("/")), self.drawn_at(mid)
        eras = sum(1 for at, name in self._made if name in parties and at <= drawn) if self._made else 0
        return f"{place} ({eras + 1})" if eras else place

    @cached_property
    def _made(self) -> list[tuple[int, str]]:
        return [(one.begin, one.user or one.group) for one in self.changes if one.what in (MADE, GROUP_MADE)]

    @cached_property
    def by_body(self) -> dict[str, Sent]:
        """Which message each body is. To be asked for when all is written down."""
        return {one.body: one for one in self.sent}

    @cached_property
    def by_cid(self) -> dict[tuple[str, str], Sent]:
        """Which message each (sender, cid) is."""
        return {(one.user, one.cid): one for one in self.sent}

    @cached_property
    def mids(self) -> dict[tuple[str, str], str]:
        """The mid of each (sender, cid) that was told as accepted, delivered to somebody, or is kept."""
        found: dict[tuple[str, str], str] = {}
        for kept in self.kept:
            if kept.cid:
                found[kept.sender, kept.cid] = kept.mid
        for got in self.got:
            sent = self.by_body.get(got.body)
            if sent is not None:
                found.setdefault((sent.user, sent.cid), got.mid)
        for told in self.told:
            if told.code in (1, 2, 3, 0x21, 0x22):
                found.setdefault((told.user, told.cid), told.mid)
        return found

    @cached_property
    def by_mid(self) -> dict[str, Sent]:
        """Which message each known mid is."""
        return {mid: self.by_cid[key] for key, mid in self.mids.items() if key in self.by_cid}
