"""PUBLISH from a client: admission, runs of equal packets, hand-over to receivers or to the claim.

The hot path. A run is what stands in one read, one after the other, with the same header, length
and topic; it is routed, acknowledged and handed over as one.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from mesimqtt.engine import aliases, codes, packets5, properties, spread
from mesimqtt.engine.letter import Letter
from mesimqtt.engine.packets import PUBACK, PUBREC, MalformedError, ack, check_topic, is_plain_topic
from mesimqtt.engine.properties import NO_PROPERTIES
from mesimqtt.engine.retained import RetainedMessage
from mesimqtt.engine.routes import DENIED, TOO_LONG, Route, admit
from mesimqtt.engine.spread import deliver_zero
from mesimqtt.engine.window import NO_BLOCK, Run, send_single
from mesimqtt.hooks import Action

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.five import Five
    from mesimqtt.engine.properties import Properties

PAUSED = -1  # instead of a position: the gate does not know yet; try the same packet again
_RETAIN = 1
_QOS_1 = 0x32  # first byte of a plain QoS 1 PUBLISH
_DUP = 8
_SWAP = sys.byteorder == "little"


def take_zero(connection: Connection, data: bytes, position: int, body: int, end: int) -> int:
    """Take a run of plain QoS 0 packets (first byte 0x30) and return the position after it."""
    if end - body < 2:
        raise MalformedError("PUBLISH without a topic")
    stop = body + 2 + (data[body] << 8 | data[body + 1])
    if stop > end:
        raise MalformedError("topic reaches past its packet")
    raw = data[body + 2 : stop]
    engine = connection.engine
    if raw.startswith(engine.root_slash):
        return _take_claimed(connection, data, position, body, end)
    routes = connection.routes
    route = routes.get(raw) if routes is not None else None
    if route is None or route.version != engine.version or end - stop > engine.payload_max:
        return take_any(connection, data, position, body, end)
    offset, block = stop - position, NO_BLOCK
    five = connection.five
    if five is not None:
        if stop == end or data[stop]:
            block = five.block
            if not block or not data.startswith(block, stop) or stop + len(block) > end:
                return take_any(connection, data, position, body, end)
        stop += len(block)  # the same properties in each packet of the run
    prefix = data[position:stop]
    step = end - position
    following, count = end, 1
    last = len(data) - step
    while following <= last and data.startswith(prefix, following):
        following += step
        count += 1
    engine.counters.messages_in += count
    targets = route.four.online if five is None else route.five.online
    if targets:
        deliver_zero(engine, targets, data if following - position == len(data) else data[position:following], count)
    if not (route.only_four if five is None else route.only_five):
        run = Run(data[position:following], step, offset, count, 0, block)
        spread.zero(engine, route, run, connection.session, is_five=five is not None)
    return following


def take(connection: Connection, data: bytes, position: int, body: int, end: int) -> int:
    """Take a run of plain QoS 1 or 2 packets (first byte 0x32 or 0x34) and return the position after it."""
    if end - body < 5:
        raise MalformedError("PUBLISH without a topic or a packet id")
    stop = body + 2 + (data[body] << 8 | data[body + 1])
    if stop + 2 > end:
        raise MalformedError("topic or packet id reaches past its packet")
    raw = data[body + 2 : stop]
    engine = connection.engine
    if raw.startswith(engine.root_slash):
        return _take_claimed(connection, data, position, body, end)
    routes = connection.routes
    route = routes.get(raw) if routes is not None else None
    if route is None or route.version != engine.version or end - stop > engine.payload_max:
        return take_any(connection, data, position, body, end)
    five = connection.five
    if five is not None and (
        route.is_empty or stop + 2 == end or (data[stop + 2] and not _is_known(five, data, stop + 2, end))
    ):
        return take_any(connection, data, position, body, end)
    head = data[position:stop]
    if (
        data[position] == _QOS_1
        and (route.is_plain_four if five is None else route.is_plain_five)
        and not data.startswith(head, end)
    ):
        identifier = data[stop : stop + 2]
        if identifier == b"\0\0":
            raise MalformedError("packet id 0")  # [MQTT-2.3.1-1]
        engine.counters.messages_in += 1
        engine.counters.acks_out += 1
        connection.send(b"\x40\x02" + identifier)
        sessions = (route.four if five is None else route.five).granted_some
        if sessions:
            payload = data[stop + 2 : end]
            for session in sessions:
                send_single(session, head, payload)
        return end
    return _take_run(connection, data, position, stop, end, route)


def _is_known(five: Five, data: bytes, position: int, end: int) -> bool:
    """Tell whether the properties that stand here were looked at before, and go on as they came."""
    block = five.block
    return bool(block) and data.startswith(block, position) and position + len(block) <= end


def _take_run(connection: Connection, data: bytes, position: int, stop: int, end: int, route: Route) -> int:
    """Take as many packets as follow with the same header, length and topic, which ends at `stop`."""
    engine, five = connection.engine, connection.five
    block = NO_BLOCK if five is None or not data[stop + 2] else five.block
    body = stop - len(route.raw) - 2
    step = end - position
    following, count = end, 1
    last = len(data) - step
    qos = data[position] >> 1 & 3
    if qos == 2:
        last = min(last, position + step * (engine.limits.qos2_incoming_max - 1))
    if following <= last:
        prefix = data[position:stop]
        while following <= last and data.startswith(prefix, following):
            following += step
            count += 1
        if five is not None and not _has_same(data, stop + 2, following, step, block):  # look at each
            return take_any(connection, data, position, body, end)
    acks = _acks(PUBACK if qos == 1 else PUBREC, data, stop, step, count)
    if acks is None or (qos == 2 and not _note_incoming(connection, data, stop, step, count)):
        return take_any(connection, data, position, body, end)  # look at each
    engine.counters.messages_in += count
    engine.counters.acks_out += count
    waits = bool(route.kept or route.shared) or (qos == 2 and not connection.clean)
    if not waits:  # first, so that who gets his own message has its acknowledgement before it
        connection.send(acks)
    if not route.is_empty:
        run = Run(data[position:following], step, stop - position, count, qos, block)
        spread.run(engine, route, run, connection.session, is_five=five is not None)
    if waits:
        engine.reply(connection, acks)
    return following


def _has_same(data: bytes, first: int, stop: int, step: int, block: bytes) -> bool:
    """Tell whether each packet of a run has the properties of the first."""
    if block == NO_BLOCK:
        return not any(data[first:stop:step])
    return all(data.startswith(block, at) for at in range(first, stop, step))


def _take_claimed(connection: Connection, data: bytes, position: int, body: int, end: int) -> int:
    """Hand one plain PUBLISH to the claim: what `take_any` does, for the usual case. Return the position after it."""
    engine = connection.engine
    claim = engine.claim
    size = data[body] << 8 | data[body + 1]
    stop = body + 2 + size
    raw = data[body + 2 : stop]
    qos = data[position] >> 1 & 3
    five = connection.five
    start = stop + 2 if qos else stop
    is_usual = qos < 2 and end - start <= engine.payload_max and size <= engine.limits.root_topic_max
    if five is not None:
        is_usual = is_usual and start < end and not data[start]
        start += 1  # past the length of its properties
    if not is_usual or claim is None or connection.observed or not is_plain_topic(raw):
        return take_any(connection, data, position, body, end)
    if not qos:
        engine.counters.messages_in += 1
        claim.publish(connection, raw, data[start:end], 0, 0, False)
        return end
    packet_id = data[stop] << 8 | data[stop + 1]
    if not packet_id:
        raise MalformedError("packet id 0")  # [MQTT-2.3.1-1]
    engine.counters.messages_in += 1
    if five is not None:
        _count_unacked(connection, five)
    if claim.publish(connection, raw, data[start:end], 1, packet_id, False):
        if five is not None:
            five.unacked = max(five.unacked - 1, 0)
        engine.counters.acks_out += 1
        connection.send(b"\x40\x02" + data[stop : stop + 2])
    return end


def _count_unacked(connection: Connection, five: Five) -> None:
    """Count a QoS 1 message of the client's whose PUBACK may have to wait for a commit."""
    five.unacked += 1
    if five.unacked > connection.engine.limits.qos2_incoming_max:  # [MQTT-3.3.4-7]
        raise MalformedError("more QoS 1 messages than Receive Maximum", codes.RECEIVE_MAXIMUM_EXCEEDED)


