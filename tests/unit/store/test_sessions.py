"""Kept sessions of free topics: what is restored, what is deleted, and the engine's behaviour on the real store."""

from __future__ import annotations

import pytest

from mesimqtt.engine.letter import Letter
from mesimqtt.engine.retained import RetainedMessage
from mesimqtt.engine.session import RELEASED, Queued, Session
from unit.engine import test_kept
from unit.engine.both_ends import Message, Network, ack, publish, subscribe
from unit.store.desk import NOW_MS
from unit.store.real_keeper import RealKeeper, fill, session_of


def test_what_was_saved_is_restored(keeper):
    """User, client id, key, subscriptions with their QoS, the next number and incoming ids are as they were saved."""
    first, second = session_of(keeper), session_of(keeper, "other", "bob")
    for topic_filter, qos in (("a/+", 0), ("b/#", 1), ("a/+", 2), ("gone", 1)):
        keeper.save_subscription(first, topic_filter, qos)
    keeper.drop_subscription(first, "gone")
    keeper.save_subscription(second, "ü/✓", 1)
    fill(keeper, first, 3)
    for packet_id in (7, 65_535, 9):
        keeper.incoming(second, packet_id)
    keeper.forget_incoming(second, 9)
    keeper.commit()
    restored = {row[1]: (row[0], *row[2:5], set(row[5])) for row in keeper.crash()}

    assert ("alice", first.key, {"a/+": 2, "b/#": 1}, 4, set()) == restored["kept"]
    assert ("bob", second.key, {"ü/✓": 1}, 1, {7, 65_535}) == restored["other"]


def test_the_queue_is_restored_as_it_was(keeper):
    """Topic, payload, QoS, RETAIN, properties, expiry and the released mark survive; what was acknowledged is gone."""
    session = session_of(keeper)
    items = [
        Queued(1, Letter(b"a", b"\0\xff", 1, False, b"\x03\0\1t", 60.5)),
        Queued(2, Letter(b"b", b"", 2, True)),
        Queued(3, Letter("ü".encode(), b"x", 2)),
    ]
    for item in [*items, Queued(4, Letter(b"gone", b"", 1))]:
        keeper.enqueue(session, item.n, item.letter)
    keeper.commit()
    keeper.released(session, 3, 3)
    keeper.dequeue(session, 4, 4)
    keeper.commit()
    keeper.crash()

    assert [*items[:2], Queued(3, RELEASED, released=True)] == keeper.pages(session)


def test_retained_messages_are_replaced_and_removed(keeper):
    """The last retained message of a topic is kept; an empty one removes it."""
    for topic, payload in (("a", b"1"), ("b", b"2"), ("a", b"3"), ("b", b""), ("c", b"4")):
        keeper.retain(RetainedMessage(topic, payload, 1, b"\x01\1", 9.25))
    keeper.commit()
    keeper.crash()

    assert {
        name: RetainedMessage(name, payload, 1, b"\x01\1", 9.25) for name, payload in (("a", b"3"), ("c", b"4"))
    } == (keeper.retained)


@pytest.mark.parametrize("limit", [1, 3, 7, 8])
def test_pages_are_in_order_and_complete(keeper, limit):
    """Whatever the size of a page, the queue comes in the order of its numbers, each once, and no other session's."""
    session, other = session_of(keeper), session_of(keeper, "other")
    fill(keeper, other, 5)
    fill(keeper, session, 7)
    keeper.commit()

    assert [b"%d" % number for number in range(1, 8)] == [item.letter.payload for item in keeper.pages(session, limit)]


def test_a_dropped_session_leaves_nothing(keeper):
    """Subscriptions, queue and incoming ids go with it; another session's stay."""
    session, other = session_of(keeper), session_of(keeper, "other")
    for each in (session, other):
        keeper.save_subscription(each, "a", 1)
        keeper.incoming(each, 5)
        fill(keeper, each, 2)
    keeper.commit()
    keeper.drop_session(session)
    keeper.commit()

    assert 0 == session.key
    assert [1, 1, 2, 1] == [keeper.count(table) for table in ("session", "subscription", "queued", "incoming")]
    assert ["other"] == [row[1] for row in keeper.crash()]


