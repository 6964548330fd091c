"""Users, groups and conversations as messaging holds them in memory: caches of rows, plus who is online."""

from __future__ import annotations

from json.encoder import encode_basestring
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.addresses import encode_address
from mesimqtt.domain.groups import GroupFlag, MemberFlag, is_event_for
from mesimqtt.domain.messages import GROUP, Conversation, Lane, Message, MessageKind
from mesimqtt.domain.policies import Policy

if TYPE_CHECKING:
    from mesimqtt.domain.rates import RateLimit
    from mesimqtt.domain.status import Status
    from mesimqtt.engine.connection import Connection
    from mesimqtt.messaging.devices import Device

_OPEN = GroupFlag.AUTO_ADD_MEMBER | GroupFlag.SEND_BY_ANYONE


NO_POLICY = Policy()
NOT_HELD: frozenset[int] = frozenset()


class User:
    """A user of whom something is going on. `change` is the number of the newest committed status to him."""

    __slots__ = (
        "active",
        "address",
        "blocks",
        "change",
        "created_at",
        "devices",
        "epoch",
        "full_told_at",
        "had_namesake",
        "id",
        "in_prefix",
        "inbox_bytes",
        "inbox_messages",
        "is_bounded",
        "is_discreet",
        "is_leaving",
        "json",
        "lanes",
        "level",
        "out_prefix",
        "policy",
        "policy_key",
        "privacy",
        "rate",
        "read_change",
        "targets",
    )

    def __init__(self, identifier: int, address: str, created_at: int, *, active: bool, root: str) -> None:
        self.id = identifier
        self.address = address
        self.created_at = created_at
        self.active = active
        self.level = encode_address(address)
        self.json = encode_basestring(address)
        self.in_prefix = f"{root}/{self.level}/in/".encode()
        self.out_prefix = f"{root}/{self.level}/out/".encode()
        self.devices: list[Device] = []
        self.targets: dict[bytes, Target] = {}
        self.epoch = 0
        self.lanes: dict[int, Lane] = {}
        self.change = -1
        self.read_change = -1
        self.had_namesake: bool | None = None  # whether a deleted user had this address; None: not looked up
        self.is_leaving = False  # being deleted: nobody can send to him any more
        self.inbox_messages = -1  # not counted yet
        self.inbox_bytes = 0
        self.full_told_at = float("-inf")
        self.policy = NO_POLICY  # this and what follows is people.py's
        self.policy_key = ("", "{}")  # its name, and what differs from it for him
        self.privacy: dict[str, str] = {}  # what he decides himself
        self.rate: RateLimit | None = None
        self.is_bounded = False  # his policy bounds his messages: their rate, their size
        self.is_discreet = False  # he gives not all receipts, or there is somebody whom he blocks
        self.blocks: dict[str, tuple[int, int]] | None = None  # address -> (kinds, since); None: not read


class Group:
    """A group and its members: user id -> what he may do (domain/groups.py: MemberFlag).

    `flags` say what kind it is; `expires_at` is milliseconds since 1970, None for never.
    """

    __slots__ = ("active", "address", "expires_at", "flags", "id", "json", "level", "members", "thread")

    def __init__(
        self,
        identifier: int,
        address: str,
        thread: Thread,
        *,
        active: bool,
        flags: int = 0,
        expires_at: int | None = None,
    ) -> None:
        self.id = identifier
        self.address = address
        self.active = active
        self.flags = flags
        self.expires_at = expires_at
        self.level = encode_address(address)
        self.json = encode_basestring(address)
        self.thread = thread
        self.members: dict[int, int] = {}

    def may(self, user: int, right: MemberFlag) -> bool:
        """Tell whether a user is a member with this right."""
        return bool(self.members.get(user, 0) & right)

    @property
    def message_kind(self) -> MessageKind:
        """Return what a message to the group is: for all its members, or work for one of them."""
        return MessageKind.WORK if self.flags & GroupFlag.RECV_ROUND_ROBIN else MessageKind.MESSAGE

    @property
    def is_open(self) -> bool:
        """Tell whether who is no member may know of the group: a public room, or one to which anybody sends."""
        return bool(self.flags & _OPEN)


class Thread(Conversation):
    """A conversation with who takes part in it. `last_seq` is the last committed one the loop knows."""

    __slots__ = ("group", "users")

    def __init__(self, identifier: int, kind: int, a: int, b: int, last_seq: int = 0) -> None:
        super().__init__(identifier, kind, a, b, last_seq)
        self.users: tuple[User, ...] = ()  # of a pair
        self.group: Group | None = None

    def peer(self, user: User) -> User:
        """Return the other user of a pair; a user talking to himself is his own peer."""
        first, second = self.users
        return second if first is user else first

    def is_same(self, other: Thread) -> bool:
        """Tell whether this is the same conversation, however often it was looked up."""
        return (self.kind, self.a, self.b) == (other.kind, other.a, other.b)

    @property
    def loops_back(self) -> bool:
        """Tell whether a sender's own devices get what he sends here, like anybody's."""
        return self.group is not None and bool(self.group.flags & GroupFlag.RECV_LOOPBACK)

    def shows(self, user: User, event: bytes) -> bool:
        """Tell whether an event of this conversation is for a user."""
        if self.group is None:
            return True
        rights = self.group.members.get(user.id)
        return is_event_for(event, user.address, may_list=None if rights is None else bool(rights & MemberFlag.LIST))

    @property
    def is_group(self) -> bool:
        """Tell whether this is a group's conversation."""
        return self.kind == GROUP


class Names(NamedTuple):
    """The `peer` and `group` of a status, as addresses."""

    peer: str | None = None
    group: str | None = None


NOBODY = Names()


class Verdict(NamedTuple):
    """Why nothing may be sent to a target now: a refusal with its rule, or (`is_silent`) one the sender cannot see."""

    status: Status
    rule: str | None = None
    is_silent: bool = False


class Target:
    """Where a sender's topic `u/{peer}` or `g/{group}` leads.

    `verdict`: why nothing of his may go there, as things are; it is remembered until the directory's
    epoch advances, so what a verdict rests on must advance it. `held`: the members of a group who are not to get it.
    """

    __slots__ = ("digest_prefix", "group", "held", "json", "peer", "thread", "verdict")

    def __init__(self, thread: Thread, peer: User | None, group: Group | None) -> None:
        self.thread = thread
        self.peer = peer
        self.group = group
        party, kind, word = (group, "g", "group") if group is not None else (peer, "u", "peer")
        assert party is not None  # noqa: S101 - one of the two is given
        self.json = f'"{word}":{party.json}'.encode()
        self.digest_prefix = f"{kind}\0{party.level}\0".encode()
        self.verdict: Verdict | None = None
        self.held = NOT_HELD

    @property
    def names(self) -> Names:
        """Return the addresses that statuses about this target carry."""
        return Names(self.peer.address if self.peer else None, self.group.address if self.group else None)


class Accepted(Message):
    """A message on its way into the store, with what must be answered once it is there."""

    __slots__ = ("connection", "packet_id", "qos", "sender", "target")

    sender: User
    target: Target
    connection: Connection | None
    packet_id: int
    qos: int


class Due(Accepted):
    """A scheduled message whose time has come: its sender was told SENT when he gave it."""

    __slots__ = ()
