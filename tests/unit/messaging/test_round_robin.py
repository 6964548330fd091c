"""Round-robin groups: each message is work that exactly one member takes, and the receipt says who (docs/groups.md)."""

from __future__ import annotations

import sqlite3
from collections import Counter

import pytest

from mesimqtt.store import messages as rows
from unit.engine import both_ends as wire
from unit.messaging.world import mid_of


@pytest.fixture
def desk(world):
    """A help desk of bob and carol (and dave, who comes later), to which alice sends."""
    world.user("dave")
    make(world)
    return world


def make(world):
    world.do("group_add", address="desk", kind="round-robin")
    world.do("group_join", address="desk", users=["alice", "bob", "carol", "dave"])
    world.advance(2)


def told(peer):
    """Return the statuses since the last look, without SENT, as (cid, peer, code)."""
    return [(each["cid"], each.get("peer"), each["status"]) for each in peer.statuses() if each["status"] != 1]


def silent(world, user, device="phone"):
    """Connect a device that acknowledges nothing by itself; what came before is past."""
    peer = world.listener(user, device)
    peer.received()
    peer.auto_ack = False
    return peer


def test_exactly_one_takes_it_and_the_receipt_names_him(desk):
    """SENT, then DELIVERED with `peer` and `device`; nobody else sees it, and the sender's own device neither."""
    alice, bob, carol = (desk.listener(name) for name in ("alice", "bob", "carol"))
    alice.publish("g/desk/1", "help")
    taken = {name: peer.payloads("g/") for name, peer in (("alice", alice), ("bob", bob), ("carol", carol))}
    statuses = alice.statuses()

    assert [1, 2] == [status["status"] for status in statuses]
    assert ("desk", "phone") == (statuses[1]["group"], statuses[1]["device"])
    assert {statuses[1]["peer"]: ["help"]} == {name: found for name, found in taken.items() if found}


def test_the_work_is_shared_out_fairly(desk):
    """Whoever is online and has room gets as much as the others."""
    alice = desk.listener("alice")
    peers = {name: desk.listener(name) for name in ("bob", "carol", "dave")}
    for number in range(30):
        alice.publish(f"g/desk/{number}")

    assert {"bob": 10, "carol": 10, "dave": 10} == {name: len(peer.payloads("g/")) for name, peer in peers.items()}
    assert Counter({"bob": 10, "carol": 10, "dave": 10}) == Counter(peer for _, peer, code in told(alice) if code == 2)


def test_who_has_much_to_do_gets_no_more(make_world):
    """A member holds so many at once; what nobody has room for waits, and comes when there is room."""
    world = make_world(groups={"work_held_max": 2})
    world.user("dave")
    make(world)
    alice, bob = world.listener("alice"), silent(world, "bob")
    for number in range(5):
        alice.publish(f"g/desk/{number}", str(number))
    first = bob.received("g/")
    assert ["0", "1"] == [message.payload.decode() for message in first]
    bob.ack(first[0])
    assert ["2"] == bob.payloads("g/")
    carol = world.listener("carol")

    assert ["3", "4"] == carol.payloads("g/")


def test_work_waits_while_nobody_is_online(desk):
    """In its order, over a restart, for whoever comes first; and for more than one page of it."""
    alice = desk.connect("alice")
    for number in range(600):
        alice.publish(f"g/desk/{number}", str(number))
    desk.restart()
    desk.advance(1)
    bob = desk.listener("bob")
    desk.advance(1)
    found = [message.payload.decode() for message in bob.received("g/")]

    assert [str(number) for number in range(600)] == found
    assert [(0,)] == desk.rows("SELECT count(*) FROM work")
    assert [] == desk.listener("carol").payloads("g/")
    alice = desk.listener("alice")
    alice.publish("g/desk/last", "live")
    assert [("carol", 2)] == [(peer, code) for cid, peer, code in told(alice) if cid == "last"]


