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


def test_tokens_read_ahead_are_no_question(world):
    """After a start the newest tokens are read ahead: who comes back then is let in from memory, with his numbers."""
    alice = world.listener("alice")
    world.listener("bob")
    alice.publish("u/bob/1")
    world.turn()
    user = world.messaging._hub.directory.user("alice")
    numbers = (user.change, user.read_change)
    world.restart()
    world.run(world.messaging.entry.read_ahead())
    connack, statements = questions(world, "alice", "tablet")
    again = world.messaging._hub.directory.user("alice")

    assert (ACCEPTED, []) == (connack, statements)
    assert numbers == (again.change, again.read_change)


def test_a_token_read_ahead_is_good_for_what_it_was_issued_for(world):
    """It is known as if it had been here: bound to its device, of its user, and until its end."""
    world.user("alice", "bob")
    found = world.do("token_issue", addresses=["alice"], device="phone", ttl=60)
    bound = found["tokens"][0]["token"]
    world.restart()
    world.run(world.messaging.entry.read_ahead())

    assert ACCEPTED == world.connect("alice", "phone", token=bound).connack
    assert REFUSED == world.connect("alice", "tablet", token=bound).connack
    assert REFUSED == world.connect("bob", "phone", token=bound).connack
    world.jump(61)
    assert REFUSED == world.connect("alice", "phone", token=bound).connack


def test_what_changes_after_it_was_read_ahead_counts(world):
    """Revoked, disabled, deleted, made again: what was read before is not believed, whoever it concerns."""
    world.user("alice", "bob", "carol", "dave")
    for user, operation, arguments in (
        ("alice", "token_revoke", {"what": "alice"}),
        ("bob", "user_disable", {"addresses": ["bob"]}),
        ("carol", "user_delete", {"addresses": ["carol"]}),
    ):
        world.restart()
        world.run(world.messaging.entry.read_ahead())
        world.do(operation, **arguments)

        assert REFUSED == questions(world, user, "phone")[0]
    world.do("user_add", addresses=["carol"])
    assert REFUSED == questions(world, "carol", "phone")[0]
    assert ACCEPTED == questions(world, "dave", "phone")[0]


def test_a_policy_or_privacy_that_changes_after_it_was_read_ahead_counts(world):
    """Who is in memory since the start is as his row says now: blocks, privacy and policy alike."""
    world.user("alice", "bob")
    world.restart()
    world.run(world.messaging.entry.read_ahead())
    world.do("block_add", user="bob", peers=["alice"])
    alice = world.listener("alice")
    alice.publish("u/bob/1")

    assert [("1", 0x88)] == alice.steps()


def test_of_what_is_revoked_or_over_nothing_is_read_ahead(world):
    """Only good tokens of active users are kept ready, and at most as many as the bound says."""
    world.user("alice", "bob", "carol")
    world.do("token_revoke", what="alice")
    world.do("user_disable", addresses=["bob"])
    world.restart()
    world.run(world.messaging.entry.read_ahead())

    assert ["carol"] == [user.address for user in world.messaging._hub.directory.in_memory()]


def test_a_token_that_was_issued_here_is_known(world):
    """Who comes with a new token of this process asks the store no question, if he was here before."""
    world.connect("alice", "phone", clean=True)
    fresh = world.do("token_issue", addresses=["alice"])["tokens"][0]["token"]
    statements = []
    world.store.read.set_trace_callback(statements.append)
    connack = world.connect("alice", "tablet", clean=True, token=fresh).connack
    world.store.read.set_trace_callback(None)

    assert (ACCEPTED, []) == (connack, statements)


def test_what_changes_after_it_was_issued_counts(world):
    """Revoked, disabled, deleted: a token that nobody brought yet lets in nobody, and other users' stay known."""
    world.user("alice", "bob", "carol", "dave")
    users = ["alice", "bob", "carol", "dave"]
    fresh = {each["address"]: each["token"] for each in world.do("token_issue", addresses=users)["tokens"]}
    world.do("token_revoke", what="alice")
    world.do("user_disable", addresses=["bob"])
    world.do("user_delete", addresses=["carol"])

    assert [REFUSED] * 3 + [ACCEPTED] == [world.connect(user, "x", token=fresh[user]).connack for user in users]


def test_what_is_issued_is_good_for_what_it_was_issued_for(world):
    """Its device, its user, its end, and where it is short its packet: as if it had been read."""
    world.user("alice", "bob")
    bound = world.do("token_issue", addresses=["alice"], device="phone", ttl=60)["tokens"][0]["token"]
    short = world.do("token_issue", addresses=["alice"], short=True, packet=1_000)["tokens"][0]["token"]

    assert ACCEPTED == world.connect("alice", "phone", token=bound).connack
    assert REFUSED == world.connect("alice", "tablet", token=bound).connack
    assert REFUSED == world.connect("bob", "phone", token=bound).connack
    assert 1_000 == world.connect("alice", "lamp", token=short).connection.packet_max
    world.jump(61)
    assert REFUSED == world.connect("alice", "phone", token=bound).connack


def test_a_guest_comes_in_with_what_he_was_given(world):
    """His token is known before he brings it, and ends with him."""
    guest = world.do("guest_add", name="Gast", ttl=60)
    accepted = world.connect(guest["address"], "phone", token=guest["token"]["token"]).connack
    world.jump(61)

    assert ACCEPTED == accepted
    assert REFUSED == world.connect(guest["address"], "phone", token=guest["token"]["token"]).connack


def test_one_users_change_costs_no_others_question(world):
    """Tokens are looked at anew for whom they concern only."""
    for user in ("alice", "bob"):
        world.connect(user, "phone", clean=True)
    world.do("token_revoke", what="alice")
    world.do("user_set", address="bob", profile={"name": "Bob"})
    world.connect("bob", "phone", clean=True)
    world.do("user_add", addresses=["erin"])
    world.do("token_issue", addresses=["erin"])

    assert (ACCEPTED, []) == questions(world, "bob", "tablet")
