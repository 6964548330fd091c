"""Work of round-robin groups in the store: what one member has taken and not read, found without looking at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesimqtt.domain.messages import GROUP, Conversation
from mesimqtt.domain.status import Status
from mesimqtt.store import work
from unit.store.desk import ALICE, BOB, CAROL, Desk

WORK = 2


def filled(folder, count):
    """Return a desk with so many pieces of work of alice's, all taken by bob, none read; and their conversation."""
    desk, group = Desk(folder), Conversation(0, GROUP, 5, 0)
    for number in range(count):
        desk.message(str(number), group, kind=WORK)
    desk.commit()
    for number in range(count):
        desk.step(group, number + 1)
    desk.commit()
    return desk, group


def unread(desk, group, seq, *, user=BOB, limit=1_000):
    found = work.taken_unread(desk.database.connection(), group.id, user, seq, limit)
    return [message.seq for message in found]


def test_reading_up_to_a_piece_costs_the_same_in_a_long_conversation(tmp_path):
    """The newest hundred of two thousand are found for what the newest hundred of five hundred cost."""
    work_of = {}
    for count in (500, 2_000):
        desk, group = filled(tmp_path / str(count), count)
        taken = []
        connection = desk.database.connection()
        connection.set_progress_handler(lambda taken=taken: taken.append(1), 100)
        assert list(range(count - 99, count + 1)) == unread(desk, group, count, limit=100)
        connection.set_progress_handler(None, 0)
        work_of[count] = len(taken)
        desk.close()

    assert work_of[2_000] <= 1.2 * work_of[500]
    assert work_of[2_000] * 100 < 100_000


@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_what_is_taken_and_not_read_is_found(tmp_path_factory, data):
    """Whatever runs of steps say so, for whoever, up to any seq: as one would find it by hand."""
    desk, group = Desk(tmp_path_factory.mktemp("desk")), Conversation(0, GROUP, 5, 0)
    kinds = data.draw(st.lists(st.sampled_from((0, WORK, WORK)), min_size=1, max_size=12))
    for number, kind in enumerate(kinds):
        desk.message(str(number), group, kind=kind, sender=data.draw(st.sampled_from((ALICE, CAROL))))
    desk.commit()
    for _ in range(data.draw(st.integers(0, 8))):
        first = data.draw(st.integers(1, len(kinds)))
        status = data.draw(st.sampled_from((Status.DELIVERED, Status.READ)))
        sender, recipient = data.draw(st.sampled_from((ALICE, CAROL))), data.draw(st.sampled_from((BOB, CAROL)))
        last = data.draw(st.integers(first, len(kinds)))
        desk.step(group, first, status, last=last, sender=sender, recipient=recipient)
    desk.commit()
    upto, limit = data.draw(st.integers(1, len(kinds) + 2)), data.draw(st.integers(1, 4))
    steps = desk.all("SELECT sender_id, first_seq, last_seq, status FROM step WHERE recipient_id = ?", BOB)
    expected = []
    for seq, sender, kind in desk.all("SELECT seq, sender_id, kind FROM message ORDER BY seq"):
        codes = {status for who, first, last, status in steps if who == sender and first <= seq <= last}
        if kind == WORK and seq <= upto and codes == {Status.DELIVERED}:
            expected.append(seq)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "_LOOK", data.draw(st.integers(1, 5)))
        found = unread(desk, group, upto, limit=limit)
    desk.close()

    assert expected[-limit:] == found
