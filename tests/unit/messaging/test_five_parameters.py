"""Parameters of a message as properties of MQTT 5.0, both ways (contract section 2)."""

from __future__ import annotations

import pytest

from mesimqtt.testing import wire5
from unit.messaging import five
from unit.messaging.world import mid_of, seq_of

_ALL = [
    ("type", "7"), ("flags", "3"), ("ref", "0123456789abcdef"), ("colour", "blue & green"), ("x/y", "a=b+c#d%"),
]  # fmt: skip
_LEVEL = "type=7&flags=3&ref=0123456789abcdef&colour=blue%20%26%20green&x%2Fy=a%3Db%2Bc%23d%25"


def params(message) -> str:
    """The sender's parameters in the topic that a client of 3.1.1 received."""
    return message.topic.rpartition("/")[2].partition("&")[2]


def test_user_properties_are_the_parameters_of_a_message(world):
    """To a client of 3.1.1 they stand in the topic, percent-encoded, after `seq` and in the sender's order."""
    alice, bob = five.listener(world, "alice"), world.listener("bob")

    assert (0, None) == alice.publish("u/bob/1", user=_ALL)
    (message,) = bob.received("u/")
    assert (1, _LEVEL) == (seq_of(message), params(message))


def test_a_client_of_5_receives_user_properties_and_a_topic_without_that_level(world):
    """`seq` first, then the sender's keys in his order, whichever version the sender speaks."""
    alice, old = five.listener(world, "alice"), world.listener("alice", "old")
    bob = five.listener(world, "bob")
    alice.publish("u/bob/1", user=_ALL)
    old.publish(f"u/bob/2/{_LEVEL}")

    for number, message in enumerate(bob.received("u/"), 1):
        assert "=" not in message.topic
        assert [("seq", str(number)), *_ALL] == message.user_property
        assert 6 == len(message.topic.split("/"))
    assert 2 == number


def test_every_class_that_has_parameters_has_them_so(world):
    """On `in/sent`, `in/event` and `in/g` too; statuses, read marks, presence and answers have none."""
    world.group("team", "alice", "bob")
    alice, laptop = five.listener(world, "alice"), five.listener(world, "alice", "laptop")
    bob = five.listener(world, "bob")
    world.do("group_join", address="team", users=["carol"])
    event = bob.received("event/")[-1]
    alice.publish("g/team/1", user=[("k", "v")])
    (message,), (copy,) = bob.received("g/"), laptop.received("sent/")
    bob.publish("read/g/team", mid_of(message))
    bob.publish("presence/u/alice", "typing")
    alice.rpc("ping")

    assert ("m/bob/in/event/g/team", [("seq", "2")]) == (event.topic.rpartition("/")[0], event.user_property)
    assert ("m/bob/in/g/team/alice", [("seq", "3"), ("k", "v")]) == (
        message.topic.rpartition("/")[0], message.user_property,
    )  # fmt: skip
    assert ("m/alice/in/sent/g/team", [("seq", "3"), ("k", "v")]) == (
        copy.topic.rpartition("/")[0], copy.user_property,
    )  # fmt: skip
    assert {()} == {each.properties for each in alice.inbox if "/in/event/" not in each.topic}
    assert {1, 2, 3} == {status["status"] for status in alice.statuses()}


@pytest.mark.parametrize(
    ("values", "level"),
    [
        ({"message_expiry_interval": 60}, "expiry=60"),
        ({"message_expiry_interval": five.NEVER}, "expiry=31536000"),
        ({"content_type": "text/plain; charset=utf-8"}, "content-type=text%2Fplain%3B%20charset%3Dutf-8"),
        ({"response_topic": "m/alice/in/#".removesuffix("#") + "x"}, "response-topic=m%2Falice%2Fin%2Fx"),
        ({"correlation_data": b"\0\xff /"}, "correlation-data=%00%FF%20%2F"),
        ({"payload_format_indicator": 1}, "payload-format=1"),
        ({"payload_format_indicator": 0}, "payload-format=0"),
        ({"content_type": ""}, "content-type="),
    ],
)
def test_native_properties_are_parameters_of_fixed_names(world, values, level):
    """A client of 3.1.1 sees them in the level and may write them there; one of 5.0 gets them as properties."""
    alice, bob, old = five.listener(world, "alice"), five.listener(world, "bob"), world.listener("bob", "old")
    writer = world.listener("alice", "writer")

    assert (0, None) == alice.publish("u/bob/1", **values)
    assert writer.publish(f"u/bob/2/{level}")
    first, second = bob.received("u/")
    assert [level, level] == [params(message) for message in old.received("u/")]
    expected = {name: min(v, 31_536_000) if name == "message_expiry_interval" else v for name, v in values.items()}
    for message in (first, second):
        assert expected == {name: value for name, value in message.properties if name != "user_property"}
        own = [pair for pair in message.user_property if pair[0] not in ("seq", "expiry")]
        assert [] == own


