"""History, inbox and search of what was edited, taken back, wiped or hidden: what stands there now."""

from __future__ import annotations

from unit.messaging.world import mid_of


def said(world, address="bob", peer="alice"):
    """Return what a conversation shows, the oldest first."""
    answer = world.do("history", address=address, peer=peer, order="oldest")
    return [each.get("text", "recalled" if "recalled" in each else "wiped") for each in answer["messages"]]


def found(world, text, address="bob"):
    """Return the texts that a search finds."""
    return [each["text"] for each in world.do("search", address=address, text=text)["messages"]]


def words(world):
    """Return the texts that lie in the index."""
    world.advance(1)
    return sorted(row[0] for row in world.store.search._open().execute("SELECT text FROM found"))


def test_an_edited_message_has_its_new_text(world):
    """It stands where it stood, with the newest text, and says that, when and by which mid it was edited."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/type=5&x=1", "frist")
    mid = alice.statuses()[0]["mid"]
    alice.publish("u/bob/2", "second")
    assert ["frist"] == found(world, "frist")
    world.advance(1)
    alice.publish(f"u/bob/3/edit={mid}&x=2", "first")
    world.advance(1)
    alice.publish(f"u/bob/4/edit={mid}&x=3", "the first")
    newest = bob.received("u/")[-1]

    assert ["the first", "second"] == said(world) == said(world, "alice", "bob")
    entry = world.do("history", address="bob", peer="alice", order="oldest")["messages"][0]
    assert (mid, 1, 5, {"x": "3"}) == tuple(entry[key] for key in ("mid", "seq", "type", "params"))
    assert {"mid": mid_of(newest), "ts": world.ms} == entry["edited"]
    assert ([], ["the first"]) == (found(world, "frist"), found(world, "first"))
    assert ["second", "the first"] == words(world)
    (line,) = world.do("inbox", address="bob")["conversations"]
    assert (2, "second") == (line["unread"], line["last"]["text"])


def test_a_message_that_was_taken_back_is_a_stub(world):
    """It says that there was one, without a word of it; without a trace it says nothing."""
    alice = world.listener("alice")
    world.listener("bob")
    for number in range(3):
        alice.publish(f"u/bob/{number}", f"word {number}")
    mids = [status["mid"] for status in alice.statuses() if status["status"] == 1]
    assert 3 == len(found(world, "word"))
    alice.publish(f"u/bob/r1/recall={mids[0]}", b"")
    alice.publish(f"u/bob/r2/recall={mids[1]}&stub=0", b"")

    assert ["recalled", "word 2"] == said(world) == said(world, "alice", "bob")
    stub = world.do("history", address="bob", peer="alice", order="oldest")["messages"][0]
    assert {"mid", "seq", "from", "ts", "expires_at", "recalled", "read"} == set(stub)
    assert ["word 2"] == found(world, "word") == words(world)
    assert 1 == world.do("inbox", address="bob")["unread"]
    own = world.do("history", address="alice", peer="bob", order="oldest")["messages"][0]
    assert (0x21, "deleted") == (own["status"], own["name"])


def test_what_one_hides_is_hidden_from_oneself(world):
    """The others see it all the same; it is not found, not the last of its conversation and not unread."""
    alice = world.listener("alice")
    world.listener("bob")
    for number in range(2):
        alice.publish(f"u/bob/{number}", f"word {number}")
    mid = [status["mid"] for status in alice.statuses() if status["status"] == 1][1]
    world.do("message_delete", address="bob", mids=[mid])

    assert (["word 0"], ["word 0", "word 1"]) == (said(world), said(world, "alice", "bob"))
    assert (["word 0"], ["word 1", "word 0"]) == (found(world, "word"), found(world, "word", "alice"))
    (line,) = world.do("inbox", address="bob")["conversations"]
    assert (1, "word 0") == (line["unread"], line["last"]["text"])


def test_what_disappeared_is_gone(world):
    """After its time nobody has it in history, and no word of it lies in the index."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/age=5", "vanishes")
    (message,) = bob.received("u/")
    assert ["vanishes"] == found(world, "vanishes")
    bob.publish("read/u/alice", mid_of(message))
    world.advance(7)

    assert [] == said(world) == found(world, "vanishes") == words(world)
    assert 0 == world.do("inbox", address="bob")["unread"]


def test_an_edit_stays_as_long_as_what_it_edits(make_world):
    """Retention by type does not bring an old text back."""
    world = make_world(history={"keep_types": "7:86400", "purge_hour": 24})
    alice = world.listener("alice")
    world.listener("bob")
    alice.publish("u/bob/1", "frist")
    mid = alice.statuses()[0]["mid"]
    alice.publish(f"u/bob/2/edit={mid}&type=7", "first")
    world.jump(2 * 86_400)
    world.do("purge")

    assert ["first"] == said(world)


def test_a_scheduled_message_is_history_from_its_time_on(world):
    """It stands at its seq when it was sent, and is indexed then, though its mid is older."""
    alice = world.listener("alice")
    world.listener("bob")
    alice.publish("u/bob/1/when=60", "later")
    alice.publish("u/bob/2", "now")
    world.advance(2)
    before = said(world)
    world.advance(62)

    assert (["now"], ["now", "later"]) == (before, said(world))
    assert ["later"] == found(world, "later")


def test_what_was_held_back_is_not_history(world):
    """What somebody wrote whom one had blocked without a word is in the writer's history alone, and is not found."""
    world.do("user_set", address="bob", rules={"silent_blocks": "on"})
    world.do("block_add", user="bob", peers=["alice"])
    alice = world.listener("alice")
    world.listener("bob")
    alice.publish("u/bob/1", "hear me")

    assert [("1", 1)] == alice.steps()
    assert (["hear me"], []) == (said(world, "alice", "bob"), said(world))
    assert (["hear me"], []) == (found(world, "hear", "alice"), found(world, "hear"))
    (line,) = world.do("inbox", address="bob")["conversations"]
    assert (0, 0, None) == (line["unread"], line["messages"], line["last"])
