"""What a CONNECT asks of the store: one question for a token that is new to the process, none for one that is not."""

from __future__ import annotations

ACCEPTED = ("CONNACK", 0, 0)
REFUSED = ("CONNACK", 0, 5)


def questions(world, user: str, device: str) -> tuple[object, list[str]]:
    """Connect; return the CONNACK, and what the store was asked meanwhile."""
    statements: list[str] = []
    world.store.read.set_trace_callback(statements.append)
    connack = world.connect(user, device, clean=True).connack
    world.store.read.set_trace_callback(None)
    return connack, statements


def test_a_new_token_is_one_question(world):
    """After a restart everybody comes with a token that the process has not seen: one statement each."""
    world.restart()
    connack, statements = questions(world, "alice", "phone")

    assert ACCEPTED == connack
    assert 1 == len(statements)
    assert "FROM token" in statements[0]


def test_a_known_token_is_none(world):
    """Who reconnects is let in from memory."""
    world.connect("alice", "phone", clean=True)
    connack, statements = questions(world, "alice", "tablet")

    assert (ACCEPTED, []) == (connack, statements)


def test_what_is_revoked_meanwhile_is_asked_again(world):
    """A token that was known and then revoked is refused at once, and so is one of a disabled or deleted user."""
    for user, operation, arguments in (
        ("alice", "token_revoke", {"what": "alice"}),
        ("bob", "user_disable", {"addresses": ["bob"]}),
        ("carol", "user_delete", {"addresses": ["carol"]}),
    ):
        world.connect(user, "phone", clean=True)
        world.do(operation, **arguments)

        assert REFUSED == questions(world, user, "phone")[0]


def test_numbers_of_a_user_read_at_connect(world):
    """What the one question read is what a user's devices begin with: statuses go on where they were."""
    alice = world.listener("alice")
    world.listener("bob")
    alice.publish("u/bob/1")
    world.turn()
    user = world.messaging._hub.directory.user("alice")
    numbers = (user.change, user.read_change)
    world.restart()
    world.connect("alice", "phone")
    again = world.messaging._hub.directory.user("alice")

    assert numbers[0] > 0
    assert numbers == (again.change, again.read_change)