def test_it_is_taken_over_when_no_answer_comes(desk):
    """After the time in force another one gets it, marked as a repeat; the first PUBACK says whose it was."""
    alice, bob = desk.listener("alice"), silent(desk, "bob")
    alice.publish("g/desk/1", "slow")
    (first,) = bob.received("g/")
    carol = silent(desk, "carol")
    desk.advance(29)
    assert [] == carol.received("g/")
    desk.advance(2)
    (second,) = carol.received("g/")
    assert ((False, True), mid_of(first)) == ((first.dup, second.dup), mid_of(second))
    bob.ack(first)
    carol.ack(second)

    assert [("1", "bob", 2)] == told(alice)
    desk.advance(60)
    assert ([], []) == (told(alice), carol.received("g/"))


def test_without_anybody_else_it_stays_with_him(desk):
    """Nobody gets the same message twice on one connection for being slow."""
    alice, bob = desk.listener("alice"), silent(desk, "bob")
    alice.publish("g/desk/1")
    (only,) = bob.received("g/")
    desk.advance(120)
    assert [] == bob.received("g/")
    bob.ack(only)

    assert [("1", "bob", 2)] == told(alice)


@pytest.mark.parametrize("way", ["lose", "disconnect"])
def test_it_is_taken_over_when_his_connection_ends(desk, way):
    """At once, by who is there; by himself if he comes back and nobody else was."""
    alice, bob, carol = desk.listener("alice"), silent(desk, "bob"), silent(desk, "carol")
    alice.publish("g/desk/1")
    holder, other = (bob, carol) if bob.inbox else (carol, bob)
    getattr(holder, way)()
    (again,) = other.received("g/")
    getattr(other, way)()
    assert again.dup
    assert [] == told(alice)
    back = desk.listener("dave")

    assert [True] == [message.dup for message in back.received("g/")]
    assert [("1", "dave", 2)] == told(alice)


def test_a_member_who_is_removed_loses_what_he_did_not_acknowledge(desk):
    """Another one gets it; so it is when he may receive no more."""
    alice, bob = desk.listener("alice"), silent(desk, "bob")
    alice.publish("g/desk/1", "one")
    carol = silent(desk, "carol")
    desk.do("group_leave", address="desk", users=["bob"])
    (message,) = carol.received("g/")
    assert message.dup
    dave = desk.listener("dave")
    desk.do("group_set", address="desk", profile={"receive:carol": "off"})

    assert ["one"] == dave.payloads("g/")
    assert [("1", "dave", 2)] == told(alice)
    assert bob.received("g/")


def test_all_devices_of_a_member_get_it_and_one_takes_it(desk):
    """His phone and tablet see it as they see any message of his; the status names the first."""
    alice, phone, tablet = desk.listener("alice"), silent(desk, "bob"), silent(desk, "bob", "tablet")
    alice.publish("g/desk/1")
    (one,), (other,) = phone.received("g/"), tablet.received("g/")
    tablet.ack(other)
    phone.ack(one)

    assert [("1", "bob", "tablet")] == [
        (s["cid"], s["peer"], s["device"]) for s in alice.statuses() if s["status"] == 2
    ]


def test_who_cannot_acknowledge_takes_no_work(desk):
    """At QoS 0 nobody would know whether it arrived: it waits for somebody at QoS 1."""
    alice, bob = desk.listener("alice"), desk.listener("bob", qos=0)
    alice.publish("g/desk/1")
    assert [] == bob.payloads("g/")

    assert ["hi"] == desk.listener("carol").payloads("g/")


def test_who_took_it_reads_it(desk):
    """READ comes from him alone; a mid of somebody else's is ignored, and so is one that nobody took."""
    alice, bob = desk.listener("alice"), desk.listener("bob")
    alice.publish("g/desk/1")
    mid = mid_of(bob.received("g/")[0])
    carol = desk.listener("carol")
    alice.statuses()
    carol.publish("read/g/desk", mid)
    carol.publish("read/g/desk", f"<={mid}")
    assert [] == told(alice)
    bob.publish("read/g/desk", mid)
    bob.publish("read/g/desk", mid)

    assert [("1", "bob", 3)] == told(alice)


