"""Recalls: what is taken back is gone for everybody, delivered or not (contract section 3)."""

from __future__ import annotations

import sqlite3

import pytest

from unit.messaging.amending import levels, send

DELETED, DENIED = 0x21, 0x8D


def test_a_recall_of_what_was_delivered_tells_both(world):
    """The original becomes 0x21, the recall is a message of its own with its statuses."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1")
    bob.received()
    alice.publish(f"u/bob/2/recall={mid}", b"")

    assert [("2", 1), ("1", DELETED), ("2", 2)] == alice.steps()
    assert [(f"seq=2&recall={mid}", "")] == levels(bob)
    assert [(DELETED, 0, b"", "")] == world.rows("SELECT state, traceless, payload, params FROM message WHERE seq = 1")
    assert [(int(mid, 16),)] == world.rows("SELECT recalls FROM message WHERE seq = 2")


def test_a_recall_that_was_refused_can_be_made_again(world):
    """What may not be sent now takes nothing back, and stands in the way of no later recall."""
    alice = world.listener("alice")
    mid = send(alice, "u/bob/1")
    world.do("block_add", user="bob", peers=["alice"])
    alice.publish(f"u/bob/2/recall={mid}", b"")
    assert [("2", 0x88)] == alice.steps()
    world.do("block_remove", user="bob", peers=["alice"])
    alice.publish(f"u/bob/3/recall={mid}", b"")

    assert [("3", 1), ("1", DELETED)] == alice.steps()


def test_a_recall_after_read(world):
    """3 -> 0x21 is a legal step."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1")
    bob.publish("read/u/alice", mid)
    alice.statuses()
    alice.publish(f"u/bob/2/recall={mid}", b"")

    assert [("2", 1), ("1", DELETED), ("2", 2)] == alice.steps()


def test_what_was_not_delivered_yet_is_withdrawn(world):
    """The recipient never sees it, but does get the recall; and nothing of it counts in his inbox."""
    alice = world.listener("alice")
    mid = send(alice, "u/bob/1", "secret")
    alice.publish(f"u/bob/2/recall={mid}", b"")
    waiting = world.do("inbox", address="bob")["messages"]

    assert [("2", 1), ("1", DELETED)] == alice.steps()
    assert (1, [(f"seq=2&recall={mid}", "")]) == (waiting, levels(world.listener("bob")))
    assert [("2", 2)] == alice.steps()


@pytest.mark.parametrize("kill", [True, False])
def test_a_recall_survives_a_restart(world, kill):
    """State, status and inbox are the same after a kill right after the commit."""
    alice = world.listener("alice")
    mid = send(alice, "u/bob/1", "secret")
    alice.publish(f"u/bob/2/recall={mid}", b"")
    world.restart(kill=kill)

    assert 1 == world.do("inbox", address="bob")["messages"]
    assert [(f"seq=2&recall={mid}", "")] == levels(world.listener("bob"))
    assert [DELETED] == [each["status"] for each in world.do("status", mid=mid)["status"]]


def test_a_returning_sender_is_told_the_newest(world):
    """Who was away hears 0x21 of the original, and nothing that came before."""
    alice = world.listener("alice")
    tablet = world.listener("alice", "tablet")
    mid = send(alice, "u/bob/1")
    tablet.statuses()
    tablet.lose()
    alice.publish(f"u/bob/2/recall={mid}", b"")

    assert [("2", 1), ("1", DELETED)] == world.listener("alice", "tablet").steps()


def test_a_device_that_was_away_never_gets_what_was_recalled(world):
    """One device of the recipient has it, the other has not: the other gets the recall alone."""
    alice, bob = world.listener("alice"), world.listener("bob")
    world.listener("bob", "tablet").lose()
    mid = send(alice, "u/bob/1", "secret")
    alice.publish(f"u/bob/2/recall={mid}", b"")
    bob.received()

    assert [(f"seq=2&recall={mid}", "")] == levels(world.listener("bob", "tablet"))


def test_copies_on_own_devices_are_withdrawn_too(world):
    """The sender's own other device gets the copy of the recall, not that of the original."""
    world.listener("alice", "tablet").lose()
    alice = world.listener("alice")
    mid = send(alice, "u/bob/1", "secret")
    alice.publish(f"u/bob/2/recall={mid}", b"")

    assert [(f"seq=2&recall={mid}", "")] == levels(world.listener("alice", "tablet"), "sent/")


def test_in_flight_at_its_recall(world):
    """The acknowledgement of a copy that was on its way raises nothing; unacknowledged, it does not come again."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    mid = send(alice, "u/bob/1", "secret")
    (copy,) = bob.received()
    alice.publish(f"u/bob/2/recall={mid}", b"")
    bob.ack(copy)
    world.advance(2)

    assert [("2", 1), ("1", DELETED)] == alice.steps()
    bob.lose()
    assert [(f"seq=2&recall={mid}", "")] == levels(world.listener("bob"))


def test_in_flight_and_lost(world):
    """What was in flight when it was recalled is not sent again to a device that comes back."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    mid = send(alice, "u/bob/1", "secret")
    alice.publish(f"u/bob/2/recall={mid}", b"")
    bob.lose()

    assert [(f"seq=2&recall={mid}", "")] == levels(world.listener("bob"))


