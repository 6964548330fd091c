"""Who belongs to a group, since when and with which rights: statements, each set to be run in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.groups import MemberFlag, Role, admin_flags, member_flags
from mesimqtt.domain.messages import GROUP, Conversation
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.store import conversations, integrity, seals
from mesimqtt.store.users import DELETED, FORMER, pack

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_COLUMNS = "m.user_id, m.role, m.granted, m.denied, m.admin, m.joined_at"
_WHOLE = f"{seals.columns('member', 'm')}, {_COLUMNS}"
_SEAL_END = 1 + len(seals.SEALED["member"])


class MemberRow(NamedTuple):
    """A member as he is kept; `joined_at` in milliseconds. See `flags` and `bits` for what that lets him do."""

    user_id: int
    role: str
    granted: int
    denied: int
    admin: int
    joined_at: int

    def flags(self, group_flags: int) -> int:
        """Return what he may do as a member."""
        return member_flags(group_flags, self.role, self.granted, self.denied)

    @property
    def bits(self) -> int:
        """Return what he may do as an admin."""
        return admin_flags(self.role, self.admin)


class NewMember(NamedTuple):
    """As what somebody joins."""

    role: str = Role.MEMBER
    granted: int = 0
    admin: int = 0


MEMBER = NewMember()


def make_group(
    connection: sqlite3.Connection,
    address: str,
    now_ms: int,
    *,
    flags: int = 0,
    profile: dict[str, str] | None = None,
    expires_at: int | None = None,
) -> tuple[int, int]:
    """Insert a group and its conversation; return both numbers.

    Raises:
        OperationError: there is one with this address.

    """
    cursor = connection.execute(
        """INSERT OR IGNORE INTO "group" (address, active, created_at, profile, flags, expires_at)
        VALUES (?, 1, ?, ?, ?, ?)""",
        (address, now_ms, pack(profile or {}), flags, expires_at),
    )
    if cursor.rowcount != 1:
        raise OperationError("group-exists", f"the group {address!r} exists already")
    conversation = Conversation(0, GROUP, cursor.lastrowid or 0, 0)
    conversations.create(connection, conversation)
    return conversation.a, conversation.id


def find(connection: sqlite3.Connection, group: int, user: int) -> MemberRow | None:
    """Return one member, None if he is none, or what he may do is damaged."""
    row = connection.execute(
        f"SELECT {_WHOLE} FROM member m WHERE m.group_id = ? AND m.user_id = ?", (group, user)
    ).fetchone()
    return MemberRow(*row[_SEAL_END:]) if row and seals.is_whole(connection, "member", row[:_SEAL_END]) else None


def view_of(connection: sqlite3.Connection, group: int, user: int) -> tuple[str, bool | None]:
    """Return a user's address, and whether he may list a group's members; None if he is none."""
    (address,) = connection.execute("SELECT address FROM user WHERE id = ?", (user,)).fetchone() or ("",)
    member = find(connection, group, user)
    row = connection.execute('SELECT flags FROM "group" WHERE id = ?', (group,)).fetchone()
    may_list = bool(member.flags(row[0]) & MemberFlag.LIST) if member is not None and row is not None else None
    return address, may_list


def page(connection: sqlite3.Connection, group: int, after: str, limit: int) -> list[tuple[str, MemberRow]]:
    """Return up to `limit` members with their addresses, in the order of these, after `after`."""
    rows = connection.execute(
        f"""SELECT {_WHOLE}, u.address FROM member m JOIN user u ON u.id = m.user_id
        WHERE m.group_id = ? AND u.address > ? ORDER BY u.address LIMIT ?""",
        (group, after, limit),
    )
    his = [row for row in rows.fetchall() if seals.is_whole(connection, "member", row[:_SEAL_END])]
    return [(row[-1], MemberRow(*row[_SEAL_END:-1])) for row in his]


def count(connection: sqlite3.Connection, group: int) -> int:
    """Return how many members a group has."""
    return int(connection.execute("SELECT count(*) FROM member WHERE group_id = ?", (group,)).fetchone()[0])


def owners(connection: sqlite3.Connection, group: int) -> list[int]:
    """Return the owners of a group."""
    rows = connection.execute(f"SELECT {_WHOLE} FROM member m WHERE group_id = ? AND role = 'owner'", (group,))
    whole = [row for row in rows.fetchall() if seals.is_whole(connection, "member", row[:_SEAL_END])]
    return [row[_SEAL_END] for row in whole]


def memberships(connection: sqlite3.Connection, user: int) -> tuple[int, int]:
    """Return of how many groups a user is a member, and how many he owns."""
    row = connection.execute(
        "SELECT count(*), coalesce(sum(role = 'owner'), 0) FROM member WHERE user_id = ?", (user,)
    ).fetchone()
    return int(row[0]), int(row[1])


def enter(
    connection: sqlite3.Connection,
    group: int,
    conversation: int,
    users: Iterable[int],
    new: NewMember,
    seq: int,
    now_ms: int,
) -> None:
    """Make users members, who see what comes from `seq` on, the event of their joining."""
    (flags,) = connection.execute('SELECT flags FROM "group" WHERE id = ?', (group,)).fetchone()
    may_receive = member_flags(flags, new.role, new.granted, 0) & MemberFlag.RECV
    for user in users:
        connection.execute(
            """INSERT OR REPLACE INTO member (group_id, user_id, role, granted, denied, admin, joined_at)
            VALUES (?,?,?,?,0,?,?)""",
            (group, user, new.role, new.granted, new.admin, now_ms),
        )
        conversations.create_lane(connection, conversation, user, seq - 1)
        if not may_receive:
            _end(connection, conversation, user, seq)
        connection.execute(
            """DELETE FROM cursor WHERE conversation_id = ?
            AND device_id IN (SELECT id FROM device WHERE user_id = ?)""",
            (conversation, user),
        )


def leave(connection: sqlite3.Connection, group: int, conversation: int, users: Iterable[int], seq: int) -> None:
    """End the membership of users: the event of it, at `seq`, is the last thing that they see."""
    for user in users:
        connection.execute("DELETE FROM member WHERE group_id = ? AND user_id = ?", (group, user))
        _end(connection, conversation, user, seq)


def set_rights(
    connection: sqlite3.Connection, group: int, conversation: int, user: int, granted: int, denied: int, seq: int
) -> None:
    """Keep what a member was given and denied; from `seq` on he may receive or not."""
    connection.execute(
        "UPDATE member SET granted = ?, denied = ? WHERE group_id = ? AND user_id = ?", (granted, denied, group, user)
    )
    settle_receiving(connection, group, conversation, seq, [user])


def set_role(
    connection: sqlite3.Connection, group: int, conversation: int, user: int, role: str, admin: int, seq: int
) -> None:
    """Give a member another role, and with it other rights from `seq` on."""
    connection.execute(
        "UPDATE member SET role = ?, admin = ? WHERE group_id = ? AND user_id = ?", (role, admin, group, user)
    )
    settle_receiving(connection, group, conversation, seq, [user])


def settle_receiving(
    connection: sqlite3.Connection, group: int, conversation: int, seq: int, users: list[int] | None = None
) -> list[int]:
    """End or reopen at `seq` the lanes of members whose right to receive is another now; return those members.

    `users`: only these, all if None.
    """
    (flags,) = connection.execute('SELECT flags FROM "group" WHERE id = ?', (group,)).fetchone()
    numbers = users if users is not None else list(rights(connection, group))
    changed = []
    for user in numbers:
        member = find(connection, group, user)
        lane = connection.execute(
            "SELECT until IS NULL FROM lane WHERE conversation_id = ? AND user_id = ?", (conversation, user)
        ).fetchone()
        if member is None or lane is None:
            continue
        may_receive = bool(member.flags(flags) & MemberFlag.RECV)
        if may_receive != bool(lane[0]):
            changed.append(user)
            if may_receive:
                _reopen(connection, conversation, user, seq)
            else:
                _end(connection, conversation, user, seq)
    return changed


def _end(connection: sqlite3.Connection, conversation: int, user: int, seq: int) -> None:
    _set_end(connection, conversation, user, seq, seq)


def _reopen(connection: sqlite3.Connection, conversation: int, user: int, seq: int) -> None:
    _set_end(connection, conversation, user, seq, None)


def _set_end(connection: sqlite3.Connection, conversation: int, user: int, seq: int, until: int | None) -> None:
    """Give a lane another end at `seq`; what lies between its former end and `seq` was never the user's."""
    row = connection.execute(
        "SELECT floor, until, gaps, checksum FROM lane WHERE conversation_id = ? AND user_id = ?", (conversation, user)
    ).fetchone()
    if row is None:
        return
    floor, former, gaps, checksum = row
    holds = integrity.lane_holds(checksum, conversation, user, floor, former, gaps)
    if former is not None and former < seq - 1:
        seqs = SeqSet(0, gaps)
        seqs.include(former + 1, seq - 1)
        gaps = seqs.above
    if holds:  # what is damaged does not get whole by that
        checksum = integrity.of_lane(conversation, user, floor, until, gaps)
    connection.execute(
        "UPDATE lane SET until = ?, gaps = ?, checksum = ? WHERE conversation_id = ? AND user_id = ?",
        (until, gaps, checksum, conversation, user),
    )


