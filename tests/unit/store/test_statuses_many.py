"""Many statuses that wait for one sender: told as few are, and each costs the same however many there are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesimqtt.domain.messages import GROUP, Conversation
from mesimqtt.domain.status import Status
from mesimqtt.store import statuses
from unit.store.desk import ALICE, BOB, CAROL, Desk, pair

INSTRUCTIONS = 100  # of SQLite, between two counts


def filled(folder, count):
    """Return a desk where alice has sent so many messages to bob, each delivered one by one."""
    desk = Desk(folder)
    chat = pair()
    for number in range(count):
        desk.message(str(number), chat)
    desk.commit()
    for number in range(count):
        desk.step(chat, number + 1)
    desk.commit()
    return desk


def all_of(connection, *, limit=1024):
    """Return all statuses, page by page, and how many instructions SQLite took for them, in units of INSTRUCTIONS."""
    taken = 0

    def count():
        nonlocal taken
        taken += 1

    found, change = [], 0
    connection.set_progress_handler(count, INSTRUCTIONS)
    while page := statuses.statuses_since(connection, ALICE, change, 0, limit):
        found += page
        change = page[-1].change
    connection.set_progress_handler(None, 0)
    return found, taken


def test_a_status_costs_the_same_however_many_wait(tmp_path):
    """Four times as many are four times the work: nothing is looked through again for each."""
    few, many = (filled(tmp_path / str(count), count) for count in (500, 2_000))
    told_few, work_few = all_of(few.database.connection())
    told_many, work_many = all_of(many.database.connection())

    assert ([500, 2_000], {Status.DELIVERED}) == ([len(told_few), len(told_many)], {row.status for row in told_many})
    assert work_many / work_few < 6
    assert work_many * INSTRUCTIONS / 2_000 < 500


@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_what_is_told_is_the_newest_of_each(tmp_path_factory, data):
    """In whatever order runs of steps come, for whomever: as one would find it by hand, in pages of any size."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    chat, group = pair(), Conversation(0, GROUP, 5, 0)
    cids = {chat: 0, group: 0}
    for conversation in data.draw(st.lists(st.sampled_from((chat, group)), min_size=1, max_size=12)):
        for sender in data.draw(st.sampled_from(((ALICE,), (ALICE, ALICE), (BOB, ALICE)))):
            cids[conversation] += 1
            desk.message(f"{conversation.kind}-{cids[conversation]}", conversation, sender=sender)
    desk.commit()
    for conversation, recipients in ((chat, (BOB,)), (group, (BOB, CAROL))):
        for _ in range(data.draw(st.integers(0, 8)) if cids[conversation] else 0):
            first = data.draw(st.integers(1, cids[conversation]))
            last = data.draw(st.integers(first, cids[conversation]))
            status = data.draw(st.sampled_from((Status.DELIVERED, Status.READ)))
            desk.step(conversation, first, status, last=last, recipient=data.draw(st.sampled_from(recipients)))
    desk.commit()
    connection = desk.database.connection()
    after, limit = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 5))

    expected = by_hand(connection, after)
    found, change = [], after
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statuses, "CHUNK", data.draw(st.integers(1, 4)))
        while page := statuses.statuses_since(connection, ALICE, change, 0, limit):
            found += page
            change = page[-1].change
    desk.close()

    assert expected == [(row.change, row.mid, row.recipient_id, row.status) for row in found]


def by_hand(connection, after):
    """Return what alice is to be told, found out the slow way."""
    steps = connection.execute(
        "SELECT change, conversation_id, recipient_id, first_seq, last_seq, status FROM step WHERE sender_id = ?",
        (ALICE,),
    ).fetchall()
    newest = {}
    for mid, conversation, seq in connection.execute(
        "SELECT id, conversation_id, seq FROM message WHERE sender_id = ?", (ALICE,)
    ):
        for change, place, recipient, first, last, status in steps:
            if place == conversation and first <= seq <= last:
                key = mid, recipient
                newest[key] = max(newest.get(key, (0, 0, 0)), (change, seq, status))
    told = sorted((change, seq, mid, recipient, status) for (mid, recipient), (change, seq, status) in newest.items())
    return [(change, mid, recipient, status) for change, _, mid, recipient, status in told if change > after]
