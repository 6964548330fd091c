"""Messages for later: SENT at once, everything else at their time, exactly once (contract section 2: `when`)."""

from __future__ import annotations

import sqlite3

import pytest

DAY = 86_400
DELETED = 0x21


def schedule(peer, rest="u/bob/1/when=60", payload="later"):
    """Schedule a message and return the mid that its SENT names."""
    peer.publish(rest, payload)
    return next(status["mid"] for status in peer.statuses() if status["status"] == 1)


def levels(peer, part="u/"):
    """Return parameters and payload of what came since the last look."""
    return [(message.topic.rpartition("/")[2], message.payload.decode()) for message in peer.received(part)]


def test_sent_at_once_delivered_at_its_time(world):
    """One SENT, after the commit; nothing for anybody before its time, everything then."""
    alice, tablet, bob = world.listener("alice"), world.listener("alice", "tablet"), world.listener("bob")
    assert alice.publish("u/bob/1/when=60", "later")
    told = alice.steps()
    world.advance(58)
    early = (bob.received("u/"), tablet.received("sent/"))
    world.advance(4)

    assert ([("1", 1)], ([], [])) == (told, early)
    assert [("seq=1&when=60", "later")] == levels(bob) == levels(tablet, "sent/")
    assert [("1", 2)] == alice.steps()


def test_the_mid_is_the_same_from_acceptance_on(world):
    """What SENT named is what the recipient gets, and what `status` knows before and after."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = schedule(alice)
    before = world.do("status", mid=mid)
    world.advance(62)

    (message,) = bob.received("u/")
    assert f"m/bob/in/u/alice/{mid}/seq=1&when=60" == message.topic
    assert ([1], [2]) == (
        [each["status"] for each in before["status"]],
        [each["status"] for each in world.do("status", mid=mid)["status"]],
    )


def test_seq_is_given_at_its_time(world):
    """What is sent meanwhile stands before it."""
    alice, bob = world.listener("alice"), world.listener("bob")
    schedule(alice, payload="second")
    alice.publish("u/bob/2", "first")
    world.advance(62)

    assert [("seq=1", "first"), ("seq=2&when=60", "second")] == levels(bob)


@pytest.mark.parametrize("kill", [True, False])
def test_a_restart_loses_and_doubles_nothing(world, kill):
    """Killed before its time, and again right after it: exactly one message."""
    mid = schedule(world.listener("alice"))
    world.restart(kill=kill)
    bob = world.listener("bob")
    world.advance(62)
    first = levels(bob)
    world.restart(kill=kill)
    bob = world.listener("bob")
    world.advance(62)

    assert ([("seq=1&when=60", "later")], []) == (first, levels(bob))
    assert [2] == [each["status"] for each in world.do("status", mid=mid)["status"]]


def test_due_while_the_server_was_down(world):
    """It is sent at the start."""
    schedule(world.listener("alice"))
    world.restart()
    world.ms += 3_600_000
    bob = world.listener("bob")
    world.advance(2)

    assert [("seq=1&when=60", "later")] == levels(bob)


def test_many_that_are_due_come_in_pages(world):
    """All of them, in the order of their times, a bounded number a transaction."""
    alice = world.listener("alice")
    for number in range(250):
        alice.publish(f"u/bob/{number}/when={60 + number % 2}", str(number))
    world.restart()
    world.ms += 100_000
    bob = world.listener("bob")
    world.tick()
    world.advance(3)

    expected = [str(number) for number in (*range(0, 250, 2), *range(1, 250, 2))]
    assert expected == bob.payloads()
    assert [(250,)] == world.rows("SELECT max(seq) FROM message")


def test_a_failed_commit_at_its_time_is_tried_again(world):
    """A full disk just then: later, once, in order."""
    alice, bob = world.listener("alice"), world.listener("bob")
    schedule(alice)
    world.database.code = sqlite3.SQLITE_FULL
    world.advance(70)
    early = bob.received("u/")
    world.database.code = 0
    world.advance(5)

    assert ([], [("seq=1&when=60", "later")]) == (early, levels(bob))
    assert [("1", 2)] == alice.steps()


def test_sent_waits_for_the_commit(world):
    """Neither PUBACK nor SENT before it; a kill then leaves nothing."""
    alice = world.listener("alice")
    world.commits.hold()
    acknowledged = alice.publish("u/bob/1/when=60")
    told = alice.steps()
    world.restart()

    assert (False, [], [(0,)]) == (acknowledged, told, world.rows("SELECT count(*) FROM scheduled"))


def test_a_store_that_cannot_write_is_said(world):
    """0x80 `store`, and a 3.1.1 connection is closed unacknowledged."""
    alice = world.listener("alice")
    world.database.code = sqlite3.SQLITE_FULL
    acknowledged = alice.publish("u/bob/1/when=60")

    assert (False, True) == (acknowledged, alice.is_closed)
    assert [(0x80, "store")] == [(status["status"], status["reason"]) for status in alice.statuses()]


def test_a_resend_is_no_second_message(world):
    """By cid, before and after its time, and after a restart: the current status again, byte for byte."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/when=60", "later")
    (first,) = alice.received("status/")
    alice.publish("u/bob/1/when=60", "later")
    (again,) = alice.received("status/")
    world.restart()
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.received("status/")
    alice.publish("u/bob/1/when=60", "other")
    reused = [(status["status"], status["reason"]) for status in alice.statuses()]
    world.advance(62)
    alice.received("status/")
    alice.publish("u/bob/1/when=60", "later")

    assert first.payload == again.payload
    assert ([(0x85, "cid-reused")], ["later"], [("1", 2)]) == (reused, bob.payloads(), alice.steps())


