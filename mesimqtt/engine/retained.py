"""Retained messages by topic, bounded."""

from __future__ import annotations

import sys
from typing import NamedTuple

from mesimqtt.engine.topic_index import TopicIndex


class RetainedMessage(NamedTuple):
    """The last retained PUBLISH of one topic."""

    topic: str
    payload: bytes
    qos: int
    properties: bytes = b""
    expires_at: float = 0.0  # engine time; 0.0 for never


class Retained:
    """All retained messages, at most `most`."""

    __slots__ = ("_messages", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._messages: TopicIndex[RetainedMessage] = TopicIndex()

    def __len__(self) -> int:
        return len(self._messages)

    def get(self, topic: str) -> RetainedMessage | None:
        """Return the retained message of one topic."""
        return self._messages.get(topic)

    def match(self, topic_filter: str) -> list[RetainedMessage]:
        """Return the retained messages that a filter selects."""
        return self._messages.match(topic_filter)

    def search(self, topic_filter: str) -> tuple[list[RetainedMessage], int]:
        """Return the retained messages that a filter selects, and how many levels of topics were looked at."""
        return self._messages.search(topic_filter, sys.maxsize)

    def expired(self, now: float) -> list[RetainedMessage]:
        """Return the messages whose Message Expiry Interval has passed."""
        return [message for message in self._messages.values() if message.expires_at and message.expires_at <= now]

    def put(self, message: RetainedMessage) -> bool:
        """Keep or replace a message, or with no payload remove it; False if there is no room for a new one."""
        topic = message.topic
        if not message.payload:  # a zero-byte payload clears [MQTT-3.3.1-10], [MQTT-3.3.1-11]
            self._messages.pop(topic)
        elif topic not in self._messages and len(self._messages) >= self._most:
            return False
        else:
            self._messages.put(topic, message)
        return True
