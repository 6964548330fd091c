"""Rules about statuses, time, people and bounds: each has a history that breaks it, and one beside it that does not."""

from __future__ import annotations

from dataclasses import replace

from mesimqtt.proof import history as h
from unit.proof.stories import EPOCH_MS, LATER, PAIR, ROOM, good, mid_at, rules_of, second, told

# ---- statuses and time ----------------------------------------------------------------------------------------------


def test_backward():
    """A device is told `read` and then `delivered`."""
    history = good()
    history.told.append(told(5_000, "alice", "c1", PAIR, 2, peer="bob"))

    assert {"backward"} == rules_of(history)


def test_a_status_after_a_failure():
    """After `expired` nothing follows; after `unconfirmed` `read` may."""
    for reason, broken in (("store", {"backward"}), ("unconfirmed", set())):
        history = good()
        history.told[1] = told(1_060, "alice", "c1", PAIR, 0x80, peer="bob", reason=reason)

        assert broken == rules_of(history) - {"two verdicts"}, reason


def test_a_repeat_that_differs():
    """The same status again, with another text."""
    history = good()
    history.told.append(told(5_000, "alice", "c1", PAIR, 3, peer="bob", text="other"))

    assert {"a repeat differs"} == rules_of(history)


def test_a_receipt_before_its_delivery():
    """`delivered` is told before any device of the recipient has acknowledged it."""
    history = good()
    history.acked[0] = replace(history.acked[0], at=1_070)

    assert {"forged"} == rules_of(history)


def test_a_receipt_that_nobody_gave():
    """`read` is told, and the recipient never said so, or of another conversation, or of an older message."""
    for mark in (
        [],
        [h.Marked(3_000, "bob", "g/team", PAIR)],
        [h.Marked(3_000, "carol", "u/alice", PAIR)],
        [h.Marked(3_030, "bob", "u/alice", PAIR)],
        [h.Marked(3_000, "bob", "u/alice", mid_at(500), is_upto=True)],
    ):
        history = good()
        history.marked = mark

        assert {"forged"} == rules_of(history), mark


def test_a_read_mark_upto_a_later_message():
    """Everything up to a message of a higher seq is read with it."""
    history = second()
    history.marked = [h.Marked(3_000, "bob", "u/alice", mid_at(5_000), is_upto=True)]

    assert set() == rules_of(history)


def test_a_receipt_of_somebody_else():
    """A status names one to whom the message was never sent."""
    history = good()
    history.told.append(told(5_000, "alice", "c1", PAIR, 2, peer="carol"))

    assert {"forged"} == rules_of(history)


def expiring(written: int) -> h.History:
    """Return the good history with an expiry of 5 s, handed over at a time."""
    history = good()
    history.sent[0] = replace(history.sent[0], expiry=5)
    history.got[0] = replace(history.got[0], written=written)
    return history


def test_too_late():
    """What was handed over at its deadline was in time, a millisecond later it was not."""
    assert set() == rules_of(expiring(6_000))

    assert {"too late"} == rules_of(expiring(6_001))


def test_too_early():
    """`expired` is told before the deadline, or of what has none."""
    for expiry, ts, broken in ((5, 6_000, set()), (5, 5_999, {"too early"}), (None, 6_000, {"too early"})):
        history = good()
        history.sent[0] = replace(history.sent[0], expiry=expiry)
        history.told[1] = told(6_010, "alice", "c1", PAIR, 0x84, peer="bob", ts=EPOCH_MS + ts)
        history.told.pop()

        assert broken == rules_of(history) - {"two verdicts"}, ts


