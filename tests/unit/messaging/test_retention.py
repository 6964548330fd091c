"""Retention: what is too old goes, with all that belongs to it; what still waits stays; history says so."""

from __future__ import annotations

import pytest

from mesimqtt.domain.errors import MesimqttError, OperationError
from unit.messaging.world import mid_of

DAY = 86_400
BY_HAND = {"purge_hour": 24}


def say(world, *texts, to="u/bob", params=""):
    """Let alice say things, one a second."""
    alice = world.connect("alice", "sayer")
    for number, text in enumerate(texts):
        alice.publish(f"{to}/{world.ms}-{number}{params}", text)
        world.advance(1)
    alice.disconnect()


def texts(world, **question):
    """Return what stands in a conversation, the oldest first, and whether that is all."""
    answer = world.do("history", order="oldest", **({"address": "bob", "peer": "alice"} | question))
    return [each["text"] for each in answer["messages"] if "text" in each], answer["complete"]


def test_old_messages_go_and_history_says_so(make_world):
    """What everybody has, and is older than it is to be kept, is gone for all; younger ones stay."""
    world = make_world(history={**BY_HAND, "keep_s": 10 * DAY})
    world.listener("bob")
    say(world, "old 1", "old 2")
    world.jump(9 * DAY)
    say(world, "young")
    world.jump(1.5 * DAY)

    dry = world.do("purge", dry_run=True)
    assert (["old 1", "old 2", "young"], True) == texts(world)
    done = world.do("purge")

    counts = [{key: answer[key] for key in ("messages", "bytes", "waiting")} for answer in (dry, done)]
    assert [{"messages": 2, "bytes": 10, "waiting": 0}] * 2 == counts
    assert (["young"], False) == texts(world)
    assert (["young"], True) == texts(world, after=2)
    assert (["young"], False) == texts(world, address="alice", peer="bob")
    assert 0 == world.do("purge")["messages"]
    assert 2 == world.do("stats")["counters"]["purged.messages"]
    assert [(1, 1, 2)] == world.rows("SELECT * FROM gap")


def test_what_waits_stays_until_it_expires(make_world):
    """A message that nobody has yet is not removed before its verdict; then it is."""
    world = make_world(history={**BY_HAND, "keep_s": DAY})
    say(world, "waits")
    say(world, "expires", params=f"/expiry={3 * DAY}")
    world.jump(2 * DAY)
    first = world.do("purge")
    world.jump(2 * DAY)
    second = world.do("purge")
    bob = world.listener("bob")

    assert [(0, 2), (1, 1)] == [(each["messages"], each["waiting"]) for each in (first, second)]
    assert ["waits"] == bob.payloads()
    assert (["waits"], False) == texts(world)
    world.advance(2)
    assert 1 == world.do("purge")["messages"]
    assert ([], False) == texts(world)


def test_a_group_keeps_what_one_member_waits_for(make_world):
    """The last member's watermark decides; who left does not count."""
    world = make_world(history={**BY_HAND, "keep_s": DAY})
    world.group("team", "alice", "bob", "carol")
    world.listener("bob")
    world.listener("alice")
    say(world, "hello", to="g/team")
    world.jump(2 * DAY)
    assert (1, 1) == tuple(world.do("purge")[key] for key in ("messages", "waiting"))  # the event of the founding goes
    world.do("group_leave", address="team", users=["carol"])

    assert 1 == world.do("purge")["messages"]


def test_the_most_specific_rule_counts(make_world):
    """Group and type, then group, then type, then all; 0 is for ever, and a rule that is removed is no rule."""
    world = make_world(history={**BY_HAND, "keep_s": 10 * DAY, "keep_types": f"7:{2 * DAY}"})
    world.group("team", "alice", "bob")
    world.listener("bob")
    world.listener("alice")
    world.do("retention_set", type=8, keep_s=0)
    world.do("retention_set", group="team", keep_s=4 * DAY)
    answer = world.do("retention_set", group="team", type=7, keep_s=0)

    def left():
        world.do("purge")
        return [texts(world)[0], texts(world, peer=None, group="team")[0]]

    for to in ("u/bob", "g/team"):
        for kind in (0, 7, 8):
            say(world, f"type {kind}", to=to, params=f"/type={kind}")
    world.jump(3 * DAY)
    assert [["type 0", "type 8"], ["type 0", "type 7", "type 8"]] == left()
    world.jump(2 * DAY)
    assert [["type 0", "type 8"], ["type 7"]] == left()
    world.jump(6 * DAY)
    assert [["type 8"], ["type 7"]] == left()
    world.do("retention_set", type=8, keep_s=None)
    assert [[], ["type 7"]] == left()
    assert {
        "keep_s": 10 * DAY,
        "configured": [{"group": None, "type": 7, "keep_s": 2 * DAY}],
        "rules": [
            {"group": None, "type": 8, "keep_s": 0},
            {"group": "team", "type": None, "keep_s": 4 * DAY},
            {"group": "team", "type": 7, "keep_s": 0},
        ],
    } == answer


