"""Both ends of the messaging load, sans I/O: every PUBACK, SENT, DELIVERED and message is looked at and counted."""

from __future__ import annotations

import json
import re
from array import array
from time import perf_counter

from mesimqtt.bench.wire import (
    ACK_SIZE,
    PAYLOAD_SIZE,
    PUBACK,
    Part,
    answers,
    next_packet,
    publish_parts,
    remaining_length,
    run_length,
)
from mesimqtt.domain.status import Status

PACKET_IDS = 60_000
NUMBER_SIZE = 7
_PUBLISH_QOS_1 = 0x32
# First byte and remaining length (one to three bytes) of a PUBLISH at QoS 1, and the high byte of its topic's length.
_HEADER = rb"\x32[\x80-\xff]{0,2}[\x00-\x7f]\x00."
_IDS = tuple(number % PACKET_IDS + 1 for number in range(PACKET_IDS + 5_000))
_ACKS = bytes(answers(PUBACK, bytes(one >> 8 for one in _IDS), bytes(one & 255 for one in _IDS)))


class Chat:
    """One pair: `sender` writes to `receiver`, each message once, in order, with a cid that tells its number."""

    def __init__(self, sender: str, receiver: str, *, tag: str, ready: list[Chat], root: str = "m") -> None:
        self.sender = sender
        self.receiver = receiver
        self.tag = tag.encode()
        self.sent = 0
        self.acknowledged = 0
        self.committed = 0  # SENT
        self.delivered = 0  # DELIVERED
        self.received = 0
        self.duplicates = 0
        self.misordered = 0
        self.repeats = 0  # of statuses, which the contract allows
        self.refusals: list[str] = []
        self.strange = 0
        self.began = array("d")
        self.latencies: list[float] = []
        self.is_queued = False
        self._ready = ready
        self._steps = bytearray()  # by number: 1 SENT, 2 DELIVERED, 4 received
        topic = f"{root}/{sender}/out/u/{receiver}/{tag}-"
        self.filler = b"x" * (PAYLOAD_SIZE - len(self.tag) - 1 - NUMBER_SIZE)
        size = 2 + len(topic) + NUMBER_SIZE + 2 + PAYLOAD_SIZE
        self._head = (
            bytes((_PUBLISH_QOS_1,))
            + remaining_length(size)
            + (len(topic) + NUMBER_SIZE).to_bytes(2, "big")
            + topic.encode()
        )

    def publish(self, count: int, began: float) -> bytes:
        """Return the next `count` messages, and count them as sent at `began`."""
        first, head, tag, filler = self.sent, self._head, self.tag, self.filler
        self.sent = first + count
        self.began.extend([began] * count)
        self._steps.extend(bytes(count))
        return b"".join(
            b"%b%07d%b%b-%07d%b" % (head, number, (number % PACKET_IDS + 1).to_bytes(2, "big"), tag, number, filler)
            for number in range(first, first + count)
        )

    def take_status(self, number: int, code: int, now: float) -> None:
        """Count one status of message `number`."""
        if number >= self.sent:
            self.strange += 1
            return
        steps = self._steps[number]
        if code == Status.SENT:
            if steps & 3:
                self.repeats += 1
                self.misordered += bool(steps & 2 and not steps & 1)
            else:
                self.committed += 1
                self._queue()
            self._steps[number] = steps | 1
        elif code == Status.DELIVERED:
            if steps & 2:
                self.repeats += 1
                return
            self._steps[number] = steps | 2
            self.delivered += 1
            self.latencies.append(now - self.began[number])
            self._queue()
        else:
            self.refusals.append(f"{self.tag.decode()}-{number:07d}: status {code:#x}")

    def take_message(self, number: int) -> None:
        """Count message `number` at the receiver."""
        if number >= self.sent:
            self.strange += 1
        elif self._steps[number] & 4:
            self.duplicates += 1
        else:
            self.misordered += number != self.received
            self._steps[number] |= 4
            self.received += 1

    def _queue(self) -> None:
        """Have the window looked at when the present events are through."""
        if not self.is_queued:
            self.is_queued = True
            self._ready.append(self)


