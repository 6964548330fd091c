"""Who somebody is, and what he may do, is damaged in the store: nobody speaks as another, or does what is not his."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing

import pytest

from mesimqtt.domain.errors import OperationError
from unit.messaging.world import CheckedWorld, World
from unit.store.rows import unsealed


def made(kind, folder):
    """A server of alice, bob and carol, on which alice has a short token, bob blocks carol, and dora listens only."""
    world = kind(folder)
    world.user("alice", "bob", "carol", "dora")
    world.group("team", "alice", "bob", "dora")
    world.do("group_set", address="team", profile={"send:dora": "off"})
    world.do("block_add", user="bob", peers=["carol"])
    world.short, world.gone = issued(world, "alice", short=True)["token"], issued(world, "dora")
    world.do("token_revoke", what=world.gone["jti"])
    return world


def issued(world, address, **options):
    return world.do("token_issue", addresses=[address], **options)["tokens"][0]


@pytest.fixture
def world(tmp_path):
    world = made(World, tmp_path / "data")
    with closing(world):
        yield world


def altered(world, statement, damage=""):
    """Change rows as a failing disk does, and start again."""
    with closing(sqlite3.connect(world.store.where + "/mesimqtt.db", isolation_level=None)) as connection:
        unsealed(connection)
        assert connection.execute(statement.format(damage)).rowcount > 0
    world.restart()


def test_a_short_token_never_becomes_anothers(world, caplog):
    """It lets nobody in, neither as the other nor as its own user, and the log says which one and what to do."""
    altered(world, "UPDATE token SET user_id = 2 WHERE digest IS NOT NULL")
    with caplog.at_level(logging.ERROR):
        connections = [world.connect(user, "lamp", token=world.short) for user in ("bob", "alice")]

    assert [True, True] == [connection.is_closed for connection in connections]
    assert "it lets nobody in: issue another one" in caplog.text
    assert not world.connect("alice", "lamp", token=issued(world, "alice", short=True)["token"]).is_closed


def test_one_flipped_bit_of_it_is_turned_back_at_the_start(tmp_path, caplog):
    """Whose it was is known by its checksum: the start mends it, and its user comes in as himself."""
    world = made(CheckedWorld, tmp_path / "data")
    with closing(world), caplog.at_level(logging.ERROR):
        altered(world, "UPDATE token SET user_id = 3 WHERE digest IS NOT NULL")
        bob = world.listener("bob")
        alice = world.connect("alice", "lamp", token=world.short)
        alice.publish("u/bob/1", "it is me")
        world.advance(1)

        assert ["it is me"] == bob.payloads("u/alice")
    assert "user_id is 1 again" in caplog.text


def test_a_server_that_has_not_looked_mends_it_within_a_second(world):
    """Whoever stumbles upon it has it put right: the next attempt comes in."""
    altered(world, "UPDATE token SET user_id = 3 WHERE digest IS NOT NULL")
    first = world.connect("alice", "lamp", token=world.short)
    world.advance(2)
    second = world.connect("alice", "lamp", token=world.short)

    assert [True, False] == [first.is_closed, second.is_closed]


@pytest.mark.parametrize("damage", ["revoked_at = NULL", "expires_at = 99999999999", "scope = 'admin'"])
def test_no_token_gets_better(world, damage):
    """One that was revoked stays so; none gets a longer life or another scope."""
    altered(world, "UPDATE token SET {}, issued_at = 1", damage)

    assert world.connect("dora", token=world.gone["token"]).is_closed
    assert world.connect("alice", token=world.short).is_closed


@pytest.mark.parametrize("damage", ["address = 'bob2' WHERE id = 2", "active = 7 WHERE id = 2"])
def test_a_user_whose_row_is_damaged_is_nobody(world, damage):
    """Nobody comes in as him under another name; nothing of his is given out as another's, nor is it judged away."""
    alice = world.listener("alice")
    world.connect("bob").publish("u/alice/1", "of bob")
    alice.publish("u/bob/2", "for bob")
    alice.lose()
    altered(world, "UPDATE user SET {}", damage)
    world.advance(2)
    seen = world.listener("alice")
    world.advance(2)

    assert world.connect("bob", token=world.tokens["bob"]).is_closed
    assert [] == [message.topic for message in seen.inbox if "bob" in message.topic]
    assert [] == world.rows("SELECT 1 FROM step WHERE status NOT IN (1, 2)")