def _acks(kind: int, data: bytes, stop: int, step: int, count: int) -> bytes | bytearray | None:
    """Return the acknowledgements of a run whose packet ids stand at `stop`, `stop + step` ...; None if one is 0."""
    if count == 1:
        high, low = data[stop], data[stop + 1]
        return bytes((kind, 2, high, low)) if high or low else None
    past = stop + (count - 1) * step + 1
    highs, lows = data[stop:past:step], data[stop + 1 : past + 1 : step]
    if 0 in highs and 0 in lows and any(not high and not low for high, low in zip(highs, lows, strict=True)):
        return None
    acks = bytearray(bytes((kind, 2, 0, 0)) * count)
    acks[2::4] = highs
    acks[3::4] = lows
    return acks


def _note_incoming(connection: Connection, data: bytes, stop: int, step: int, count: int) -> bool:
    """Note the packet ids of a QoS 2 run, if all of it is new and within bounds."""
    session, engine = connection.session, connection.engine
    if session is None:
        return False
    past = stop + (count - 1) * step + 1
    wire = bytearray(2 * count)
    wire[::2], wire[1::2] = data[stop:past:step], data[stop + 1 : past + 1 : step]
    numbers = array("H", bytes(wire))
    if _SWAP:
        numbers.byteswap()
    ids = set(numbers)
    incoming = session.incoming
    if incoming is None:
        incoming = session.incoming = set()
    if len(ids) < count or not incoming.isdisjoint(ids):
        return False
    if len(incoming) + count > engine.limits.qos2_incoming_max:
        return False
    incoming |= ids
    if session.key:
        batch = engine.open_batch()
        for packet_id in numbers:
            engine.keeper.incoming(session, packet_id)
            batch.incoming(session, packet_id)
    return True


