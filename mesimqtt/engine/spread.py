"""From one publisher to everyone on a route: blocks as they are to those who take them so, letters to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine import kept
from mesimqtt.engine.letter import Letter
from mesimqtt.engine.packets import FIRST, PUBLISH, publish_head
from mesimqtt.engine.window import NO_BLOCK, Run, send_letter, send_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.grants import Receiver
    from mesimqtt.engine.routes import Group, Route
    from mesimqtt.engine.session import Session
    from mesimqtt.engine.shares import Share


def deliver_zero(engine: Engine, targets: Iterable[Connection], chunk: bytes, count: int) -> None:
    """Give `count` QoS 0 packets in one piece to each target."""
    dirty = engine.dirty
    delivered = 0
    for target in targets:
        if target.congested:
            target.hold(chunk, count, len(chunk))
            continue
        out = target.out
        if not out:
            if not dirty:
                engine.wake()
            dirty.append(target)
        out.append(chunk)
        delivered += count
    engine.counters.messages_out += delivered


def zero(engine: Engine, route: Route, packets: Run, publisher: Session | None, *, is_five: bool) -> None:
    """Give a QoS 0 run to all but those of its own version, who have it already. `offset`: where the topic ends."""
    other = route.four if is_five else route.five
    payloads = _payloads(packets, 0, is_five=is_five)
    if other.online:
        head = publish_head(PUBLISH, route.raw, len(payloads[0]) + (not is_five)) + (b"" if is_five else NO_BLOCK)
        deliver_zero(engine, other.online, head + head.join(payloads), packets.many)
    if route.single or route.shared:
        for payload in payloads:
            _single(engine, route, Letter(route.raw, payload, 0, False, _properties(packets)), publisher)


def run(engine: Engine, route: Route, packets: Run, publisher: Session | None, *, is_five: bool) -> None:
    """Give a QoS 1 or 2 run to everyone on its route, each at most at the QoS granted [MQTT-3.8.4-6]."""
    same, other = (route.five, route.four) if is_five else (route.four, route.five)
    if same.online:
        _to_group(engine, route, same, packets)
    if not (other.online or route.single or route.kept or route.shared):
        return
    payloads = _payloads(packets, 2, is_five=is_five)
    if other.online:
        _to_group(engine, route, other, _recast(route.raw, payloads, packets, to_five=not is_five))
    properties = _properties(packets)
    letters = [Letter(route.raw, payload, packets.qos, False, properties) for payload in payloads]
    for target in route.kept:
        _give(engine, target, letters, publisher)
    if route.single or route.shared:
        for message in letters:
            _single(engine, route, message, publisher)


def letter(engine: Engine, route: Route, message: Letter, publisher: Session | None) -> None:
    """Give one message to everyone on its route. `message.qos` and `message.retain` are the publisher's."""
    if message.properties or message.expires_at or (message.retain and route.keeps_retain):
        for target in route.everyone:
            _give(engine, target, (message,), publisher)
        _share(engine, route, message)
        return
    qos = message.qos
    if not qos:
        if route.four.online:
            packet = publish_head(PUBLISH, route.raw, len(message.payload)) + message.payload
            deliver_zero(engine, route.four.online, packet, 1)
        if route.five.online:
            packet = publish_head(PUBLISH, route.raw, len(message.payload) + 1) + b"\0" + message.payload
            deliver_zero(engine, route.five.online, packet, 1)
    else:
        for group, filling in ((route.four, b"\0\0"), (route.five, b"\0\0\0")):
            if group.online:
                head = publish_head(PUBLISH | qos << 1, route.raw, len(filling) - 2 + len(message.payload))
                packet = b"".join((head, filling, message.payload))
                _to_group(engine, route, group, Run(packet, len(packet), len(head), 1, qos))
    if qos:
        for target in route.kept:
            _give(engine, target, (message,), publisher)
    if route.single or route.shared:
        _single(engine, route, message, publisher)


def share(engine: Engine, route: Route, message: Letter, wanted: Share) -> None:
    """Give a letter that a member left behind to another member of the same shared subscription."""
    for members in route.shared:
        if members.share is wanted:
            target = members.pick(message.qos)
            if target is not None:
                _give(engine, target, (message,), None)


def _to_group(engine: Engine, route: Route, group: Group, packets: Run) -> None:
    if packets.qos == 1:
        for session in group.granted_some:
            send_run(session, packets)
    else:
        for session in group.granted_two:
            send_run(session, packets)
        if group.granted_one:
            lowered = bytearray(packets.data)
            lowered[:: packets.step] = FIRST[PUBLISH | 2] * packets.many
            for session in group.granted_one:
                send_run(session, Run(lowered, packets.step, packets.offset, packets.many, 1))
    if group.granted_zero:
        start, step = packets.offset + 2, packets.step
        rests = [bytes(packets.data[at + start : at + step]) for at in range(0, step * packets.many, step)]
        head = publish_head(PUBLISH, route.raw, step - start)
        deliver_zero(engine, group.granted_zero, head + head.join(rests), packets.many)


def _properties(packets: Run) -> bytes:
    """Return the properties of a run without the length before them, which is one byte for each seven bits."""
    block = packets.block
    size = 1
    while block[size - 1] > 127:
        size += 1
    return block[size:]


def _payloads(packets: Run, identifier: int, *, is_five: bool) -> list[bytes]:
    start = packets.offset + identifier + (len(packets.block) if is_five else 0)
    step, data = packets.step, packets.data
    return [bytes(data[at + start : at + step]) for at in range(0, step * packets.many, step)]


def _recast(raw: bytes, payloads: list[bytes], packets: Run, *, to_five: bool) -> Run:
    """Return a run in the other version's layout."""
    filling = b"\0\0\0" if to_five else b"\0\0"
    head = publish_head(PUBLISH | packets.qos << 1, raw, len(filling) - 2 + len(payloads[0]))
    start = head + filling
    data = start + start.join(payloads)
    return Run(data, len(data) // packets.many, len(head), packets.many, packets.qos)


def _single(engine: Engine, route: Route, message: Letter, publisher: Session | None) -> None:
    """Give a letter to those who take no blocks, but for kept sessions that keep it."""
    for target in route.single:
        if not (message.qos and target.qos and not target.session.clean):
            _give(engine, target, (message,), publisher)
    _share(engine, route, message)


def _share(engine: Engine, route: Route, message: Letter) -> None:
    for members in route.shared:
        target = members.pick(message.qos)
        if target is not None:
            _give(engine, target, (message._replace(is_shared=True, share=members.share.text),), None)


def _give(engine: Engine, target: Receiver, letters: Sequence[Letter], publisher: Session | None) -> None:
    """Give letters of one QoS to one receiver, as its subscription says."""
    session = target.session
    if target.no_local and session is publisher:  # [MQTT-3.8.3-3]
        if target.own is None:
            return
        target = target.own
    granted, keeps_retain, identifiers = target.qos, target.keeps_retain, target.identifiers
    own = [
        Letter(
            topic,
            payload,
            min(granted, qos),
            retain and keeps_retain,  # [MQTT-3.3.1-12], [MQTT-3.3.1-13]
            properties + identifiers,
            expires_at,
            is_shared,
            share,
        )
        for topic, payload, qos, retain, properties, expires_at, is_shared, share in letters
    ]
    if own[0].qos and not session.clean:
        kept.enqueue(engine, session, *own)
    else:
        for message in own:
            send_letter(session, message)
