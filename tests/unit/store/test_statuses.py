"""What a returning sender is told, and what is asked about one message and one inbox."""

from __future__ import annotations

import pytest

from mesimqtt.domain.messages import GROUP, Conversation
from mesimqtt.domain.status import Status
from mesimqtt.store import messages, retention, statuses
from mesimqtt.store.messages import RUN_MAX
from unit.store.desk import ALICE, BOB, CAROL, NOW_MS, pair

SENT, DELIVERED, READ = Status.SENT, Status.DELIVERED, Status.READ


@pytest.fixture
def chat(desk):
    """The conversation of alice and bob; alice has sent 1, 2 and 3 in one commit."""
    conversation = pair()
    desk.accept("1", "2", "3", conversation=conversation)
    return conversation


def since(desk, change=0, *, sender=ALICE, since_ms=0, limit=1024):
    return statuses.statuses_since(desk.database.connection(), sender, change, since_ms, limit)


def told(rows):
    return [(row.change, row.cid, row.status) for row in rows]


def test_the_newest_status_of_each_message(desk, chat):
    """Of several steps of one message only the newest is told, in the order of the changes."""
    desk.step(chat, 1, last=2)
    desk.step(chat, 1, READ)
    desk.commit()

    assert [(1, "3", SENT), (2, "2", DELIVERED), (3, "1", READ)] == told(since(desk))


def test_only_what_changed_after_the_devices_number(desk, chat):
    """A device is told what it has not seen, and nothing when it has seen all."""
    desk.step(chat, 2)
    desk.commit()

    assert [(2, "2", DELIVERED)] == told(since(desk, 1))
    assert [] == since(desk, 2)


def test_each_recipient_has_a_status_of_his_own(desk):
    """In a group SENT is one status without recipient, then each member has his."""
    group = Conversation(0, GROUP, 5, 0)
    desk.accept("1", conversation=group)
    for status, recipient in ((DELIVERED, BOB), (DELIVERED, CAROL), (READ, BOB)):
        desk.step(group, 1, status, recipient=recipient)
    desk.commit()
    found = [(row.recipient_id, row.status) for row in since(desk)]

    assert [(0, SENT), (CAROL, DELIVERED), (BOB, READ)] == found


def test_statuses_are_the_senders_alone(desk, chat):
    """Nobody is told of another's messages, though they stand between his own."""
    desk.accept("b", conversation=chat, sender=BOB)
    desk.accept("4", conversation=chat)
    desk.step(chat, 1, last=5)
    desk.commit()

    assert [("1", DELIVERED), ("2", DELIVERED), ("3", DELIVERED), ("4", DELIVERED)] == [
        (row.cid, row.status) for row in since(desk)
    ]
    assert [(1, "b", SENT)] == told(since(desk, sender=BOB))


def test_statuses_are_kept_a_while(desk, chat):
    """A status older than the given time is not told; a newer one of the same message is."""
    desk.step(chat, 1, ts=NOW_MS + 500)
    desk.commit()

    assert [("1", DELIVERED)] == [(row.cid, row.status) for row in since(desk, since_ms=NOW_MS + 1)]


def test_a_page_holds_whole_changes(desk, chat):
    """Rows of a change that does not fit wait for the next page; following the pages loses and repeats nothing."""
    desk.accept("4", "5", conversation=chat)
    desk.accept("6", conversation=chat)
    everything = told(since(desk))
    found, change = [], 0
    while page := since(desk, change, limit=4):
        assert len(page) <= 4
        found += told(page)
        change = page[-1].change

    assert [(1, "1"), (1, "2"), (1, "3"), (2, "4"), (2, "5"), (3, "6")] == [row[:2] for row in everything]
    assert everything == found


def test_the_largest_change_fits_a_page(desk):
    """A run of RUN_MAX messages is one page of that size."""
    desk.accept(*map(str, range(RUN_MAX + 3)), conversation=pair())
    first = since(desk, limit=RUN_MAX)
    rest = since(desk, first[-1].change, limit=RUN_MAX)

    assert (RUN_MAX, {1}) == (len(first), {row.change for row in first})
    assert (3, {2}) == (len(rest), {row.change for row in rest})


def test_the_end_of_a_long_run_hides_its_beginning(desk):
    """The newest status is found at both ends of the longest run."""
    conversation = pair()
    desk.accept(*map(str, range(RUN_MAX)), conversation=conversation)
    desk.step(conversation, 1, last=RUN_MAX)
    desk.commit()

    assert {DELIVERED} == {row.status for row in since(desk)}
    assert RUN_MAX == len(since(desk))


def test_statuses_of_one_message(desk):
    """The newest status for each recipient; recipient 0 is the message itself."""
    group = Conversation(0, GROUP, 5, 0)
    first, second = desk.accept("1", "2", conversation=group)
    desk.step(group, 1, last=2, recipient=BOB, ts=NOW_MS + 5)
    desk.step(group, 2, READ, recipient=BOB, ts=NOW_MS + 6)
    desk.step(group, 1, recipient=CAROL)
    desk.commit()
    connection = desk.database.connection()

    assert [(0, SENT, NOW_MS), (BOB, DELIVERED, NOW_MS + 5), (CAROL, DELIVERED, NOW_MS)] == [
        (row.recipient_id, row.status, row.ts) for row in statuses.statuses_of(connection, first)
    ]
    assert [(0, SENT, NOW_MS), (BOB, READ, NOW_MS + 6)] == [
        (row.recipient_id, row.status, row.ts) for row in statuses.statuses_of(connection, second)
    ]


