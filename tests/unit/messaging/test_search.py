"""Search: words in the texts of one's own conversations, literally, and nothing that one may not see."""

from __future__ import annotations

import pytest

from mesimqtt.domain.errors import OperationError
from mesimqtt.store import store as store_module
from mesimqtt.store.integrity import reseal
from mesimqtt.store.layout import DATABASE_NAME, INDEX_NAME


def found(world, text, *, address="bob", **more):
    """Return the texts that a search finds."""
    return [each["text"] for each in world.do("search", address=address, text=text, **more)["messages"]]


def say(world, *texts, sender="alice", to="u/bob", params=""):
    """Let somebody say things."""
    peer = world.connect(sender, "sayer")
    for number, text in enumerate(texts):
        peer.publish(f"{to}/{world.ms}-{number}-{len(text)}{params}", text)
        world.advance(0.25)
    peer.disconnect()


def test_words_are_found_the_newest_first(world):
    """All words must be there, in any order, whatever their case and accents.

    The last one may be a beginning of three letters or more, where nobody wrote it as a whole word.
    """
    say(world, "Pizza at the station", "the Café at eight", "station at eight, with pizza")

    assert ["station at eight, with pizza", "Pizza at the station"] == found(world, "pizza station")
    assert ["the Café at eight"] == found(world, "CAFE")
    assert ["station at eight, with pizza", "Pizza at the station"] == found(world, "pizza stat")
    assert [] == found(world, "piz station") == found(world, "pizza st")
    say(world, "stat")
    assert ["stat"] == found(world, "stat")


def test_an_entry_is_that_of_history(world):
    """A hit says in which conversation it stands, and is else the same JSON as in history."""
    say(world, "needle", params="/type=3&x=1")
    (hit,) = world.do("search", address="bob", text="needle")["messages"]
    (entry,) = world.do("history", address="bob", peer="alice")["messages"]

    assert {"peer": "alice"} | entry == hit


def test_filters(world):
    """One conversation, one sender, one type; what nobody said is found by nobody."""
    world.group("team", "alice", "bob")
    say(world, "apple one")
    say(world, "apple two", params="/type=7")
    say(world, "apple three", to="g/team")
    say(world, "apple four", sender="bob", to="u/alice")

    assert ["apple four", "apple three", "apple two", "apple one"] == found(world, "apple")
    assert ["apple four", "apple two", "apple one"] == found(world, "apple", peer="alice")
    assert ["apple three"] == found(world, "apple", group="team")
    assert ["apple four"] == found(world, "apple", sender="bob")
    assert ["apple two"] == found(world, "apple", type=7)
    assert ["apple two"] == found(world, "apple", type=7, peer="alice", sender="alice")
    assert [] == found(world, "apple", peer="carol") == found(world, "apple", sender="nobody")
    with pytest.raises(OperationError, match="at most one conversation"):
        found(world, "apple", peer="alice", group="team")


def test_nobody_finds_what_is_not_his(world):
    """Conversations of others, what was said before one's joining and after one's leaving, what never reached one."""
    world.group("team", "alice", "bob")
    world.listener("carol")
    say(world, "secret of two")
    say(world, "secret before", to="g/team")
    world.do("group_join", address="team", users=["carol"])
    say(world, "secret during", to="g/team")
    world.do("group_leave", address="team", users=["carol"])
    say(world, "secret after", to="g/team")
    say(world, "secret that expires", params="/expiry=1")
    world.jump(5)

    assert ["secret during"] == found(world, "secret", address="carol")
    assert ["secret after", "secret during", "secret before", "secret of two"] == found(world, "secret")


def test_pages(world):
    """Pages follow each other without a hole or a repeat, also when much of what is found is not to be seen."""
    say(world, *(f"word {number}" for number in range(7)))
    pages, cursor = [], None
    while cursor is not None or not pages:
        answer = world.do("search", address="bob", text="word", limit=3, cursor=cursor)
        pages.append([each["text"][-1] for each in answer["messages"]])
        cursor = answer["next"]

    assert [["6", "5", "4"], ["3", "2", "1"], ["0"]] == pages
    with pytest.raises(OperationError, match="cursor is the `next`"):
        found(world, "word", cursor="x")


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ('"', []), ("*", []), ("%", []), ("_", []), ("'", []), ("()", []), ("-", []), (":", []), ("", []), (" ", []),
        ("100%", ["100% of a_b"]), ("10%", []), ("a_b", ["100% of a_b"]), ("a%b", ["100% of a_b"]),
        ("a_", ["100% of a_b"]), ("_b", ["100% of a_b"]), ('"100"*', ["100% of a_b"]), ("text:100", []),
        ("marks:u1", []),
        ('100"OR"something', []), ('"OR"100', []),
        ("100 OR nothing", []), ("100 NOT of", []), ("NEAR(100 of)", []), ("^100", ["100% of a_b"]),
        ("x'; DROP TABLE message; --", []), ("100\0of", ["100% of a_b"]), ("{text}:100", []), ("u2", []), ("t0", []),
    ],
)  # fmt: skip
def test_nothing_is_an_operator(world, text, hits):
    """SQL, wildcards of LIKE and the syntax of FTS are words or nothing."""
    say(world, "100% of a_b", "something else")

    assert hits == found(world, text)
    assert ["something else"] == found(world, "else")


def test_a_question_has_a_bound(world):
    """Ten kilobytes are refused at once, and so are more words than anybody searches."""
    for text in ("x" * 10_240, "a " * 17, '"' * 10_240):
        with pytest.raises(OperationError, match="search for at most 16 words"):
            found(world, text)