class _End:
    """What both ends have in common: whole packets are taken out of what was read, the rest is kept."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self._rest = b""
        self._now = 0.0

    def receive(self, data: bytes) -> bytes | bytearray:
        """Take what was read; return the PUBACKs that are to be written."""
        data = self._rest + data if self._rest else data
        place, identifiers = 0, bytearray()
        self._now = perf_counter()
        while len(data) - place >= 2:
            end = self._take(data, place, identifiers)
            if not end:
                part = next_packet(data, place)
                if part is None:
                    break
                self._take_slowly(data, part, identifiers)
                end = part.end
            place = end
        self._rest = data[place:]
        return answers(PUBACK, identifiers[0::2], identifiers[1::2])

    def _take(self, data: bytes, place: int, identifiers: bytearray) -> int:
        """Take the usual packet at `place`; return its end, 0 if it is another or not whole."""
        raise NotImplementedError

    def _take_slowly(self, data: bytes, part: Part, identifiers: bytearray) -> None:
        """Take any whole packet."""
        raise NotImplementedError


class Sender(_End):
    """alice: PUBACK, SENT and DELIVERED come back to her."""

    def __init__(self, chat: Chat, *, root: str = "m") -> None:
        super().__init__(chat)
        cid = re.escape(chat.tag) + rb"-(\d{7})"
        topic = re.escape(f"{root}/{chat.sender}/in/status/".encode())
        self._status = re.compile(
            _HEADER + topic + cid + rb'(..)\{"cid":"' + re.escape(chat.tag) + rb'-\1",[^{}]*"status":(\d+),[^{}]*\}',
            re.DOTALL,
        ).match

    def _take(self, data: bytes, place: int, identifiers: bytearray) -> int:
        if data[place] == PUBACK:
            return self._take_acks(data, place)
        match = self._status(data, place)
        if match is None:
            return 0
        number, identifier, code = match.groups()
        identifiers += identifier
        self.chat.take_status(int(number), int(code), self._now)
        return match.end()

    def _take_acks(self, data: bytes, place: int) -> int:
        chat, count = self.chat, run_length(data, place, ACK_SIZE)
        block = data[place : place + count * ACK_SIZE]
        at = chat.acknowledged % PACKET_IDS
        if not _ACKS.startswith(block, at * ACK_SIZE):
            chat.misordered += 1
        chat.acknowledged += count
        return place + len(block) if block else 0

    def _take_slowly(self, data: bytes, part: Part, identifiers: bytearray) -> None:
        chat = self.chat
        if part.head >> 4 != 3:
            chat.strange += 1
            return
        topic, identifier, payload = publish_parts(data, part)
        identifiers += identifier
        try:
            status = json.loads(payload)
            tag, number = str(status["cid"]).split("-")
            if b"/in/status/" in topic and tag.encode() == chat.tag:
                chat.take_status(int(number), int(status["status"]), self._now)
                return
        except (ValueError, KeyError, TypeError):
            pass  # not a status of this run; counted below
        chat.strange += 1


class Receiver(_End):
    """bob: the messages come to him, and his PUBACK makes them DELIVERED."""

    def __init__(self, chat: Chat, *, root: str = "m") -> None:
        super().__init__(chat)
        topic = re.escape(f"{root}/{chat.receiver}/in/u/{chat.sender}/".encode())
        self._message = re.compile(
            _HEADER + topic + rb"[0-9a-f]{16}/seq=\d+(..)" + re.escape(chat.tag) + rb"-(\d{7})", re.DOTALL
        ).match

    def _take(self, data: bytes, place: int, identifiers: bytearray) -> int:
        match = self._message(data, place)
        if match is None:
            return 0
        end = match.end()
        if not data.startswith(self.chat.filler, end):
            return 0
        identifier, number = match.groups()
        identifiers += identifier
        self.chat.take_message(int(number))
        return end + len(self.chat.filler)

    def _take_slowly(self, data: bytes, part: Part, identifiers: bytearray) -> None:
        chat = self.chat
        if part.head >> 4 != 3:
            chat.strange += 1
            return
        topic, identifier, payload = publish_parts(data, part)
        identifiers += identifier
        tag, _, rest = payload.partition(b"-")
        number = rest[:NUMBER_SIZE]
        is_ours = tag == chat.tag and number.isdigit() and rest[NUMBER_SIZE:] == chat.filler
        if is_ours and f"/in/u/{chat.sender}/".encode() in topic:
            chat.take_message(int(number))
        else:
            chat.strange += 1
