"""Groups' rows, as far as listing and profile go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.store import groups, users
from unit.store.rows import memory

if TYPE_CHECKING:
    import sqlite3


def family() -> sqlite3.Connection:
    """Return a database with the group `family` (1) of alice and bob, and carol beside it."""
    connection = memory()
    for address in ("alice", "bob", "carol"):
        users.add(connection, address, 1)
    connection.execute("INSERT INTO \"group\" VALUES (1, 'family', 1, 5, '{}'), (2, 'empty', 1, 6, '{}')")
    connection.execute("INSERT INTO member VALUES (1, 2, 'member', 1, 1, 8), (1, 1, 'owner', 1, 1, 7)")
    return connection


def test_members_are_listed_with_their_rights() -> None:
    """Members come in the order of their addresses."""
    members = groups.members(family(), 1)

    assert [("alice", "owner", 1, 1, 7), ("bob", "member", 1, 1, 8)] == members


def test_a_page_counts_members() -> None:
    """Groups are listed in order, with how many are in them, and a page begins after an address."""
    connection = family()
    found = [(group.address, members) for group, members in groups.page(connection, "", 10)]

    assert [("empty", 0), ("family", 2)] == found
    assert ["family"] == [group.address for group, _ in groups.page(connection, "empty", 10)]


def test_rights_belong_to_members() -> None:
    """Taking a right changes that right of that member alone; who is no member has none to lose."""
    connection = family()
    taken = groups.set_right(connection, 1, "bob", "send", allowed=False)
    stranger = groups.set_right(connection, 1, "carol", "send", allowed=False)

    assert (True, False) == (taken, stranger)
    assert [(1, 1), (0, 1)] == [(member.send, member.receive) for member in groups.members(connection, 1)]


def test_pause_and_profile() -> None:
    """A paused group is still there, with its new profile."""
    connection = family()
    groups.set_active(connection, 1, active=False)
    groups.set_profile(connection, 1, {"name": "Die Familie"})
    found = groups.find(connection, "family")

    assert found is not None
    assert (0, {"name": "Die Familie"}) == (found.active, found.profile)
    assert groups.find(connection, "Family") is None
