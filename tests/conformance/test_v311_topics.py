"""MQTT 3.1.1, section 4.7: which filter matches which topic."""

from __future__ import annotations

import pytest

from conformance.peer import EngineWorld
from conformance.wire311 import puback, publish, suback, subscribe, unsuback, unsubscribe

TOPICS = [
    "sport",
    "sport/",
    "sport/tennis",
    "sport/tennis/player1",
    "sport/tennis/player1/ranking",
    "sport/tennis/player1/score/wimbledon",
    "sport/tennis/player2",
    "sport/tennis/",
    "/finance",
    "finance",
    "/",
    "//",
    "/sport",
    "sport//player1",
    "Sport",
    " sport",
    "sport tennis",
]
PLAIN = set(TOPICS)
MATCHES = {
    "sport/tennis/player1/#": {
        "sport/tennis/player1",
        "sport/tennis/player1/ranking",
        "sport/tennis/player1/score/wimbledon",
    },
    "sport/#": {topic for topic in TOPICS if topic == "sport" or topic.startswith("sport/")},
    "#": PLAIN,
    "sport/tennis/#": {topic for topic in TOPICS if topic == "sport/tennis" or topic.startswith("sport/tennis/")},
    "sport/tennis/+": {"sport/tennis/player1", "sport/tennis/player2", "sport/tennis/"},
    "sport/+": {"sport/", "sport/tennis"},
    "sport/+/player1": {"sport/tennis/player1", "sport//player1"},
    "sport/+/+": {"sport/tennis/player1", "sport/tennis/player2", "sport/tennis/", "sport//player1"},
    "sport/+/#": {topic for topic in TOPICS if topic.startswith("sport/")},
    "+": {"sport", "finance", "Sport", " sport", "sport tennis"},
    "+/+": {"sport/", "sport/tennis", "/finance", "/", "/sport"},
    "/+": {"/finance", "/", "/sport"},
    "+/": {"sport/", "/"},
    "/#": {"/finance", "/", "//", "/sport"},
    "//": {"//"},
    "//#": {"/", "//"},
    "/": {"/"},
    "+//": {"//"},
    "+//+": {"//", "sport//player1"},
    "+/tennis/#": {topic for topic in TOPICS if topic == "sport/tennis" or topic.startswith("sport/tennis/")},
    "+/+/player1/#": {
        "sport/tennis/player1",
        "sport/tennis/player1/ranking",
        "sport/tennis/player1/score/wimbledon",
        "sport//player1",
    },
    "sport": {"sport"},
    "sport/": {"sport/"},
    "sport/tennis/player1": {"sport/tennis/player1"},
    "Sport/#": {"Sport"},
    "SPORT": set(),
    "sport/tennis/player": set(),
    "sport/tennis/player1/ranking/#": {"sport/tennis/player1/ranking"},
    "port/#": set(),
    "+/+/+/+/+": {"sport/tennis/player1/score/wimbledon"},
    "+/+/+/+/+/+": set(),
    "+/+/+/+/+/#": {"sport/tennis/player1/score/wimbledon"},
}
DOLLAR = ["$SYS", "$SYS/", "$SYS/monitor/Clients", "$SYS/a", "$share", "$", "$a", "a/$SYS", "a/$b/c"]
DOLLAR_MATCHES = {
    "#": {"a/$SYS", "a/$b/c"},
    "+": set(),
    "+/#": {"a/$SYS", "a/$b/c"},
    "+/+": {"a/$SYS"},
    "+/monitor/Clients": set(),
    "+/a": set(),
    "$SYS/#": {"$SYS", "$SYS/", "$SYS/monitor/Clients", "$SYS/a"},
    "$SYS/monitor/+": {"$SYS/monitor/Clients"},
    "$SYS/+": {"$SYS/", "$SYS/a"},
    "$SYS": {"$SYS"},
    "$": {"$"},
    "$a/#": {"$a"},
    "$SYS/+/Clients": {"$SYS/monitor/Clients"},
    "a/#": {"a/$SYS", "a/$b/c"},
    "a/+": {"a/$SYS"},
    "a/+/c": {"a/$b/c"},
    "a/$b/+": {"a/$b/c"},
}


def numbered(topics, wanted):
    """The PUBLISH packets of the wanted topics, each with its number in the list as payload."""
    return [publish(topic, b"%d" % number) for number, topic in enumerate(topics) if topic in wanted]


