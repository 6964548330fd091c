"""A message that cannot be written, whatever the disk does: it is refused alone, and the rest is committed."""

from __future__ import annotations

import sqlite3

import pytest

from mesimqtt.domain.messages import Outcome
from mesimqtt.store.batch import Rider
from mesimqtt.store.committer import Health
from unit.store.desk import ALICE, BOB, CAROL, ROW, pair

FULL = sqlite3.SQLITE_FULL


def test_a_bad_message_is_refused_alone(desk):
    """Any number of messages that cannot be written are refused; the others of their batch are committed, in order."""
    conversation, other = pair(), pair(ALICE, CAROL)
    desk.after("suback")
    for number in range(4):
        desk.message(f"a{number}", conversation)
        desk.message(f"bad{number}", (conversation, other)[number % 2], **BAD[number])
        desk.message(f"b{number}", other)
    desk.step(conversation, 1)
    desk.committer.row(ROW, "row")
    desk.commit()
    (message,) = desk.accept("good", conversation=conversation)

    assert [("bad0",), ("bad1",), ("bad2",), ("bad3",)] == [cids(part) for part in desk.refused]
    assert ["seal", "committed", *["refused"] * 4, ("suback", True)] == desk.happened[:7]
    assert ([], 5, Health.OK) == (desk.failed, message.seq, desk.committer.health)
    assert [("a0", 1), ("a1", 2), ("a2", 3), ("a3", 4), ("good", 5)] == in_order(desk, conversation)
    assert [("b0", 1), ("b1", 2), ("b2", 3), ("b3", 4)] == in_order(desk, other)
    runs = "SELECT change, status, first_seq, last_seq FROM step WHERE conversation_id = ? ORDER BY change"
    assert [(1, 1, 1, 4), (3, 2, 1, 1), (4, 1, 5, 5)] == desk.all(runs, conversation.id)
    assert [("row",)] == desk.all("SELECT topic FROM retained")
    assert {1} == {each.change for each in desk.committed[0].accepts if each.conversation is conversation}


BAD = ({"payload": None}, {"cid": "\ud800"}, {"sender": 2**63}, {"digest": object()})


def cids(part):
    return tuple(message.cid if message.cid != "\ud800" else "bad1" for message in part.accepts)


def in_order(desk, conversation):
    return desk.all("SELECT cid, seq FROM message WHERE conversation_id = ? ORDER BY seq", conversation.id)


def test_what_was_repeated_or_reused_stays_so_beside_a_bad_message(desk):
    """What a batch says of each cid is the same as without it; a cid that only a refused message had is free."""
    conversation = pair()
    (first,) = desk.accept("1", conversation=conversation)
    repeated, reused = desk.message("1", conversation), desk.message("1", conversation, digest=b"other")
    desk.message("2", conversation, payload=None)
    fresh = desk.message("3", conversation)
    desk.commit()
    (again,) = desk.accept("2", conversation=conversation)

    assert (Outcome.REPEATED, first.mid, Outcome.REUSED) == (repeated.outcome, repeated.mid, reused.outcome)
    assert [(Outcome.STORED, 2), (Outcome.STORED, 3)] == [(each.outcome, each.seq) for each in (fresh, again)]
    assert [("1", 1), ("3", 2), ("2", 3)] == in_order(desk, conversation)


def test_a_resend_of_a_bad_message_stands_for_itself(desk):
    """Of two with one cid in a commit the second is new, and handed over, where the first cannot be written."""
    conversation = pair()
    desk.message("1", conversation, payload=None)
    again = desk.message("1", conversation)
    desk.commit()

    assert [("1",)] == [cids(part) for part in desk.refused]
    assert (Outcome.STORED, 1) == (again.outcome, again.seq)
    assert [("1", 1)] == in_order(desk, conversation)


def test_a_conversation_that_cannot_go_on_hinders_no_other(desk):
    """Where damage has brought a counter to its end, what needs the next one is refused; others are committed."""
    full, other, silent = pair(), pair(ALICE, CAROL), pair(BOB, CAROL)
    desk.accept("1", conversation=full)
    connection = desk.database.connection()
    connection.execute("UPDATE conversation SET last_seq = ?", (2**63 - 1,))
    desk.accept("2", conversation=silent, sender=BOB)
    connection.execute("UPDATE step SET change = ? WHERE sender_id = ?", (2**63 - 1, BOB))
    desk.committer._writer.forget()
    desk.message("3", full)
    desk.message("4", other)
    desk.message("5", silent, sender=BOB)
    desk.commit()

    assert [("3",), ("5",)] == [cids(part) for part in desk.refused]
    assert [("4", 1)] == in_order(desk, other)


def test_a_state_that_cannot_be_written_fails_the_messages_beside_it(desk):
    """Nobody may be told that it was kept: what waits for that commit fails, messages too, which are sent again."""
    conversation = pair()
    desk.message("bad", conversation, payload=None)
    desk.message("good", conversation)
    desk.batch.fragile.append((ROW, (2**70,)))
    desk.after("suback")
    desk.commit()

    assert ["failed: fault", ("suback", False)] == desk.happened[-2:]
    assert ([], [], 1) == (desk.refused, desk.all("SELECT 1 FROM message"), len(desk.failed))


@pytest.mark.parametrize("at", ["SAVEPOINT apart", "RELEASE apart", "COMMIT"])
def test_a_disk_that_fails_while_a_bad_message_is_looked_for(desk, at):
    """It is the disk's failure, as ever: nothing is acknowledged, nothing refused for good, nothing kept in secret."""
    conversation = pair()
    for number in range(2):
        desk.message(f"bad{number}", conversation, payload=None)
        desk.message(f"good{number}", conversation)
    desk.database.at = at
    desk.fail(FULL)

    assert ([], Health.FULL, [4]) == (desk.refused, desk.committer.health, [len(each.accepts) for each in desk.failed])
    assert ([], 0) == (desk.all("SELECT 1 FROM message"), conversation.id)


def test_what_rides_on_a_bad_message_goes_with_it(desk):
    """One that cannot be written itself, or rides on such a message, is refused with it; the others ride on."""
    conversation, told = pair(), []
    riders = [Riding(desk.message(name, conversation, payload=payload), told, fails=name == "rider")
              for name, payload in (("good", b"x"), ("bad", None), ("rider", b"x"))]  # fmt: skip
    desk.batch.riders += riders
    desk.commit()

    assert [("good", 1)] == in_order(desk, conversation)
    assert [("bad",), ("rider",)] == [cids(part) for part in desk.refused]
    assert [riders[1:2], riders[2:]] == [part.riders for part in desk.refused]
    assert riders[:1] == desk.committed[0].riders
    assert [("good",)] == desk.all("SELECT topic FROM retained")


class Riding(Rider):
    """Writes a row, or what cannot be one."""

    def __init__(self, message, told, *, fails):
        super().__init__()
        self.message, self.told, self.fails = message, told, fails

    def write(self, connection):
        connection.execute(ROW, (object() if self.fails else self.message.cid,))
        return []
