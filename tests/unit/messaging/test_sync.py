"""Sync: where each conversation stands for a device that was away."""

from __future__ import annotations

from unit.messaging.world import mid_of


def state(world, **question):
    """Return the only conversation of an answer."""
    (found,) = world.do("sync", **question)["conversations"]
    return found


def test_watermarks_of_a_device_and_of_its_user(world):
    """What one device has is not missing for the user, but for another device; reading is the user's."""
    phone, tablet = world.listener("bob"), world.listener("bob", "tablet")
    tablet.disconnect()
    alice = world.connect("alice")
    for number in range(4):
        alice.publish(f"u/bob/{number}", "x")
    found = phone.received("u/")
    phone.publish("read/u/alice", f"<={mid_of(found[1])}")

    user, mine, other = (state(world, address="bob", device=name) for name in (None, "phone", "tablet"))

    assert user == mine
    assert ("alice", 1, 4, 4, 4, 2, 2) == tuple(
        mine[key] for key in ("peer", "first_seq", "last_seq", "acked", "delivered", "read", "unread")
    )
    assert ([], [], True) == (mine["missing"], mine["lost"], mine["complete"])
    assert (0, [[1, 4]], [], True) == tuple(other[key] for key in ("acked", "missing", "lost", "complete"))


def test_a_device_that_the_server_has_no_place_of(world):
    """An unknown device is told that what it has cannot be continued: `complete` is false."""
    world.connect("alice").publish("u/bob/1", "x")
    answer = world.do("sync", address="bob", device="never seen")

    assert (False, False) == (answer["complete"], answer["conversations"][0]["complete"])


def test_what_a_device_sent_itself_is_not_missing(world):
    """The own messages of a device are a legal gap."""
    bob = world.listener("bob")
    world.connect("alice").publish("u/bob/1", "x")
    bob.publish("u/alice/2", "y")

    assert [] == state(world, address="bob", device="phone")["missing"]


def test_pages_of_conversations(world):
    """Conversations come in pages, each once."""
    alice = world.connect("alice")
    for peer in ("bob", "carol", "alice"):
        alice.publish(f"u/{peer}/{peer}", "x")
    first = world.do("sync", address="alice", limit=2)
    second = world.do("sync", address="alice", limit=2, cursor=first["next"])

    assert {"alice", "bob", "carol"} == {each["peer"] for answer in (first, second) for each in answer["conversations"]}
    assert (2, 1, None) == (len(first["conversations"]), len(second["conversations"]), second["next"])