def test_all_that_one_took_is_read_at_once(desk):
    """`<=mid` reads his own pieces and leaves the others'."""
    alice, bob, carol = (desk.listener(name) for name in ("alice", "bob", "carol"))
    for number in range(6):
        alice.publish(f"g/desk/{number}")
    mine = [mid_of(message) for message in bob.received("g/")]
    delivered = [cid for cid, peer, code in told(alice) if peer == "bob" and code == 2]
    bob.publish("read/g/desk", f"<={mine[-1]}")

    assert [(cid, "bob", 3) for cid in delivered] == told(alice)
    assert 3 == len(carol.received("g/"))


def test_what_one_takes_over_behind_what_he_has_read_is_read_too(desk):
    """`<=mid` again reads a piece that came to him only after the first one, though its place is before it."""
    alice, bob = desk.listener("alice"), silent(desk, "bob")
    alice.publish("g/desk/1")
    carol = desk.listener("carol")
    alice.publish("g/desk/2")
    (second,) = carol.received("g/")
    carol.publish("read/g/desk", f"<={mid_of(second)}")
    alice.statuses()
    bob.lose()
    assert [("1", "carol", 2)] == told(alice)
    carol.publish("read/g/desk", f"<={mid_of(second)}")

    assert [("1", "carol", 3)] == told(alice)


def test_work_that_nobody_takes_expires(desk):
    """0x84 without a `peer`: there was nobody whose it was; nobody gets it afterwards."""
    alice = desk.listener("alice")
    alice.publish("g/desk/1/expiry=10")
    desk.advance(12)

    assert [("1", None, 0x84)] == told(alice)
    assert [] == desk.listener("bob").payloads("g/")
    assert [(0,)] == desk.rows("SELECT count(*) FROM work")


def test_work_in_flight_at_its_deadline_is_judged_by_its_answer(desk):
    """An answer in time is DELIVERED; without one it is expired half a minute later."""
    alice, bob = desk.listener("alice"), silent(desk, "bob")
    alice.publish("g/desk/1/expiry=10")
    alice.publish("g/desk/2/expiry=10")
    first, _ = bob.received("g/")
    desk.advance(15)
    assert [] == told(alice)
    bob.ack(first)
    assert [("1", "bob", 2)] == told(alice)
    desk.advance(40)

    assert [("2", None, 0x84)] == told(alice)


def test_a_deleted_group_ends_its_work(desk):
    """`group-deleted`, once for each; what is in flight is judged by its answer."""
    alice, bob = desk.listener("alice"), silent(desk, "bob")
    desk.do("group_set", address="desk", profile={"expiry": "never"})
    for number in range(20):
        alice.publish(f"g/desk/{number}")
    held = bob.received("g/")
    assert 16 == len(held)
    desk.do("group_delete", addresses=["desk"])
    bob.ack(held[0])
    desk.advance(40)
    found = told(alice)

    assert [("0", "bob", 2)] == [each for each in found if each[2] == 2]
    assert sorted(str(number) for number in range(1, 20)) == sorted(cid for cid, _, code in found if code == 0x80)
    assert [(0,)] == desk.rows("SELECT count(*) FROM work")


def test_the_queue_is_bounded(make_world):
    """As an inbox is: 0x82 to who would add to it."""
    world = make_world(messaging={"inbox_messages_max": 3})
    world.user("dave")
    make(world)
    alice = world.listener("alice")
    for number in range(5):
        alice.publish(f"g/desk/{number}")

    assert [("3", None, 0x82), ("4", None, 0x82)] == told(alice)
    assert 3 == len(world.listener("bob").payloads("g/"))
    alice.publish("g/desk/5")
    assert [("5", "bob", 2)] == [each for each in told(alice) if each[0] == "5"]