@pytest.mark.sockets
@pytest.mark.stateless
@pytest.mark.parametrize("name", MATCHES)
def test_a_filter_matches_what_section_4_7_says(world, name):
    """Every pair of filter and topic: `+` is one whole level, also an empty one, `#` its parent and all below.

    [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-3.3.2-3] [MQTT-4.5.0-1] [MQTT-4.7.3-4]
    """
    receiver = world.subscribed((name, 0))
    world.connected("p").send(*numbered(TOPICS, PLAIN)).expect_nothing()

    receiver.expect(*numbered(TOPICS, MATCHES[name])).expect_nothing()


@pytest.mark.parametrize("name", MATCHES)
def test_a_filter_selects_the_same_retained_messages(world, name):
    """What is retained is selected as what is published [MQTT-3.3.1-6] [MQTT-4.7.1-2] [MQTT-4.7.1-3]."""
    world.connected("p").send(*(publish(topic, b"x", retain=True) for topic in TOPICS)).expect_nothing()
    receiver = world.connected("s").send(subscribe((name, 0))).expect(suback(0))

    receiver.expect_any_order(*(publish(topic, b"x", retain=True) for topic in MATCHES[name])).expect_nothing()


@pytest.mark.parametrize("name", DOLLAR_MATCHES)
def test_topics_that_begin_with_a_dollar(world, name):
    """A filter that begins with a wildcard matches no topic that begins with `$`; a `$` elsewhere is nothing special.

    [MQTT-4.7.2-1]
    """
    receiver = world.subscribed((name, 0))
    world.connected("p").send(*numbered(DOLLAR, set(DOLLAR))).expect_nothing()

    receiver.expect(*numbered(DOLLAR, DOLLAR_MATCHES[name])).expect_nothing()


@pytest.mark.parametrize("name", DOLLAR_MATCHES)
def test_retained_topics_that_begin_with_a_dollar(world, name):
    """The same holds for what is retained [MQTT-4.7.2-1] [MQTT-3.3.1-6]."""
    world.connected("p").send(*(publish(topic, b"x", retain=True) for topic in DOLLAR)).expect_nothing()
    receiver = world.connected("s").send(subscribe((name, 0))).expect(suback(0))

    receiver.expect_any_order(*(publish(topic, b"x", retain=True) for topic in DOLLAR_MATCHES[name])).expect_nothing()


def test_everything_and_the_dollar_topics_too(world):
    """Who wants both subscribes to both: `#` and `$SYS/#` [MQTT-4.7.2-1]."""
    receiver = world.subscribed(("#", 0), ("$SYS/#", 0))
    world.connected("p").send(publish("$SYS/a", b"1"), publish("a", b"2"), publish("$other", b"3"))

    receiver.expect(publish("$SYS/a", b"1"), publish("a", b"2")).expect_nothing()


def test_as_many_levels_as_a_topic_can_have():
    """A topic of nothing but separators has 65536 levels; it is matched, retained and unsubscribed like others.

    [MQTT-4.7.3-3] [MQTT-4.7.1-3]
    """
    world = EngineWorld(topic_max=65_535, topic_levels_max=65_536)
    deep = "/" * 65_535
    receiver = world.subscribed((deep, 1), ("/#", 0), ("+/#", 0))
    sender = world.connected("p").send(publish(deep, b"x", qos=1, retain=True)).expect(puback(1))
    receiver.send(puback(receiver.expect_publish(deep, b"x", qos=1)))
    receiver.send(unsubscribe(deep, "/#", "+/#")).expect(unsuback())
    sender.send(publish(deep, b"y", qos=1)).expect(puback(1))
    receiver.expect_nothing()
    late = world.connected("late").send(subscribe(("+" + "/+" * 32_767, 0), (deep, 0))).expect(suback(0, 0))

    late.expect(publish(deep, b"x", retain=True))
    world.finish()


@pytest.mark.sockets
@pytest.mark.parametrize(
    "topics", [("a", "a "), ("a", "A"), ("e\u0301", "é"), ("a/b", "a//b"), ("a", "a/"), ("1", "\uff11")]
)
def test_nothing_is_normalized(world, topics):
    """Topics that look alike are different, published and subscribed alike [MQTT-4.7.3-4] [MQTT-3.3.2-3]."""
    one, other = topics
    receiver = world.subscribed((one, 0))
    receiver.send(publish(other, b"no"), publish(one, b"yes")).expect(publish(one, b"yes")).expect_nothing()