def test_every_night(make_world):
    """The purge runs by itself in its hour, once a day; on a restart in the same hour it does not run again."""
    world = make_world(history={"keep_s": DAY, "purge_hour": 3})
    world.listener("bob")
    say(world, "old")
    hours = 0
    while texts(world)[0] and hours < 48:
        world.jump(3_600)
        hours += 1
    gone_at = world.ms // 3_600_000 % 24

    assert (3, True) == (gone_at, hours >= 24)
    world.restart()
    world.advance(120)
    assert "purged.messages" not in world.do("stats")["counters"]


def test_the_counts_go_on_after_a_purge(make_world):
    """What is gone is neither unread nor missing; a device that had it not is told that something is lost."""
    world = make_world(history={**BY_HAND, "keep_s": DAY})
    world.listener("bob", "tablet").disconnect()
    world.listener("bob")
    say(world, *"abc")
    world.jump(2 * DAY)
    say(world, *"de")
    world.do("purge")

    (line,) = world.do("inbox", address="bob")["conversations"]
    assert (2, 0, "e") == (line["unread"], line["messages"], line["last"]["text"])
    (tablet,) = world.do("sync", address="bob", device="tablet")["conversations"]
    assert ([[4, 5]], [[1, 3]], False, 4) == tuple(tablet[key] for key in ("missing", "lost", "complete", "first_seq"))
    returned = world.listener("bob", "tablet")
    assert ["d", "e"] == returned.payloads()
    world.advance(2)
    (tablet,) = world.do("sync", address="bob", device="tablet")["conversations"]
    assert ([], [], True, 5) == tuple(tablet[key] for key in ("missing", "lost", "complete", "acked"))


def test_a_gap_does_not_stop_a_device(make_world):
    """A device for which much was removed goes on behind it, however many messages follow."""
    world = make_world(history={**BY_HAND, "keep_s": DAY})
    world.listener("bob", "tablet").disconnect()
    world.listener("bob")
    say(world, *(f"old {number}" for number in range(5)))
    world.jump(2 * DAY)
    world.do("purge")
    alice = world.connect("alice")
    for number in range(200):
        alice.publish(f"u/bob/new{number}", str(number))

    assert [str(number) for number in range(200)] == world.listener("bob", "tablet").payloads()


def test_statuses_go_with_their_messages(make_world):
    """Steps of messages that are gone are removed; numbers of changes go on, so that nobody misses a later one."""
    world = make_world(history={**BY_HAND, "keep_s": DAY})
    world.listener("bob")
    alice = world.listener("alice")
    for number in range(3):
        alice.publish(f"u/bob/{number}", "x")
        world.advance(1)
    before = world.rows("SELECT max(change), count(*) FROM step")
    world.jump(2 * DAY)
    answer = world.do("purge")
    alice.statuses()
    alice.publish("u/bob/new", "y")

    assert [(6, 6)] == before
    assert (5, [(6, 1)]) == (answer["statuses"], world.rows("SELECT max(change), count(*) FROM step WHERE change < 7"))
    assert [("new", 1), ("new", 2)] == alice.steps()


def test_what_only_says_sent_goes_after_the_week(world):
    """That a message was sent, the message itself says: the status of an old one is the same without its row."""
    alice = world.listener("alice")
    for number in range(3):
        alice.publish(f"u/bob/{number}", "x")
        world.advance(1)
    mid = alice.statuses()[0]["mid"]
    status = world.do("status", mid=mid)
    world.jump(10 * DAY)
    answer = world.do("purge")

    assert 2 == answer["statuses"]
    assert status == world.do("status", mid=mid)
    assert [1, 1, 1] == [each["status"] for each in world.do("history", address="alice", peer="bob")["messages"]]