def test_a_session_dropped_with_messages_on_their_way_leaves_nothing(keeper):
    """What was given to it in the same commit is not left for whoever gets its key after a restart."""
    session = session_of(keeper)
    keeper.commit()
    fill(keeper, session, 2)
    keeper.incoming(session, 5)
    keeper.drop_session(session)
    keeper.commit()
    assert [] == keeper.crash()
    stranger = session_of(keeper, "stranger", "mallory")
    keeper.commit()

    assert [] == keeper.pages(stranger)
    assert [0, 0] == [keeper.count(table) for table in ("queued", "incoming")]
    assert [[]] == [row[5] for row in keeper.crash()]


def test_keys_are_never_two_sessions(keeper):
    """A key is new also after a restart, and while its session is not committed yet."""
    first = session_of(keeper)
    second = session_of(keeper, "other")
    keeper.commit()
    keeper.crash()
    third = session_of(keeper, "third")

    assert 3 == len({first.key, second.key, third.key})


def test_the_next_number_never_goes_back(keeper):
    """Neither acknowledgements nor a failed commit give a number a second time."""
    session = session_of(keeper)
    fill(keeper, session, 3)
    keeper.commit()
    fill(keeper, session, 2, first=4)
    keeper.commit(ok=False)
    fill(keeper, session, 1)  # a number of before
    keeper.commit()
    for number in (1, 2, 3):
        keeper.dequeue(session, number, number)
    keeper.commit()

    assert ([6], 0) == ([row[4] for row in keeper.crash()], keeper.count("queued"))


def test_a_failed_commit_keeps_states_and_forgets_messages(keeper):
    """Sessions, subscriptions, acknowledgements and retained messages are written later; what is resent is not."""
    session = session_of(keeper)
    keeper.save_subscription(session, "a", 1)
    fill(keeper, session, 1)
    keeper.incoming(session, 5)
    keeper.retain(RetainedMessage("r", b"x", 1))
    heard = []
    keeper.after_commit(heard.append)
    keeper.commit(ok=False)
    assert [False] == heard
    assert [0, 0, 0] == [keeper.count(table) for table in ("session", "queued", "retained")]
    keeper.commit()
    restored = [(row[1], row[3], row[4], row[5]) for row in keeper.crash()]

    assert [("kept", {"a": 1}, 2, [])] == restored
    assert (0, {"r": RetainedMessage("r", b"x", 1)}) == (keeper.count("queued"), keeper.retained)


def test_acknowledgements_may_wait(keeper):
    """A dequeued message costs no commit of its own; losing it only repeats the message."""
    session = session_of(keeper)
    fill(keeper, session, 1)
    keeper.commit()
    keeper.dequeue(session, 1, 1)
    keeper.loop.run()

    assert (1, False) == (keeper.count("queued"), keeper.store.committer.is_idle)
    keeper.store.committer.tick(1.0, 1.0)
    keeper.loop.run()

    assert 0 == keeper.count("queued")


def test_a_page_of_a_drain_is_as_cheap_as_the_first(keeper):
    """What was acknowledged before a page costs it nothing; what was acknowledged within it is left out."""
    session = session_of(keeper)
    fill(keeper, session, 40)
    keeper.commit()
    statements, pages = [], []
    keeper.store.read.set_trace_callback(statements.append)
    for n in (*range(1, 21), 22):
        keeper.dequeue(session, n, n)
    keeper.page(session, 20, 5, pages.append)
    keeper.store.read.set_trace_callback(None)

    assert [21, 23, 24, 25, 26] == [item.n for item in pages[0]]
    assert statements[-1].endswith("LIMIT 6")  # 5, and one for the one that is gone


# ---- the engine on the real keeper ------------------------------------------------------------------------------

