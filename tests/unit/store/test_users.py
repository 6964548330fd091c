"""Users' rows."""

from __future__ import annotations

from mesimqtt.store import members, tokens, users
from mesimqtt.store.tokens import TokenRow
from unit.store.rows import insert, memory


def test_an_address_is_taken_once() -> None:
    """The second user of an address is not made, and the first keeps profile and time."""
    connection = memory()
    first = users.add(connection, "alice", 1_000, {"name": "Alice"})
    second = users.add(connection, "alice", 2_000, {"name": "Eve"})
    alice = users.find(connection, "alice")

    assert (True, False) == (first, second)
    assert alice is not None
    assert ("alice", 1, 1_000, {"name": "Alice"}) == alice[1:5]
    assert alice == users.by_id(connection, alice.id)


def test_addresses_are_case_sensitive() -> None:
    """Alice and alice are two users."""
    connection = memory()
    users.add(connection, "alice", 1)
    users.add(connection, "Alice", 1)

    assert ["Alice", "alice"] == [user.address for user in users.page(connection, "", 10)]
    assert users.find(connection, "ALICE") is None


def test_pages_are_in_order_and_leave_nobody_out() -> None:
    """Following pages gives every user once, in the order of the addresses."""
    connection = memory()
    wanted = [f"user{number:02}" for number in range(7)]
    for address in reversed(wanted):
        users.add(connection, address, 1)
    found: list[str] = []
    while page := users.page(connection, found[-1] if found else "", 3):
        found += [user.address for user in page]

    assert wanted == found


def test_disabling_tells_whether_it_changed_anything() -> None:
    """A user is disabled once, and enabled once."""
    connection = memory()
    users.add(connection, "alice", 1)
    steps = [users.set_active(connection, 1, active=active) for active in (False, False, True, True)]

    assert [True, False, True, False] == steps


def test_a_deleted_user_leaves_nothing_but_a_number() -> None:
    """Devices, cursors, sessions and memberships go, tokens are revoked, and the number is never given again."""
    connection = memory()
    users.add(connection, "alice", 1, {"name": "Alice"})
    users.add(connection, "bob", 1)
    alice = users.find(connection, "alice")
    assert alice is not None
    tokens.add(connection, TokenRow("j", alice.id, 0, None, "user", 0, 5, 500), None)
    connection.execute("INSERT INTO \"group\" VALUES (1, 'team', 1, 1, '{}', 0, NULL, 0)")
    for user in (alice.id, 2):
        connection.execute("INSERT INTO member VALUES (1, ?, 'member', 1, 0, 0, 0, 0)", (user,))
    connection.execute("INSERT INTO cursor VALUES (7, 1, 1, '')")
    insert(connection, "device", id=7, user_id=alice.id, client_id="phone")
    insert(connection, "session", id=3, user="alice", client_id="phone")
    insert(connection, "subscription", session_id=3, topic_filter="#")
    users.delete(connection, alice, 100)
    users.add(connection, "alice", 9_000)
    again = users.find(connection, "alice")
    token = tokens.find(connection, "j")

    assert again is not None
    assert again.id not in (alice.id, 2)
    assert users.by_id(connection, alice.id) is None
    assert ["alice", "bob"] == [user.address for user in users.page(connection, "", 10)]
    assert ["bob"] == [address for address, _ in members.page(connection, 1, "", 9)]
    assert token is not None
    assert 100 == token.revoked_at
    for table in ("device", "cursor", "session", "subscription"):
        assert (0,) == connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - four names


def test_groups_of_a_user() -> None:
    """A user's groups are listed in the order of their addresses."""
    connection = memory()
    users.add(connection, "alice", 1)
    for number, name in ((1, "zoo"), (2, "art")):
        connection.execute("INSERT INTO \"group\" VALUES (?, ?, 1, 1, '{}', 0, NULL, 0)", (number, name))
        connection.execute("INSERT INTO member VALUES (?, 1, 'member', 1, 0, 0, 0, 0)", (number,))

    assert ["art", "zoo"] == users.groups_of(connection, 1)
