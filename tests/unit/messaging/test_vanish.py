"""Disappearing messages: gone everywhere so many seconds after they were read (contract section 2: `age`)."""

from __future__ import annotations

import pytest

from mesimqtt.messaging import vanish

WIPED = 0x22


def send(peer, rest, payload="secret"):
    """Publish a message and return the mid that its SENT names."""
    peer.statuses()
    peer.publish(rest, payload)
    return next(status["mid"] for status in peer.statuses() if status["status"] == 1)


def test_wiped_after_it_was_read(world):
    """Counted from READ; then 0x22, and nothing of it is in the store."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1/age=30")
    world.advance(60)
    unread = alice.steps()
    bob.publish("read/u/alice", mid)
    world.advance(28)
    early = alice.steps()
    world.advance(4)

    assert ([], [("1", 3)], [("1", WIPED)]) == (unread, early, alice.steps())
    assert [(WIPED, b"", "")] == world.rows("SELECT state, payload, params FROM message")
    assert [] == world.rows("SELECT * FROM vanishing")


def test_over_a_restart(world):
    """The time runs on while the server is down."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1/age=30")
    bob.publish("read/u/alice", mid)
    world.restart()
    world.ms += 60_000
    world.advance(2)

    assert [("1", WIPED)] == world.listener("alice").steps()


def test_devices_that_were_away_do_not_get_it(world):
    """Neither the reader's other device nor the sender's."""
    world.listener("bob", "tablet").lose()
    world.listener("alice", "tablet").lose()
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1/age=5")
    bob.publish("read/u/alice", mid)
    world.advance(8)

    assert [] == world.listener("bob", "tablet").received("u/")
    assert [] == world.listener("alice", "tablet").received("sent/")


def test_an_age_goes_to_the_receiver(world):
    """His devices have it already: they know when it was read, and delete their copy themselves."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/age=5")

    (message,) = bob.received("u/")
    assert "seq=1&age=5" == message.topic.rpartition("/")[2]


def test_in_a_group_for_each_member(world):
    """Who has read it loses it; the sender's copy goes with the last member's."""
    world.group("team", "alice", "bob", "carol")
    world.listener("bob", "tablet").lose()
    alice, bob, carol = world.listener("alice"), world.listener("bob"), world.listener("carol")
    mid = send(alice, "g/team/1/age=5")
    bob.publish("read/g/team", mid)
    world.advance(8)
    first = [(status["peer"], status["status"]) for status in alice.statuses()]
    kept = world.rows("SELECT state, payload FROM message WHERE kind = 0")
    tablet = world.listener("bob", "tablet").received("g/")
    carol.publish("read/g/team", mid)
    world.advance(8)

    assert ([("bob", 3), ("bob", WIPED)], [(0, b"secret")], []) == (first[-2:], kept, tablet)
    assert [("carol", 3), ("carol", WIPED)] == [(status["peer"], status["status"]) for status in alice.statuses()]
    assert [(WIPED, b"")] == world.rows("SELECT state, payload FROM message WHERE kind = 0")


def test_many_read_at_once(make_world):
    """`<=mid` begins the age of all of them, also of those that raise no status of their own."""
    world = make_world(messaging={"read_upto_max": 2})
    alice, bob = world.listener("alice"), world.listener("bob")
    for number in range(5):
        mid = send(alice, f"u/bob/{number}/age=5")
    bob.publish("read/u/alice", f"<={mid}")
    world.advance(8)

    assert [(WIPED, 5)] == world.rows("SELECT state, count(*) FROM message GROUP BY state")


def test_more_than_a_page(world):
    """A long list of what is due goes in transactions of a bounded size, one after the other, without waiting."""
    alice, bob = world.listener("alice"), world.listener("bob")
    for number in range(vanish._PAGE // 250 * 300):
        mid = send(alice, f"u/bob/{number}/age=5")
    bob.publish("read/u/alice", f"<={mid}")
    world.advance(7)

    assert [(WIPED, 600)] == world.rows("SELECT state, count(*) FROM message GROUP BY state")


def test_edits_vanish_with_it(world):
    """The text of an edit is the text of the message."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1/age=5")
    send(alice, f"u/bob/2/edit={mid}", "better")
    bob.publish("read/u/alice", mid)
    world.advance(8)

    assert [(WIPED, b"")] * 2 == world.rows("SELECT state, payload FROM message")
    assert {("1", WIPED), ("2", WIPED)} <= set(alice.steps())


