"""What was damaged in the store: nobody gets it, its sender is told, and its conversation goes on."""

from __future__ import annotations

import sqlite3

import pytest

from mesimqtt.domain.errors import OperationError
from mesimqtt.store.inspection import checksums
from mesimqtt.store.inspection_base import View
from unit.messaging.world import mid_of

pytestmark = pytest.mark.damages


def damage(world, text, column="payload", value=b"altered"):
    """Alter one column of a stored message; return its mid."""
    ((mid,),) = world.rows("SELECT id FROM message WHERE payload = ?", text.encode())
    world.store.read.execute(f"UPDATE message SET {column} = ? WHERE id = ?", (value, mid))  # noqa: S608 - names of ours
    return mid


def waiting(world, *texts, to="u/bob"):
    """Let alice write while nobody reads; return her."""
    alice = world.listener("alice", filters=("status/#",))
    for number, text in enumerate(texts, 1):
        alice.publish(f"{to}/{number}", text)
    alice.statuses()
    return alice


def test_altered_bytes_are_never_delivered(world, caplog):
    """The damaged message is a gap, the others come in their order; its sender is told 0x80 `corrupt`, once."""
    world.user("bob")
    alice = waiting(world, "one", "two", "three")
    mid = damage(world, "two")
    bob = world.listener("bob")
    world.advance(1.5)

    assert ["one", "three"] == bob.payloads()
    statuses = {each["cid"]: each for each in alice.statuses()}
    assert (128, "corrupt", f"{mid:016x}") == tuple(statuses["2"][key] for key in ("status", "reason", "mid"))
    assert [2, 2] == [statuses[cid]["status"] for cid in ("1", "3")]
    assert 1 == caplog.text.count(f"message {mid:016x} is damaged")
    assert 1 == world.do("stats")["damaged"]
    bob.lose()
    bob = world.listener("bob")
    world.advance(2)

    assert ([], [], 1) == (bob.payloads(), alice.steps(), caplog.text.count("is damaged"))


def test_the_last_one_damaged_holds_up_nothing(world):
    """A damaged message at the end of what waits is passed over: what comes next is delivered live."""
    world.user("bob")
    alice = waiting(world, "one", "two")
    damage(world, "two")
    bob = world.listener("bob")
    alice.publish("u/bob/3", "three")
    world.advance(1.5)

    assert ["one", "three"] == bob.payloads()
    assert [("1", 2), ("3", 1), ("3", 2), ("2", 128)] == alice.steps()


def test_what_was_delivered_before_keeps_its_status(world):
    """Damage that is found after the delivery changes no verdict; history shows that there was something."""
    bob = world.listener("bob")
    alice = waiting(world, "one", "two")
    assert ["one", "two"] == bob.payloads()
    mid = damage(world, "one")
    (first, second) = sorted(world.do("history", address="bob", peer="alice")["messages"], key=lambda each: each["seq"])
    world.advance(1.5)

    assert (True, None, "two") == (first["corrupt"], first.get("text"), second["text"])
    assert [] == [each for each in alice.steps() if each[1] > 3]
    assert 0x80 == world.rows("SELECT state FROM message WHERE id = ?", mid)[0][0]
    assert "altered" not in str(world.do("inbox", address="bob"))


@pytest.mark.parametrize(("column", "value"), [("payload", b""), ("ts", 1), ("kind", 0)])
def test_an_event_that_is_damaged(world, column, value):
    """History shows that there was something, to every member; the group's other events and messages are whole."""
    world.group("team", "alice", "bob")
    world.do("group_join", address="team", users=["carol"])
    waiting(world, "hello", to="g/team")
    ((mid,),) = world.rows("SELECT min(id) FROM message WHERE kind = 1")
    world.store.read.execute(f"UPDATE message SET {column} = ? WHERE id = ?", (value, mid))  # noqa: S608 - names of ours
    for _ in range(2):
        page = world.do("history", address="bob", group="team")["messages"]
        entries = {each["mid"]: each for each in page}

        assert (True, None) == (entries[f"{mid:016x}"]["corrupt"], entries[f"{mid:016x}"].get("event"))
        assert ["hello"] == [each["text"] for each in page if "text" in each]
        world.advance(1.5)
    assert 1 == world.do("stats")["damaged"]


