"""Wills, presence, rpc and the news of a session: what goes beside the messages (contract sections 2 and 6)."""

from __future__ import annotations

import pytest

from unit.messaging.world import mid_of


def test_a_will_is_a_message(world):
    """Fired when the link is lost: stored, delivered, its sender's other devices told and given a copy."""
    phone = world.listener("alice")
    world.connect("alice", "sensor", will=("m/alice/out/u/bob/w", b"gone", 1, False)).lose()

    (message,) = world.listener("bob").received("u/")
    mid = mid_of(message)
    assert (b"gone", f"m/bob/in/u/alice/{mid}/seq=1") == (message.payload, message.topic)
    assert [(mid, 1), (mid, 2)] == phone.steps()
    assert 1 == len(phone.received("sent/"))


def test_each_firing_is_a_message(world):
    """The cid of a will is ignored."""
    for _ in range(2):
        world.connect("alice", "sensor", will=("m/alice/out/u/bob/w", b"gone", 1, False)).lose()

    assert ["gone", "gone"] == world.listener("bob").payloads()


def test_a_will_does_not_fire_after_disconnect(world):
    """Only a lost link fires it."""
    world.connect("alice", "sensor", will=("m/alice/out/u/bob/w", b"gone", 1, False)).disconnect()

    assert [] == world.listener("bob").payloads()


def test_a_will_with_parameters_to_a_group(world):
    """Also `out/g/…`, parameters and all."""
    world.group("team", "alice", "bob")
    world.connect("alice", "sensor", will=("m/alice/out/g/team/w/type=4", b"gone", 0, False)).lose()

    (message,) = world.listener("bob").received("g/")
    assert message.topic.endswith("&type=4")


@pytest.mark.parametrize(
    "topic",
    [
        "m/bob/out/u/carol/1",
        "m/alice/in/u/bob/1",
        "m/alice/out/read/u/bob",
        "m/alice/out/u/b!b/1",
        "m",
        "m/alice/out/rpc/ping/1",
    ],
)
def test_a_will_elsewhere_is_refused_at_connect(world, topic):
    """The access decision is taken before CONNACK, and the first session of that client id is untouched."""
    first = world.listener("alice", "sensor")
    second = world.connect("alice", "sensor", will=(topic, b"x", 0, True))

    assert (("CONNACK", 0, 5), False) == (second.connack, first.is_closed)


def test_a_will_is_decided_again_when_it_fires(world):
    """A sender who may no more is refused then; a disabled user's will does not fire."""
    world.group("team", "alice", "bob")
    world.connect("alice", "one", will=("m/alice/out/g/team", b"1", 0, False))
    world.connect("carol", "two", will=("m/carol/out/u/bob", b"2", 0, False))
    world.do("group_leave", address="team", users=["alice"])
    world.peers[0].lose()
    world.do("user_disable", addresses=["carol"])

    assert [] == [message for message in world.listener("bob").received() if message.payload in (b"1", b"2")]


# ---- presence ----------------------------------------------------------------------------------------------


def test_presence_goes_to_who_is_online_now(world):
    """Never stored: bob's devices that are online get it, one that comes later does not."""
    alice, bob = world.listener("alice"), world.listener("bob")
    assert alice.publish("presence/u/bob", "typing")

    (message,) = bob.received("presence/")
    assert ("m/bob/in/presence/u/alice", b"typing") == (message.topic, message.payload)
    assert ([], [(0,)]) == (
        world.listener("bob", "late").received("presence/"),
        world.rows("SELECT count(*) FROM message"),
    )
    assert [] == alice.statuses()


def test_presence_in_a_group(world):
    """The other members who are online get it, with group and sender."""
    world.group("team", "alice", "bob", "carol")
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("presence/g/team", "typing")

    assert ["m/bob/in/presence/g/team/alice"] == [message.topic for message in bob.received("presence/")]
    assert [] == alice.received("presence/")


@pytest.mark.parametrize("topic", ["presence/u/nobody", "presence/g/team"])
def test_presence_to_whom_one_may_not_know(world, topic):
    """0x83, as for a message."""
    world.group("team", "bob", "carol")
    alice = world.listener("alice")
    alice.publish(topic)

    assert [0x83] == [status["status"] for status in alice.statuses()]


# ---- rpc ---------------------------------------------------------------------------------------------------


def test_rpc_status(world):
    """The sender asks what became of a message: the same as the operation says, with every recipient."""
    world.group("team", "alice", "bob", "carol")
    alice, _ = world.listener("alice"), world.listener("bob")
    alice.publish("g/team/1", "hello")
    mid = alice.statuses()[0]["mid"]

    (answer,) = alice.rpc("status", mid=mid)

    assert {"ok": True, "result": world.do("status", mid=mid)} == answer
    assert (mid, "1", "alice", "team", 5) == tuple(
        answer["result"][key] for key in ("mid", "cid", "from", "group", "size")
    )
    rows = [(row.get("peer"), row["status"]) for row in answer["result"]["status"]]
    assert [(None, 1), ("bob", 2), ("carol", 1)] == rows


