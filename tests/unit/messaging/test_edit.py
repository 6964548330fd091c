"""Edits and forwards; whose and when an edit or recall may be (contract section 3)."""

from __future__ import annotations

import pytest

from unit.messaging.amending import levels, refusal, send
from unit.messaging.world import mid_of

DELETED, DENIED = 0x21, 0x8D


# ---- edit -----------------------------------------------------------------------------------------------------------


def test_an_edit_is_a_message_that_names_what_it_replaces(world):
    """It has its own mid, seq and statuses; the store knows both ways which belongs to which."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1", "helo")
    bob.received()
    edit = send(alice, f"u/bob/2/edit={mid}", "hello")

    assert [(f"seq=2&edit={mid}", "hello")] == levels(bob)
    assert [(int(edit, 16), None), (None, int(mid, 16))] == world.rows(
        "SELECT edited_by, edits FROM message ORDER BY seq"
    )
    assert [2] == [each["status"] for each in world.do("status", mid=edit)["status"]]


def test_an_edit_of_an_edit_replaces_the_original(world):
    """Whichever of them the sender names, all edits belong to the first message, and the last one counts."""
    alice = world.listener("alice")
    mid = send(alice, "u/bob/1", "a")
    first = send(alice, f"u/bob/2/edit={mid}", "b")
    second = send(alice, f"u/bob/3/edit={first}", "c")

    assert [(int(second, 16), None), (None, int(mid, 16)), (None, int(mid, 16))] == world.rows(
        "SELECT edited_by, edits FROM message ORDER BY seq"
    )


@pytest.mark.parametrize("named", ["original", "edit"])
def test_a_recall_takes_back_the_edits_too(world, named):
    """The text of the edits goes with the message, by whichever mid it is named."""
    alice = world.listener("alice")
    mid = send(alice, "u/bob/1", "a")
    edit = send(alice, f"u/bob/2/edit={mid}", "b")
    named = mid if named == "original" else edit
    alice.publish(f"u/bob/3/recall={named}", b"")

    assert [("3", 1), ("1", DELETED), ("2", DELETED)] == alice.steps()
    assert [(f"seq=3&recall={named}", "")] == levels(world.listener("bob"))
    assert [(b"",)] == world.rows("SELECT DISTINCT payload FROM message")


def test_no_edit_after_a_recall(world):
    """0x8D with the rule: also while the recall is still being committed."""
    alice = world.listener("alice")
    mid = send(alice, "u/bob/1")
    world.commits.hold()
    alice.publish(f"u/bob/2/recall={mid}", b"")
    alice.publish(f"u/bob/3/edit={mid}", "late")
    early = refusal(alice)
    world.commits.release()
    world.turn()
    alice.statuses()
    alice.publish(f"u/bob/4/edit={mid}", "later")

    assert [(DENIED, "edit.deleted")] * 2 == [early, refusal(alice)]


def test_one_recall_is_enough(world):
    """A second one with another cid is refused; the same one again is answered with its status."""
    alice = world.listener("alice")
    mid = send(alice, "u/bob/1")
    world.commits.hold()
    for _ in range(2):
        alice.publish(f"u/bob/2/recall={mid}", b"", qos=0)
    world.commits.release()
    world.turn()
    told = alice.steps()
    alice.publish(f"u/bob/3/recall={mid}", b"")

    assert [("2", 1), ("2", 1), ("1", DELETED)] == sorted(told, key=lambda step: step[1])
    assert (DENIED, "recall.deleted") == refusal(alice)


def test_the_resend_of_an_edit_is_no_second_edit(world):
    """The same cid, also after the window and after a restart, tells the status again."""
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "u/bob/1")
    alice.publish(f"u/bob/2/edit={mid}", "b")
    world.restart()
    world.jump(4000)
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.statuses(), bob.received()
    alice.publish(f"u/bob/2/edit={mid}", "b")
    again = alice.steps()
    alice.publish(f"u/bob/2/edit={mid}", "c")

    assert ([("2", 2)], []) == (again, bob.received("u/"))
    assert [(0x85, "cid-reused")] == [(each["status"], each["reason"]) for each in alice.statuses()]


@pytest.mark.parametrize("word", ["edit", "recall"])
def test_whose_and_when(world, word):
    """Own messages of this conversation alone, within the hour; everything else is 0x8D with one rule for all."""
    alice, bob = world.listener("alice"), world.listener("bob")
    payload = b"" if word == "recall" else b"x"
    mine = send(alice, "u/bob/1")
    his = send(bob, "u/alice/1")
    alice.statuses()
    found = []
    for named, to in [(his, "bob"), (mine, "carol"), ("0123456789abcdef", "bob"), ("f" * 16, "bob")]:
        alice.publish(f"u/{to}/2/{word}={named}", payload)
        found.append(refusal(alice))
    world.jump(3601)
    alice.statuses()
    alice.publish(f"u/bob/2/{word}={mine}", payload)

    assert [(DENIED, f"{word}.not-own")] * 4 == found
    assert (DENIED, f"{word}.window") == refusal(alice)


def test_the_window_is_a_setting(make_world):
    """`messaging.amend_window_s`."""
    world = make_world(messaging={"amend_window_s": 5})
    alice = world.listener("alice")
    mid = send(alice, "u/bob/1")
    world.advance(6)
    alice.publish(f"u/bob/2/edit={mid}", "x")

    assert (DENIED, "edit.window") == refusal(alice)


def test_a_recall_cannot_be_amended(world):
    """Neither edited nor taken back: what is gone stays gone."""
    alice = world.listener("alice")
    recall = send(alice, f"u/bob/2/recall={send(alice, 'u/bob/1')}", b"")
    alice.publish(f"u/bob/3/recall={recall}", b"")

    assert (DENIED, "recall.recall") == refusal(alice)


@pytest.mark.parametrize("more", ["expiry=0", "flags=7", "when=5", "recall=0123456789abcdef"])
def test_what_an_edit_cannot_be(world, more):
    """Transient, scheduled, or a recall: 0x85."""
    alice = world.listener("alice")
    alice.publish(f"u/bob/2/edit={send(alice, 'u/bob/1')}&{more}", b"")

    assert [0x85] == [status["status"] for status in alice.statuses()]


def test_an_edit_in_a_group(world):
    """Members get it under the group's class, with its own receipts."""
    world.group("team", "alice", "bob")
    alice, bob = world.listener("alice"), world.listener("bob")
    mid = send(alice, "g/team/1", "a")
    bob.received()
    alice.publish(f"g/team/2/edit={mid}", "b")

    (message,) = bob.received("g/")
    assert ("b", True) == (message.payload.decode(), f"edit={mid}" in message.topic)
    assert mid_of(message) in {status["mid"] for status in alice.statuses()}