@pytest.mark.parametrize("damage", ["denied = 0, joined_at = 1", "role = 'owner'", "granted = 4095, denied = 0"])
def test_no_member_gets_a_right(world, damage):
    """Who may not write to a group, or change it, may not by damage; added again he is a member like any other."""
    altered(world, "UPDATE member SET {} WHERE user_id = 4", damage)
    bob, dora = world.listener("bob", filters=("g/#", "status/#")), world.listener("dora", filters=("status/#",))
    dora.publish("g/team/1", "let me")
    world.advance(1)
    with pytest.raises(OperationError):
        world.do("group_set", address="team", profile={"name": "mine"}, by="dora")

    assert [] == bob.payloads("g/")
    world.do("group_join", address="team", users=["dora"])
    dora.publish("g/team/2", "again")
    world.advance(1)
    assert ["again"] == bob.payloads("g/team/dora")


def test_a_group_that_is_damaged_takes_nothing(world):
    """It opens to nobody, whatever its flags say now."""
    altered(world, 'UPDATE "group" SET flags = 255')
    bob, carol = world.listener("bob", filters=("g/#",)), world.connect("carol")
    carol.publish("g/team/1", "open?")
    world.connect("alice").publish("g/team/2", "still?")
    world.advance(1)

    assert [] == bob.payloads("g/")


def test_a_block_is_mended_or_said(tmp_path, caplog):
    """One bit of whom somebody blocks is put right at the start; of more the log says that it does not count."""
    world = made(CheckedWorld, tmp_path / "data")
    with closing(world), caplog.at_level(logging.ERROR):
        altered(world, "UPDATE tie SET peer = 'carom' WHERE kind = 3")
        bob, carol = world.listener("bob"), world.connect("carol")
        carol.publish("u/bob/1", "hello?")
        world.advance(1)
        assert [] == bob.payloads("u/carol")
        altered(world, "UPDATE tie SET peer = 'dave' WHERE kind = 3")

    assert "peer is 'carol' again" in caplog.text
    assert "whom user 2 has as contact or pair, follows or blocks ('dave') is damaged" in caplog.text


def test_a_damaged_policy_allows_nothing(world):
    """Who has it, or one that is not to be found while one is damaged, writes to nobody until it is made again."""
    world.do("policy_set", name="quiet", rules={"outgoing": "off"})
    world.do("user_set", address="alice", policy="quiet")
    bob = world.listener("bob")
    for damage in ("rules = '{}'", "name = 'other'"):
        altered(world, "UPDATE policy SET {}", damage)
        bob = world.listener("bob")
        world.connect("alice").publish(f"u/bob/{damage[0]}", "may I?")
        world.advance(1)
        assert [] == bob.payloads("u/alice")
    world.do("policy_set", name="quiet", rules={"outgoing": "on"})
    world.do("policy_delete", name="other")
    world.connect("alice").publish("u/bob/9", "now I may")
    world.advance(1)

    assert ["now I may"] == bob.payloads("u/alice")


def test_a_policy_that_is_mended_beside_the_work_holds_again(world):
    """Who has it is bound by its rules from then on, and by nothing else."""
    world.do("policy_set", name="guests", rules={"outgoing": "on"})
    world.do("user_set", address="alice", policy="guests")
    altered(world, "UPDATE policy SET name = 'guestr'")
    bob, alice = world.listener("bob"), world.connect("alice")
    alice.publish("u/bob/1", "too early")
    world.advance(2)
    alice.publish("u/bob/2", "now I may")
    world.advance(1)

    assert ["now I may"] == bob.payloads("u/alice")


def test_a_block_that_is_mended_beside_the_work_is_of_what_it_was(world):
    """Until then it is of everything; dora is blocked in groups alone."""
    world.do("block_add", user="bob", peers=["dora"], kinds="group")
    altered(world, "UPDATE tie SET since = (since | 1) - (since & 1) WHERE peer = 'dora'")
    bob, dora = world.listener("bob"), world.connect("dora")
    dora.publish("u/bob/1", "too early")
    world.advance(2)
    dora.publish("u/bob/2", "now I may")
    world.advance(1)

    assert ["now I may"] == bob.payloads("u/dora")


def test_a_webhook_that_is_mended_beside_the_work_is_sent_to_again(world):
    """It was not switched off by anybody."""
    world.do("webhook_add", name="ops", url="https://example.org/hook", events=["message.accepted"])
    altered(world, "UPDATE webhook SET payload = 1 - payload")
    before = world.messaging.webhooks.endpoints["ops"].is_active
    world.advance(2)

    assert (False, True) == (before, world.messaging.webhooks.endpoints["ops"].is_active)


def test_a_damaged_session_is_nobodys(world):
    """What waits in it goes to nobody of another name."""
    bob = world.connect("bob", "lamp")
    bob.subscribe("free/#")
    bob.lose()
    altered(world, "UPDATE session SET user = 'carol'")

    assert [False, False] == [world.connect(user, "lamp").connack[1] for user in ("carol", "bob")]