def test_an_edit_that_is_damaged(world):
    """Where the newest text is damaged the older one is not shown in its place."""
    bob = world.listener("bob")
    alice = waiting(world, "draft")
    original = mid_of(bob.received("u/alice")[0])
    alice.publish(f"u/bob/2/edit={original}", "final")
    damage(world, "final")
    for _ in range(2):
        (entry,) = world.do("history", address="bob", peer="alice")["messages"]
        world.advance(1.5)

        assert (True, None) == (entry["corrupt"], entry.get("text"))


def test_a_group_goes_on_without_it(world):
    """In a group each member who had not got it yet is a verdict of its own."""
    world.user("bob", "carol")
    world.group("team", "alice", "bob", "carol")
    alice = waiting(world, "one", "two", to="g/team")
    damage(world, "one", "params", "type=7")
    bob = world.listener("bob")
    world.advance(1.5)

    assert ["two"] == bob.payloads("g/")
    assert {("bob", 128), ("carol", 128)} == {
        (each["peer"], each["status"]) for each in alice.statuses() if each["cid"] == "1"
    }


def test_work_that_is_damaged_goes_to_nobody(world):
    """In a round-robin group the next piece of work is handed out; the damaged one has its verdict."""
    world.user("bob")
    world.do("group_add", address="desk", kind="round-robin")
    world.do("group_join", address="desk", users=["alice", "bob"])
    alice = waiting(world, "one", "two", to="g/desk")
    damage(world, "one")
    world.restart()  # what waits is read from the store again
    alice = world.listener("alice", filters=("status/#",))
    bob = world.listener("bob")
    world.advance(2)

    assert ["two"] == bob.payloads("g/")
    assert [128] == [each["status"] for each in alice.statuses() if each["cid"] == "1"]
    assert [(0,)] == world.rows("SELECT count(*) FROM work")


def test_a_damaged_sender_is_nobody(world):
    """Where the damage makes a message another's, that one is told nothing: his statuses are his own."""
    world.user("bob")
    mallory = world.listener("mallory", filters=("status/#",))
    number = world.rows("SELECT id FROM user WHERE address = 'mallory'")[0][0]
    waiting(world, "one", "two")
    damage(world, "one", "sender_id", number)
    bob = world.listener("bob")
    world.advance(1.5)

    assert (["two"], []) == (bob.payloads(), mallory.statuses())


def test_a_read_mark_makes_no_receipt_of_what_is_damaged(world):
    """All up to a message is read; who stands in a damaged row as its sender is told nothing, the others are."""
    carol, alice = (world.listener(user, filters=("status/#",)) for user in ("carol", "alice"))
    number = world.rows("SELECT id FROM user WHERE address = 'carol'")[0][0]
    bob = world.listener("bob")
    for cid in ("1", "2"):
        alice.publish(f"u/bob/{cid}", f"text {cid}")
    first, second = bob.received("u/alice")
    mid = damage(world, "text 1", "sender_id", number)
    bob.publish("read/u/alice", f"<={mid_of(second)}")
    world.advance(1.5)

    assert [] == carol.statuses()
    assert [("1", 1), ("1", 2), ("2", 1), ("2", 2), ("2", 3)] == sorted(alice.steps())
    assert f"{mid:016x}" == mid_of(first)
    assert [(0x80,), (0,)] == world.rows("SELECT state FROM message ORDER BY seq")


@pytest.mark.parametrize(("column", "value"), [("cid", "9"), ("cid", b"\xff"), ("ts", 1), ("payload", b"altered")])
def test_a_sender_who_returns_is_told_by_the_name_that_he_gave(world, column, value):
    """What happened to his messages while he was away he is told by their cids, whatever their rows say by now."""
    alice = world.listener("alice", filters=("status/#",))
    for cid in ("1", "2"):
        alice.publish(f"u/bob/{cid}", f"text {cid}")
    alice.statuses()
    alice.lose()
    world.listener("bob")
    world.advance(1)
    damage(world, "text 1", column, value)
    alice = world.listener("alice", filters=("status/#",))

    assert [("1", 2), ("2", 2)] == sorted(alice.steps())
    world.advance(1.5)
    assert (1, []) == (world.do("stats")["damaged"], alice.steps())


