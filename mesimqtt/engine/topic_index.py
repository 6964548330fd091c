"""Values by topic that a filter can find; a wildcard costs the part of the tree that it can reach."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Generic, TypeVar

from mesimqtt.engine.topic_tree import has_wildcard

if TYPE_CHECKING:
    from collections.abc import Iterable

_Value = TypeVar("_Value")


class _Node(Generic[_Value]):
    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Node[_Value]] | None = None
        self.value: _Value | None = None

    @property
    def is_needed(self) -> bool:
        return self.value is not None or bool(self.children)


class TopicIndex(Generic[_Value]):
    """The reverse of the topic tree: topics are kept, filters look for them."""

    __slots__ = ("_by_topic", "_root")

    def __init__(self) -> None:
        self._by_topic: dict[str, _Value] = {}
        self._root: _Node[_Value] = _Node()

    def __len__(self) -> int:
        return len(self._by_topic)

    def __contains__(self, topic: object) -> bool:
        return topic in self._by_topic

    def get(self, topic: str) -> _Value | None:
        """Return the value of one topic."""
        return self._by_topic.get(topic)

    def values(self) -> Iterable[_Value]:
        """Return every value."""
        return self._by_topic.values()

    def oldest(self) -> str:
        """Return the topic that was put in first."""
        return next(iter(self._by_topic))

    def clear(self) -> None:
        """Forget everything."""
        self._by_topic.clear()
        self._root = _Node()

    def put(self, topic: str, value: _Value) -> None:
        """Keep or replace the value of a topic."""
        self._by_topic[topic] = value
        node = self._root
        for level in topic.split("/"):
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        node.value = value

    def pop(self, topic: str) -> _Value | None:
        """Forget a topic, and every level that nothing needs any more; return what it had."""
        value = self._by_topic.pop(topic, None)
        if value is None:
            return None
        levels = topic.split("/")
        path = [self._root]
        for level in levels:
            path.append((path[-1].children or {})[level])
        path[-1].value = None
        for level in reversed(levels):
            children = path[-2].children
            if path.pop().is_needed or children is None:
                break
            del children[level]
        return value

    def match(self, topic_filter: str) -> list[_Value]:
        """Return the values of the topics that a filter selects."""
        return self.search(topic_filter, sys.maxsize)[0]

    def search(self, topic_filter: str, most: int) -> tuple[list[_Value], int]:
        """Return what a filter selects, and how many levels of topics were looked at for it.

        More than `most` means that the search was given up: what it found is not all.
        """
        if not has_wildcard(topic_filter):
            value = self._by_topic.get(topic_filter)
            return [] if value is None else [value], 1
        nodes, visits = [self._root], 0
        found: list[_Value] = []
        for position, level in enumerate(topic_filter.split("/")):
            if level == "#":
                return found, visits + self._below(nodes, found, most - visits, at_root=position == 0)
            following: list[_Node[_Value]] = []
            for node in nodes:
                if node.children is None:
                    continue
                if level != "+":
                    if (child := node.children.get(level)) is not None:
                        following.append(child)
                elif position == 0:  # [MQTT-4.7.2-1]
                    following.extend(child for name, child in node.children.items() if not name.startswith("$"))
                else:
                    following.extend(node.children.values())
            nodes = following
            visits += len(nodes)
            if visits > most:
                return found, visits
        return [node.value for node in nodes if node.value is not None], visits

    @staticmethod
    def _below(nodes: list[_Node[_Value]], found: list[_Value], most: int, *, at_root: bool) -> int:
        stack, visits = nodes, 0
        if at_root:
            children = nodes[0].children or {}
            stack = [child for name, child in children.items() if not name.startswith("$")]
        stack.reverse()  # what came first is found first
        while stack and visits <= most:
            node = stack.pop()
            visits += 1
            if node.value is not None:
                found.append(node.value)
            if node.children:
                stack.extend(reversed(node.children.values()))
        return visits