def test_scripts_without_spaces(world):
    """Of Chinese, Japanese or Thai, any part of what was written is found, and no other characters."""
    say(world, "明日の会議は東京駅です", "พรุ่งนี้ประชุม")

    assert ["明日の会議は東京駅です"] == found(world, "東京")
    assert ["明日の会議は東京駅です"] == found(world, "会議 東京駅")
    assert [] == found(world, "京東")
    assert ["พรุ่งนี้ประชุม"] == found(world, "ประชุม")


def test_bytes_are_not_searched(world):
    """A payload that is no text is not found, and does not stop the index."""
    alice = world.connect("alice")
    alice.publish("u/bob/1", b"\xff\xfeword")
    alice.publish("u/bob/2", b"word \x00 zero")

    assert [2] == [each["seq"] for each in world.do("search", address="bob", text="word")["messages"]]


def test_the_index_goes_on_after_a_crash(world):
    """What was committed but not indexed when the server was killed is indexed afterwards, and nothing twice."""
    say(world, "before one", "before two")
    world.advance(2)
    world.messaging.search._is_busy = True  # a slice that never ends
    say(world, "before three")
    world.restart()
    say(world, "after")

    assert ["before three", "before two", "before one"] == found(world, "before")
    world.restart(kill=False)
    assert ["before three", "before two", "before one"] == found(world, "before")
    assert ["after"] == found(world, "after")


def test_what_was_taken_back_before_it_was_indexed(world):
    """A message without a payload is passed over: what was said after it is found."""
    world.messaging.search._is_busy = True  # a slice that never ends: the index takes nothing by itself
    alice = world.connect("alice", "phone")
    alice.publish("u/bob/1", "word one")
    (mid,) = [each["mid"] for each in world.do("history", address="bob", peer="alice")["messages"]]
    alice.publish(f"u/bob/2/recall={mid}", b"")
    alice.publish("u/bob/3", "word three")
    world.messaging.search._is_busy = False

    assert ["word three"] == found(world, "word")


def test_the_index_is_made_again(world):
    """A lost or damaged file, or one that belongs to other data, costs nothing but the time to make it again."""
    say(world, "one", "two")
    assert ["two"] == found(world, "two")
    path = world.folder / INDEX_NAME
    for damage in ("gone", "noise", "other"):
        world.store.search.close()
        if damage == "gone":
            path.unlink()
        elif damage == "noise":
            path.write_bytes(b"no database" * 1_000)
        else:
            connection = world.store.search._connected()
            connection.execute("UPDATE mark SET seq = 1000")
            connection.close()
        world.restart(kill=False)
        world.advance(1)

        assert (damage, ["two"]) == (damage, found(world, "two"))


def test_it_can_be_switched_off(make_world):
    """Then nobody searches, no file with anybody's words lies on the disk, and one from before is removed."""
    world = make_world(history={"search": False})
    (world.folder / INDEX_NAME).write_bytes(b"words of before")
    say(world, "one")
    world.advance(1)
    with pytest.raises(OperationError, match="search is switched off"):
        found(world, "one")

    assert not (world.folder / INDEX_NAME).exists()
    assert [(0,)] == world.rows("SELECT count(*) FROM search_change")


def test_the_index_follows_behind(world):
    """Indexing happens on ticks, not with the commit; an answer says whether it has everything, after a last effort."""
    alice = world.connect("alice")
    alice.publish("u/bob/1", "fresh")
    assert not world.messaging.search.is_complete
    assert ["fresh"] == found(world, "fresh")
    alice.publish("u/bob/2", "later")
    world.advance(0.5)

    assert world.messaging.search.is_complete
    assert world.do("search", address="bob", text="later")["complete"]


@pytest.mark.damages
def test_what_is_removed_vanishes_from_the_file(world):
    """A message that is deleted from the store, or whose text is replaced, leaves no word in the index."""
    say(world, "vanish", "replace")
    world.advance(1)
    world.store.read.execute("DELETE FROM message WHERE payload = ?", (b"vanish",))
    ((mid,),) = world.rows("SELECT id FROM message WHERE payload = ?", b"replace")
    world.store.read.execute("UPDATE message SET payload = ? WHERE id = ?", (b"replaced text", mid))
    reseal(world.store.read, mid)
    world.advance(1)

    assert ([], ["replaced text"]) == (found(world, "vanish"), found(world, "text"))
    words = world.store.search._open().execute("SELECT text FROM found").fetchall()
    assert [("replaced text",)] == words


class Disk:
    """What the store asks of the disk: how much is free."""

    def __init__(self, free):
        self.free = free

    def disk_usage(self, _folder):
        return self


def test_a_full_disk_is_left_to_messages(make_world, monkeypatch):
    """While there is no room the index takes none, no log keeps any, and a search says that it is not complete."""
    disk = Disk(1 << 40)
    monkeypatch.setattr(store_module, "shutil", disk)
    world = make_world(store={"ballast_bytes": 4096})
    logs = [world.folder / f"{name}-wal" for name in (INDEX_NAME, DATABASE_NAME)]
    say(world, "pizza one")
    world.advance(2)
    before = [each.stat().st_size > 0 for each in logs]
    world.connect("alice", "other").publish("u/bob/two", "pizza two")
    disk.free = 0
    world.store.drop_ballast()
    world.advance(2)
    answer = world.do("search", address="bob", text="pizza")
    after = [each.stat().st_size for each in logs]
    disk.free = 1 << 40
    world.advance(2)
    found_then = found(world, "pizza")

    assert ([True, True], [0, 0], False) == (before, after, answer["complete"])
    assert ["pizza two", "pizza one"] == found_then