def test_its_cid_is_kept_as_long_as_it_waits(world):
    """A resend in the third week is no second message, nor one in the week after it was sent; then the cid is free."""
    sender = world.listener("alice")
    for cid, days in (("1", 30), ("gone", 1)):
        sender.publish(f"u/bob/{cid}/when={days * DAY}", "later")
    world.listener("bob")
    world.jump(2 * DAY)
    world.jump(18 * DAY)
    (waiting,) = world.rows("SELECT cid FROM cid")
    sender.statuses()
    sender.publish(f"u/bob/1/when={30 * DAY}", "later")
    sender.publish(f"u/bob/1/when={30 * DAY}", "other")
    told = sender.steps()
    world.jump(11 * DAY)
    sender.statuses()
    sender.publish(f"u/bob/1/when={30 * DAY}", "later")

    assert (("1",), [("1", 1), ("1", 0x85)], [("1", 2)]) == (waiting, told, sender.steps())
    assert [(2,)] == world.rows("SELECT count(*) FROM message")
    world.jump(8 * DAY)
    assert [(0,)] == world.rows("SELECT count(*) FROM cid")


def test_a_returning_device_is_told(world):
    """SENT and what became of it are states like any other: the newest, once."""
    alice = world.listener("alice")
    tablet = world.listener("alice", "tablet")
    tablet.lose()
    schedule(alice)
    tablet = world.listener("alice", "tablet")
    first = tablet.steps()
    tablet.lose()
    world.listener("bob")
    world.advance(62)

    assert ([("1", 1)], [("1", 2)]) == (first, world.listener("alice", "tablet").steps())


def test_sent_stays_equal_after_its_time(world):
    """Told before it was due, and again (nobody has got it) after it was: the same bytes."""
    alice = world.listener("alice")
    alice.publish("u/bob/1/when=60", "later")
    (first,) = alice.received("status/")
    world.advance(62)
    alice.publish("u/bob/1/when=60", "later")

    assert [first.payload] == [message.payload for message in alice.received("status/")]


# ---- cancel and change ----------------------------------------------------------------------------------------------


