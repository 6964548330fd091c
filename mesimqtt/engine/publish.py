"""PUBLISH from a client: admission, runs of equal packets, hand-over to receivers or to the claim.

The hot path. A run is what stands in one read, one after the other, with the same header, length
and topic; it is routed, acknowledged and handed over as one.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from mesimqtt.engine import kept
from mesimqtt.engine.packets import (
    FIRST,
    PUBACK,
    PUBLISH,
    PUBREC,
    MalformedError,
    ack,
    check_topic,
    is_plain_topic,
    publish_head,
)
from mesimqtt.engine.routes import DENIED, Route, admit
from mesimqtt.engine.window import Run, send_run, send_single
from mesimqtt.hooks import Action

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine

PAUSED = -1  # instead of a position: the gate does not know yet; try the same packet again
_RETAIN = 1
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
    prefix = data[position:stop]
    step = end - position
    following, count = end, 1
    last = len(data) - step
    while following <= last and data.startswith(prefix, following):
        following += step
        count += 1
    engine.counters.messages_in += count
    targets = route.online
    if targets:
        deliver_zero(engine, targets, data if following - position == len(data) else data[position:following], count)
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
    if count == 1 and qos == 1 and route.is_plain:
        identifier = data[stop : stop + 2]
        if identifier == b"\0\0":
            raise MalformedError("packet id 0")  # [MQTT-2.3.1-1]
        engine.counters.messages_in += 1
        sessions = route.granted_some
        if sessions:
            head, payload = data[position:stop], data[stop + 2 : end]
            for session in sessions:
                send_single(session, head, payload, 1)
        connection.send(b"\x40\x02" + identifier)
        return following
    acks = _acks(PUBACK if qos == 1 else PUBREC, data, stop, step, count)
    if acks is None or (qos == 2 and not _note_incoming(connection, data, stop, step, count)):
        return take_any(connection, data, position, body, end)  # look at each
    engine.counters.messages_in += count
    if route.granted_some or not route.is_plain:
        deliver(engine, route, Run(data[position:following], step, stop - position, count, qos))
    if route.kept or (qos == 2 and not connection.clean):
        engine.reply(connection, acks)
    else:
        connection.send(acks)
    return following


def _take_claimed(connection: Connection, data: bytes, position: int, body: int, end: int) -> int:
    """Hand one plain PUBLISH to the claim: what `take_any` does, for the usual case. Return the position after it."""
    engine = connection.engine
    claim = engine.claim
    size = data[body] << 8 | data[body + 1]
    stop = body + 2 + size
    raw = data[body + 2 : stop]
    qos = data[position] >> 1 & 3
    is_usual = qos < 2 and end - stop <= engine.payload_max and size <= engine.limits.root_topic_max
    if not is_usual or claim is None or connection.observed or not is_plain_topic(raw):
        return take_any(connection, data, position, body, end)
    if not qos:
        engine.counters.messages_in += 1
        claim.publish(connection, raw, data[stop:end], 0, 0, False)
        return end
    packet_id = data[stop] << 8 | data[stop + 1]
    if not packet_id:
        raise MalformedError("packet id 0")  # [MQTT-2.3.1-1]
    engine.counters.messages_in += 1
    if claim.publish(connection, raw, data[stop + 2 : end], 1, packet_id, False):
        connection.send(b"\x40\x02" + data[stop : stop + 2])
    return end


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
    engine = connection.engine
    claimed = engine.is_claimed(raw)
    if end - stop > engine.limits.payload_max:
        refuse(connection, raw, end - stop, qos, packet_id)
        return end
    if claimed:
        topic = check_topic(raw)
        if len(raw) > engine.limits.root_topic_max:
            raise MalformedError("topic too long")
        if _is_new(connection, qos, packet_id, claimed=True):
            _hand_over(connection, raw, data[stop:end], qos, packet_id, dup=dup)
    else:
        routes = connection.routes
        route = routes.get(raw) if routes is not None else None
        if route is None or route.version != engine.version:
            route = admit(connection, raw)
            if route is None:
                return PAUSED
        topic = route.topic
        if _is_new(connection, qos, packet_id, claimed=False):
            _route(connection, route, data[stop:end], qos, packet_id, retain=retain)
        if route is DENIED:
            return end
    if connection.observed and engine.observer is not None:
        engine.observer.published(connection, topic, data[stop:end], qos, retain)
    return end


def header(data: bytes, body: int, end: int, qos: int) -> tuple[bytes, int, int]:
    """Return topic, packet id (0 at QoS 0) and where the payload begins."""
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
    if len(session.incoming) >= engine.limits.qos2_incoming_max:
        raise MalformedError("too many QoS 2 messages without PUBREL")
    session.incoming.add(packet_id)
    if session.key:
        engine.keeper.incoming(session, packet_id)
        engine.open_batch().incoming(session, packet_id)
    return True


def _hand_over(connection: Connection, raw: bytes, payload: bytes, qos: int, packet_id: int, *, dup: bool) -> None:
    engine = connection.engine
    claim = engine.claim
    if claim is not None and claim.publish(connection, raw, payload, qos, packet_id, dup) and qos:
        _acknowledge(connection, qos, packet_id, after_commit=qos == 2 and not connection.clean)


def _route(connection: Connection, route: Route, payload: bytes, qos: int, packet_id: int, *, retain: bool) -> None:
    engine = connection.engine
    stored = False
    if route is not DENIED:
        if retain:
            engine.retain(route.topic, payload, qos)
            stored = True
        stored = bool(route.kept) or stored
        send_one(engine, route, payload, qos)
    if qos:
        _acknowledge(connection, qos, packet_id, after_commit=stored or (qos == 2 and not connection.clean))


def _acknowledge(connection: Connection, qos: int, packet_id: int, *, after_commit: bool) -> None:
    packet = ack(PUBACK if qos == 1 else PUBREC, packet_id)
    if after_commit:
        connection.engine.reply(connection, packet)
    else:
        connection.send(packet)


def refuse(connection: Connection, raw: bytes, size: int, qos: int, packet_id: int) -> None:
    """Answer a PUBLISH whose payload of `size` bytes is over the limit: told, acknowledged, not routed."""
    engine = connection.engine
    topic = check_topic(raw)
    engine.counters.messages_in += 1
    if engine.claim is not None and engine.is_claimed(raw):
        engine.claim.oversized(connection, raw, size)
    else:
        engine.gate.audit(connection, Action.PUBLISH, topic, "limit")
    if qos:
        connection.send(ack(PUBACK if qos == 1 else PUBREC, packet_id))


def send_one(engine: Engine, route: Route, payload: bytes, qos: int) -> None:
    """Hand one message to everyone on its route."""
    if qos:
        head = publish_head(PUBLISH | qos << 1, route.raw, len(payload))
        packet = b"".join((head, b"\0\0", payload))
        deliver(engine, route, Run(packet, len(packet), len(head), 1, qos))
    elif route.online:
        deliver_zero(engine, route.online, publish_head(PUBLISH, route.raw, len(payload)) + payload, 1)


def deliver_zero(engine: Engine, targets: Iterable[Connection], chunk: bytes, count: int) -> None:
    """Give `count` QoS 0 packets in one piece to each target."""
    dirty = engine.dirty
    delivered = 0
    for target in targets:
        if target.congested:
            target.hold(chunk, count)
            continue
        out = target.out
        if not out:
            if not dirty:
                engine.wake()
            dirty.append(target)
        out.append(chunk)
        delivered += count
    engine.counters.messages_out += delivered


def deliver(engine: Engine, route: Route, run: Run) -> None:
    """Give a QoS 1 or 2 run to everyone on its route, each at most at the QoS granted [MQTT-3.8.4-6]."""
    if run.qos == 1:
        for session in route.granted_some:
            send_run(session, run)
    else:
        for session in route.granted_two:
            send_run(session, run)
        if route.granted_one:
            lowered = bytearray(run.data)
            lowered[:: run.step] = FIRST[PUBLISH | 2] * run.many
            for session in route.granted_one:
                send_run(session, Run(lowered, run.step, run.offset, run.many, 1))
    if not route.granted_zero and not route.kept:
        return
    start, step = run.offset + 2, run.step
    payloads = [bytes(run.data[at + start : at + step]) for at in range(0, step * run.many, step)]
    if route.granted_zero:
        head = publish_head(PUBLISH, route.raw, step - start)
        deliver_zero(engine, route.granted_zero, head + head.join(payloads), run.many)
    for session, granted in route.kept:
        for payload in payloads:
            kept.enqueue(engine, session, route.raw, payload, min(granted, run.qos))