def test_user_properties_outrank_the_native_ones(world):
    """The same holds for a level in the topic: below the one, above the other."""
    alice, bob = five.listener(world, "alice"), world.listener("bob")
    alice.publish(
        "u/bob/1/expiry=50&type=2&a=level&content-type=c", user=[("expiry", 40), ("a", "user")],
        message_expiry_interval=60, content_type="d", response_topic="r",
    )  # fmt: skip

    (message,) = bob.received("u/")
    assert "expiry=40&a=user&type=2&content-type=c&response-topic=r" == params(message)


def test_what_is_left_of_its_life_is_told_in_both_ways(world):
    """`expiry` and Message Expiry Interval count down, rounded up; without one of the sender's there is none."""
    alice = five.listener(world, "alice")
    alice.publish("u/bob/1", message_expiry_interval=60)
    alice.publish("u/bob/2")
    world.ms += 10_300
    world.tick()
    first, second = five.listener(world, "bob").received("u/")

    assert (50, [("seq", "1"), ("expiry", "50")]) == (first.message_expiry_interval, first.user_property)
    assert (None, [("seq", "2")]) == (second.message_expiry_interval, second.user_property)


def test_it_counts_on_while_the_message_waits_for_room(world):
    """Message Expiry Interval is written when the message is, and nothing is sent after its end."""
    alice, bob = five.listener(world, "alice"), five.listener(world, "bob", receive_maximum=1)
    bob.auto_ack = False
    for cid, expiry in (("1", 60), ("2", 60), ("3", 5)):
        alice.publish(f"u/bob/{cid}", message_expiry_interval=expiry)
    world.advance(20)
    (first,) = bob.received("u/")
    bob.ack(first)

    (second,) = bob.received("u/")
    assert 40 == second.message_expiry_interval
    bob.ack(second)
    world.advance(31)
    assert [] == bob.received("u/")
    assert ("3", 0x84) in alice.steps()


def test_expiry_0_is_only_for_who_is_online(world):
    """Given natively it means what `expiry=0` means: no seq, nothing stored."""
    alice, bob, old = five.listener(world, "alice"), five.listener(world, "bob"), world.listener("bob", "old")
    alice.publish("u/bob/1", message_expiry_interval=0, user=[("k", "v")], content_type="c")
    alice.publish("u/carol/2", message_expiry_interval=0)

    (message,), (other,) = bob.received("u/"), old.received("u/")
    assert [("k", "v"), ("expiry", "0")] == message.user_property
    assert (None, "c") == (message.message_expiry_interval, message.content_type)
    assert other.topic.endswith("/k=v&expiry=0&content-type=c")
    assert [("1", 2), ("2", 0x81)] == alice.steps()
    assert [(0,)] == world.rows("SELECT count(*) FROM message")


REFUSED = [
    ([("seq", "1")], "seq"), ([("k", "1"), ("k", "2")], "twice"), ([("type", "x")], "type"), ([("", "1")], "name"),
    ([("flags", "8")], "flags"), ([("expiry", "31536001")], "expiry"), ([("ref", "1")], "ref"),
    ([(f"k{number}", "") for number in range(17)], "16"), ([("k", "é" * 400)], "2048"),
    ([("payload-format", "2")], "payload-format"), ([("response-topic", "a/+")], "response-topic"),
    ([(f"k{number}", "") for number in range(1000)], "16"), ([("k", "x" * 60_000)], "2048"),
    ([("response-topic", "")], "response-topic"), ([("correlation-data", "é" * 400)], "correlation-data"),
]  # fmt: skip


@pytest.mark.parametrize(("user", "word"), REFUSED)
@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_no_parameter_is_refused(world, user, word, qos):
    """0x85 as status, 0x83 as reason code, with a reason in words that names the key; the cid is told."""
    alice, bob = five.listener(world, "alice"), five.listener(world, "bob")
    code, reason = alice.publish("u/bob/1", user=user, qos=qos)

    assert 0x83 == code
    assert reason.startswith("0x85 ")
    assert word in reason
    (status,) = alice.statuses()
    assert ("1", 0x85) == (status["cid"], status["status"])
    assert status["reason"] in reason
    assert [] == bob.received("u/")


