"""Brokers in a few lines, sans I/O: right ones, and ones that lose, double or garble."""

from __future__ import annotations

from mesimqtt.bench.wire import PUBACK, PUBCOMP, PUBREC, PUBREL, packets, publish, publish_parts
from mesimqtt.domain.status import status_payload


class FakeRelay:
    """Take what one publisher writes; give what the publisher and the subscriber are to read."""

    def __init__(self, *, lose: frozenset[int] = frozenset(), double: frozenset[int] = frozenset()) -> None:
        self.lose = lose
        self.double = double
        self.seen = 0
        self._identifier = 41_000  # ids of the broker's own, unlike the publisher's

    def published(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the answers to the publisher, and the messages for the subscriber."""
        answers, messages = bytearray(), bytearray()
        for part in packets(data):
            if part.head >> 4 == 6:
                answers += bytes((PUBCOMP, 2)) + data[part.body : part.end]
                continue
            topic, identifier, payload = publish_parts(data, part)
            qos = part.head >> 1 & 3
            if qos:
                answers += bytes((PUBACK if qos == 1 else PUBREC, 2)) + identifier
            for _ in range((self.seen not in self.lose) + (self.seen in self.double)):
                self._identifier += 1
                messages += publish(topic, payload, qos, self._identifier)
            self.seen += 1
        return bytes(answers), bytes(messages)

    @staticmethod
    def received(data: bytes) -> bytes:
        """Return the PUBRELs that a subscriber's PUBRECs ask for."""
        block = bytearray()
        for part in packets(data):
            if part.head == PUBREC:
                block += bytes((PUBREL, 2)) + data[part.body : part.end]
        return bytes(block)


class FakeMessaging:
    """The road of one pair: PUBACK and SENT for alice, the message for bob, DELIVERED when he acknowledges."""

    def __init__(self, sender: str = "a0", receiver: str = "b0") -> None:
        self.sender = sender
        self.receiver = receiver
        self.count = 0
        self.refused: frozenset[int] = frozenset()
        self.lost: frozenset[int] = frozenset()
        self.doubled: frozenset[int] = frozenset()
        self.acknowledged_by_sender = 0
        self._waiting: dict[bytes, tuple[str, str]] = {}
        self._identifier = 0

    def published(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what alice and what bob are to read after she wrote `data`."""
        to_sender, to_receiver = bytearray(), bytearray()
        for part in packets(data):
            if part.head == PUBACK:
                self.acknowledged_by_sender += 1
                continue
            topic, identifier, payload = publish_parts(data, part)
            cid, mid = topic.decode().rsplit("/", 1)[1], f"{self.count + 1:016x}"
            to_sender += bytes((PUBACK, 2)) + identifier
            is_refused = self.count in self.refused
            to_sender += self._status(cid, mid, 0x8D if is_refused else 1)
            copies = 0 if is_refused or self.count in self.lost else 1 + (self.count in self.doubled)
            for _ in range(copies):
                own = self._next_identifier()
                self._waiting[own] = (cid, mid)
                arrived = f"m/{self.receiver}/in/u/{self.sender}/{mid}/seq={self.count + 1}"
                to_receiver += publish(arrived, payload, 1, int.from_bytes(own, "big"))
            self.count += 1
        return bytes(to_sender), bytes(to_receiver)

    def received(self, data: bytes) -> bytes:
        """Return what alice is to read after bob wrote `data`."""
        block = bytearray()
        for part in packets(data):
            cid, mid = self._waiting.pop(data[part.body : part.end])
            block += self._status(cid, mid, 2)
        return bytes(block)

    def _status(self, cid: str, mid: str, code: int) -> bytes:
        payload = status_payload(cid, mid, code, 1_731_234_567_890, peer=self.receiver)
        identifier = int.from_bytes(self._next_identifier(), "big")
        return publish(f"m/{self.sender}/in/status/{cid}", payload, 1, identifier)

    def _next_identifier(self) -> bytes:
        self._identifier = self._identifier % 65_535 + 1
        return self._identifier.to_bytes(2, "big")
