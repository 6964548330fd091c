"""PUBACK, PUBREC, PUBREL and PUBCOMP from a client, in runs."""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from mesimqtt.engine import codes, kept, packets5, properties
from mesimqtt.engine.packets import FIVE, PUBACK, PUBCOMP, PUBREC, PUBREL, MalformedError, ack
from mesimqtt.engine.window import advance

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.session import Session

ACKS = frozenset({PUBACK, PUBREC, PUBREL, PUBCOMP})
_RUN_MAX = 256  # looked at per step, so that mixed traffic is not scanned again and again
_SWAP = sys.byteorder == "little"
_KEPT_BELOW = 32_768


def take_acks(connection: Connection, data: bytes, position: int, kind: int) -> int:
    """Take a run of acknowledgements of one kind; all of the first one is in `data`. Return the position after it."""
    if data[position + 1] != 2:
        if connection.version == FIVE:
            return _take_long(connection, data, position, kind)
        return _take_spelled(connection, data, position, kind)
    session = connection.session
    if session is None:
        raise MalformedError("acknowledgement without a session")
    end = position + 4
    if end >= len(data) or data[end] != kind:
        packet_id = data[position + 2] << 8 | data[position + 3]
        window = session.window
        if (
            kind == PUBACK
            and window is not None
            and not window.queue
            and not window.shared
            and not connection.claimed
            and not connection.counts_all
            and packet_id in window.ids
        ):
            window.ids.remove(packet_id)
            connection.engine.counters.acks_in += 1
            return end
        ids = [packet_id]
        packets = data[position:end]
        connection.engine.counters.acks_in += 1
    else:
        count = _run_length(data, position, kind)
        end = position + 4 * count
        packets = data[position:end]
        numbers = array("H", packets)
        if _SWAP:
            numbers.byteswap()
        ids = numbers[1::2].tolist()
        connection.engine.counters.acks_in += count
    if 0 in ids:
        raise MalformedError("packet id 0")
    if kind == PUBACK:
        _acked(connection, session, ids)
    elif kind == PUBREC:
        _received(connection, session, ids, packets)
    elif kind == PUBREL:
        _released(connection, session, ids, packets)
    else:
        _completed(connection, session, ids)
    return end


def _take_spelled(connection: Connection, data: bytes, position: int, kind: int) -> int:
    """Take an acknowledgement of 3.1.1 whose length is written in more bytes than it need be: that is not forbidden."""
    body = position + 1
    while data[body] == 0x80 or (body == position + 1 and data[body] == 0x82):
        body += 1
    if data[position + 1] != 0x82 or data[body]:
        raise MalformedError("acknowledgement whose length is not 2")
    take_acks(connection, bytes((kind, 2)) + data[body + 1 : body + 3], 0, kind)
    return body + 3


def _take_long(connection: Connection, data: bytes, position: int, kind: int) -> int:
    """Take one acknowledgement of 5.0 with a Reason Code and perhaps properties; return the position after it."""
    length, body = properties.variable(data, position + 1, len(data))
    end = body + length
    session = connection.session
    if session is None or length < 3:
        raise MalformedError("acknowledgement that is too short")
    connection.engine.counters.acks_in += 1
    packet_id, code = data[body] << 8 | data[body + 1], data[body + 2]
    if not packet_id:
        raise MalformedError("packet id 0")
    if code not in (codes.OF_PUBACK if kind in (PUBACK, PUBREC) else codes.OF_PUBREL):
        raise MalformedError(f"reason code {code:#04x} is not one of this packet", codes.PROTOCOL_ERROR)
    if length > 3 and properties.read(data, body + 3, end, properties.IN_ACK)[1] != end:
        raise MalformedError("acknowledgement with trailing bytes")
    if kind == PUBACK:
        _acked(connection, session, [packet_id])
    elif kind == PUBREC and code >= codes.UNSPECIFIED_ERROR:
        _rejected(connection, session, packet_id)
    elif kind == PUBREC:
        _received(connection, session, [packet_id], ack(PUBREC, packet_id))
    elif kind == PUBREL:
        _released(connection, session, [packet_id], ack(PUBREL, packet_id))
    else:
        _completed(connection, session, [packet_id])
    return end


def _rejected(connection: Connection, session: Session, packet_id: int) -> None:
    """Take a PUBREC that ends the exchange: the client did not take the message [MQTT-4.3.3-4]."""
    window = session.window
    _check_none_claimed(connection, [packet_id])
    if window is not None:
        _check_none_of(window.ids, [packet_id])
        window.unreceived.discard(packet_id)
    elif session.kept is not None:
        kept.rejected(connection.engine, session, packet_id)
    _go_on(connection, session)


