"""Operations that send and delete: every parameter, several recipients, for oneself alone (docs/messages.md)."""

from __future__ import annotations

import asyncio
import base64

import pytest

from mesimqtt.domain.errors import OperationError
from mesimqtt.messaging.operations import perform
from mesimqtt.messaging.operations_base import ArgumentError


def test_one_status_for_each_and_a_summary(world):
    """A refusal for one is told in its place; the others get the message."""
    world.group("team", "alice", "carol")
    bob, carol = world.listener("bob"), world.listener("carol")
    answer = world.do(
        "message_send", sender="alice", to=["bob", "nobody", "carol", "bob"], groups=["team", "other"], text="lunch?"
    )

    assert [
        ("bob", None, 1), ("nobody", None, 0x83), ("carol", None, 1), (None, "team", 1), (None, "other", 0x83),
    ] == [(each.get("peer"), each.get("group"), each["status"]) for each in answer["results"]]  # fmt: skip
    assert (3, 2, {"sent": 3, "invalid-destination": 2}) == (answer["accepted"], answer["refused"], answer["counts"])
    assert (["lunch?"], ["lunch?"], ["lunch?"]) == (bob.payloads(), carol.payloads(), carol.payloads("g/"))


def test_a_malformed_destination_does_not_keep_it_from_the_others(world):
    """Its place says why."""
    answer = world.do("message_send", sender="alice", to=["..", "bob"], text="x")

    assert [0x85, 1] == [each["status"] for each in answer["results"]]


def test_each_of_two_requests_at_the_same_time_has_its_verdict(world):
    """Under one cid the same content is one message, and another's is refused; nobody waits in vain."""
    bob = world.listener("bob")
    sends = [
        perform(world.messaging, "message_send", {"sender": "alice", "to": ["bob"], "text": text, "cid": "c"})
        for text in ("x", "x", "y")
    ]

    async def together():
        return await asyncio.gather(*sends, return_exceptions=True)

    first, same, other = world.run(together())

    assert first["results"][0]["mid"] == same["results"][0]["mid"]
    assert ["x"] == bob.payloads()
    assert "cid-reused" == other["results"][0]["reason"]


def test_the_whole_request_can_be_repeated(world):
    """With a cid, in whatever order the recipients stand; each has a cid of its own that begins with it."""
    bob, carol = world.listener("bob"), world.listener("carol")
    first = world.do("message_send", sender="alice", to=["bob", "carol"], text="x", cid="c")
    again = world.do("message_send", sender="alice", to=["carol", "bob"], text="x", cid="c")

    assert (["x"], ["x"]) == (bob.payloads(), carol.payloads())
    assert {each["mid"] for each in first["results"]} == {each["mid"] for each in again["results"]}
    assert {True} == {each["cid"].startswith("c-") for each in first["results"]}


def test_the_number_of_recipients_is_bounded(make_world):
    """`messaging.send_recipients_max`."""
    world = make_world(messaging={"send_recipients_max": 2})
    with pytest.raises(ArgumentError, match="from 1 to 2 recipients"):
        world.do("message_send", sender="alice", to=["bob", "carol"], groups=["team"], text="x")
    with pytest.raises(ArgumentError, match="from 1 to 2 recipients"):
        world.do("message_send", sender="alice", text="x")


def test_by_rpc_in_ones_own_name(world):
    """A user sends for himself; naming another is forbidden."""
    alice, bob = world.listener("alice"), world.listener("bob")
    (own,) = alice.rpc("message_send", to=["bob"], text="x")
    (other,) = alice.rpc("message_send", sender="carol", to=["bob"], text="x")

    assert (True, 1, False, ["x"]) == (own["ok"], own["result"]["accepted"], other["ok"], bob.payloads())


def test_send_has_every_parameter(world):
    """In the contract's order; a payload may be any bytes, and own keys are carried."""
    bob = world.listener("bob")
    first = world.do("send", sender="bob", to="alice", text="first")["mid"]
    world.do(
        "send", sender="alice", to="bob", payload=base64.b64encode(b"\0\xff").decode(), type=7, expiry=60, flags=131,
        ref=first, age=5, priority=2, keys={"mood": "good day"},
    )  # fmt: skip

    (message,) = bob.received("u/")
    assert (
        f"seq=2&type=7&expiry=60&flags=131&ref={first}&age=5&priority=2&mood=good%20day"
        == (message.topic.rpartition("/")[2])
    )
    assert b"\0\xff" == message.payload


