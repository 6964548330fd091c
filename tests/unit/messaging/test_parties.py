"""Who takes part in a conversation is damaged in the store, and no index tells: nobody gets what was not for him."""

from __future__ import annotations

import itertools
import logging

import pytest

from mesimqtt.domain.errors import OperationError
from unit.messaging.world import CheckedWorld, World

USERS = ("alice", "bob", "carol", "dora")  # 1 to 4; dora is in no conversation


def made(kind, folder):
    world = kind(folder)
    world.user(*USERS)
    for user in USERS:
        world.listener(user, filters=("u/#", "g/#")).lose()
    world.group("team", "alice", "bob")
    alice = world.connect("alice", "laptop")
    alice.publish("u/bob/u1", "for bob")
    alice.publish("g/team/1", "for the team")
    world.do("group_join", address="team", users=["carol"])
    alice.publish("g/team/2", "for carol, too")
    world.advance(2)
    return world


@pytest.fixture
def world(tmp_path):
    """A server on which something waits for bob, and for the members of a group, of whom carol is the last."""
    world = made(World, tmp_path / "data")
    yield world
    world.close()


def altered(world, statement, *values):
    world.store.read.execute(statement.format(*values))
    world.restart()


def texts(world, user):
    """Return what somebody gets who comes, and what he is shown as history."""
    peer = world.listener(user, filters=("u/#", "g/#"))
    world.advance(2)
    got = [message.payload.decode() for message in peer.inbox if message.topic.startswith("m/")]
    seen = []
    others = [{"peer": other} for other in USERS if other != user]
    for place in (*others, {"group": "team"}):
        page = world.do("history", address=user, limit=100, **place)
        seen += [entry["text"] for entry in page["messages"] if "text" in entry]
    peer.lose()
    return sorted(each for each in got if "for" in each), sorted(seen)


TO_DORA = (
    "UPDATE lane SET user_id = 4 WHERE user_id = 2 AND conversation_id = (SELECT id FROM conversation WHERE kind = {})"
)


def test_nothing_is_altered(world):
    """What everybody gets where all is whole."""
    world.restart()

    assert (["for bob", "for carol, too", "for the team"],) * 2 == texts(world, "bob")
    assert (["for carol, too"],) * 2 == texts(world, "carol")
    assert ([], []) == texts(world, "dora")


def test_a_place_of_two_under_a_strangers_number(world, caplog):
    """The stranger gets nothing; from then on it is given back to whose it is, with what waits."""
    altered(world, TO_DORA, 0)
    with caplog.at_level(logging.ERROR):
        stranger = texts(world, "dora")
        world.advance(2)

    assert ([], []) == stranger
    assert "whose place 4 has in conversation" in caplog.text
    assert "it stood under 4 and is 2's again" in caplog.text
    assert (["for bob", "for carol, too", "for the team"],) * 2 == texts(world, "bob")


def test_who_is_written_to_has_his_place(world):
    """Where nobody has looked: what comes live is his, and so is what waited."""
    altered(world, TO_DORA, 0)
    bob = world.listener("bob", filters=("u/#", "g/#"))
    world.connect("alice", "laptop").publish("u/bob/u2", "for bob again")
    world.advance(2)
    bob.lose()

    assert ["for bob", "for bob again", "for carol, too", "for the team"] == texts(world, "bob")[1]


def test_it_is_given_back_at_the_start(tmp_path, caplog):
    """A start that has the time for a look mends it, and says so."""
    world = made(CheckedWorld, tmp_path / "data")
    with caplog.at_level(logging.ERROR):
        altered(world, TO_DORA, 0)

    assert "it stood under 4 and is 2's again" in caplog.text
    assert ([], []) == texts(world, "dora")
    assert (["for bob", "for carol, too", "for the team"],) * 2 == texts(world, "bob")
    world.close()