def test_sent_tells_each_messages_own_time(desk):
    """A run of SENT keeps one time, but each message is told with its own, at once and afterwards."""
    conversation = pair()
    first, second = desk.message("1", conversation), desk.message("2", conversation)
    second.ts += 40
    desk.commit()
    connection = desk.database.connection()

    assert [NOW_MS, NOW_MS + 40] == [row.ts for row in since(desk)]
    assert [NOW_MS + 40] == [row.ts for row in statuses.statuses_of(connection, second)]
    assert [NOW_MS] == [row.ts for row in statuses.statuses_of(connection, first)]


def inbox(desk, user):
    return messages.inbox_size(desk.database.connection(), user)


def test_an_inbox_counts_what_no_device_acknowledged(desk, chat):
    """Messages and bytes behind the lane, without one's own."""
    desk.accept("b", conversation=chat, sender=BOB, payload=b"12345")
    assert [(3, 6), (1, 5), (0, 0)] == [inbox(desk, user) for user in (BOB, ALICE, CAROL)]
    desk.all("UPDATE lane SET acked = 2 WHERE user_id = ?", BOB)

    assert (1, 2) == inbox(desk, BOB)


def test_an_inbox_ends_where_the_user_left(desk, chat):
    """What came after a user left is not in his inbox, nor is an event."""
    desk.message("", chat, sender=0, digest=None, kind=1)
    desk.commit()
    assert (3, 6) == inbox(desk, BOB)
    desk.all("UPDATE lane SET until = 2 WHERE user_id = ?", BOB)

    assert (2, 4) == inbox(desk, BOB)


def test_reading_a_conversation_in_pages(desk, chat):
    """Pages are in the order of seq and hold all that was given."""
    connection = desk.database.connection()
    page = messages.page(connection, chat, 0, 2) + messages.page(connection, chat, 2, 2)

    assert [(1, "1", b"hi"), (2, "2", b"hi"), (3, "3", b"hi")] == [(m.seq, m.cid, m.payload) for m in page]
    assert [] == messages.page(connection, chat, 3, 2)


def test_a_message_is_found_by_its_mid(desk, chat):
    """It comes with its conversation; an unknown mid is None."""
    connection = desk.database.connection()
    found = messages.by_mid(connection, 2)

    assert found is not None
    assert ("2", 2, ALICE, "phone", 3) == (found.cid, found.seq, found.sender_id, found.device, found.flags)
    assert (1, 0, ALICE, BOB, 3) == tuple(
        getattr(found.conversation, name) for name in ("id", "kind", "a", "b", "last_seq")
    )
    assert messages.by_mid(connection, 99) is None
    assert 3 == messages.last_mid(connection)


def test_reading_marks_the_newest_of_others(desk, chat):
    """`<=mid` finds the newest of all other senders in the runs that are unread, oldest first, and never an event."""
    desk.accept("b", conversation=chat, sender=BOB)
    desk.message("", chat, sender=0, digest=None, kind=1)
    desk.commit()
    found = [
        [message.cid for message in messages.unread_among(desk.database.connection(), chat, BOB, runs, 2)]
        for runs in ([(1, 5)], [(4, 5)], [(1, 1), (3, 3), (5, 5)], [(1, 2), (4, 5)], [(1, 1), (2, 2), (3, 3)], [])
    ]

    assert [["2", "3"], [], ["1", "3"], ["1", "2"], ["2", "3"], []] == found


def test_deadlines_are_found_in_their_order(desk):
    """What is due has a deadline up to now, and is due no more once that is cleared; the year's expiry goes by mid."""
    conversation = pair()
    for cid, deadline in (("late", 30), ("none", None), ("early", 10), ("future", 31)):
        desk.message(cid, conversation).deadline = deadline
    desk.commit()
    connection = desk.database.connection()

    assert [3, 1] == messages.due(connection, 30, 10)
    assert [3] == messages.due(connection, 30, 1)
    desk.committer.row(messages.CLEAR_DEADLINE, 3)
    desk.commit()
    assert [1] == messages.due(connection, 30, 10)
    assert [2, 3] == messages.expired_between(connection, 1, 9, NOW_MS + 1000, 10)
    assert [] == messages.expired_between(connection, 1, 9, NOW_MS + 999, 10)


def test_cids_are_forgotten_by_the_age_of_their_message(desk, chat):
    """A cid lives as long as its message was sent lately, whatever its mid; then it is free, and the message stays."""
    desk.committer.row("UPDATE message SET ts = ts + 10 WHERE id > 2")
    desk.commit()
    connection = desk.database.connection()
    old, more = retention.old_cids(connection, (0, ""), NOW_MS + 10, 10)
    assert (2, None) == (retention.forget_cids(connection, old, NOW_MS + 10), more)
    again, late = desk.accept("1", "3", conversation=chat)

    assert ["stored", "repeated"] == [again.outcome.value, late.outcome.value]
    assert (0, 4) == messages.totals(desk.database.connection())
