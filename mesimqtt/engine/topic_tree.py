"""Subscriptions by filter: matching a topic costs what matches it, not what else is subscribed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesimqtt.engine.session import Session

# One subscriber is the rule; a dict is made for the second. Memory per idle device counts.
Subscribers = tuple["Session", int] | dict["Session", int]


def _joined(subscribers: Subscribers | None, session: Session, qos: int) -> Subscribers:
    if subscribers is None:
        return (session, qos)
    if isinstance(subscribers, tuple):
        if subscribers[0] is session:
            return (session, qos)
        subscribers = dict((subscribers,))
    subscribers[session] = qos
    return subscribers


def _left(subscribers: Subscribers | None, session: Session) -> Subscribers | None:
    if subscribers is None or isinstance(subscribers, tuple):
        return None if subscribers is None or subscribers[0] is session else subscribers
    subscribers.pop(session, None)
    return subscribers or None


def _collect(subscribers: Subscribers | None, found: dict[Session, int]) -> None:
    if subscribers is None:
        return
    pairs = (subscribers,) if isinstance(subscribers, tuple) else subscribers.items()
    for session, qos in pairs:
        if found.get(session, -1) < qos:
            found[session] = qos


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

    def add(self, topic_filter: str, session: Session, qos: int) -> None:
        """Add or replace one subscription."""
        if not has_wildcard(topic_filter):
            self._exact[topic_filter] = _joined(self._exact.get(topic_filter), session, qos)
            return
        node = self._root
        for level in topic_filter.split("/"):
            if level == "#":
                node.rest = _joined(node.rest, session, qos)
                return
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        node.here = _joined(node.here, session, qos)

    def remove(self, topic_filter: str, session: Session) -> None:
        """Remove one subscription, and every level that nothing needs any more."""
        if not has_wildcard(topic_filter):
            left = _left(self._exact.get(topic_filter), session)
            if left is None:
                self._exact.pop(topic_filter, None)
            else:
                self._exact[topic_filter] = left
            return
        path: list[tuple[_Node, str]] = []
        node = self._root
        for level in topic_filter.split("/"):
            if level == "#":
                node.rest = _left(node.rest, session)
                break
            child = None if node.children is None else node.children.get(level)
            if child is None:
                return
            path.append((node, level))
            node = child
        else:
            node.here = _left(node.here, session)
        while path and node.here is None and node.rest is None and not node.children:
            node, level = path.pop()
            if node.children is not None:
                del node.children[level]
                if not node.children:
                    node.children = None

    def match(self, topic: str) -> dict[Session, int]:
        """Return the sessions that `topic` goes to, each with its highest QoS [MQTT-3.3.5-1]."""
        found: dict[Session, int] = {}
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