def test_a_sender_who_returns_is_told_nothing_of_what_is_anothers(world):
    """A damaged row that says it is his, in a place that is not: he gets no status of it."""
    carol = world.listener("carol", filters=("status/#",))
    alice = world.listener("alice", filters=("status/#",))
    carol.publish("u/bob/7", "of carol")
    alice.publish("u/bob/1", "of alice")
    carol.lose()
    world.listener("bob")
    ((place,),) = world.rows("SELECT conversation_id FROM message WHERE payload = ?", b"of carol")
    ((number,),) = world.rows("SELECT id FROM user WHERE address = 'carol'")
    damage(world, "of carol", "seq", 5)
    world.store.read.execute(
        "UPDATE message SET conversation_id = ?, seq = 1, sender_id = ? WHERE payload = ?", (place, number, b"of alice")
    )
    world.advance(1)
    carol = world.listener("carol", filters=("status/#",))
    world.advance(2)

    assert [] == [each for each in carol.steps() if each[0] == "1"]


def test_check_names_what_has_no_verdict(world):
    """Whose a damaged message was nobody can say where that is what is damaged: `mesimqtt check` says so of those."""
    world.user("bob")
    number = world.rows("SELECT id FROM user WHERE address = 'carol'")[0][0]
    waiting(world, "one", "two")
    lone, _ = damage(world, "one", "sender_id", number), damage(world, "two")
    world.listener("bob")
    world.advance(1.5)
    found = [each.what for each in checksums(world.store.read, View(now_ms=world.ms, expiry_default_s=1))]

    assert 1 == len(found)
    assert found[0].startswith("2 damaged messages are set apart")
    assert found[0].endswith(f"; 1 of them without a status after `sent`: {lone:016x}")


def test_a_damaged_cid_is_mended(world):
    """The sender is told by the name that he gave: the store has it twice."""
    world.user("bob")
    alice = waiting(world, "one")
    damage(world, "one", "cid", "9")
    world.listener("bob")
    world.advance(1.5)

    assert [("1", 128)] == alice.steps()


def test_a_scheduled_message_that_is_damaged(world):
    """It is not sent when its time comes: its sender gets the verdict then."""
    world.user("bob")
    alice = world.listener("alice", filters=("status/#",))
    alice.publish("u/bob/1/when=60", "later")
    world.store.read.execute("UPDATE scheduled SET payload = x'00'")
    bob = world.listener("bob")
    world.advance(62)

    assert [] == bob.payloads()
    assert [("1", 1), ("1", 128)] == alice.steps()


def test_it_can_be_neither_edited_nor_forwarded(world):
    """Roads that start from a stored message refuse a damaged one."""
    bob = world.listener("bob")
    alice = waiting(world, "one")
    mid = mid_of(bob.received("u/alice")[0])
    damage(world, "one")
    alice.publish(f"u/bob/2/edit={mid}", "better")
    alice.publish(f"u/bob/3/ref={mid}&flags=131", "look")

    assert {"edit.deleted", "forward.ref"} == {each["rule"] for each in alice.statuses() if "rule" in each}
    assert [] == bob.payloads()


def test_trace_tells_of_it(world):
    """An operator who asks sees the message and its verdict, and none of its bytes."""
    world.user("bob")
    waiting(world, "one")
    mid = damage(world, "one")
    world.listener("bob")
    world.advance(1.5)
    found = world.do("trace", mid=f"{mid:016x}")

    assert (0, [1, 128]) == (found["size"], [step["status"] for step in found["steps"]])