def test_it_is_given_back_beside_the_work(world, caplog):
    """A database that is too large for a look at the start is looked at later, whoever comes or does not."""
    counters = ((f"many/{number}",) for number in range(20_000))
    world.store.read.execute("BEGIN")
    world.store.read.executemany("INSERT INTO counter (name, value) VALUES (?, 0)", counters)
    world.store.read.execute("COMMIT")
    clock = itertools.count()
    with caplog.at_level(logging.INFO):
        altered(world, TO_DORA, 0)
        world.store.check(lambda: next(clock))
        world.advance(2)

    assert "is checked beside the work" in caplog.text
    assert "it stood under 4 and is 2's again" in caplog.text
    assert (["for bob", "for carol, too", "for the team"],) * 2 == texts(world, "bob")


@pytest.mark.parametrize("column", ["a", "b", "kind"])
def test_a_conversation_of_others(world, caplog, column):
    """It is nobody's; who took part in it, and whom it looks like, begin a new one, and the log says what to do."""
    value = {"a": "2, b = 4", "b": "4", "kind": "1"}[column]
    with caplog.at_level(logging.ERROR):
        altered(world, "UPDATE conversation SET {} = {} WHERE kind = 0", column, value)
        stranger, former = texts(world, "dora"), texts(world, "bob")
        for sender, peer in (("alice", "bob"), ("alice", "dora"), ("bob", "dora")):
            world.connect(sender, "laptop").publish(f"u/{peer}/u-{peer}", f"for {peer} from {sender}")
    world.advance(2)

    assert ([], []) == stranger
    assert (["for carol, too", "for the team"],) * 2 == former
    assert "between whom conversation" in caplog.text
    assert "restore a backup" in caplog.text
    assert ["for dora from alice", "for dora from bob"] == texts(world, "dora")[0]
    assert ["for bob from alice"] == texts(world, "bob")[0]


@pytest.mark.parametrize(
    "damage", ["user_id = 4 WHERE user_id = 3", "floor = 0 WHERE user_id = 3", "gaps = '2' WHERE user_id = 3"]
)
def test_a_place_in_a_group(world, caplog, damage):
    """Neither a stranger nor one who came later gets what was before him; added again, he goes on from there."""
    with caplog.at_level(logging.ERROR):
        altered(world, "UPDATE lane SET {} AND conversation_id = (SELECT id FROM conversation WHERE kind = 1)", damage)
        stranger, member = texts(world, "dora"), texts(world, "carol")
    alice = world.connect("alice", "laptop")
    alice.publish("g/team/3", "for who is whole")
    missed = texts(world, "carol")
    world.do("group_leave", address="team", users=["carol"])
    world.do("group_join", address="team", users=["carol"])
    alice.publish("g/team/4", "for carol again")
    world.advance(2)

    assert [([], [])] * 3 == [stranger, member, missed]
    assert "user_id = 4" not in damage or "whose place 4 has" in caplog.text
    assert (["for carol again"],) * 2 == texts(world, "carol")
    assert "for who is whole" in texts(world, "bob")[0]


def test_one_who_left_a_group(world):
    """A later end of his time shows him nothing that came after it."""
    world.do("group_leave", address="team", users=["carol"])
    world.connect("alice", "laptop").publish("g/team/3", "for who is in it")
    altered(world, "UPDATE lane SET until = NULL WHERE user_id = 3")

    assert ([], []) == texts(world, "carol")


def test_the_conversation_of_a_group(world, caplog):
    """A message to it is refused, not accepted for nobody; other groups go on."""
    world.group("other", "alice", "dora")
    altered(world, "UPDATE conversation SET a = 9 WHERE kind = 1 AND a = 1")
    alice = world.listener("alice", "laptop", filters=("u/#", "g/#"))
    alice.publish("g/team/3", "for nobody")
    alice.publish("g/other/3", "for dora")
    world.advance(2)

    assert "between whom conversation" in caplog.text
    assert ["for dora"] == texts(world, "dora")[0]
    assert ["for bob"] == texts(world, "bob")[0]
    with pytest.raises(OperationError, match="team"):
        world.do("send", sender="alice", group="team", text="for nobody")


def test_damage_is_told_once(world, caplog):
    """The log names each place once, however often it is read."""
    altered(world, TO_DORA, 1)
    for _ in range(3):
        texts(world, "dora")

    assert 1 == caplog.text.count("whose place 4 has in conversation")