def test_resends_are_recognised_for_a_week(make_world):
    """A cid outlives its message; after seven days it is free, and it is forgotten by the hour."""
    world = make_world(history={**BY_HAND, "keep_s": DAY})
    world.listener("bob")
    alice = world.listener("alice")
    alice.publish("u/bob/1", "x")
    world.jump(2 * DAY)
    world.do("purge")
    assert alice.publish("u/bob/1", "x")
    assert [(1,)] == world.rows("SELECT count(*) FROM cid")
    world.jump(6 * DAY)
    world.jump(3_600)

    assert [(0,)] == world.rows("SELECT count(*) FROM cid")


def test_tokens_that_expired_long_ago_go(make_world):
    """A token is listed for some time after its end; then its row is gone, and it still lets nobody in."""
    world = make_world(history={**BY_HAND, "tokens_kept_s": DAY})
    token = world.do("token_issue", addresses=["bob"], ttl=60)["tokens"][0]
    world.jump(3_600)
    assert 0 == world.do("purge")["tokens"]
    world.jump(2 * DAY)

    assert 1 == world.do("purge")["tokens"]
    assert 1 == len(world.do("token_list", address="bob")["tokens"])
    assert world.connect("bob", token=token["token"]).is_closed


def test_one_purge_at_a_time(world):
    """A second one is refused while the first is under way."""
    world.messaging.retention._is_running = True
    with pytest.raises(OperationError, match="a purge is under way"):
        world.do("purge")


def test_a_full_disk_ends_a_purge(make_world):
    """What cannot be removed stays, the operator is told, and the next run does it."""
    world = make_world(history={**BY_HAND, "keep_s": DAY})
    world.listener("bob")
    say(world, "old")
    world.jump(2 * DAY)
    world.database.code = 13  # SQLITE_FULL
    with pytest.raises(MesimqttError, match="the store cannot write now"):
        world.do("purge")
    world.database.code = 0

    assert (["old"], True) == texts(world)
    assert 1 == world.do("purge")["messages"]


def test_a_purged_message_is_gone_from_the_receipts_of_reading(make_world):
    """Reading up to a mid that is gone is ignored, and what is there can be read."""
    world = make_world(history={**BY_HAND, "keep_s": DAY})
    bob = world.listener("bob")
    say(world, "old")
    (old,) = bob.received("u/")
    world.jump(2 * DAY)
    world.do("purge")
    say(world, "new")
    (new,) = bob.received("u/")
    bob.publish("read/u/alice", f"<={mid_of(old)}")
    bob.publish("read/u/alice", f"<={mid_of(new)}")

    assert 0 == world.do("inbox", address="bob")["unread"]


def test_work_that_nobody_took_stays(make_world):
    """In a round-robin group old work waits for a member as a message waits for its recipient."""
    world = make_world(history={**BY_HAND, "keep_s": DAY})
    world.do("group_add", address="desk", owner="alice", kind="round-robin")
    world.do("group_join", address="desk", users=["bob"])
    say(world, "ticket", to="g/desk")
    world.jump(2 * DAY)
    assert 1 == world.do("purge")["waiting"]
    bob = world.listener("bob")
    world.advance(2)

    assert ["ticket"] == bob.payloads("g/")
    assert (1, 0) == tuple(world.do("purge")[key] for key in ("messages", "waiting"))


def test_a_full_disk_stops_indexing_for_a_minute(world):
    """An index that cannot be written costs one line in the log a minute, and is compared with the messages later."""
    search = world.messaging.search
    say(world, "before")
    folder, search._index._path = search._index._path, world.folder / "no" / "such" / "folder"
    search._index.close()
    say(world, "later")
    world.advance(2)
    assert not search.is_complete
    search._index._path = folder
    world.advance(30)
    assert not search.is_complete
    world.advance(40)

    assert search.is_complete
    assert ["later"] == [each["text"] for each in world.do("search", address="bob", text="later")["messages"]]