def test_native_properties_do_not_count_among_the_sixteen(world):
    """They have a bound of their own: 2 KiB encoded."""
    alice, bob = five.listener(world, "alice"), five.listener(world, "bob")
    user = [(f"k{number}", "x" * 100) for number in range(16)]
    values = {"content_type": "c" * 500, "response_topic": "r" * 500, "correlation_data": b"d" * 500}

    assert (0, None) == alice.publish("u/bob/1", user=user, payload_format_indicator=1, **values)
    (message,) = bob.received("u/")
    assert [("seq", "1"), *user] == message.user_property
    assert [*values.values(), 1] == [*[getattr(message, name) for name in values], message.payload_format_indicator]


def test_control_characters_are_the_application_s(world):
    """In 5.0 they stand as they are, for 3.1.1 percent-encoded."""
    alice, bob, old = five.listener(world, "alice"), five.listener(world, "bob"), world.listener("bob", "old")
    alice.publish("u/bob/1", user=[("a\tb", "\x01\x7f\u0085é")])

    (message,), (other,) = bob.received("u/"), old.received("u/")
    assert [("seq", "1"), ("a\tb", "\x01\x7f\u0085é")] == message.user_property
    assert "a%09b=%01%7F%C2%85%C3%A9" == params(other)


@pytest.mark.parametrize(
    ("level", "values"),
    [
        ("expiry=60&type=3", {"user": [("type", 3)], "message_expiry_interval": 60}),
        ("k=a%62&type=3", {"user": [("type", 3), ("k", "ab")]}),
        ("content-type=a%2Fb", {"content_type": "a/b"}),
        ("", {}),
    ],
)
def test_a_resend_may_say_the_same_in_the_other_way(world, level, values):
    """What counts is what the parameters say, in whatever order and spelling; other content is `cid-reused`."""
    alice, old, bob = five.listener(world, "alice"), world.listener("alice", "old"), five.listener(world, "bob")
    old.publish(f"u/bob/1/{level}" if level else "u/bob/1")

    assert (0, None) == alice.publish("u/bob/1", **values)
    assert 1 == len(bob.received("u/"))
    assert (0x83, "0x85 cid-reused") == alice.publish("u/bob/1", user=[("type", 4)])
    assert ("1", 0x85) == alice.steps()[-1]


def test_properties_that_say_nothing_are_none(world):
    """A topic alias, which the engine resolves, makes no parameters."""
    alice, bob = five.listener(world, "alice"), five.listener(world, "bob")
    alice.publish("u/bob/1", topic_alias=3)
    alice.send(wire5.publish("", b"again", qos=1, packet_id=77, topic_alias=3))

    (message,) = bob.received("u/")
    assert [("seq", "1")] == message.user_property
    assert ["1", "1", "1"] == [status["cid"] for status in alice.statuses()]


def test_a_question_s_correlation_data_comes_back_with_its_answer(world):
    """Of the properties of what is no message, it alone says something."""
    alice = five.listener(world, "alice")
    alice.publish("rpc/ping/7", b"{}", correlation_data=b"\0\1", user=[("trace", "1")], response_topic="free/r")

    (answer,) = alice.received("rpc/7")
    assert (("correlation_data", b"\0\1"),) == answer.properties


def test_a_will_has_parameters_too(world):
    """Its user properties and its native ones, expiry counted from its firing."""
    bob = five.listener(world, "bob")
    will = wire5.will(
        "m/alice/out/u/bob/9", b"gone", qos=1, user_property=[("k", "v")], content_type="c", message_expiry_interval=60
    )
    alice = five.connect(world, "alice", will=will)
    world.advance(30)
    alice.lose()

    (message,) = bob.received("u/")
    assert b"gone" == message.payload
    assert [("seq", "1"), ("k", "v"), ("expiry", "60")] == message.user_property
    assert ("c", 60) == (message.content_type, message.message_expiry_interval)


def test_a_will_with_bad_parameters_is_refused_at_connect(world):
    """0x87: what could never be sent is not kept."""
    will = wire5.will("m/alice/out/u/bob", b"gone", user_property=[("seq", "1")])
    alice = five.connect(world, "alice", will=will)

    assert (0x87, True) == (alice.connack.code, alice.is_closed)
