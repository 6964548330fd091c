"""Who is who: users, groups, conversations and lanes, read by point and cached under a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.messages import GROUP, PAIR, Conversation, Lane
from mesimqtt.messaging.model import Group, Target, Thread, User, Verdict
from mesimqtt.store import conversations, devices, groups, members, messages, users

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mesimqtt.store.groups import GroupRow
    from mesimqtt.store.store import Store
    from mesimqtt.store.tokens import Arrival
    from mesimqtt.store.users import UserRow

_TRIMS_BETWEEN = 60  # a minute, until many groups are looked through in vain again
_TARGETS_MAX = 1_000  # remembered destinations of one sender


class Directory:
    """Caches of users, groups and conversations; the store is the truth.

    `epoch` is advanced when a user or group appears, changes or goes: what a sender's topics lead to is then
    looked up again. Users with a live device, their groups and conversations in a batch are never evicted.
    """

    def __init__(self, store: Store, root: str, *, users_max: int, groups_max: int) -> None:
        self._store = store
        self._root = root
        self._users_max, self._groups_max = users_max, groups_max
        self._trims = self._groups_at = 0  # how often it was trimmed, and when groups are looked through again
        self.epoch = 1
        self.evictions = 0  # how often `trim` had to forget somebody
        self._users: dict[str, User] = {}
        self._user_ids: dict[int, User] = {}
        self._groups: dict[str, Group] = {}
        self._group_ids: dict[int, Group] = {}
        self._threads: dict[tuple[int, int, int], Thread] = {}
        self.judges: list[Callable[[User, Target], Verdict | None]] = []  # asked once per target and epoch
        self.dress: Callable[[User, UserRow | Arrival], None] = _as_he_is  # what else a row says of a user

    def user(self, address: str) -> User | None:
        """Return the user with this address, None if there is none."""
        user = self._users.get(address)
        return user if user is not None else self._load_user(users.find(self._store.read, address))

    def arrived(self, row: Arrival) -> User:
        """Return the user of a row that was read for his CONNECT: what is in memory of him goes before it."""
        user = self._users.get(row.address)
        if user is None or user.id != row.user_id:
            user = self._keep(User(row.user_id, row.address, row.created_at, active=bool(row.active), root=self._root))
            user.change, user.read_change = row.change, row.read_change
            self.dress(user, row)
        return user

    def create(self, address: str, now_ms: int) -> User | None:
        """Make a user at once (`tokens.auto_create`): a rare write on the loop, which waits for a commit that runs."""
        users.add(self._store.read, address, now_ms)
        self.epoch += 1
        return self.user(address)

    def had_namesake(self, user: User) -> bool:
        """Tell whether somebody who was deleted had this user's address before him."""
        if user.had_namesake is None:
            user.had_namesake = users.had_namesake(self._store.read, user.address)
        return user.had_namesake

    def user_by_id(self, number: int) -> User | None:
        """Return a user by number; None once deleted."""
        user = self._user_ids.get(number)
        return user if user is not None else self._load_user(users.by_id(self._store.read, number))

    def known_user(self, number: int) -> User | None:
        """Return a user only if he is in memory: everybody who is online is."""
        return self._user_ids.get(number)

    def group(self, address: str) -> Group | None:
        """Return the group with this address, None if there is none."""
        group = self._groups.get(address)
        return group if group is not None else self._load_group(groups.find(self._store.read, address))

    def group_by_id(self, number: int) -> Group | None:
        """Return a group by number."""
        group = self._group_ids.get(number)
        return group if group is not None else self._load_group(groups.by_id(self._store.read, number))

    def is_member(self, user: str, group: str) -> bool:
        """Tell whether a user belongs to a group; False where there is no such user or group."""
        found, member = self.group(group), self.user(user)
        return found is not None and member is not None and member.id in found.members

    def party(self, number: int) -> User | None:
        """Return a user by number, also one who was deleted: statuses and messages go on naming him."""
        user = self.user_by_id(number)
        if user is None:
            row = users.former(self._store.read, number)
            user = User(row.id, row.address, row.created_at, active=False, root=self._root) if row else None
        return user

    def room(self, number: int) -> Group | None:
        """Return a group by number, also one that was deleted: statuses go on naming it."""
        group = self.group_by_id(number)
        if group is None:
            row = groups.former(self._store.read, number)
            if row is None:
                return None
            thread = self._thread(GROUP, row.id, 0)
            group = thread.group = Group(row.id, row.address, thread, active=False)
        return group

    def pair(self, one: User, other: User) -> Thread:
        """Return the conversation of two users, begun or not."""
        a, b = sorted((one, other), key=lambda user: user.id)
        thread = self._thread(PAIR, a.id, b.id)
        thread.users = (a, b)
        return thread

    def adopt(self, thread: Thread) -> None:
        """Take the thread of a group that has just been made."""
        self._threads.setdefault((thread.kind, thread.a, thread.b), thread)

    def thread_of(self, conversation: Conversation) -> Thread | None:
        """Return the thread of a conversation read from the store; None if a party of it is gone."""
        if isinstance(conversation, Thread):
            return conversation
        known = self._threads.get((conversation.kind, conversation.a, conversation.b))
        if known is not None and (known.users or known.group):
            return known
        if conversation.kind == GROUP:
            group = self.room(conversation.a)
            return group.thread if group else None
        one = self.party(conversation.a)
        # Who is deleted is made anew each time he is looked up: notes to oneself have one party, not two.
        other = one if conversation.a == conversation.b else self.party(conversation.b)
        return self.pair(one, other) if one and other else None

    def lane(self, thread: Thread, user: User) -> Lane | None:
        """Return what `user` has of a conversation; None before it has begun or if he was never in it."""
        lane = user.lanes.get(thread.id)
        if lane is None and thread.id:
            lane = conversations.load_lane(self._store.read, thread, user.id)
            if lane is not None:
                user.lanes[thread.id] = lane
        return lane

    def began(self, thread: Thread) -> None:
        """Take note that a conversation's first message is committed: its lanes start empty."""
        for user in thread.users:
            user.lanes.setdefault(thread.id, Lane(thread, user.id))

    def target(self, sender: User, key: bytes, kind: str, name: str) -> Target | None:
        """Return where the sender's `u/{name}` or `g/{name}` leads, None if he may not know of it."""
        if sender.epoch != self.epoch:
            sender.targets.clear()
            sender.epoch = self.epoch
        target = sender.targets.get(key)
        if target is None:
            target = self._find_target(sender, kind, name)
            if target is not None:
                target.verdict = next(filter(None, (judge(sender, target) for judge in self.judges)), None)
                if len(sender.targets) >= _TARGETS_MAX:
                    sender.targets.clear()
                sender.targets[key] = target
        return target

    def _find_target(self, sender: User, kind: str, name: str) -> Target | None:
        if kind == "u":
            peer = self.user(name)
            return Target(self.pair(sender, peer), peer, None) if peer and not peer.is_leaving else None
        group = self.group(name)
        if group is None or not (sender.id in group.members or group.is_open):
            return None
        return Target(group.thread, None, group)

    def inbox(self, user: User) -> tuple[int, int]:
        """Return (messages, bytes) that no device of the user has acknowledged, counting them at the first call."""
        if user.inbox_messages < 0:
            user.inbox_messages, user.inbox_bytes = messages.inbox_size(self._store.read, user.id)
        return user.inbox_messages, user.inbox_bytes

    def counters(self, user: User) -> None:
        """Read a user's change numbers, once."""
        if user.read_change < 0:  # a status to him may have raised `change` before
            user.change = conversations.last_change(self._store.read, user.id)
            user.read_change = devices.last_read_change(self._store.read, user.id)

    def forget_user(self, address: str) -> User | None:
        """Drop a user from memory, because his row changed; return what was there."""
        self.epoch += 1
        user = self._users.pop(address, None)
        if user is not None:
            self._user_ids.pop(user.id, None)
            for key in [key for key, thread in self._threads.items() if user in thread.users]:
                del self._threads[key]
        return user

    def forget_group(self, address: str) -> None:
        """Drop a group from memory, because its row or members changed."""
        self.epoch += 1
        group = self._groups.pop(address, None)
        if group is not None:
            self._group_ids.pop(group.id, None)

    def refresh_group(self, address: str) -> None:
        """Read a group's row and members again, in place."""
        self.epoch += 1
        group = self._groups.get(address)
        if group is not None:
            row = groups.by_id(self._store.read, group.id)
            group.active = row is not None and _is_whole(row, group.thread)
            group.flags, group.expires_at = (row.flags, row.expires_at) if row is not None else (0, None)
            group.members = members.rights(self._store.read, group.id)

    def renew(self, numbers: Iterable[int]) -> None:
        """Read the members of groups again, and whom senders reach: their rows are other than they were."""
        self.epoch += 1
        for number in set(numbers):
            if (group := self._group_ids.get(number)) is not None:
                self.refresh_group(group.address)

    def in_memory(self) -> list[User]:
        """Return the users who are in memory, online or not."""
        return list(self._users.values())

    def cached(self, address: str) -> User | None:
        """Return a user only if he is in memory."""
        return self._users.get(address)

    def online(self) -> list[User]:
        """Return the users who have a live connection."""
        return [user for user in self._users.values() if user.devices]

    def trim(self) -> None:
        """Evict half of the users or groups, when there are more than the bound: where nobody online is concerned.

        To be called only while nothing is being committed: what is evicted is read from the store again.
        """
        self._trims += 1
        if len(self._groups) > self._groups_max and self._trims >= self._groups_at:
            self._trim_groups()
        if len(self._users) > self._users_max:
            self._trim_users()

    def _trim_groups(self) -> None:
        online = {number for number, user in self._user_ids.items() if user.devices}
        idle = [group for group in self._groups.values() if group.members.keys().isdisjoint(online)]
        for group in idle[: len(self._groups) - self._groups_max // 2]:
            del self._groups[group.address], self._group_ids[group.id]
            self._threads.pop((GROUP, group.id, 0), None)
        if len(self._groups) > self._groups_max:  # of all others somebody is online
            self._groups_at = self._trims + _TRIMS_BETWEEN
        self.epoch += bool(idle)

    def _trim_users(self) -> None:
        """Evict users who are offline and talk to nobody online."""
        kept = {user for user in self._users.values() if user.devices}
        for thread in self._threads.values():
            if any(user.devices for user in thread.users):
                kept.update(thread.users)
        gone = [user for user in self._users.values() if user not in kept][: len(self._users) - self._users_max // 2]
        left = set(gone)
        self.evictions += 1
        for user in gone:
            del self._users[user.address], self._user_ids[user.id]
        for key, thread in list(self._threads.items()):
            if not left.isdisjoint(thread.users):
                del self._threads[key]
        self.epoch += 1

    def _load_user(self, row: UserRow | None) -> User | None:
        if row is None:
            return None
        user = User(row.id, row.address, row.created_at, active=bool(row.active), root=self._root)
        self.dress(user, row)
        return self._keep(user)

    def _keep(self, user: User) -> User:
        self._users[user.address] = self._user_ids[user.id] = user
        return user

    def _load_group(self, row: GroupRow | None) -> Group | None:
        if row is None:
            return None
        thread = self._thread(GROUP, row.id, 0)
        group = Group(
            row.id, row.address, thread, active=_is_whole(row, thread), flags=row.flags, expires_at=row.expires_at
        )
        thread.group = group
        group.members = members.rights(self._store.read, group.id)
        self._groups[group.address] = self._group_ids[group.id] = group
        return group

    def _thread(self, kind: int, a: int, b: int) -> Thread:
        thread = self._threads.get((kind, a, b))
        if thread is None:
            found = conversations.find(self._store.read, kind, a, b)
            thread = Thread(found.id if found else 0, kind, a, b, found.last_seq if found else 0)
            self._threads[kind, a, b] = thread
        return thread


def _is_whole(row: GroupRow, thread: Thread) -> bool:
    """Tell whether a group is active; without its conversation, which is made with it, its data is damaged."""
    return bool(row.active) and bool(thread.id)


def _as_he_is(_user: User, _row: UserRow | Arrival) -> None:
    """Add nothing: the directory before messaging is wired."""