def take_any(connection: Connection, data: bytes, position: int, body: int, end: int) -> int:
    """Take one PUBLISH of any kind; return the position after it, or PAUSED."""
    first = data[position]
    qos, dup, retain = first >> 1 & 3, bool(first & _DUP), bool(first & _RETAIN)
    if qos == 3 or (dup and not qos):  # [MQTT-3.3.1-4], [MQTT-3.3.1-2]
        raise MalformedError("QoS 3, or DUP with QoS 0")
    raw, packet_id, stop = header(data, body, end, qos)
    found = NO_PROPERTIES
    five = connection.five
    if five is not None:
        start = stop
        found, stop = properties.read(data, start, end, properties.IN_PUBLISH)
        raw = aliases.resolve(connection, raw, found)
        if found.forward and len(properties.block(found.forward)) == stop - start:
            five.block = data[start:stop]
    engine = connection.engine
    if end - stop > engine.limits.payload_max:
        refuse(connection, raw, end - stop, qos, packet_id)
        return end
    payload = data[stop:end]
    if engine.is_claimed(raw):
        topic = check_topic(raw)
        if len(raw) > engine.limits.root_topic_max:
            raise MalformedError("topic too long", codes.TOPIC_NAME_INVALID)
        if _is_new(connection, qos, packet_id, claimed=True):
            _hand_over(connection, raw, payload, qos, packet_id, dup=dup, found=found)
    else:
        routes = connection.routes
        route = routes.get(raw) if routes is not None else None
        if route is None or route.version != engine.version:
            route = admit(connection, raw)
            if route is None:
                return PAUSED
        topic = route.topic
        if route is DENIED and five is not None:
            engine.counters.messages_in += 1
            if qos:
                code = codes.TOPIC_NAME_INVALID if five.denied_by == TOO_LONG else codes.NOT_AUTHORIZED
                connection.send(packets5.refusal(connection, qos, packet_id, code, five.denied_by))
            return end
        if _is_new(connection, qos, packet_id, claimed=False):
            expiry_s = found.number(properties.MESSAGE_EXPIRY, -1)
            expires_at = engine.now + expiry_s if expiry_s >= 0 else 0.0
            letter = Letter(raw, payload, qos, retain, found.forward, expires_at)
            _route(connection, route, letter, packet_id)
        if route is DENIED:
            return end
    if connection.observed and engine.observer is not None:
        engine.observer.published(connection, topic, payload, qos, retain)
    return end


