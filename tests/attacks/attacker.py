"""A client that keeps to no rule: MQTT 3.1.1 packets by hand, on a plain socket."""

from __future__ import annotations

import json
import select
import socket
import time

from stopwatch import Stopwatch

PINGREQ, PINGRESP, PUBACK_HEAD = b"\xc0\x00", 0xD0, b"\x40\x02"
RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # SO_LINGER: on, 0 s
DEADLINE_S = 15.0  # nobody waits so long but for what does not come


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return len(raw).to_bytes(2, "big") + raw


def length(number):
    encoded = bytearray()
    while True:
        number, low = divmod(number, 128)
        encoded.append(low | (128 if number else 0))
        if not number:
            return bytes(encoded)


def packet(first, body=b""):
    return bytes((first,)) + length(len(body)) + body


def connect(user="", token="", client_id="x", *, clean=True, keep=300, will=None, flags=None, name="MQTT", level=4):
    bits = (2 if clean else 0) | (0 if user is None else 0x80) | (0 if token is None else 0x40)
    fields = [client_id]
    if will is not None:
        topic, payload, qos, retain = will
        bits |= 4 | qos << 3 | (0x20 if retain else 0)
        fields += [topic, payload]
    fields += [field for field in (user, token) if field is not None]
    head = text(name) + bytes((level, bits if flags is None else flags)) + keep.to_bytes(2, "big")
    return packet(0x10, head + b"".join(map(text, fields)))


def publish(topic, payload=b"x", qos=0, packet_id=1, *, dup=False, retain=False):
    raw = payload if isinstance(payload, bytes) else payload.encode()
    first = 0x30 | (8 if dup else 0) | qos << 1 | (1 if retain else 0)
    return packet(first, text(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + raw)


def subscribe(*filters, packet_id=1, qos=1):
    return packet(0x82, packet_id.to_bytes(2, "big") + b"".join(text(each) + bytes((qos,)) for each in filters))


def unsubscribe(*filters, packet_id=1):
    return packet(0xA2, packet_id.to_bytes(2, "big") + b"".join(map(text, filters)))


class Attacker:
    """One connection. `source` is a loopback address, so that attackers do not use up the innocents' share."""

    def __init__(self, port, *, source="127.0.0.2"):
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_closed = False
        self.user = ""
        self.code = None
        self._buffer = b""

    def __del__(self):
        self.socket.close()  # attackers come and go by the hundred; none is worth a `with`

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:  # whoever sends on is reset: what the server said before is there all the same, and is read
            while not self.is_closed and self._fill(0):
                pass
            self.is_closed = True
        return self

    def enter(self, user, token, client_id="x", **options):
        """Send CONNECT and take the CONNACK, whose code is then in `code`; None if there was none."""
        self.user = user
        found = self.send(connect(user, token, client_id, **options)).next()
        self.code = found[1][1] if found is not None and found[0] == 0x20 else None
        return self

    def next(self, deadline_s=DEADLINE_S):
        """Return the next packet as (first byte, body); None when the server closed or nothing came."""
        end = time.monotonic() + deadline_s
        while (found := self._cut_one()) is None:
            if self.is_closed or not self._fill(end - time.monotonic()):
                return None
        return found

    def exchange(self, data=b""):
        """Send `data` and a PINGREQ; return what comes before its answer, acknowledging what asks for it."""
        self.send(data + PINGREQ)
        found = []
        while (one := self.next()) is not None and one[0] != PINGRESP:
            found.append(one)
            self._acknowledge(one)
        return found

    def granted(self, *filters, qos=1):
        """Subscribe; return the codes of the SUBACK."""
        self.send(subscribe(*filters, qos=qos))
        while (found := self.next()) is not None:
            if found[0] == 0x90:
                return list(found[1][2:])
        return None

    def listen(self):
        """Subscribe to everything of one's own."""
        assert [1] == self.granted(f"m/{self.user}/in/#")
        return self

    def message(self, part="/in/u/", deadline_s=DEADLINE_S):
        """Return (topic, payload) of the next message whose topic holds `part`; None if none came in time."""
        end = time.monotonic() + deadline_s
        while (found := self.next(end - time.monotonic())) is not None:
            self._acknowledge(found)
            read = as_message(found)
            if read is not None and part in read[0]:
                return read
        return None

    def status(self, deadline_s=DEADLINE_S):
        """Return the next status as a dict."""
        found = self.message("/in/status/", deadline_s)
        return None if found is None else json.loads(found[1])

    def refusals(self, data):
        """Return (status, reason) of every refusal that `data` is answered with."""
        read = [as_message(one) for one in self.exchange(data)]
        found = [json.loads(one[1]) for one in read if one is not None and "/in/status/" in one[0]]
        return [(one["status"], one.get("reason")) for one in found if one["status"] >= 0x80]

    def is_cut(self, deadline_s=DEADLINE_S):
        """Tell whether the server closes within the deadline, on a machine that is left to it (stopwatch.py)."""
        watch, left = Stopwatch(), deadline_s
        while not self.is_closed and (self._fill(left) or left > 0):
            left = deadline_s - watch.elapsed_s
        return self.is_closed

    def close(self):
        self.socket.close()
        self.is_closed = True

    def reset(self):
        """Go without a word: RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.close()

    def _acknowledge(self, found):
        first, body = found
        if first & 0xF6 == 0x32:
            start = 2 + int.from_bytes(body[:2], "big")
            self.send(PUBACK_HEAD + body[start : start + 2])

    def _fill(self, seconds):
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if not poll.poll(max(0.0, seconds) * 1000):
            return False
        try:
            data = self.socket.recv(1 << 18)
        except OSError:
            data = b""
        self.is_closed = not data
        self._buffer += data
        return True

    def _cut_one(self):
        data = self._buffer
        size = shift = 0
        for position in range(1, min(len(data), 5)):
            size |= (data[position] & 127) << shift
            shift += 7
            if data[position] < 128:
                start = position + 1
                if len(data) < start + size:
                    return None
                self._buffer = data[start + size :]
                return data[0], data[start : start + size]
        return None


def as_message(found):
    first, body = found
    if first & 0xF0 != 0x30:
        return None
    start = 2 + int.from_bytes(body[:2], "big")
    return body[2:start].decode(), body[start + (2 if first & 6 else 0) :]
