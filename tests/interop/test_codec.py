"""The codec `mqtt5`, written by others in another language, as a second opinion on every packet of MQTT 5.0.

What it encodes the server takes, and what the server sends it decodes to the same fields.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import mqtt5
import pytest
from mqtt5 import QoS

from interop.codec_wire import CodecWire
from mesimqtt.settings import Limits, Mqtt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from interop.house import House

SUBSCRIPTION = 268_435_455  # the largest Subscription Identifier: four bytes on the wire
FIELDS = (
    "topic",
    "payload",
    "qos",
    "retain",
    "payload_format_indicator",
    "content_type",
    "response_topic",
    "correlation_data",
    "user_properties",
)


@pytest.fixture
def wire(house: House) -> Iterator[Callable[[], CodecWire]]:
    """Make connections, which are cut at the end."""
    made: list[CodecWire] = []

    def make() -> CodecWire:
        made.append(CodecWire(house))
        return made[-1]

    yield make
    for each in made:
        each.close()


def random_text(chance: random.Random, size_max: int) -> str:
    return "".join(chance.choice("ab/ äß世🙂\t~") for _ in range(chance.randint(0, size_max)))


def random_publish(chance: random.Random, topic: str, packet_id: int) -> mqtt5.PublishPacket:
    """Return a PUBLISH in which each property is there or not."""
    some: dict[str, Any] = {
        "payload_format_indicator": 1,
        "message_expiry_interval": chance.choice((60, 2**32 - 1, 100_000)),
        "content_type": random_text(chance, 20),
        "response_topic": f"home/answers/{chance.randrange(100)}",
        "correlation_data": chance.randbytes(chance.choice((0, 1, 127, 128, 300))),
        "user_properties": [(random_text(chance, 8), random_text(chance, 30)) for _ in range(chance.randrange(5))],
    }
    given = {name: value for name, value in some.items() if chance.random() < 0.5}
    qos = QoS(chance.randrange(3))
    return mqtt5.PublishPacket(
        f"{topic}/{chance.randrange(1000)}",
        random_text(chance, chance.choice((0, 10, 200, 6000))).encode(),
        qos=qos,
        packet_id=None if qos == QoS.AT_MOST_ONCE else packet_id,
        **given,
    )


def finish_sending(sender: CodecWire, sent: mqtt5.PublishPacket) -> None:
    """Take the acknowledgements of a PUBLISH that was sent."""
    if sent.qos == QoS.AT_LEAST_ONCE:
        acked: Any = sender.read(mqtt5.PubAckPacket)
        assert (sent.packet_id, 0) == (acked.packet_id, acked.reason_code)
    elif sent.qos == QoS.EXACTLY_ONCE:
        received = sender.read(mqtt5.PubRecPacket)
        assert (sent.packet_id, 0) == (received.packet_id, received.reason_code)
        sender.send(mqtt5.PubRelPacket(received.packet_id))
        assert sent.packet_id == sender.read(mqtt5.PubCompPacket).packet_id


def take(listener: CodecWire) -> mqtt5.PublishPacket:
    """Read a PUBLISH and acknowledge it as its QoS wants."""
    came = listener.read(mqtt5.PublishPacket)
    if came.qos == QoS.AT_LEAST_ONCE:
        listener.send(mqtt5.PubAckPacket(came.packet_id or 0))
    elif came.qos == QoS.EXACTLY_ONCE:
        listener.send(mqtt5.PubRecPacket(came.packet_id or 0))
        assert came.packet_id == listener.read(mqtt5.PubRelPacket).packet_id
        listener.send(mqtt5.PubCompPacket(came.packet_id or 0))
    return came


@pytest.mark.parametrize("seed", range(3))
def test_publishes_of_any_shape_come_out_as_they_went_in(
    seed: int, house: House, wire: Callable[[], CodecWire]
) -> None:
    """Every combination of properties, texts and sizes, at each QoS, is read alike by both codecs."""
    chance = random.Random(seed)
    (alice,) = house.people("alice")
    topic = f"home/{alice.address}"
    sender, listener = wire(), wire()
    assert 0 == sender.enter(alice, "sender").reason_code
    assert 0 == listener.enter(alice, "listener").reason_code
    listener.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(f"{topic}/#")], subscription_id=SUBSCRIPTION))
    assert [2] == listener.read(mqtt5.SubAckPacket).reason_codes
    for packet_id in range(1, 101):
        sent = random_publish(chance, topic, packet_id)
        sender.send(sent)
        came = take(listener)
        finish_sending(sender, sent)

        assert [getattr(sent, name) for name in FIELDS] == [getattr(came, name) for name in FIELDS]
        assert [SUBSCRIPTION] == came.subscription_ids
        assert (sent.message_expiry_interval is None) == (came.message_expiry_interval is None)
        assert 0 <= (sent.message_expiry_interval or 0) - (came.message_expiry_interval or 0) <= 5


def test_aliases_of_the_client_are_followed(house: House, wire: Callable[[], CodecWire]) -> None:
    """A topic is named once and then only by its number, up to the maximum that CONNACK told."""
    (alice,) = house.people("alice")
    both = wire()
    alias_max = both.enter(alice, "both").topic_alias_max
    both.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(f"home/{alice.address}/#")]))
    both.read(mqtt5.SubAckPacket)
    topics = {alias: f"home/{alice.address}/{alias}" for alias in (1, alias_max)}
    came = []
    for is_first in (True, False):
        for alias, topic in topics.items():
            both.send(mqtt5.PublishPacket(topic if is_first else "", b"x", topic_alias=alias))
            came.append(both.read(mqtt5.PublishPacket).topic)

    assert Mqtt().topic_aliases_max == alias_max
    assert [*topics.values()] * 2 == came


def test_aliases_of_the_server_are_understood(house: House, wire: Callable[[], CodecWire]) -> None:
    """A client that allows aliases gets a topic by its name first, and every time a topic that it can find."""
    (alice,) = house.people("alice")
    both = wire()
    both.enter(alice, "both", topic_alias_max=2)
    both.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(f"home/{alice.address}/#")]))
    both.read(mqtt5.SubAckPacket)
    names: dict[int, str] = {}
    told = []
    for topic in (f"home/{alice.address}/{number}" for number in (1, 2, 3, 1, 2, 3, 1)):
        both.send(mqtt5.PublishPacket(topic, b"x"))
        came = both.read(mqtt5.PublishPacket)
        if came.topic and came.topic_alias:
            names[came.topic_alias] = came.topic
        told.append(came.topic or names[came.topic_alias or 0])

    assert [f"home/{alice.address}/{number}" for number in (1, 2, 3, 1, 2, 3, 1)] == told
    assert 1 <= len(names) <= 2


def test_what_connack_promises(house: House, wire: Callable[[], CodecWire]) -> None:
    """The limits of the settings are told; who brings no client id is given one."""
    (alice,) = house.people("alice")
    named, unnamed = wire().enter(alice, "named", session_expiry_interval=10), wire().enter(alice, "")

    assert (0, False, None) == (named.reason_code, named.session_present, named.assigned_client_id)
    assert Limits().packet_max == named.max_packet_size
    assert Limits().qos2_incoming_max == named.receive_max
    assert (QoS.EXACTLY_ONCE, True) == (named.max_qos, named.retain_available)
    assert named.wildcard_subscription_available
    assert named.subscription_id_available
    assert named.shared_subscription_available
    assert unnamed.assigned_client_id


def test_a_session_is_resumed(house: House, wire: Callable[[], CodecWire]) -> None:
    """Session Present tells it, and the packet that waited for its PUBACK comes again as a duplicate."""
    (alice,) = house.people("alice")
    topic = f"home/{alice.address}/bell"
    first = wire()
    first.enter(alice, "sleeper", session_expiry_interval=60)
    first.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(topic)]))
    first.read(mqtt5.SubAckPacket)
    first.send(mqtt5.PublishPacket(topic, b"ring", qos=QoS.AT_LEAST_ONCE, packet_id=9))
    packets = {type(packet): packet for packet in (first.read(object), first.read(object))}
    lost: Any = packets[mqtt5.PublishPacket]
    first.close()
    second = wire()
    connack = second.enter(alice, "sleeper", clean_start=False, session_expiry_interval=0)
    again = take(second)

    assert connack.session_present
    assert (lost.packet_id, b"ring", False) == (lost.packet_id, lost.payload, lost.duplicate)
    assert (lost.packet_id, b"ring", True) == (again.packet_id, again.payload, again.duplicate)


def test_a_will_with_all_its_properties(house: House, wire: Callable[[], CodecWire]) -> None:
    """What CONNECT said about the will is in the PUBLISH that comes of it; 0x04 asks for it in a polite farewell."""
    (alice,) = house.people("alice")
    topic = f"home/{alice.address}/state"
    given: dict[str, Any] = {
        "payload_format_indicator": 1,
        "content_type": "text/plain",
        "response_topic": "home/answers",
        "correlation_data": b"\x00\xff",
        "user_properties": [("a", "1"), ("a", "2")],
    }
    watcher, leaver = wire(), wire()
    watcher.enter(alice, "watcher")
    watcher.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(topic)]))
    watcher.read(mqtt5.SubAckPacket)
    leaver.enter(alice, "leaver", will=mqtt5.Will(topic, payload=b"gone", qos=QoS.EXACTLY_ONCE, **given))
    leaver.send(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.DISCONNECT_WITH_WILL_MESSAGE))
    came = take(watcher)

    assert (topic, b"gone", QoS.EXACTLY_ONCE, False) == (came.topic, came.payload, came.qos, came.retain)
    assert given == {name: getattr(came, name) for name in given}


def test_every_answer_is_readable(house: House, wire: Callable[[], CodecWire]) -> None:
    """SUBACK and UNSUBACK per filter, PINGRESP, an unknown PUBREL, refusals of a topic, a take-over: each its code."""
    (alice,) = house.people("alice")
    one = wire()
    one.enter(alice, "one")
    filters = [mqtt5.TopicFilter("home/x", max_qos=QoS(1)), mqtt5.TopicFilter("closed/#"), mqtt5.TopicFilter("m/bob/#")]
    one.send(mqtt5.SubscribePacket(5, filters, user_properties=[("a", "b")]))
    granted = one.read(mqtt5.SubAckPacket)
    one.send(mqtt5.UnsubscribePacket(6, ["home/x", "home/never"]))
    removed = one.read(mqtt5.UnsubAckPacket)
    one.send(mqtt5.PingReqPacket())
    one.read(mqtt5.PingRespPacket)
    one.send(mqtt5.PubRelPacket(77))
    unknown = one.read(mqtt5.PubCompPacket)
    one.send(mqtt5.PublishPacket("closed/door", b"", qos=QoS.AT_LEAST_ONCE, packet_id=7))
    denied = one.read(mqtt5.PubAckPacket)
    one.send(mqtt5.PublishPacket("closed/door", b"", qos=QoS.EXACTLY_ONCE, packet_id=8))
    denied_twice = one.read(mqtt5.PubRecPacket)
    wire().enter(alice, "one")
    farewell = one.read(mqtt5.DisconnectPacket)

    assert (5, [1, 0x87, 0x87]) == (granted.packet_id, granted.reason_codes)
    assert (6, [0, 0x11]) == (removed.packet_id, removed.reason_codes)
    assert (77, 0x92) == (unknown.packet_id, unknown.reason_code)
    assert (7, 0x87) == (denied.packet_id, denied.reason_code)
    assert (8, 0x87) == (denied_twice.packet_id, denied_twice.reason_code)
    assert 0x8E == farewell.reason_code
    assert one.is_closed()


def test_a_refused_connect(house: House, wire: Callable[[], CodecWire]) -> None:
    """A wrong token is 0x86 or 0x87, and the connection ends."""
    (alice,) = house.people("alice")
    one = wire()
    refused = one.enter(alice, "one", password=b"wrong")

    assert refused.reason_code in (0x86, 0x87)
    assert not refused.session_present
    assert one.is_closed()


def test_a_status_says_in_properties_what_the_contract_says(house: House, wire: Callable[[], CodecWire]) -> None:
    """A refused message is answered by PUBACK 0x90 and by its status; a good one by 0x00, `sent` and `delivered`."""
    alice, bob = house.people("alice", "bob")
    phone, laptop = wire(), wire()
    for one, who in ((phone, alice), (laptop, bob)):
        one.enter(who, "device")
        one.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(f"m/{who.address}/in/#", max_qos=QoS(1))]))
        assert [1] == one.read(mqtt5.SubAckPacket).reason_codes
    told = []
    for cid, peer in (("c1", "nobody"), ("c2", bob.address)):
        phone.send(
            mqtt5.PublishPacket(
                f"m/{alice.address}/out/u/{peer}/{cid}", b"hi", qos=QoS(1), packet_id=3, user_properties=[("type", "7")]
            )
        )
        if peer == bob.address:
            message = take(laptop)
        while len([one for one in told if isinstance(one, mqtt5.PublishPacket)]) < (1 if cid == "c1" else 3):
            packet = phone.read(object)
            told.append(packet)
            if isinstance(packet, mqtt5.PublishPacket):
                phone.send(mqtt5.PubAckPacket(packet.packet_id or 0))

    acks = [one.reason_code for one in told if isinstance(one, mqtt5.PubAckPacket)]
    statuses = [one.payload for one in told if isinstance(one, mqtt5.PublishPacket)]
    assert [0x90, 0] == acks
    assert [b'"invalid-destination"', b'"sent"', b'"delivered"'] == [
        status.split(b'"name":')[1].split(b",")[0] for status in statuses
    ]
    assert [("seq", "1"), ("type", "7")] == message.user_properties
