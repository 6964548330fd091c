"""From bytes to packets: strict, incremental, bounded before a single byte of a packet is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.engine import aliases, auth, codes, connect, farewell, properties, subscribe
from mesimqtt.engine.packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    FIVE,
    PINGREQ,
    PINGRESP_PACKET,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    MalformedError,
    check_topic,
    walk,
)
from mesimqtt.engine.publish import PAUSED, header, refuse, take, take_any, take_zero
from mesimqtt.engine.qos import ACKS, take_acks
from mesimqtt.engine.states import AUTHENTICATING, OPEN

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection


_CLIENTS = ACKS | {SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT}  # beside PUBLISH, and AUTH in 5.0
_NOT_A_CLIENTS = frozenset({CONNECT, CONNACK, SUBACK, UNSUBACK, PINGRESP_PACKET[0]})  # well-formed, out of order
_FIVE_BEGINS = b"\0\4MQTT\5"
_TAKEN = -2  # instead of a position: the packet is taken, but what follows waits for an answer


class Discard(NamedTuple):
    """A PUBLISH with too large a payload, of which `left` bytes are still to come and to be thrown away."""

    left: int
    topic: bytes
    size: int
    qos: int
    packet_id: int


def parse(connection: Connection, data: bytes, now: float) -> None:
    """Process every complete packet in `data` and keep the rest; `data` begins with a packet."""
    position, size = 0, len(data)
    while position < size:
        first = data[position]
        body = position + 2
        if body > size:
            _check_first(connection, first)
            _keep(connection, data, position, 2)
            return
        length = data[body - 1]
        if length > 127:
            try:
                body, length = _long_length(data, position, is_five=connection.version == FIVE)
                if body - position + length > connection.engine.limits.packet_max:
                    raise MalformedError("packet too large", codes.PACKET_TOO_LARGE)  # noqa: TRY301 - see below
            except MalformedError:  # the same in one segment as byte by byte
                _check_first(connection, first)
                raise
            if not body:
                _check_first(connection, first)
                _keep(connection, data, position, size - position + 1)
                return
        end = body + length
        if end > size:
            _incomplete(connection, data, position, body, end)
            return
        start = position
        if first == 0x30:
            position = take_zero(connection, data, position, body, end)
        elif first == 0x32 or first == 0x34:  # noqa: PLR1714 - twice as fast as a set
            position = take(connection, data, position, body, end)
        elif first in ACKS:
            position = take_acks(connection, data, position, first)
        else:
            position = _take_other(connection, data, position, body, end)
        connection.seen = now
        if position < 0:
            connection.paused = True
            _keep(connection, data, start if position == PAUSED else end, 0)
            return
        if connection.observed:
            _observe(connection, data[start:position])
        if connection.state is not OPEN:
            return


def _observe(connection: Connection, taken: bytes) -> None:
    observer = connection.engine.observer
    if observer is not None:
        for first, size in walk(taken):  # a run of acknowledgements is taken as one
            observer.packet(connection, first >> 4, size, False)


def _long_length(data: bytes, position: int, *, is_five: bool) -> tuple[int, int]:
    """Return where the body begins and its length; (0, 0) if more bytes are needed to know."""
    length, shift, body = 0, 0, position + 1
    if body + 1 < len(data) and data[body] > 127 and 0 < data[body + 1] < 128:  # the usual one, of two bytes
        return body + 2, (data[body] & 127) | data[body + 1] << 7
    for byte in data[body : body + 4]:
        body += 1
        length |= (byte & 127) << shift
        if byte < 128:
            if is_five and shift and not byte:  # [MQTT-1.5.5-1]
                raise MalformedError("a remaining length longer than it need be")
            return body, length
        shift += 7
    if body - position > 4:
        raise MalformedError("remaining length of more than four bytes")  # section 2.2.3
    return 0, 0


def _take_other(connection: Connection, data: bytes, position: int, body: int, end: int) -> int:
    """Take one packet that is not on the hot path. A first byte that is not listed here is malformed."""
    first = data[position]
    if first & 0xF0 == 0x30:
        return take_any(connection, data, position, body, end)
    connection.engine.counters.requests_in += 1
    if first == PINGREQ:
        if end != body:
            raise MalformedError("PINGREQ with a body")
        connection.send(PINGRESP_PACKET)
        return end
    if first == SUBSCRIBE:
        return end if subscribe.subscribe(connection, data[body:end]) else PAUSED
    if first == UNSUBSCRIBE:
        subscribe.unsubscribe(connection, data[body:end])
        return end
    if first == DISCONNECT:
        farewell.take(connection, data[body:end])
        return end
    _check_first(connection, first)
    return end if auth.take(connection, data[body:end]) else _TAKEN


def _check_first(connection: Connection, first: int) -> None:
    """Raise MalformedError for a packet that no client sends: what follows is not waited for."""
    if first & 0xF0 == 0x30 or first in _CLIENTS or (first == AUTH and connection.version == FIVE):
        return
    code = codes.PROTOCOL_ERROR if first in _NOT_A_CLIENTS else codes.MALFORMED_PACKET  # [MQTT-3.1.0-2]
    raise MalformedError("second CONNECT" if first == CONNECT else f"no client sends first byte {first:#04x}", code)


def _keep(connection: Connection, data: bytes, position: int, need: int) -> None:
    connection.pending = bytearray(data[position:] if position else data)
    connection.need = need


def _incomplete(connection: Connection, data: bytes, position: int, body: int, end: int) -> None:
    """Keep the beginning of a packet, or find at once that it is a PUBLISH too large to be kept."""
    first, size = data[position], len(data)
    _check_first(connection, first)
    need = end - position
    payload_max = connection.engine.limits.payload_max
    if first & 0xF0 == 0x30 and end - body > payload_max:
        stop = _payload_start(data, body, 2 if first & 6 else 0, is_five=connection.version == FIVE)
        if stop > end:
            raise MalformedError("topic or properties reach past their packet")
        if stop > size:
            need = stop - position
        elif end - stop > payload_max:
            _discard(connection, data, first, body, end)
            return
    _keep(connection, data, position, need)


def _payload_start(data: bytes, body: int, identifier: int, *, is_five: bool) -> int:
    """Return where a payload begins; if that is not known yet, how far one must read to know more."""
    size = len(data)
    if size < body + 2:
        return body + 2
    stop = body + 2 + (data[body] << 8 | data[body + 1]) + identifier
    if not is_five:
        return stop
    length = 0
    for shift in (0, 7, 14, 21):
        if stop >= size:
            return stop + 1
        byte = data[stop]
        stop += 1
        length |= (byte & 127) << shift
        if byte < 128:
            break
    return stop + length


def _discard(connection: Connection, data: bytes, first: int, body: int, end: int) -> None:
    qos = first >> 1 & 3
    if qos == 3 or first & 15 == 8:
        raise MalformedError("QoS 3, or DUP with QoS 0")
    raw, packet_id, stop = header(data, body, end, qos)
    if connection.version == FIVE:
        found, stop = properties.read(data, stop, end, properties.IN_PUBLISH)
        raw = aliases.resolve(connection, raw, found)
    check_topic(raw)
    connection.discard = Discard(end - len(data), raw, end - stop, qos, packet_id)


def gather(connection: Connection, data: bytes) -> bytes | None:
    """Join `data` with what is pending; None while that is not yet a packet or must not be processed."""
    discard = connection.discard
    if discard is not None:
        if len(data) < discard.left:
            connection.discard = discard._replace(left=discard.left - len(data))
            return None
        connection.discard = None
        connection.seen = connection.engine.now
        refuse(connection, discard.topic, discard.size, discard.qos, discard.packet_id)
        return data[discard.left :] if connection.state is OPEN else None
    pending = connection.pending
    if connection.paused or connection.state is AUTHENTICATING:
        if pending is None:
            pending = connection.pending = bytearray()
        before = len(pending)
        pending += data
        limits = connection.engine.limits
        if connection.state is OPEN:  # one read more than the bound: the broker stops reading while `paused`
            too_much = before > limits.packet_max
        else:
            too_much = len(pending) > limits.packet_max_before_connect
        if too_much:
            raise MalformedError("too much input while an answer is awaited")
        return None
    if pending is None:
        return data
    if len(pending) + len(data) < connection.need:
        pending += data
        return None
    connection.pending = None
    return b"".join((pending, data))


def parse_first(connection: Connection, data: bytes, now: float) -> None:
    """Read the CONNECT; anything else is closed by its first byte [MQTT-3.1.0-1]."""
    if data[0] != CONNECT:
        raise MalformedError("first packet is not CONNECT")
    size = len(data)
    body, length = _long_length(data, 0, is_five=False)
    if not body:
        _keep(connection, data, 0, size + 1)
        return
    limits = connection.engine.limits
    if body + length > limits.packet_max_before_connect:
        if data.startswith(_FIVE_BEGINS, body):  # its client can be told [MQTT 5.0, section 3.2.2.2]
            connection.version = FIVE
        raise MalformedError("packet too large before authentication", codes.PACKET_TOO_LARGE)
    end = body + length
    if size < end:
        _keep(connection, data, 0, end)
        return
    connect.arrive(connection, data[body:end], data[end:], now)