# ---- forward --------------------------------------------------------------------------------------------------------


def test_a_forward_is_marked_on_arrival(world):
    """Of what one received, and of what one sent."""
    alice, bob, carol = world.listener("alice"), world.listener("bob"), world.listener("carol")
    mid = send(alice, "u/bob/1", "look")
    bob.received()
    bob.publish(f"u/carol/1/flags=131&ref={mid}", "look")
    alice.publish(f"u/carol/2/flags=131&ref={mid}", "look")

    assert [f"seq=1&flags=131&ref={mid}"] * 2 == [level for level, _ in levels(carol)]
    assert [("1", 1), ("1", 2)] == bob.steps()


def test_nobody_forwards_what_he_never_had(world):
    """No ref, an unknown one, one of others, and one that was taken back: 0x8D."""
    alice, carol = world.listener("alice"), world.listener("carol")
    mid = send(alice, "u/bob/1", "look")
    gone = send(alice, "u/carol/2", "gone")
    alice.publish(f"u/carol/3/recall={gone}", b"")
    found = []
    for params in ("flags=131", "flags=131&ref=0123456789abcdef", f"flags=131&ref={mid}", f"flags=131&ref={gone}",
                   f"flags=135&ref={mid}"):  # fmt: skip
        carol.publish(f"u/bob/1/{params}", "look")
        found.append(refusal(carol))

    assert [(DENIED, "forward.ref")] * 5 == found
