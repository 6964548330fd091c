"""Subscriptions by filter: matching a topic costs what matches it, not what else is subscribed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from mesimqtt.engine.session import Session
    from mesimqtt.engine.shares import Share

Subscriber = Union["Session", "Share"]
# One subscriber is the rule; a dict is made for the second. Memory per idle device counts.
Subscribers = tuple[Subscriber, int] | dict[Subscriber, int]
# A grant is the options of a subscription and above them its identifier (see grants.py). Who has several
# matching subscriptions has a tuple of grants, unless nothing but their QoS could matter.
Found = dict[Subscriber, int | tuple[int, ...]]
_PLAIN_BELOW = 4  # a grant that is nothing but a QoS


def _joined(subscribers: Subscribers | None, subscriber: Subscriber, grant: int) -> Subscribers:
    if subscribers is None:
        return (subscriber, grant)
    if isinstance(subscribers, tuple):
        if subscribers[0] is subscriber:
            return (subscriber, grant)
        subscribers = dict((subscribers,))
    subscribers[subscriber] = grant
    return subscribers


def _left(subscribers: Subscribers | None, subscriber: Subscriber) -> Subscribers | None:
    if subscribers is None or isinstance(subscribers, tuple):
        return None if subscribers is None or subscribers[0] is subscriber else subscribers
    subscribers.pop(subscriber, None)
    return subscribers or None


def _collect(subscribers: Subscribers | None, found: Found) -> None:
    if subscribers is None:
        return
    pairs = (subscribers,) if isinstance(subscribers, tuple) else subscribers.items()
    for subscriber, grant in pairs:
        before = found.get(subscriber)
        if before is None:
            found[subscriber] = grant
        elif isinstance(before, tuple):
            found[subscriber] = (*before, grant)
        elif before < _PLAIN_BELOW and grant < _PLAIN_BELOW:
            found[subscriber] = max(before, grant)
        else:
            found[subscriber] = (before, grant)


class _Node:
    __slots__ = ("children", "here", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.here: Subscribers | None = None  # filters that end at this level
        self.rest: Subscribers | None = None  # filters that go on with '#'


class TopicTree:
    """Filters without a wildcard in one dict, the others in a tree of levels."""

    __slots__ = ("_exact", "_root")

    def __init__(self) -> None:
        self._exact: dict[str, Subscribers] = {}
        self._root = _Node()

    def add(self, topic_filter: str, subscriber: Subscriber, grant: int) -> None:
        """Add or replace one subscription."""
        if not has_wildcard(topic_filter):
            self._exact[topic_filter] = _joined(self._exact.get(topic_filter), subscriber, grant)
            return
        node = self._root
        for level in topic_filter.split("/"):
            if level == "#":
                node.rest = _joined(node.rest, subscriber, grant)
                return
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        node.here = _joined(node.here, subscriber, grant)

    def remove(self, topic_filter: str, subscriber: Subscriber) -> None:
        """Remove one subscription, and every level that nothing needs any more."""
        if not has_wildcard(topic_filter):
            left = _left(self._exact.get(topic_filter), subscriber)
            if left is None:
                self._exact.pop(topic_filter, None)
            else:
                self._exact[topic_filter] = left
            return
        path: list[tuple[_Node, str]] = []
        node = self._root
        for level in topic_filter.split("/"):
            if level == "#":
                node.rest = _left(node.rest, subscriber)
                break
            child = None if node.children is None else node.children.get(level)
            if child is None:
                return
            path.append((node, level))
            node = child
        else:
            node.here = _left(node.here, subscriber)
        while path and node.here is None and node.rest is None and not node.children:
            node, level = path.pop()
            if node.children is not None:
                del node.children[level]
                if not node.children:
                    node.children = None

    def match(self, topic: str) -> Found:
        """Return the subscribers that `topic` goes to, each with its highest QoS or its grants [MQTT-3.3.5-1]."""
        found: Found = {}
        _collect(self._exact.get(topic), found)
        nodes = [self._root]
        levels = topic.split("/")
        if topic.startswith("$"):  # a wildcard at the first level never matches it [MQTT-4.7.2-1]
            child = None if self._root.children is None else self._root.children.get(levels[0])
            if child is None:
                return found
            nodes = [child]
            del levels[0]
        for level in levels:
            following: list[_Node] = []
            for node in nodes:
                if node.rest is not None:
                    _collect(node.rest, found)
                children = node.children
                if children is not None:
                    if (child := children.get(level)) is not None:
                        following.append(child)
                    if (child := children.get("+")) is not None:
                        following.append(child)
            nodes = following
            if not nodes:
                return found
        for node in nodes:  # 'a/#' matches 'a' too [MQTT-4.7.1-2]
            _collect(node.here, found)
            _collect(node.rest, found)
        return found


def has_wildcard(topic_filter: str) -> bool:
    """Tell whether a filter can match more than one topic."""
    return "+" in topic_filter or "#" in topic_filter