STORIES = [
    test_kept.test_puback_and_delivery_wait_for_the_commit,
    test_kept.test_nothing_waits_where_no_kept_session_matches,
    test_kept.test_a_failed_commit_closes_the_publisher_unacknowledged,
    test_kept.test_offline_messages_wait_and_come_in_order,
    test_kept.test_unacknowledged_messages_are_sent_again_with_dup_and_their_ids,
    test_kept.test_a_restart_loses_nothing,
    test_kept.test_a_failed_commit_forgets_the_packet_id_of_qos_2,
    test_kept.test_suback_and_unsuback_of_a_kept_session_wait_for_the_commit,
    test_kept.test_a_page_waits_for_the_gate,
    test_kept.test_clean_session_1_forgets_a_kept_session,
    test_kept.test_taking_over_hands_the_session_on,
    test_kept.test_a_retained_message_for_a_kept_session_keeps_its_flag,
    test_kept.test_retained_messages_are_acknowledged_after_their_commit,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__.removeprefix("test_"))
def test_the_engine_keeps_its_promises_on_the_real_store(keeper, story):
    """What holds with the engine's fake store holds with the real one."""
    network = Network(keeper=keeper)
    story(network)

    assert network.keeper is keeper
    assert keeper.store.read.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_thousand_messages_over_a_restart(keeper):
    """A queue of several pages comes back in order with its packet ids, is acknowledged, and is then empty."""
    keeper.is_instant = True
    network = Network(keeper=keeper, inflight_max=64)
    network.subscribed(("a", 1), client_id="kept", clean=False).lose()
    publisher = network.connected("p")
    for start in range(0, 1000, 100):
        publisher.send(*(publish("a", b"%d" % number, qos=1, packet_id=1) for number in range(start, start + 100)))
    network.restart()
    client = network.connected("kept", clean=False)
    found, arrived = [], client.rest
    while arrived:
        found += arrived
        arrived = client.send(*(ack("PUBACK", message.packet_id) for message in arrived))
    keeper.commit()

    assert [Message("a", b"%d" % n, 1, n + 2, dup=True) for n in range(1000)] == found
    assert 0 == keeper.count("queued")
    client.send(subscribe(("b", 1)))
    network.restart()

    assert {"a": 1, "b": 1} == network.engine.sessions["open", "kept"].subscriptions
    assert [] == network.connected("kept", clean=False).rest


def test_when_a_client_left_survives_a_restart(tmp_path):
    """The time away is counted from the client's leaving; a client that was connected at the crash was not away."""
    keeper = RealKeeper(tmp_path)
    gone, here = Session("bob", "gone", clean=False), Session("bob", "here", clean=False)
    keeper.save_session(gone)
    keeper.save_session(here)
    keeper.store.now_ms = lambda: NOW_MS - 5000
    keeper.left(gone)
    keeper.left(here)
    keeper.resumed(here)
    keeper.commit()

    assert {"gone": 5.0, "here": 0.0} == {client_id: away_s for _, client_id, *_, away_s, _ in keeper.crash()}


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        ("UPDATE subscription SET topic_filter = CAST(topic_filter AS BLOB) WHERE topic_filter = 'b'", {"a": 1}),
        ("UPDATE subscription SET topic_filter = CAST(x'ff' AS TEXT) WHERE topic_filter = 'b'", {"a": 1, "\\xff": 1}),
        ("UPDATE session SET user = CAST(user AS BLOB)", None),
        ("UPDATE session SET client_id = CAST(client_id AS BLOB)", None),
    ],
)
def test_what_a_flipped_bit_made_of_a_session(keeper, damage, left):
    """What cannot be one is left out; a server starts on the rest of it."""
    session = Session("alice", "phone", clean=False)
    keeper.save_session(session)
    for topic_filter in ("a", "b"):
        keeper.save_subscription(session, topic_filter, 1)
    keeper.commit()
    keeper.store.read.execute(damage)
    keeper.store.abandon()
    keeper.open()

    assert ([] if left is None else [left]) == [restored[3] for restored in keeper.restored]
