"""Groups' rows: listing, profile, kind, and what each member may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.groups import GroupFlag, MemberFlag
from mesimqtt.store import groups, members, users
from unit.store.rows import memory

if TYPE_CHECKING:
    import sqlite3


def family() -> sqlite3.Connection:
    """Return a database with the group `family` (1) of alice and bob, and carol beside it."""
    connection = memory()
    for address in ("alice", "bob", "carol"):
        users.add(connection, address, 1)
    members.make_group(connection, "family", 5)
    members.make_group(connection, "empty", 6, flags=int(GroupFlag.AUTO_ADD_MEMBER), expires_at=100)
    connection.execute("INSERT INTO member VALUES (1, 2, 'member', 8, 0, 0, 0, 0), (1, 1, 'owner', 7, 0, 0, 0, 0)")
    return connection


def test_members_are_listed_with_their_rights() -> None:
    """Members come in the order of their addresses, page by page."""
    connection = family()
    first = members.page(connection, 1, "", 1)
    second = members.page(connection, 1, "alice", 5)

    assert [("alice", "owner", 0x101F, 0xFFFF)] == [(name, row.role, row.flags(0), row.bits) for name, row in first]
    assert [("bob", "member", 0x1F, 0)] == [(name, row.role, row.flags(0), row.bits) for name, row in second]
    assert (2, [1], (1, 1), (1, 0)) == (
        members.count(connection, 1),
        members.owners(connection, 1),
        members.memberships(connection, 1),
        members.memberships(connection, 2),
    )


def test_a_page_counts_members() -> None:
    """Groups are listed in order, with how many are in them, and a page begins after an address."""
    connection = family()
    found = [(group.address, count) for group, count in groups.page(connection, "", 10)]

    assert [("empty", 0), ("family", 2)] == found
    assert ["family"] == [group.address for group, _ in groups.page(connection, "empty", 10)]
    assert [("family", 2)] == [(group.address, count) for group, count in groups.page_of(connection, 2, "", 10)]
    assert [] == groups.page_of(connection, 3, "", 10)
    assert ["empty"] == [group.address for group in groups.public_page(connection, 8, "", 10)]


def test_what_a_member_may_do_follows_the_kind_but_for_his_own_rights() -> None:
    """In a broadcast group owners send, and whom they chose; who was denied a right keeps without it."""
    connection = family()
    before = members.rights(connection, 1)
    groups.set_flags(connection, 1, int(GroupFlag.SEND_BY_SELECTED))
    broadcast = members.rights(connection, 1)
    connection.execute("UPDATE member SET granted = 1, denied = 16 WHERE user_id = 2")

    assert [True, True, True, False] == [
        bool(found[user] & MemberFlag.SEND) for found in (before, broadcast) for user in (1, 2)
    ]
    assert 0xF == members.rights(connection, 1)[2]


def test_pause_and_profile() -> None:
    """A paused group is still there, with its new profile."""
    connection = family()
    groups.set_active(connection, 1, active=False)
    groups.set_profile(connection, 1, {"name": "Die Familie"})
    found = groups.find(connection, "family")

    assert found is not None
    assert (0, {"name": "Die Familie"}) == (found.active, found.profile)
    assert groups.find(connection, "Family") is None


def test_groups_end_at_their_time() -> None:
    """Those whose time is over are found, and no longer once they are to live on."""
    connection = family()

    assert ([], ["empty"]) == (groups.due(connection, 99, 5), groups.due(connection, 100, 5))
    groups.set_expiry(connection, 2, None)
    assert [] == groups.due(connection, 100, 5)