def test_two_verdicts():
    """The store says one thing and then another, or another thing than the sender was told."""
    history = good()
    for first, then, broken in (
        ((0x84, ""), (0x91, ""), {"two verdicts"}),
        ((0x80, "unconfirmed"), (0x80, "corrupt"), {"two verdicts"}),
        ((0x21, ""), (0x22, ""), {"two verdicts"}),
        ((0x80, "unconfirmed"), (3, ""), set()),
        ((3, ""), (0x21, ""), set()),
        ((0x84, ""), (0x84, ""), {"two verdicts"}),
    ):
        history.steps = [h.Verdict(ROOM, "carol", 1), *(h.Verdict(ROOM, "carol", *each) for each in (first, then))]

        assert broken == rules_of(history), (first, then)

    history = good()
    history.told[4] = told(2_070, "bob", "c2", ROOM, 0x91, peer="carol", group="team")

    assert {"two verdicts"} == rules_of(history)


def test_a_step_after_the_end():
    """What is told after the states were looked at comes after them; what was told before must be in them."""
    for at, broken in ((LATER - 10, {"two verdicts"}), (LATER + 10, set())):
        history = good()
        history.told.append(told(at, "alice", "c1", PAIR, 0x22, peer="bob"))

        assert broken == rules_of(history), at


# ---- people and bounds ----------------------------------------------------------------------------------------------


def test_delivered_after_a_removal():
    """Carol had left before the message was accepted, and gets it."""
    history = good()
    history.changes.append(h.Change(1_000, 1_100, h.LEFT, "carol", "team"))
    assert {"after removal"} == rules_of(history)

    history.changes.append(h.Change(1_900, 1_990, h.JOINED, "carol", "team"))

    assert set() == rules_of(history)


def test_who_joins_before_a_scheduled_message_is_sent():
    """It is sent at the first moment after its time: who joined between gets it, who joined after that does not."""
    for joined, broken in ((3_005, set()), (3_400, {"after removal"})):
        history = good()
        history.sent[1] = replace(history.sent[1], when=1)
        history.got = [replace(one, at=3_500, written=3_015) if one.mid == ROOM else one for one in history.got]
        history.changes += [
            h.Change(900, 950, h.LEFT, "carol", "team"), h.Change(joined - 5, joined, h.JOINED, "carol", "team"),
        ]  # fmt: skip

        assert broken == rules_of(history) & {"after removal"}, joined


def test_accepted_after_a_removal():
    """Bob had left before his message to the group was accepted."""
    history = good()
    history.changes.append(h.Change(1_000, 1_100, h.LEFT, "bob", "team"))

    assert {"after removal"} == rules_of(history)


def test_delivered_after_a_group_was_deleted():
    """Nobody is in a group that is no more."""
    history = good()
    history.changes.append(h.Change(1_000, 1_100, h.GROUP_DELETED, "", "team"))

    assert {"after removal"} == rules_of(history)


def test_after_a_revocation():
    """A second after it nothing is handed over, accepted or let in; before that it may be."""
    for what in (h.DISABLED, h.REVOKED, h.DELETED):
        history = good()
        history.changes.append(h.Change(1_000, 1_010, what, "carol"))
        assert {"after revocation"} == rules_of(history), what
        history.changes[0] = h.Change(1_000, 1_500, what, "carol")
        assert set() == rules_of(history), what


def test_let_in_after_a_revocation():
    """A device is online again while its user is disabled."""
    history = good()
    history.changes.append(h.Change(4_000, 4_010, h.DISABLED, "carol"))
    history.online.append(h.Online(6_000, 5_999, "carol", "phone", 12))
    assert {"after revocation"} == rules_of(history)

    history.changes.append(h.Change(5_500, 5_510, h.ENABLED, "carol"))

    assert set() == rules_of(history)


def test_too_large():
    """A queue was longer than its bound."""
    history = good()
    history.bounds.append(h.Bound("bytes held", 65, 64))

    assert {"too large"} == rules_of(history)


def test_left_over():
    """A coroutine or a descriptor is left when the server has stopped."""
    history = good()
    history.leftovers.append("1 descriptors are left open")

    assert {"left over"} == rules_of(history)


def test_what_was_broken_off_is_not_judged_as_lost():
    """A trial that did not end says nothing of what is still to come."""
    history = good()
    history.got.clear()
    history.acked.clear()
    history.told = [one for one in history.told if one.code == 1]
    history.finished_at = 0

    assert set() == rules_of(history)
