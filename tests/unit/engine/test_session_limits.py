"""How many persistent sessions a user may have, and what a SUBSCRIBE may cost (feature 45)."""

from __future__ import annotations

from unit.engine.both_ends import Network, connect, publish, subscribe
from unit.engine.fake_keeper import FakeKeeper


def test_the_session_that_was_away_longest_makes_room():
    """The user's third session displaces the one that left first; another user's sessions stay."""
    stored = Network(keeper=FakeKeeper(), sessions_per_user_max=2)
    for number, client_id in enumerate(("first", "second")):
        stored.now += number
        stored.connected(client_id, clean=False, user="bob").connection.lost(stored.now)
    stored.connected("first", clean=False, user="eve").connection.lost(stored.now)
    stored.now += 1
    stored.connected("third", clean=False, user="bob")
    stored.keeper.commit()

    assert {("bob", "second"), ("bob", "third"), ("eve", "first")} == set(stored.engine.sessions)


def test_a_user_whose_sessions_are_all_connected_is_refused_another():
    """CONNACK 3 for the one too many; those that are connected stay, and a clean session is always possible."""
    stored = Network(keeper=FakeKeeper(), sessions_per_user_max=1)
    here = stored.connected("here", clean=False, user="bob")
    late = stored.client()

    assert [("CONNACK", 0, 3)] == late.send(connect("late", clean=False, user="bob"))
    assert late.connection.closing
    assert not here.connection.closing
    assert not stored.connected("late", clean=True, user="bob").connection.closing


def test_the_time_away_goes_on_over_a_restart():
    """A session that was away before the restart expires when its whole time is over, not anew."""
    stored = Network(keeper=FakeKeeper(), session_expiry_s=100)
    stored.connected("phone", clean=False, user="bob").connection.lost(stored.now)
    stored.keeper.commit()
    for record in stored.keeper.sessions.values():
        record["away_s"] = 90.0
    stored.restart()
    stored.now += 40
    stored.engine.tick(stored.now)

    assert {} == stored.engine.sessions


def test_retained_messages_come_for_each_filter(network):
    """A SUBSCRIBE with several filters is as good as one for each of them [MQTT-3.8.4-4]."""
    publisher = network.connected("p")
    for number in range(20):
        publisher.send(publish(f"a/{number}", b"x", qos=1, retain=True))
    client = network.connected("c")
    got = client.send(subscribe(("a/+", 0), ("a/#", 1), ("#", 0)))

    assert [("SUBACK", 1, [0, 1, 0])] == got[:1]
    assert [0] * 20 + [1] * 20 + [0] * 20 == [message.qos for message in got[1:]]


def test_one_subscribe_is_compared_with_a_bounded_number_of_retained_messages():
    """Beyond `retained_visits_max` a filter is granted and live, but brings no more retained messages."""
    network = Network(retained_visits_max=25)
    publisher = network.connected("p")
    for number in range(20):
        publisher.send(publish(f"a/{number}", b"x", retain=True))
        publisher.send(publish(f"b/{number}", b"x", retain=True))
        publisher.send(publish(f"c/{number}", b"x", retain=True))
    client = network.connected("c")
    got = client.send(subscribe(("a/#", 0), ("b/#", 0), ("c/#", 0)))

    assert [("SUBACK", 1, [0, 0, 0])] == got[:1]
    assert 40 == len(got[1:])
    publisher.send(publish("c/1", b"live"))

    assert [b"live"] == [message.payload for message in client.received()]