def test_cancel(world):
    """The scheduled message becomes 0x21, the recall is SENT, and the recipient never hears of either."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = schedule(alice)
    alice.publish(f"u/bob/2/recall={mid}", b"")
    told = alice.steps()
    world.advance(120)

    assert ([("2", 1), ("1", DELETED)], []) == (told, bob.received("u/"))
    assert [(0,)] == world.rows("SELECT count(*) FROM message")


def test_cancel_has_no_window_and_survives_a_restart(world):
    """A day later, over a kill; asked again, it says the same."""
    mid = schedule(world.listener("alice"), "u/bob/1/when=90000")
    world.restart()
    world.jump(86_000)
    alice = world.listener("alice")
    alice.statuses()
    alice.publish(f"u/bob/2/recall={mid}", b"")
    told = alice.steps()
    world.restart()
    world.jump(9_000)

    assert [("2", 1), ("1", DELETED)] == told
    assert [] == world.listener("bob").received("u/")
    assert [DELETED] == [each["status"] for each in world.do("status", mid=mid)["status"]]


def test_a_resend_of_the_cancelled_and_of_the_cancel(world):
    """Each answers its status."""
    alice = world.listener("alice")
    mid = schedule(alice)
    alice.publish(f"u/bob/2/recall={mid}", b"")
    alice.statuses()
    alice.publish("u/bob/1/when=60", "later")
    alice.publish(f"u/bob/2/recall={mid}", b"")

    assert [("1", DELETED), ("2", 1)] == alice.steps()


def test_cancel_while_it_is_being_sent(world):
    """Its commit is running: the recall is one of a sent message."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = schedule(alice)
    world.advance(59)
    world.commits.hold()
    world.advance(2)
    alice.publish(f"u/bob/2/recall={mid}", b"")
    world.commits.release()
    world.turn()

    assert [("seq=1&when=60", "later"), (f"seq=2&recall={mid}", "")] == levels(bob)
    assert [("2", 1), ("1", DELETED), ("2", 2)] == alice.steps()[-3:]


def test_due_while_its_cancel_is_committed(world):
    """It is not sent."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = schedule(alice)
    world.advance(59)
    world.commits.hold()
    alice.publish(f"u/bob/2/recall={mid}", b"")
    world.advance(5)
    world.commits.release()
    world.advance(5)

    assert ([], [("2", 1), ("1", DELETED)]) == (bob.received("u/"), alice.steps())


def test_an_edit_changes_what_will_be_sent(world):
    """The recipient gets the new text as if it had been the first."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = schedule(alice, payload="helo")
    alice.publish(f"u/bob/2/edit={mid}", "hello")
    told = alice.steps()
    world.advance(62)

    assert ([("2", 1)], [("seq=1&when=60", "hello")]) == (told, levels(bob))


def test_only_ones_own(world):
    """0x8D, and it is sent all the same."""
    alice, bob, carol = world.listener("alice"), world.listener("bob"), world.listener("carol")
    mid = schedule(alice)
    carol.publish(f"u/bob/2/recall={mid}", b"")
    alice.publish(f"u/carol/2/recall={mid}", b"")
    world.advance(62)

    assert [(0x8D, "recall.not-own")] == [(status["status"], status["rule"]) for status in carol.statuses()]
    assert [("seq=1&when=60", "later")] == levels(bob)


@pytest.mark.parametrize("word", ["edit", "recall"])
def test_what_was_cancelled_cannot_be_changed(world, word):
    """0x8D with the rule of what was taken back; nobody else learns that it was there."""
    alice, carol = world.listener("alice"), world.listener("carol")
    mid = schedule(alice)
    alice.publish(f"u/bob/2/recall={mid}", b"")
    alice.statuses()
    alice.publish(f"u/bob/3/{word}={mid}", b"")
    carol.publish(f"u/bob/1/{word}={mid}", b"")

    assert [(0x8D, f"{word}.deleted")] == [(each["status"], each["rule"]) for each in alice.statuses()]
    assert [(0x8D, f"{word}.not-own")] == [(each["status"], each["rule"]) for each in carol.statuses()]


def test_two_cancels_and_an_edit_in_one_commit(world):
    """The first counts: one 0x21, and the text of the edit is kept nowhere."""
    alice = world.listener("alice")
    mid = schedule(alice)
    world.commits.hold()
    for number, (word, payload) in enumerate([("recall", b""), ("recall", b""), ("edit", b"new")]):
        alice.publish(f"u/bob/a{number}/{word}={mid}", payload)
    world.commits.release()
    world.turn()

    deleted = {message.payload for message in alice.received("status/1")}
    assert 1 == len(deleted)
    assert [(1,)] == world.rows("SELECT count(*) FROM step WHERE status = 33")
    assert [(b"",)] == world.rows("SELECT payload FROM scheduled WHERE id = ?", int(mid, 16))