def header(data: bytes, body: int, end: int, qos: int) -> tuple[bytes, int, int]:
    """Return topic, packet id (0 at QoS 0) and what follows them: properties or payload."""
    if end - body < 2:
        raise MalformedError("PUBLISH without a topic")
    stop = body + 2 + (data[body] << 8 | data[body + 1])
    if stop + (2 if qos else 0) > end:
        raise MalformedError("topic or packet id reaches past its packet")
    raw = data[body + 2 : stop]
    if not qos:
        return raw, 0, stop
    packet_id = data[stop] << 8 | data[stop + 1]
    if not packet_id:
        raise MalformedError("packet id 0")  # [MQTT-2.3.1-1]
    return raw, packet_id, stop + 2


def _is_new(connection: Connection, qos: int, packet_id: int, *, claimed: bool) -> bool:
    """Note the packet id of a QoS 2 PUBLISH; a repeated one is acknowledged again and is not new [MQTT-4.3.3-2]."""
    connection.engine.counters.messages_in += 1
    if qos != 2:
        return True
    session = connection.session
    engine = connection.engine
    if session is None:
        return False
    if session.incoming is None:
        session.incoming = set()
    if packet_id in session.incoming:
        if claimed or session.key:  # the first one may still wait for its commit
            engine.reply(connection, ack(PUBREC, packet_id))
        else:
            connection.send(ack(PUBREC, packet_id))
        return False
    if len(session.incoming) >= engine.limits.qos2_incoming_max:  # [MQTT-3.3.4-7]
        raise MalformedError("too many QoS 2 messages without PUBREL", codes.RECEIVE_MAXIMUM_EXCEEDED)
    session.incoming.add(packet_id)
    if session.key:
        engine.keeper.incoming(session, packet_id)
        engine.open_batch().incoming(session, packet_id)
    return True


def _hand_over(
    connection: Connection, raw: bytes, payload: bytes, qos: int, packet_id: int, *, dup: bool, found: Properties
) -> None:
    engine, five = connection.engine, connection.five
    claim = engine.claim
    if five is not None and qos == 1:
        _count_unacked(connection, five)
    if claim is not None and claim.publish(connection, raw, payload, qos, packet_id, dup, found) and qos:
        if five is not None and qos == 1:
            five.unacked = max(five.unacked - 1, 0)
        _acknowledge(connection, qos, packet_id, after_commit=qos == 2 and not connection.clean)


def _route(connection: Connection, route: Route, letter: Letter, packet_id: int) -> None:
    engine, qos = connection.engine, letter.qos
    waits = letter.retain or bool(route.kept or route.shared) or (qos == 2 and not connection.clean)
    code = codes.NO_MATCHING_SUBSCRIBERS if qos == 1 and route.is_empty and route is not DENIED else 0
    if qos and not waits:  # first, so that who gets his own message has its acknowledgement before it
        _acknowledge(connection, qos, packet_id, after_commit=False, code=code)
    if route is not DENIED:
        if letter.retain:
            engine.retain(RetainedMessage(route.topic, letter.payload, qos, letter.properties, letter.expires_at))
        spread.letter(engine, route, letter, connection.session)
    if qos and waits:
        _acknowledge(connection, qos, packet_id, after_commit=True, code=code)


def _acknowledge(connection: Connection, qos: int, packet_id: int, *, after_commit: bool, code: int = 0) -> None:
    kind = PUBACK if qos == 1 else PUBREC
    connection.engine.counters.acks_out += 1
    packet = ack(kind, packet_id) if connection.five is None else packets5.ack(kind, packet_id, code)
    if after_commit:
        connection.engine.reply(connection, packet)
    else:
        connection.send(packet)


def refuse(connection: Connection, raw: bytes, size: int, qos: int, packet_id: int) -> None:
    """Answer a PUBLISH whose payload of `size` bytes is over the limit: told, acknowledged, not routed."""
    engine, five = connection.engine, connection.five
    topic = check_topic(raw)
    engine.counters.messages_in += 1
    told = f"limit {engine.limits.payload_max}"
    if engine.claim is not None and engine.is_claimed(raw):
        engine.claim.oversized(connection, raw, size)
        told = "0x85 limit"  # as its status says, which has the number
    else:
        engine.gate.audit(connection, Action.PUBLISH, topic, "limit")
    if qos and five is not None:
        connection.send(packets5.refusal(connection, qos, packet_id, codes.IMPLEMENTATION_ERROR, told))
    elif qos:
        connection.send(ack(PUBACK if qos == 1 else PUBREC, packet_id))