def wiped_while_bob_is_away(world, params="", *, has_edit=False):
    """Let bob read a message, not its edit; both are wiped for him after a crash. Return the edit's mid.

    Nothing of him is in the server's memory then that could know of it.
    """
    world.group("team", "alice", "bob", "carol")
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "g/team/1/age=5")
    bob.publish("read/g/team", mid)
    if not has_edit:
        bob.lose()
    edit = send(alice, f"g/team/2/edit={mid}{params}", "better")
    world.advance(1)
    world.restart()
    world.listener("alice", "tablet")
    world.advance(8)
    return edit


@pytest.mark.parametrize("mark", ["{edit}", "<={edit}"])
def test_what_is_wiped_is_not_read_any_more(world, mark):
    """0x22 is final, also for who was away when it was wiped and says now that he has read all of it."""
    edit = wiped_while_bob_is_away(world, has_edit=True)
    alice, bob = world.listener("alice"), world.listener("bob")
    before = [(one["cid"], one["status"]) for one in alice.statuses() if one.get("peer") == "bob"]
    bob.publish("read/g/team", mark.format(edit=edit))

    assert {("1", WIPED), ("2", WIPED)} == set(before)
    assert ([], []) == (bob.received("g/"), alice.steps())


def test_what_is_wiped_does_not_expire(world):
    """Nor does anything follow at its deadline."""
    wiped_while_bob_is_away(world, "&expiry=60")
    alice = world.listener("alice")
    before = {(one["cid"], one["status"]) for one in alice.statuses() if one.get("peer") == "bob"}
    world.advance(70)

    assert {("1", WIPED), ("2", WIPED)} == before
    assert ["carol"] == [one["peer"] for one in alice.statuses()]


def test_a_recall_before_its_age(world):
    """0x21 is final: nothing is wiped a second time."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1/age=5")
    bob.publish("read/u/alice", mid)
    alice.publish(f"u/bob/2/recall={mid}", b"")
    world.advance(10)

    assert [("1", 0x21)] == [step for step in alice.steps() if step[0] == "1"][-1:]


@pytest.mark.parametrize(("start", "is_read", "is_wiped"), [
    ("read", False, False), ("delivered", False, True), ("delivered", True, True), ("sent", False, True),
])  # fmt: skip
def test_when_an_age_begins(world, start, is_read, is_wiped):
    """`age-from`: read (the default), delivered, or sent."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, f"u/bob/1/age=5&age-from={start}")
    if is_read:
        bob.publish("read/u/alice", mid)
    world.advance(8)

    assert is_wiped == (("1", WIPED) in alice.steps())


def test_from_sent_it_is_also_gone_for_who_never_had_it(world):
    """Undelivered: 1 -> 0x22, and nothing waits."""
    alice = world.listener("alice")
    send(alice, "u/bob/1/age=5&age-from=sent")
    world.advance(8)

    assert [("1", WIPED)] == alice.steps()
    assert (0, []) == (world.do("inbox", address="bob")["messages"], world.listener("bob").received("u/"))


def test_an_unknown_beginning(world):
    """0x85; beside no age it is a key of the application's own."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/age=5&age-from=birth")
    alice.publish("u/bob/2/age-from=birth")

    assert [("1", 0x85), ("2", 1), ("2", 2)] == alice.steps()
    assert 1 == len(bob.received("u/"))


def test_without_receipts(world):
    """A sender who wants no READ still gets what he asked for: it disappears."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1/age=5&flags=0")
    bob.publish("read/u/alice", mid)
    world.advance(8)

    assert [("1", WIPED)] == alice.steps()


def test_it_does_not_tell_what_a_reader_keeps_to_himself(world):
    """Who gives no read receipts: wiped in the store, and not a word to the sender."""
    world.do("privacy_set", user="bob", privacy={"receipts": "delivered"})
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1/age=5")
    alice.statuses()
    bob.publish("read/u/alice", mid)
    world.advance(8)

    assert ([], [(WIPED, b"")]) == (alice.steps(), world.rows("SELECT state, payload FROM message"))
