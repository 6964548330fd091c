"""History: pages of a conversation, as far as its reader may see it."""

from __future__ import annotations

import pytest

from mesimqtt.domain.errors import OperationError
from unit.messaging.world import mid_of


def texts(answer):
    """Return the payloads of a page, an event by its name."""
    return [each["text"] if "text" in each else each["event"]["event"] for each in answer["messages"]]


def pages(world, **question):
    """Return all pages of a question."""
    found, cursor = [], None
    while True:
        answer = world.do("history", cursor=cursor, **question)
        found.append(answer)
        cursor = answer["next"]
        if cursor is None:
            return found


def talk(world, count, *, peer="bob"):
    """Let alice say so many things, each acknowledged by nobody."""
    alice = world.connect("alice", "talker")
    for number in range(1, count + 1):
        alice.publish(f"u/{peer}/{peer}{number}", f"m{number}")
    alice.disconnect()


def test_both_sides_of_a_conversation(world):
    """Each entry says who sent it and when; one's own has its cid and status, the other's whether it was read."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/a1/type=7&ref=0123456789abcdef&x=1", "hi")
    bob.publish("u/alice/b1", b"\xff\x00")
    (first,) = bob.received("u/")
    bob.publish("read/u/alice", mid_of(first))

    mine, his = world.do("history", address="alice", peer="bob"), world.do("history", address="bob", peer="alice")

    year = world.ms + 31_536_000_000
    shared = {"from": "alice", "ts": world.ms, "expires_at": year, "type": 7}
    params = {"ref": "0123456789abcdef", "x": "1"}
    hi = {"mid": mid_of(first), "seq": 1}
    assert (
        hi | {"cid": "a1"} | shared | {"params": params, "text": "hi", "status": 3, "name": "read"}
        == (mine["messages"][1])
    )
    assert hi | shared | {"params": params, "text": "hi", "read": True} == his["messages"][1]
    assert ("/wA=", False) == (mine["messages"][0]["payload"], mine["messages"][0]["read"])
    assert ("b1", 2, "delivered") == tuple(his["messages"][0][key] for key in ("cid", "status", "name"))
    assert ("bob", 1, 2, True, None) == tuple(
        mine[key] for key in ("peer", "first_seq", "last_seq", "complete", "next")
    )


def test_pages_from_either_end(world):
    """Newest or oldest first, in pages that follow each other without a hole or a repeat."""
    talk(world, 7)

    newest = pages(world, address="bob", peer="alice", limit=3)
    oldest = pages(world, address="bob", peer="alice", limit=3, order="oldest")

    assert [["m7", "m6", "m5"], ["m4", "m3", "m2"], ["m1"]] == [texts(page) for page in newest]
    assert [["m1", "m2", "m3"], ["m4", "m5", "m6"], ["m7"]] == [texts(page) for page in oldest]


def test_a_page_that_ends_with_the_conversation_is_the_last(world):
    """There is no next page to ask for where nothing would stand on it."""
    talk(world, 4)

    assert [2, 2] == [len(page["messages"]) for page in pages(world, address="bob", peer="alice", limit=2)]


def test_between_two_places(world):
    """`before` and `after` are seqs or mids, neither of them on the page."""
    talk(world, 5)
    mids = [each["mid"] for each in world.do("history", address="bob", peer="alice", order="oldest")["messages"]]

    for after, before in ((1, 5), ("1", "5"), (mids[0], mids[4]), (mids[0], 5)):
        answer = world.do("history", address="bob", peer="alice", after=after, before=before)
        assert ["m4", "m3", "m2"] == texts(answer)
    assert [["m4"], ["m3"], ["m2"]] == [
        texts(page) for page in pages(world, address="bob", peer="alice", after=1, before=5, limit=1)
    ]


def test_places_and_cursors_that_are_none(world):
    """A mid of elsewhere, what is neither seq nor mid, and another question's cursor are refused."""
    talk(world, 2)
    talk(world, 2, peer="carol")
    (strange,) = world.do("history", address="alice", peer="carol", limit=1)["messages"]
    cursor = world.do("history", address="bob", peer="alice", limit=1)["next"]

    for place in (strange["mid"], "f" * 16, "x", "-1", "²"):
        with pytest.raises(OperationError, match="is neither a seq nor a mid of this conversation"):
            world.do("history", address="bob", peer="alice", before=place)
    for wrong, order in ((cursor, "oldest"), ("", "newest"), ("e30", "newest"), ("/", "newest"), ("W10", "newest")):
        with pytest.raises(OperationError, match="cursor is the `next` of an answer"):
            world.do("history", address="bob", peer="alice", cursor=wrong, order=order)


