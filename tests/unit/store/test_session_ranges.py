"""Kept sessions that much is acknowledged in: a change of the store for a run of messages, not for each."""

from __future__ import annotations

from mesimqtt.engine.letter import Letter
from unit.store.real_keeper import fill, session_of


def test_a_drain_costs_the_store_one_statement_for_each_commit(keeper):
    """What is acknowledged in order is deleted as a range, and nothing beside it."""
    session, other = session_of(keeper), session_of(keeper, "other")
    fill(keeper, session, 40)
    fill(keeper, other, 40)
    keeper.commit()
    statements = []
    keeper.store.read.set_trace_callback(statements.append)
    for n in range(1, 31):
        keeper.dequeue(session, n, n)
        keeper.dequeue(other, 40 - n, 40 - n)
    keeper.dequeue(session, 32, 35)
    keeper.commit()
    keeper.store.read.set_trace_callback(None)
    deleted = [text for text in statements if text.startswith("DELETE FROM queued")]

    assert 2 == sum(f"session_id = {session.key} " in text for text in deleted)
    assert [31, *range(36, 41)] == [item.n for item in keeper.pages(session)]
    assert [*range(1, 10), 40] == [item.n for item in keeper.pages(other)]


def test_what_was_acknowledged_is_in_no_page_whatever_becomes_of_its_commit(keeper):
    """Of a commit that failed and of those that wait, in any order: nothing comes again, nothing else is left out."""
    session = session_of(keeper)
    fill(keeper, session, 9)
    keeper.commit()
    keeper.dequeue(session, 4, 5)
    keeper.dequeue(session, 1, 2)
    keeper.commit(ok=False)
    keeper.dequeue(session, 3, 3)
    keeper.dequeue(session, 8, 8)

    assert [6, 7, 9] == [item.n for item in keeper.pages(session)]
    keeper.commit()

    assert ([6, 7, 9], 3) == ([item.n for item in keeper.pages(session)], keeper.count("queued"))


def test_receipts_of_qos_2_are_kept_as_a_range(keeper):
    """PUBRECs in order are one change of the store; a message that is not among them stays whole."""
    session = session_of(keeper)
    for n in range(1, 7):
        keeper.enqueue(session, n, Letter(b"t", b"%d" % n, 2))
    keeper.commit()
    for first, last in ((1, 2), (3, 3), (5, 5)):
        keeper.released(session, first, last)
    keeper.dequeue(session, 2, 2)
    keeper.commit()
    keeper.crash()

    assert [(1, True), (3, True), (4, False), (5, True), (6, False)] == [
        (item.n, item.released) for item in keeper.pages(session)
    ]


def test_next_numbers_of_many_sessions_are_kept(keeper):
    """However the messages of one commit are mixed, each session goes on with its own next number."""
    sessions = [session_of(keeper, name) for name in "abc"]
    for n in range(1, 5):
        for session in sessions[:n]:
            fill(keeper, session, 1, first=n)
    keeper.commit()

    assert {"a": 5, "b": 5, "c": 5} == {row[1]: row[4] for row in keeper.crash()}