def test_what_waits_for_the_window_is_withdrawn(world):
    """A device that acknowledges nothing has a full window; what waits behind it can still be taken back."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    for number in range(70):
        mid = send(alice, f"u/bob/{number}", f"text {number}")
    alice.publish(f"u/bob/last/recall={mid}", b"")
    bob.auto_ack = True
    bob.ack(*bob.inbox)

    payloads = bob.payloads()
    assert ("text 69" not in payloads, "" in payloads, 70) == (True, True, len(payloads))


def test_a_page_read_before_the_recall_is_not_handed_over_after_it(world):
    """The page of a returning device is on its way from the store while the message is taken back."""
    alice = world.listener("alice")
    world.listener("bob").lose()
    send(alice, "u/bob/1", "first")
    mid = send(alice, "u/bob/2", "secret")
    world.reads.hold_answers()
    bob = world.connect("bob")
    world.reads.step(len(world.reads.jobs))  # what waits, and after it a page is read
    held = len(world.reads.jobs)
    alice.publish(f"u/bob/3/recall={mid}", b"")
    world.reads.release()
    world.turn()

    assert (True, ["first", ""]) == (held > 0, bob.payloads())


def test_a_delivery_that_waits_for_its_commit_is_overtaken(world):
    """DELIVERED of what was recalled in the transaction before is not told after 0x21."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    mid = send(alice, "u/bob/1")
    (copy,) = bob.received()
    world.commits.hold()
    alice.publish(f"u/bob/2/recall={mid}", b"")
    bob.ack(copy)
    world.commits.release()
    world.turn()

    assert [("2", 1), ("1", DELETED)] == alice.steps()
    assert [DELETED] == [each["status"] for each in world.do("status", mid=mid)["status"]]


def test_a_failed_message_keeps_its_verdict(world):
    """0x84 is final: the recall is delivered, the original stays expired."""
    alice = world.listener("alice")
    mid = send(alice, "u/bob/1/expiry=5")
    world.advance(8)
    alice.statuses()
    alice.publish(f"u/bob/2/recall={mid}", b"")

    assert [("2", 1)] == alice.steps()
    assert [0x84] == [each["status"] for each in world.do("status", mid=mid)["status"]]
    assert [(f"seq=2&recall={mid}", "")] == levels(world.listener("bob"))


def test_nothing_revives_what_was_recalled(world):
    """READ of it is ignored; its deadline passes without a verdict; the conversation goes on."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1/expiry=5")
    alice.publish(f"u/bob/2/recall={mid}", b"")
    alice.statuses()
    bob.publish("read/u/alice", mid)
    world.advance(60)
    alice.publish("u/bob/3", "on")

    assert [("3", 1), ("3", 2)] == alice.steps()
    assert [DELETED] == [each["status"] for each in world.do("status", mid=mid)["status"]]


def test_read_up_to_a_recalled_message(world):
    """`<=mid` of it reads what stands before it."""
    alice, bob = world.listener("alice"), world.listener("bob")
    send(alice, "u/bob/1")
    mid = send(alice, "u/bob/2")
    alice.publish(f"u/bob/3/recall={mid}", b"")
    alice.statuses()
    bob.publish("read/u/alice", f"<={mid}")

    assert [("1", 3)] == alice.steps()


def test_a_recall_without_a_stub_leaves_no_trace(world):
    """`stub=0` says that nothing is to be shown; the recall itself is told apart, too."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1")
    bob.received()
    alice.publish(f"u/bob/2/recall={mid}&stub=0", b"")

    assert [(f"seq=2&recall={mid}&stub=0", "")] == levels(bob)
    assert [(DELETED, 1), (0, 1)] == world.rows("SELECT state, traceless FROM message ORDER BY seq")


def test_a_recall_has_no_payload(world):
    """0x85 otherwise."""
    alice = world.listener("alice")
    mid = send(alice, "u/bob/1")
    alice.publish(f"u/bob/2/recall={mid}", "text")

    (status,) = alice.statuses()
    assert (0x85, "recall: the payload is empty") == (status["status"], status["reason"])


# ---- groups ---------------------------------------------------------------------------------------------------------


def test_a_recall_in_a_group_is_for_every_member(world):
    """Who has it, who has read it and who has not got it yet: each has 0x21."""
    world.group("team", "alice", "bob", "carol")
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "g/team/1", "secret")
    bob.publish("read/g/team", mid)
    alice.statuses()
    alice.publish(f"g/team/2/recall={mid}", b"")

    told = [(status["cid"], status.get("peer"), status["status"]) for status in alice.statuses()]
    assert [("1", "bob", DELETED), ("1", "carol", DELETED), ("2", "bob", 2), ("2", None, 1)] == sorted(told, key=str)
    assert [(f"seq=3&recall={mid}", "")] == levels(world.listener("carol"), "g/")


def test_who_joined_later_is_told_of_no_recall(world):
    """A recall of what was before his time raises no status for him; he gets the recall as any message."""
    world.group("team", "alice", "bob")
    alice = world.listener("alice")
    mid = send(alice, "g/team/1")
    world.do("group_join", address="team", users=["carol"])
    alice.publish(f"g/team/2/recall={mid}", b"")

    told = {(status["cid"], status.get("peer")) for status in alice.statuses()}
    assert {("2", None), ("1", "bob")} == told


def test_a_store_that_cannot_write_loses_neither_message_nor_order(world):
    """The recall is refused with `store`, the original stays as it was, and the same recall works afterwards."""
    alice = world.listener("alice")
    mid = send(alice, "u/bob/1", "kept")
    world.database.code = sqlite3.SQLITE_FULL
    alice.publish(f"u/bob/2/recall={mid}", b"")
    world.database.code = 0
    failed = [(status["status"], status.get("reason")) for status in alice.statuses()]
    alice.lose()
    world.advance(2)
    alice = world.listener("alice")
    alice.statuses()
    state = world.rows("SELECT state, payload FROM message")
    alice.publish(f"u/bob/2/recall={mid}", b"")

    assert ([(0x80, "store")], [(0, b"kept")]) == (failed, state)
    assert [("2", 1), ("1", DELETED)] == alice.steps()