def delete_group(connection: sqlite3.Connection, group: int, conversation: int, seq: int) -> None:
    """Delete a group, whose row stays under an address that nobody can have. `seq` is the event that tells so."""
    (address,) = connection.execute('SELECT address FROM "group" WHERE id = ?', (group,)).fetchone()
    connection.execute(
        'UPDATE "group" SET address = ?, active = ?, expires_at = NULL WHERE id = ?',
        (f"{FORMER}{group}:{address}", DELETED, group),
    )
    # Who left before keeps the end that he has: what came later was never his to see.
    for user in rights(connection, group):
        _end(connection, conversation, user, seq)
    connection.execute("DELETE FROM member WHERE group_id = ?", (group,))
    connection.execute("DELETE FROM pin WHERE group_id = ?", (group,))


def rights(connection: sqlite3.Connection, group: int) -> dict[int, int]:
    """Return user id -> what he may do (MemberFlag); of whom that is damaged is none of them."""
    row = connection.execute('SELECT flags FROM "group" WHERE id = ?', (group,)).fetchone()
    flags = row[0] if row else 0
    rows = connection.execute(f"SELECT {seals.columns('member', 'm')} FROM member m WHERE group_id = ?", (group,))
    known: dict[tuple[str, int, int], int] = {}  # nearly all members are alike
    found = {}
    for row in rows.fetchall():
        if not seals.is_whole(connection, "member", row):
            continue
        _, _, user, role, _, granted, denied, _ = row
        key = (role, granted, denied)
        value = known.get(key)
        if value is None:
            value = known[key] = member_flags(flags, role, granted, denied)
        found[user] = value
    return found


def ended(connection: sqlite3.Connection, limit: int) -> list[tuple[int, int]]:
    """Return (conversation, user) of lanes that ended while something waited in them."""
    return connection.execute(
        "SELECT conversation_id, user_id FROM lane WHERE until IS NOT NULL AND acked < until - 1 LIMIT ?", (limit,)
    ).fetchall()


def ended_in(connection: sqlite3.Connection, conversation: int) -> list[tuple[int, int]]:
    """Return (conversation, user) of one conversation's lanes that ended while something waited in them."""
    return connection.execute(
        """SELECT conversation_id, user_id FROM lane WHERE conversation_id = ? AND until IS NOT NULL
        AND acked < until - 1""",
        (conversation,),
    ).fetchall()
