"""The topic tree and the retained messages against a naive reading of section 4.7."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mesimqtt.engine.packets import is_filter
from mesimqtt.engine.retained import Retained, RetainedMessage
from mesimqtt.engine.session import Session
from mesimqtt.engine.topic_tree import TopicTree

LEVELS = st.sampled_from(["", "a", "b", "c", "$SYS", "é"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join).filter(bool)
FILTERS = st.lists(LEVELS | st.sampled_from(["+", "#", "a+"]), min_size=1, max_size=5).map("/".join).filter(is_filter)


def naive_match(filter_levels, topic_levels, *, is_first=True):
    """Section 4.7, read aloud."""
    if not filter_levels:
        return not topic_levels
    first, rest = filter_levels[0], filter_levels[1:]
    if is_first and first in ("+", "#") and topic_levels[0].startswith("$"):
        return False
    if first == "#":
        return True
    if not topic_levels:
        return False
    return first in ("+", topic_levels[0]) and naive_match(rest, topic_levels[1:], is_first=False)


def matches(topic_filter, topic):
    """Tell whether a filter matches a topic, '#' including the parent level."""
    return naive_match(topic_filter.split("/"), topic.split("/"))


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.booleans(), FILTERS, st.integers(0, 3), st.integers(0, 2)), max_size=30),
    topics=st.lists(TOPICS, min_size=1, max_size=5),
)
def test_the_tree_agrees_with_a_naive_matcher(changes, topics):
    """After any adding and removing, a topic goes to exactly the matching sessions, each at its highest QoS."""
    sessions = [Session("u", str(number), clean=True) for number in range(4)]
    tree, model = TopicTree(), {}
    for is_added, topic_filter, number, qos in changes:
        if is_added:
            tree.add(topic_filter, sessions[number], qos)
            model[topic_filter, number] = qos
        else:
            tree.remove(topic_filter, sessions[number])
            model.pop((topic_filter, number), None)

    for topic in topics:
        expected = {}
        for (topic_filter, number), qos in model.items():
            if matches(topic_filter, topic):
                expected[sessions[number]] = max(qos, expected.get(sessions[number], 0))

        assert expected == tree.match(topic)


@settings(max_examples=100, deadline=None)
@given(filters=st.lists(FILTERS, max_size=20))
def test_the_tree_forgets_what_was_removed(filters):
    """When all subscriptions are gone, no level of the tree is left."""
    session, tree = Session("u", "c", clean=True), TopicTree()
    for topic_filter in filters:
        tree.add(topic_filter, session, 1)
    for topic_filter in filters:
        tree.remove(topic_filter, session)

    assert {} == tree._exact
    assert not tree._root.children
    assert tree._root.rest is None


@settings(max_examples=200, deadline=None)
@given(
    changes=st.lists(st.tuples(TOPICS, st.sampled_from([b"", b"x", b"y"])), max_size=25),
    topic_filter=FILTERS,
)
def test_retained_messages_agree_with_a_naive_matcher(changes, topic_filter):
    """A filter selects exactly the retained messages whose topics it matches; an empty payload removes one."""
    retained, model = Retained(1000), {}
    for topic, payload in changes:
        assert retained.put(RetainedMessage(topic, payload, 1))
        if payload:
            model[topic] = payload
        else:
            model.pop(topic, None)

    expected = sorted((topic, payload) for topic, payload in model.items() if matches(topic_filter, topic))

    assert expected == sorted((message.topic, message.payload) for message in retained.match(topic_filter))
    assert len(model) == len(retained)


def test_retained_messages_leave_nothing_behind():
    """When the last retained message below a level is cleared, the level is gone."""
    retained = Retained(10)
    for topic in ("a/b/c", "a/b", "a"):
        retained.put(RetainedMessage(topic, b"x", 0))
    for topic in ("a/b/c", "a", "a/b"):
        retained.put(RetainedMessage(topic, b"", 0))

    assert not retained._messages._root.children


def test_retained_messages_are_bounded():
    """Beyond the bound a new topic is not kept, while an old one can still be replaced."""
    retained = Retained(1)

    assert retained.put(RetainedMessage("a", b"1", 0))
    assert not retained.put(RetainedMessage("b", b"1", 0))
    assert retained.put(RetainedMessage("a", b"2", 0))
    assert b"2" == retained.get("a").payload


def test_hostile_filters_cost_no_more_than_their_levels():
    """A topic that runs through forty filters of thirty-two wildcards visits each level of the tree once."""
    tree = TopicTree()
    session = Session("u", "c", clean=True)
    for number in range(40):
        tree.add("/".join("+" if (number >> bit) & 1 else "a" for bit in range(6)) + "/+" * 26, session, 0)

    assert {session: 0} == tree.match("/".join("a" * 6 + "b" * 26))


def test_wildcards_stand_only_where_they_may():
    """'#' is a whole last level, '+' a whole level [MQTT-4.7.1-2], [MQTT-4.7.1-3]."""
    good = ["a", "/", "a//b", "#", "+", "+/+", "a/#", "+/a/#", "/#", " "]
    bad = ["", "a#", "a/#/b", "#/a", "a+", "a+/b", "+a", "##", "a/b#", "++"]

    assert good == [topic_filter for topic_filter in good + bad if is_filter(topic_filter)]