def test_it_fills_nobodys_inbox_and_nobodys_history(desk):
    """What somebody else took, or nobody yet, is nothing that waits for a member, and nothing that he can look up."""
    alice = desk.listener("alice")
    for number in range(3):
        alice.publish(f"g/desk/{number}", f"secret {number}")
    assert 0 == desk.do("inbox", address="carol")["messages"]
    bob, carol = desk.listener("bob"), desk.listener("carol")
    taken = bob.payloads("g/")
    seen = {
        name: [each["text"] for each in peer.rpc("history", group="desk")[0]["result"]["messages"] if "text" in each]
        for name, peer in (("bob", bob), ("carol", carol), ("alice", alice))
    }

    assert {"bob": sorted(taken), "carol": [], "alice": sorted(taken)} == {k: sorted(v) for k, v in seen.items()}


def test_a_failed_commit_leaves_it_taken(desk):
    """The receipt of who took it is written when the store writes again, and nobody gets it a second time."""
    alice, bob, carol = desk.listener("alice"), silent(desk, "bob"), silent(desk, "carol")
    alice.publish("g/desk/1")
    holder, other = (bob, carol) if bob.inbox else (carol, bob)
    desk.database.code = sqlite3.SQLITE_BUSY
    holder.ack(*holder.received("g/"))
    assert [] == told(alice)
    desk.advance(40)
    desk.database.code = 0
    desk.advance(3)

    assert [("1", holder.user, 2)] == told(alice)
    assert [] == other.received("g/")
    assert [(0,)] == desk.rows("SELECT count(*) FROM work")


def test_after_a_crash_it_comes_again_as_a_repeat(desk):
    """What was in flight when the server was killed may have arrived: whoever gets it is told so."""
    alice, bob = desk.listener("alice"), silent(desk, "bob")
    alice.publish("g/desk/1")
    assert [False] == [message.dup for message in bob.received("g/")]
    desk.restart()
    carol = desk.listener("carol")

    assert [True] == [message.dup for message in carol.received("g/")]
    assert [("1", "carol", 2)] == told(desk.listener("alice"))


def test_read_in_the_same_breath_as_the_acknowledgement(desk):
    """PUBACK and READ in one segment: both count, in order."""
    alice, bob = desk.listener("alice"), silent(desk, "bob")
    alice.publish("g/desk/1")
    (message,) = bob.received("g/")
    desk.commits.hold()
    bob.send(
        wire.ack("PUBACK", message.packet_id),
        wire.publish("m/bob/out/read/g/desk", mid_of(message).encode(), qos=1, packet_id=9),
    )
    desk.commits.release()
    desk.turn()

    assert [("1", "bob", 2), ("1", "bob", 3)] == told(alice)


def test_a_scheduled_message_is_work_when_it_is_due(desk):
    """One member takes it then."""
    alice, bob, carol = (desk.listener(name) for name in ("alice", "bob", "carol"))
    alice.publish("g/desk/1/when=10", "later")
    desk.advance(12)

    assert ["later"] == bob.payloads("g/") + carol.payloads("g/")


def test_work_that_is_read_before_its_commit_is_noticed_is_given_once(desk):
    """A page of the store may have what the loop is told of only then: it is still one piece of work."""
    alice = desk.listener("alice")
    alice.publish("g/desk/1", "help")
    bob = silent_from(desk, "bob")
    carol = silent_from(desk, "carol")
    queues, messages = desk.messaging._round_robin, messages_of(desk, "desk")
    queues.committed(*messages)
    desk.turn()

    assert ["help"] == [*bob.payloads("g/desk/alice"), *carol.payloads("g/desk/alice")]


def silent_from(world, user):
    """Connect a device that acknowledges nothing, with what it gets at once."""
    peer = world.connect(user)
    peer.auto_ack = False
    peer.subscribe("#")
    return peer


def messages_of(world, name):
    """Return a group and the newest message in it."""
    group = world.messaging._hub.directory.group(name)
    message = rows.page(world.store.read, group.thread, 0, 100)[-1]
    return group, message