def test_edit_and_recall_by_operation(world):
    """A recall needs no payload."""
    bob = world.listener("bob")
    mid = world.do("send", sender="alice", to="bob", text="a")["mid"]
    world.do("send", sender="alice", to="bob", text="b", edit=mid)
    world.do("send", sender="alice", to="bob", recall=mid)
    with pytest.raises(OperationError, match=r"bob: denied \(edit.deleted\)"):
        world.do("send", sender="alice", to="bob", text="c", edit=mid)

    assert ["a", "b", ""] == bob.payloads()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ref": "x"}, "is no mid"),
        ({"when": -1}, "when is a number from 0"),
        ({"age": 10**9}, "age is a number from 0"),
        ({"priority": 16}, "priority is a number from 0 to 15"),
        ({"keys": {"type": "1"}}, "type is an argument of its own"),
        ({"keys": {"a": "b"}, "text": None}, "give text, or payload"),
    ],
)
def test_wrong_parameters_are_named(world, more, words):
    """Before anything is sent."""
    with pytest.raises(ArgumentError, match=words):
        world.do("send", **{"sender": "alice", "to": "bob", "text": "x", **more})


def test_a_user_is_not_told_who_exists(world):
    """No such user, no such group, and a group that he is not in sound the same to him; the operator hears which."""
    world.group("team", "bob")
    alice = world.listener("alice")
    told = [alice.rpc("send", group=name, text="x")[0]["message"] for name in ("team", "other")]

    assert ["no group 'team' that you may know of", "no group 'other' that you may know of"] == told
    with pytest.raises(OperationError, match="is not a member of"):
        world.do("send", sender="alice", group="team", text="x")


# ---- delete for oneself ---------------------------------------------------------------------------------------------


def test_deleted_for_oneself_alone(world):
    """The other devices do not get it any more; nobody else notices."""
    world.listener("bob", "tablet").lose()
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1", "secret")
    alice.publish("u/bob/2", "rest")
    first = bob.received("u/")[0].topic.split("/")[-2]
    alice.statuses()
    (answer,) = bob.rpc("message_delete", mids=[first])

    assert {"deleted": [first]} == answer["result"]
    assert [{"event": "message-deleted", "mid": first}] == bob.news()
    assert (["rest"], []) == (world.listener("bob", "tablet").payloads(), alice.steps())
    assert [(b"secret", 0)] == world.rows("SELECT payload, state FROM message WHERE seq = 1")


def test_deleted_before_it_was_delivered(world):
    """No device gets it; its sender hears at its end that nobody confirmed it."""
    alice = world.listener("alice")
    alice.publish("u/bob/1/expiry=30", "secret")
    (sent,) = alice.statuses()
    world.do("message_delete", address="bob", mids=[sent["mid"]])
    bob = world.listener("bob")
    world.advance(65)

    assert [] == bob.received("u/")
    assert [(0x80, "unconfirmed")] == [(each["status"], each["reason"]) for each in alice.statuses()]


def test_the_senders_own_copy(world):
    """Deleted for the sender, it still reaches its recipient."""
    world.listener("alice", "tablet").lose()
    alice = world.listener("alice")
    alice.publish("u/bob/1", "secret")
    (sent,) = alice.statuses()
    world.do("message_delete", address="alice", mids=[sent["mid"]])

    assert ["secret"] == world.listener("bob").payloads()
    assert [] == world.listener("alice", "tablet").received("sent/")


def test_only_what_is_in_ones_conversations(world):
    """A message of others is as unknown as one that never was."""
    sent = world.do("send", sender="alice", to="bob", text="x")["mid"]
    carol = world.listener("carol")
    told = [carol.rpc("message_delete", mids=[mid])[0] for mid in (sent, "0123456789abcdef")]

    assert told[0]["message"] == told[1]["message"]
    assert ["no-such-message"] * 2 == [each["code"] for each in told]
    assert [] == world.rows("SELECT * FROM hidden")


def test_what_one_deleted_cannot_be_forwarded(world):
    """It is not there any more for him."""
    mid = world.do("send", sender="alice", to="bob", text="x")["mid"]
    world.do("message_delete", address="bob", mids=[mid])
    bob = world.listener("bob")
    bob.publish(f"u/carol/1/flags=131&ref={mid}")

    assert [0x8D] == [status["status"] for status in bob.statuses()]