def _run_length(data: bytes, position: int, kind: int) -> int:
    most = min((len(data) - position) // 4, _RUN_MAX)
    past = position + 4 * most
    heads, lengths = data[position:past:4], data[position + 1 : past : 4]
    same = most - len(heads.lstrip(bytes((kind,))))
    return min(same, most - len(lengths.lstrip(b"\x02")))


def _acked(connection: Connection, session: Session, ids: list[int]) -> None:
    claimed = connection.claimed
    if claimed:
        tokens = [claimed.pop(packet_id) for packet_id in ids if packet_id in claimed]
        if tokens:
            if connection.acked is None:
                connection.acked = tokens
            else:
                connection.acked += tokens
    window = session.window
    if window is not None:  # an id that is not in flight is ignored
        _check_none_of(window.unreceived, ids)
        _check_none_of(window.released, ids)
        window.ids.difference_update(ids)
        window.settle(ids)
    elif session.kept is not None:
        kept.acked(connection.engine, session, ids)
    _go_on(connection, session)


def _check_none_of(others: set[int], ids: list[int]) -> None:
    """Raise MalformedError for an id under which a message is in flight that is acknowledged otherwise.

    [MQTT 3.1.1, MQTT-4.8.0-1] [MQTT 5.0, section 4.13.1]
    """
    if others and not others.isdisjoint(ids):
        raise kept.wrong_kind()


def _check_none_claimed(connection: Connection, ids: list[int]) -> None:
    if connection.claimed and any(packet_id in connection.claimed for packet_id in ids):
        raise kept.wrong_kind()


def _go_on(connection: Connection, session: Session) -> None:
    """Send what waited for room. Under a small Receive Maximum the claim and free topics take turns at being first."""
    five = connection.five
    if connection.counts_all and five is not None:
        if connection.acked is None:
            connection.acked = []
        five.is_claims_turn = not five.is_claims_turn
        if five.is_claims_turn:
            connection.hand_acked()
    if session.window is not None:
        advance(session)
    elif session.kept is not None:
        kept.pump(connection.engine, session)


def _received(connection: Connection, session: Session, ids: list[int], packets: bytes) -> None:
    connection.engine.counters.acks_out += len(ids)
    window = session.window
    _check_none_claimed(connection, ids)
    if window is not None:
        _check_none_of(window.ids, ids)
        known = window.unreceived.intersection(ids)
        window.unreceived -= known
        window.released |= known
    elif session.kept is not None and any(packet_id < _KEPT_BELOW for packet_id in ids):
        engine = connection.engine
        in_flight = kept.received(engine, session, ids)
        if in_flight.issuperset(ids):
            engine.reply(connection, _answers(packets, PUBREL))
            return
        for packet_id in ids:
            if packet_id in in_flight:
                engine.reply(connection, ack(PUBREL, packet_id))
            elif connection.version == FIVE:
                connection.send(packets5.ack(PUBREL, packet_id, codes.PACKET_ID_NOT_FOUND))
            else:
                connection.send(ack(PUBREL, packet_id))
        return
    if connection.version == FIVE and not (window is not None and window.released.issuperset(ids)):
        for packet_id in ids:
            is_known = window is not None and packet_id in window.released
            connection.send(packets5.ack(PUBREL, packet_id, 0 if is_known else codes.PACKET_ID_NOT_FOUND))
        return
    connection.send(_answers(packets, PUBREL))  # also for an unknown id: it ends the client's side of the exchange


def _answers(packets: bytes, kind: int) -> bytearray:
    """Return acknowledgements with the ids of others."""
    answers = bytearray(packets)
    answers[::4] = bytes((kind,)) * (len(packets) // 4)
    return answers


def _released(connection: Connection, session: Session, ids: list[int], packets: bytes) -> None:
    engine = connection.engine
    engine.counters.acks_out += len(ids)
    replies = _answers(packets, PUBCOMP)
    incoming = session.incoming
    if connection.version == FIVE and not (incoming and incoming.issuperset(ids) and len(set(ids)) == len(ids)):
        known = set(incoming or ())
        replies = bytearray()
        for packet_id in ids:
            replies += packets5.ack(PUBCOMP, packet_id, 0 if packet_id in known else codes.PACKET_ID_NOT_FOUND)
            known.discard(packet_id)
    if not session.key:
        if incoming:
            incoming.difference_update(ids)
        connection.send(replies)
        return
    # A packet id that came back after a crash would make the next message with it a duplicate.
    for packet_id in ids:
        if incoming is not None and packet_id in incoming:
            incoming.discard(packet_id)
            engine.keeper.forget_incoming(session, packet_id)
    engine.reply(connection, replies)


def _completed(connection: Connection, session: Session, ids: list[int]) -> None:
    window = session.window
    _check_none_claimed(connection, ids)
    if window is not None:
        _check_none_of(window.ids, ids)
        _check_none_of(window.unreceived, ids)
        window.released.difference_update(ids)
    elif session.kept is not None:
        kept.completed(connection.engine, session, ids)
    _go_on(connection, session)