def test_what_never_reached_him_is_not_his(world):
    """An expired or refused message stands in its sender's history alone; what he read before stays in both."""
    alice = world.listener("alice")
    alice.publish("u/bob/1/expiry=5", "too late")
    world.jump(10)
    bob = world.listener("bob")
    alice.publish("u/bob/2/expiry=5", "in time")
    world.jump(10)

    assert ["in time", "too late"] == texts(world.do("history", address="alice", peer="bob"))
    assert ["delivered", "expired"] == [
        each["name"] for each in world.do("history", address="alice", peer="bob")["messages"]
    ]
    assert ["in time"] == texts(world.do("history", address="bob", peer="alice"))
    assert ["in time"] == bob.payloads()


def test_what_a_device_never_confirmed_is_his(world):
    """Written at QoS 0 it ends as `unconfirmed`; whoever it was written to finds it in his history."""
    alice = world.listener("alice")
    world.listener("bob", qos=0)
    alice.publish("u/bob/1/expiry=5", "perhaps")
    world.jump(60)

    assert ["perhaps"] == texts(world.do("history", address="bob", peer="alice"))
    (own,) = world.do("history", address="alice", peer="bob")["messages"]
    assert (0x80, "unconfirmed") == (own["status"], own["reason"])


def test_a_member_sees_his_own_time(world):
    """From his joining to his leaving; who comes back sees his new time; who never was one sees nothing."""
    world.group("team", "alice", "bob")
    alice = world.connect("alice")
    world.listener("carol")
    alice.publish("g/team/1", "before")
    world.do("group_join", address="team", users=["carol"])
    alice.publish("g/team/2", "during")
    world.do("group_leave", address="team", users=["carol"])
    alice.publish("g/team/3", "after")

    assert ["during", "joined"] == texts(world.do("history", address="carol", group="team"))[-2:]
    assert "after" not in texts(world.do("history", address="carol", group="team"))
    assert ["left", "after"] == texts(world.do("history", address="bob", group="team"))[1::-1]
    world.do("group_join", address="team", users=["carol"])
    assert ["joined"] == texts(world.do("history", address="carol", group="team"))
    world.user("dave")
    assert [] == world.do("history", address="dave", group="team")["messages"]


def test_deleted_groups_and_people_keep_their_history(world):
    """What was said stays with those who were there and got it, under the old name."""
    world.group("team", "alice", "bob")
    alice = world.connect("alice")
    world.listener("bob")
    alice.publish("g/team/1", "in the team")
    alice.publish("u/carol/2", "to carol")
    world.do("group_delete", addresses=["team"])
    world.do("user_delete", addresses=["carol"])

    assert "in the team" in texts(world.do("history", address="bob", group="team"))
    assert ["to carol"] == texts(world.do("history", address="alice", peer="carol"))
    world.user("carol")
    assert [] == world.do("history", address="carol", peer="alice")["messages"]
    assert ["to carol"] == texts(world.do("history", address="alice", peer="carol"))
    world.connect("alice").publish("u/carol/3", "to the new one")
    assert ["to the new one"] == texts(world.do("history", address="alice", peer="carol"))


def test_strangers_learn_nothing(world):
    """The answer about somebody one has no conversation with is the same whether there is such a user or not."""
    talk(world, 1)
    asker = world.listener("carol", filters=("rpc/#",))

    def ask(**where):
        (answer,) = asker.rpc("history", **where)
        return {key: value for key, value in answer["result"].items() if key not in ("peer", "group")}

    assert ask(peer="alice") == ask(peer="nobody") == ask(group="team")
    world.group("team", "alice", "bob")
    assert ask(group="nothing") == ask(group="team")
    (refused,) = asker.rpc("history", address="bob", peer="alice")
    assert (False, "forbidden") == (refused["ok"], refused["code"])


def test_counts_in_a_group(world):
    """One's own message in a group says how many have it and have read it; in a large one the status operation does."""
    world.group("team", "alice", "bob", "carol")
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("g/team/1", "hello")
    (message,) = bob.received("g/")
    bob.publish("read/g/team", mid_of(message))

    (own,) = world.do("history", address="alice", group="team", limit=1)["messages"]

    assert {"delivered": 1, "read": 1, "failed": 0} == own["counts"]


def test_a_large_page_is_cut_by_its_bytes(make_world):
    """A page holds half a megabyte of payloads, and one message at least; the next page goes on."""
    world = make_world(limits={"payload_max": 1024 * 1024, "packet_max": 2 * 1024 * 1024})
    alice = world.connect("alice")
    for number, size in enumerate((300_000, 300_000, 700_000, 1), start=1):
        alice.publish(f"u/bob/{number}", b"x" * size)

    found = pages(world, address="bob", peer="alice")

    assert [[1], [700_000], [300_000], [300_000]] == [[len(each["text"]) for each in p["messages"]] for p in found]


def test_history_waits_for_what_is_under_way(world):
    """Who has read a message finds it read, without a second of delay."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/flags=0", "hi")
    (message,) = bob.received("u/")
    bob.publish("read/u/alice", mid_of(message))

    assert [True] == [each["read"] for each in world.do("history", address="bob", peer="alice")["messages"]]
