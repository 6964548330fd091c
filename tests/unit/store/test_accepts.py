"""Messages in the committer: cids, seqs and runs of SENT."""

from __future__ import annotations

import pytest

from mesimqtt.domain.messages import GROUP, Conversation, MessageKind, Outcome
from mesimqtt.store.messages import RUN_MAX
from unit.store.desk import ALICE, BOB, CAROL, pair


def outcomes(messages):
    return [message.outcome.value for message in messages]


def runs(desk):
    return desk.all("SELECT sender_id, change, recipient_id, first_seq, last_seq, status FROM step ORDER BY 1, 2")


def test_fresh_cids_are_stored(desk):
    """Messages with cids of their own are stored in the order in which they came."""
    found = desk.accept("1", "2", "3", conversation=pair())

    assert ["stored"] * 3 == outcomes(found)
    assert [("1", 1), ("2", 2), ("3", 3)] == desk.all("SELECT cid, seq FROM message ORDER BY id")
    assert [(ALICE, "1"), (ALICE, "2"), (ALICE, "3")] == desk.all("SELECT sender_id, cid FROM cid ORDER BY cid")


@pytest.mark.parametrize("together", [True, False])
def test_a_resend_is_never_a_second_message(desk, together):
    """The same cid with the same content is the first message again, in the same commit or a later one."""
    conversation = pair()
    if together:
        first, again, other = desk.accept("1", "1", "2", conversation=conversation)
    else:
        (first,) = desk.accept("1", conversation=conversation)
        again, other = desk.accept("1", "2", conversation=conversation)

    assert ["stored", "repeated", "stored"] == outcomes([first, again, other])
    assert (first.mid, 1, 2) == (again.mid, first.seq, other.seq)
    assert 2 == len(desk.all("SELECT * FROM message"))


@pytest.mark.parametrize("together", [True, False])
def test_a_cid_with_other_content_is_reused(desk, together):
    """The same cid with another digest is refused under its own mid; what it stood for stays."""
    conversation = pair()
    first = desk.message("1", conversation, digest=b"one")
    if not together:
        desk.commit()
    other = desk.message("1", conversation, digest=b"two")
    mid = other.mid
    desk.commit()
    (again,) = desk.accept("1", conversation=conversation, digest=b"one")

    assert [Outcome.STORED, Outcome.REUSED, Outcome.REPEATED] == [first.outcome, other.outcome, again.outcome]
    assert (mid, first.mid) == (other.mid, again.mid)


def test_cids_are_of_their_sender(desk):
    """Two users may use the same cid."""
    conversation = pair()
    (first,) = desk.accept("1", conversation=conversation, sender=ALICE, digest=b"one")
    (second,) = desk.accept("1", conversation=conversation, sender=BOB, digest=b"two")

    assert ["stored", "stored"] == outcomes([first, second])
    assert (1, 2) == (first.seq, second.seq)


def test_messages_without_a_cid_are_all_stored(desk):
    """What has no digest claims no cid, alone or beside a repeated one."""
    conversation = pair()
    alone = desk.accept("x", "x", conversation=conversation, digest=None)
    desk.accept("1", conversation=conversation)
    desk.message("1", conversation)
    mixed = desk.accept("y", conversation=conversation, digest=None)

    assert ["stored"] * 3 == outcomes([*alone, *mixed])
    assert [("1",)] == desk.all("SELECT cid FROM cid")
    assert [1, 2, 3, 4] == [seq for (seq,) in desk.all("SELECT seq FROM message ORDER BY seq")]


def test_a_pair_has_one_seq_for_both_directions(desk):
    """Both directions share a dense seq; a conversation with oneself has one lane."""
    conversation, own = pair(), pair(ALICE, ALICE)
    for sender in (ALICE, BOB, BOB, ALICE):
        desk.message("", conversation, sender=sender, digest=None)
    desk.message("", own, digest=None)
    desk.commit()

    assert [(1, ALICE), (2, BOB), (3, BOB), (4, ALICE)] == desk.all(
        "SELECT seq, sender_id FROM message WHERE conversation_id = 1 ORDER BY seq"
    )
    assert [(1, ALICE), (1, BOB), (2, ALICE)] == desk.all("SELECT conversation_id, user_id FROM lane ORDER BY 1, 2")
    assert [(1, 4), (2, 1)] == desk.all("SELECT id, last_seq FROM conversation ORDER BY id")


def test_sent_is_kept_in_runs(desk):
    """One step for what one sender sent in a row in one conversation; another's message ends the run."""
    conversation, other = pair(), pair(ALICE, CAROL)
    senders = [ALICE, ALICE, BOB, ALICE]
    found = [desk.message("", conversation, sender=sender, digest=None) for sender in senders]
    found.append(desk.message("", other, digest=None))
    desk.commit()

    assert [
        (ALICE, 1, BOB, 1, 2, 1),
        (ALICE, 2, BOB, 4, 4, 1),
        (ALICE, 3, CAROL, 1, 1, 1),
        (BOB, 1, ALICE, 3, 3, 1),
    ] == (runs(desk))
    assert [1, 1, 1, 2, 3] == [message.change for message in found]


def test_a_run_has_a_bound(desk):
    """A step covers at most RUN_MAX seqs, so that looking one up reads a bounded part of the index."""
    found = desk.accept(*map(str, range(2 * RUN_MAX + 1)), conversation=pair())

    assert [(1, RUN_MAX), (RUN_MAX + 1, 2 * RUN_MAX), (2 * RUN_MAX + 1, 2 * RUN_MAX + 1)] == desk.all(
        "SELECT first_seq, last_seq FROM step ORDER BY change"
    )
    assert [1, 1, 2, 3] == [found[index].change for index in (0, RUN_MAX - 1, RUN_MAX, 2 * RUN_MAX)]


def test_a_run_ends_with_its_commit(desk):
    """What was told is not changed afterwards: the next commit begins a run of its own."""
    conversation = pair()
    desk.accept("1", conversation=conversation)
    desk.accept("2", conversation=conversation)

    assert [(1, 1), (2, 2)] == desk.all("SELECT first_seq, last_seq FROM step ORDER BY change")


def test_events_raise_no_status_and_end_a_run(desk):
    """An event of a group takes a seq, but nobody is told SENT for it."""
    group = Conversation(0, GROUP, 5, 0)
    desk.message("", group, digest=None)
    desk.message("", group, sender=0, digest=None, kind=MessageKind.EVENT)
    desk.message("", group, digest=None)
    desk.commit()

    assert [(ALICE, 1, 0, 1, 1, 1), (ALICE, 2, 0, 3, 3, 1)] == runs(desk)
    assert [] == desk.all("SELECT * FROM lane")


def test_changes_are_dense_over_a_restart(desk):
    """SENT and later steps share one number per sender, which goes on where the file says."""
    conversation = pair()
    desk.accept("1", conversation=conversation)
    desk.step(conversation, 1)
    desk.commit()
    desk.committer._writer.forget()
    desk.step(conversation, 1, 3)
    (message,) = desk.accept("2", conversation=conversation)

    assert [(1, 1), (2, 2), (3, 1), (4, 3)] == desk.all("SELECT change, status FROM step ORDER BY change")
    assert (2, 3) == (message.seq, message.change)
