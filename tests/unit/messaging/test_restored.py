"""After a restore: nothing that clients remember of the time since the backup is taken for what comes now."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from mesimqtt.store import restored, snapshot
from mesimqtt.testing import wire
from unit.messaging.world import World, mid_of

HOUR_S = 3_600


@pytest.fixture
def later(make_world, tmp_path):
    """Return what makes a world of a copy of another, an hour later; the other one's server is gone."""
    made = []

    def copy(world):
        folder = tmp_path / f"copy{len(made)}"
        folder.mkdir()
        snapshot.take(world.folder / "mesimqtt.db", folder / "mesimqtt.db")

        def restore():
            now_ms = world.ms + HOUR_S * 1000
            with closing(sqlite3.connect(folder / "mesimqtt.db", isolation_level=None)) as connection:
                restored.begin_anew(connection, now_ms)
            other = World(folder, start_ms=now_ms)
            other.tokens = world.tokens
            made.append(other)
            return other

        return restore

    yield copy
    for each in made:
        each.close()


def test_clients_go_on(world, later):
    """What was acknowledged after the backup comes again with its mid and DUP; what was accepted after it is gone."""
    bob = world.listener("bob")
    alice = world.listener("alice")
    alice.publish("u/bob/1", "one")
    bob.lose()
    alice.publish("u/bob/2", "two")
    restore = later(world)
    bob = world.listener("bob")
    alice.publish("u/bob/3", "lost")
    before = {mid_of(each): each.payload for each in bob.received("u/")}
    world = restore()
    again = world.listener("bob").received("u/")

    assert [(b"two", True)] == [(each.payload, each.dup) for each in again]
    assert mid_of(again[0]) in before
    alice = world.listener("alice")
    alice.publish("u/bob/3", "lost")
    assert [1, 2] == [status["status"] for status in alice.statuses() if status["cid"] == "3"]


def test_no_mid_is_given_twice(world, later):
    """Even where the clock went back to the moment of the backup: mids go on above the moment of the restore."""
    alice = world.listener("alice", filters=("status/#",))
    restore = later(world)
    world.advance(60)
    alice.publish("u/bob/1", "after the backup")
    given = {status["mid"] for status in alice.statuses()}
    moment = world.ms
    world = restore()
    world.ms = moment
    alice = world.listener("alice", filters=("status/#",))
    alice.publish("u/bob/2", "after the restore")
    (fresh,) = {status["mid"] for status in alice.statuses()}

    assert fresh > max(given)


def test_packet_ids_of_messages_are_far_from_those_since(world, later):
    """A PUBACK that a client sends late must not be taken for another message."""
    bob, alice = world.listener("bob"), world.connect("alice")
    restore = later(world)
    for number in range(100):
        alice.publish(f"u/bob/{number}", "after the backup")
    used = {each.packet_id for each in bob.received("u/")}
    world = restore()
    bob, alice = world.listener("bob"), world.connect("alice")
    for number in range(100):
        alice.publish(f"u/bob/{number}", "after the restore")
    fresh = {each.packet_id for each in bob.received("u/")}

    assert 100 == len(used) == len(fresh)
    assert min(abs(one - other) for one in used for other in fresh) > 10_000


def test_a_kept_session_goes_on(world, later):
    """What waited in a queue comes in its order; what comes then has packet ids that the client does not remember."""
    bob = world.connect("bob", "thing")
    bob.subscribe("free/#", qos=2)
    bob.lose()
    for number in range(5):
        world.connect("alice", "pad").publish(f"free/{number}", f"before {number}")
    restore = later(world)
    bob = world.connect("bob", "thing")
    for number in range(5):
        world.connect("alice", "pad").publish(f"free/{number}", f"since {number}")
    used = {each.packet_id for each in bob.inbox if each.payload.startswith(b"since")}
    world = restore()
    bob = world.connect("bob", "thing")
    assert bob.connack == ("CONNACK", True, 0)
    for number in range(5):
        world.connect("alice", "pad").publish(f"free/{number}", f"after {number}")

    expected = [f"{when} {number}" for when in ("before", "after") for number in range(5)]
    assert expected == [each.payload.decode() for each in bob.inbox]
    fresh = {each.packet_id for each in bob.inbox if each.payload.startswith(b"after")}
    assert 5 == len(used) == len(fresh)
    assert min(abs(one - other) for one in used for other in fresh) > 10_000


def test_an_old_packet_id_of_qos_2_is_a_new_message(world, later):
    """An id that waited for PUBREL in the backup may be another message by now: it is taken, not dropped as known."""
    alice = world.connect("alice", "pad")
    alice.publish("u/bob/1", "first", qos=2, packet_id=7)
    restore = later(world)
    alice.send(wire.ack("PUBREL", 7))
    world = restore()
    bob, alice = world.listener("bob"), world.connect("alice", "pad")
    assert alice.publish("u/bob/2", "second", qos=2, packet_id=7)

    assert ["first", "second"] == bob.payloads()


def test_versions_of_presence_go_on_growing(world, later):
    """Who keeps the newest version that he has seen is told the truth after a restore, too."""
    restore = later(world)
    for _ in range(3):
        world.restart()
        world.listener("alice").lose()
        world.advance(10)
    seen = world.messaging.presence.view(None, "alice")["version"]
    world = restore()
    world.listener("alice")
    world.advance(2)

    assert seen < world.messaging.presence.view(None, "alice")["version"]


def test_what_was_sent_by_oneself_just_before(world, later):
    """It counts as the sender's own in the copy, as it does after a crash, though his lane was not written yet."""
    world.listener("alice").publish("u/bob/1", "mine")
    before = world.rows("SELECT l.acked FROM lane l JOIN user u ON u.id = l.user_id WHERE u.address = 'alice'")
    restore = later(world)
    world = restore()

    assert [(0,)] == before
    assert [(1,)] == world.rows("SELECT l.acked FROM lane l JOIN user u ON u.id = l.user_id WHERE u.address = 'alice'")


def test_wills_of_then_are_not_sent(world, later):
    """They are of connections whose end the copy does not know: what they say is old."""
    world.listener("bob").lose()
    will = ("m/alice/out/u/bob/w", b"gone", 1, False)
    world.connect("alice", will=will)
    other = later(world)()

    assert [(1,)] == world.rows("SELECT count(*) FROM will")
    assert ([], [(0,)]) == (other.listener("bob").payloads(), other.rows("SELECT count(*) FROM will"))