@pytest.mark.parametrize("kind", ["pair", "work"])
def test_a_kill_right_after_it_was_set_apart_costs_no_verdict(world, kind):
    """Whatever the last commit of a killed server was: its sender is told in the next life, and once."""
    to = "u/bob"
    if kind == "work":
        to = "g/desk"
        world.do("group_add", address="desk", kind="round-robin")
        world.do("group_join", address="desk", users=["alice", "bob"])
    alice = waiting(world, "one", to=to)
    damage(world, "one")
    if kind == "work":
        world.restart()
        alice = world.listener("alice", filters=("status/#",))
    world.listener("bob")
    world.commits.hold_answers()  # the commit that sets it apart is the last thing that this life does
    world.advance(1.5)
    assert [(0x80,)] == world.rows("SELECT state FROM message WHERE cid = '1'")
    assert [] == [each for each in alice.steps() if each[1] > 3]
    world.restart()
    alice = world.listener("alice", filters=("status/#",))
    world.advance(2)

    assert [("1", 128)] == alice.steps()


def fail_reads(world, code):
    """Let the read by which a message is looked into fail with an error of SQLite's; 0: no more."""
    world.store._database = world.database
    world.database.at, world.database.code = "SELECT state FROM message", code


def test_one_that_cannot_be_looked_into_is_said_once(world, caplog):
    """What fails and not for the disk is given up with one line in the log; others are set apart all the same."""
    world.user("bob")
    alice = waiting(world, "one")
    alice.publish("u/carol/2", "two")
    first = damage(world, "one")
    fail_reads(world, sqlite3.SQLITE_ERROR)
    world.listener("bob")
    world.advance(5)
    fail_reads(world, 0)
    damage(world, "two")
    world.listener("carol")
    world.advance(2)

    assert 1 == caplog.text.count(f"message {first:016x} may be damaged and cannot be looked into; it stays")
    assert [("2", 1), ("2", 128)] == alice.steps()


def test_one_that_the_disk_does_not_give_is_tried_again(world, caplog):
    """While the disk fails it is said once, however often it is tried; when it reads again the verdict comes."""
    world.user("bob")
    alice = waiting(world, "one")
    damage(world, "one")
    world.listener("bob")
    fail_reads(world, sqlite3.SQLITE_IOERR)
    world.advance(5)
    assert ([], 1) == (alice.steps(), caplog.text.count("cannot be looked into; it is tried again"))
    assert 3 < world.database.failures
    fail_reads(world, 0)
    world.advance(2)

    assert [("1", 128)] == alice.steps()


@pytest.mark.parametrize("table", ["queued", "retained"])
def test_free_topics_too(world, caplog, table):
    """A queued or retained message of a free topic that is damaged is dropped; the others come."""
    door = world.connect("door", "lock")
    door.subscribe("free/#")
    door.lose()
    alice = world.connect("alice")
    alice.send(*[packet(number, text, retain=table == "retained") for number, text in ((1, b"one"), (2, b"two"))])
    world.store.read.execute(f"UPDATE {table} SET payload = x'00' WHERE payload = ?", (b"one",))  # noqa: S608 - of ours
    if table == "retained":
        world.restart()
        door = world.connect("door", "other")
        door.subscribe("free/#")
    else:
        door = world.connect("door", "lock")
    world.advance(0.5)

    assert [b"two"] == [message.payload for message in door.inbox]
    assert 1 == world.do("stats")["damaged"]
    assert 1 == caplog.text.count("is damaged; nobody gets it")


def packet(number, text, *, retain):
    from mesimqtt.testing import wire

    return wire.publish(f"free/{number}", text, qos=1, packet_id=number, retain=retain)


def test_a_mid_of_a_damaged_message_is_no_place_in_history(world):
    """Its seq cannot be trusted, so nothing is read or paged by it."""
    bob = world.listener("bob")
    waiting(world, "one", "two")
    mid = mid_of(bob.received("u/alice")[0])
    damage(world, "one", "seq", 77)
    damage(world, "two", "seq", 99)
    bob.publish("read/u/alice", f"<={mid}")
    world.advance(1.5)

    with pytest.raises(OperationError, match="neither a seq nor a mid"):
        world.do("history", address="bob", peer="alice", before=mid)
