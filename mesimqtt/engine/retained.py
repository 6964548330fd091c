"""Retained messages by topic; a wildcard costs the part of the tree that it can reach."""

from __future__ import annotations

from typing import NamedTuple

from mesimqtt.engine.topic_tree import has_wildcard


class RetainedMessage(NamedTuple):
    """The last retained PUBLISH of one topic."""

    topic: str
    payload: bytes
    qos: int


class _Node:
    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.message: RetainedMessage | None = None

    @property
    def is_needed(self) -> bool:
        return self.message is not None or bool(self.children)


class Retained:
    """All retained messages, bounded by `most`."""

    __slots__ = ("_by_topic", "_most", "_root")

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_topic: dict[str, RetainedMessage] = {}
        self._root = _Node()

    def __len__(self) -> int:
        return len(self._by_topic)

    def get(self, topic: str) -> RetainedMessage | None:
        """Return the retained message of one topic."""
        return self._by_topic.get(topic)

    def put(self, topic: str, payload: bytes, qos: int) -> bool:
        """Keep or replace a message, or with no payload remove it; False if there is no room for a new one."""
        if not payload:  # a zero-byte payload clears [MQTT-3.3.1-10], [MQTT-3.3.1-11]
            self._remove(topic)
            return True
        if topic not in self._by_topic and len(self._by_topic) >= self._most:
            return False
        message = RetainedMessage(topic, payload, qos)
        self._by_topic[topic] = message
        node = self._root
        for level in topic.split("/"):
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        node.message = message
        return True

    def _remove(self, topic: str) -> None:
        if self._by_topic.pop(topic, None) is None:
            return
        levels = topic.split("/")
        path = [self._root]
        for level in levels:
            path.append((path[-1].children or {})[level])
        path[-1].message = None
        for level in reversed(levels):  # and every level that nothing needs any more
            if path.pop().is_needed or path[-1].children is None:
                return
            del path[-1].children[level]

    def match(self, topic_filter: str) -> list[RetainedMessage]:
        """Return the retained messages that a filter selects."""
        if not has_wildcard(topic_filter):
            message = self._by_topic.get(topic_filter)
            return [] if message is None else [message]
        nodes = [self._root]
        found: list[RetainedMessage] = []
        for position, level in enumerate(topic_filter.split("/")):
            if level == "#":
                self._below(nodes, found, at_root=position == 0)
                return found
            following: list[_Node] = []
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
        return [node.message for node in nodes if node.message is not None]

    @staticmethod
    def _below(nodes: list[_Node], found: list[RetainedMessage], *, at_root: bool) -> None:
        stack = nodes
        if at_root:
            children = nodes[0].children or {}
            stack = [child for name, child in children.items() if not name.startswith("$")]
        while stack:
            node = stack.pop()
            if node.message is not None:
                found.append(node.message)
            if node.children:
                stack.extend(node.children.values())