def test_rpc_status_of_anothers_message(world):
    """Who did not send it, the recipient too, is told that there is no such message of his."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    mid = alice.statuses()[0]["mid"]

    for number in (mid, "f" * 16, "0" * 16):
        (answer,) = bob.rpc("status", mid=number)
        assert (False, "no-such-message") == (answer["ok"], answer["code"])


def test_rpc_inbox(world):
    """What waits for the asker, by conversation."""
    world.connect("alice").publish("u/bob/1", "12345")
    bob = world.listener("bob", filters=("rpc/#",))

    (answer,) = bob.rpc("inbox")

    result = answer["result"]
    assert ("bob", 1, 5) == (result["user"], result["messages"], result["bytes"])
    assert [("alice", 1, 1)] == [(each["peer"], each["messages"], each["last_seq"]) for each in result["conversations"]]


def test_rpc_ping(world):
    """The server's time in milliseconds."""
    (answer,) = world.listener("bob").rpc("ping")

    assert {"ok": True, "result": {"pong": world.ms}} == answer  # an operator sees more


def test_an_rpc_answer_goes_to_who_asked(world):
    """To the asking connection if it subscribed, else to the user's online devices; never stored."""
    phone, tablet = world.listener("bob"), world.listener("bob", "tablet")
    asker = world.connect("bob", "asker", clean=True)
    assert (1, []) == (len(phone.rpc("ping", "7")), tablet.received("rpc/"))

    asker.publish("rpc/ping/8")

    assert (1, 1, 0) == (len(phone.received("rpc/8")), len(tablet.received("rpc/8")), len(asker.received()))
    assert [] == world.listener("bob", "later").received("rpc/")


@pytest.mark.parametrize(
    ("op", "payload", "code"),
    [
        ("nothing", b"{}", "no-such-operation"), ("status", b"{}", "bad-argument"), ("status", b"[1]", "bad-request"),
        ("status", b"{", "bad-request"), ("status", b'{"mid":7}', "bad-argument"),
        ("status", b'{"mid":"x"}', "bad-argument"),
        ("status", b"\xff", "bad-request"), ("status", b"[" * 60_000, "bad-request"),
        ("ping", b"9" * 5000, "bad-request"),
        ("ping", b" " * 70_000, "bad-request"), ("status", b'{"mid":"\\ud800"}', "bad-argument"),
    ],
)  # fmt: skip
def test_a_wrong_rpc_is_answered(world, op, payload, code):
    """With a code for a program and a sentence for a person; the connection lives."""
    import json

    bob = world.listener("bob")
    assert bob.publish(f"rpc/{op}/1", payload)

    (answer,) = [json.loads(message.payload) for message in bob.received("rpc/")]
    assert (False, code, True) == (answer["ok"], answer["code"], len(answer["message"]) > 5)


# ---- news of the session -----------------------------------------------------------------------------------


def test_a_denied_free_topic_is_told_at_most_once_a_second(world):
    """On `in/session`, with topic and rule, to the session that was denied."""
    alice = world.listener("alice")
    for number in range(3):
        world.messaging.notify_denied(alice.connection, f"free/{number}", "no-rule")
    world.turn()
    world.advance(1)
    world.messaging.notify_denied(alice.connection, "free/9", "no-rule")
    world.turn()

    assert [
        {"event": "denied", "topic": "free/0", "rule": "no-rule"},
        {"event": "denied", "topic": "free/9", "rule": "no-rule"},
    ] == alice.news()


def test_the_memory_of_users_is_bounded(make_world):
    """Who is offline and talks to nobody online is read from the store again; nothing changes for anybody."""
    world = make_world(store={"cache_users": 10})
    world.user(*[f"u{number}" for number in range(40)])
    alice = world.listener("alice")
    for number in range(40):
        alice.publish(f"u/u{number}/{number}")
    alice.disconnect()
    world.advance(5)

    assert 10 >= len(world.messaging._hub.directory._users)
    alice = world.listener("alice")
    alice.publish("u/u3/again", "second")
    assert ["hi", "second"] == world.listener("u3").payloads()
    assert 42 == 40 + len([step for _, step in alice.steps() if step == 2])


def test_the_memory_of_groups_is_bounded(make_world):
    """A group of which nobody is online is read from the store again: members, events and seqs go on."""
    world = make_world(store={"cache_groups": 10})
    alice, bob = world.listener("alice"), world.listener("bob")
    for number in range(40):
        world.group(f"g{number}", "alice", "bob")
    for number in range(40):
        alice.publish(f"g/g{number}/{number}", f"first to {number}")
    world.advance(5)

    assert 40 == len(world.messaging._hub.directory._groups)
    assert [f"first to {number}" for number in range(40)] == bob.payloads("g/")
    alice.disconnect()
    bob.disconnect()
    carol = world.listener("carol")
    world.advance(90)
    assert 10 >= len(world.messaging._hub.directory._groups)
    world.do("group_join", address="g3", users=["carol"])
    carol.publish("g/g3/1", "second to 3")
    alice = world.listener("alice")
    alice.publish("g/g39/again", "second to 39")
    bob = world.listener("bob")
    heard = [(message.topic.split("/")[4:], message.payload) for message in bob.received("g/")]

    assert [(["g3", "carol"], b"second to 3"), (["g39", "alice"], b"second to 39")] == [
        (place[:2], payload) for place, payload in heard
    ]
    assert ["seq=4", "seq=3"] == [place[-1] for place, _ in heard]
    assert [2] == [step for cid, step in alice.steps() if (cid, step) == ("again", 2)]
