"""Read marks: `out/read/…` of one message or of all before it, and who is told (contract sections 2 and 4)."""

from __future__ import annotations

import pytest

from mesimqtt.domain.messages import RUNS_MAX
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.messaging.devices import WINDOW
from mesimqtt.messaging.waiting import OUTBOX_MAX
from unit.messaging.world import mid_of

NO_ROOM = WINDOW + OUTBOX_MAX + 10  # more than a device holds at once


def mid(peer):
    return mid_of(peer.received("u/")[-1])


def test_a_mark_upto_reads_all_before_it(world):
    """`<=mid` reads everything of the conversation up to that seq, and nothing after it."""
    alice, bob = world.listener("alice"), world.listener("bob")
    for number in range(4):
        alice.publish(f"u/bob/{number}")
    got = bob.received("u/")
    alice.statuses()

    assert bob.publish("read/u/alice", f"<={mid_of(got[2])}")

    assert [("0", 3), ("1", 3), ("2", 3)] == alice.steps()


def test_a_mark_costs_what_it_marks(world):
    """What is read already is not looked at again, though below it stands what nobody can read: a group's first event.

    Nor what lies between, whoever read it one by one.
    """
    world.user("alice", "bob")
    world.do("group_add", address="team")
    world.do("group_join", address="team", users=["alice", "bob"])
    alice, bob = (world.listener(user, filters=("g/#",)) for user in ("alice", "bob"))
    work, sizes = [], []
    world.store.read.set_progress_handler(lambda: work.append(1) and None, 10)
    for number in range(12):
        for index in range(40):
            alice.publish(f"g/team/{number}-{index}")
        got = [mid_of(message) for message in bob.received("g/")]
        bob.publish("read/g/team", got[20])
        bob.publish("read/g/team", f"<={got[-2]}")
        work.clear()
        bob.publish("read/g/team", f"<={got[-1]}")
        sizes.append(len(work))

    assert max(sizes[1:]) <= 1.5 * sizes[0]
    assert [(0,)] == world.store.read.execute("SELECT DISTINCT read FROM lane WHERE read_above <> ''").fetchall()


def test_a_mark_finds_all_that_is_unread_in_however_many_pieces(world):
    """Read one by one, every second: `<=mid` reads the others, each told once, and what is newer stays unread."""
    alice, bob = world.listener("alice"), world.listener("bob")
    for number in range(100):
        alice.publish(f"u/bob/{number}")
    got = [mid_of(message) for message in bob.received("u/")]
    for number in range(0, 100, 2):
        bob.publish("read/u/alice", got[number])
    alice.statuses()
    bob.publish("read/u/alice", f"<={got[90]}")

    assert [(str(number), 3) for number in range(1, 90, 2)] == alice.steps()


def test_reading_twice_is_told_once(world):
    """READ is a step: a second mark of the same message raises nothing."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    number = mid(bob)
    for payload in (number, number, f"<={number}"):
        bob.publish("read/u/alice", payload)

    assert [1, 2, 3] == [step for _, step in alice.steps()]


def test_a_read_waits_for_its_commit(world):
    """The PUBACK of a read mark, and READ, come after the commit."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    number = mid(bob)
    alice.statuses()
    world.commits.hold()

    assert not bob.publish("read/u/alice", number, packet_id=99)
    assert [] == alice.statuses()
    world.commits.release()
    world.turn()
    assert bob.took("PUBACK", 99)
    assert [("1", 3)] == alice.steps()


def test_other_devices_of_the_reader_are_told(world):
    """They get the same payload under `in/read`, the marking one does not."""
    alice, phone, tablet = world.listener("alice"), world.listener("bob"), world.listener("bob", "tablet")
    alice.publish("u/bob/1")
    number = mid(phone)
    phone.publish("read/u/alice", f"<={number}")

    assert [("m/bob/in/read/u/alice", f"<={number}".encode())] == [
        (message.topic, message.payload) for message in tablet.received("read/")
    ]
    assert [] == phone.received("read/")


def test_a_returning_device_gets_the_newest_mark_of_each_conversation(world):
    """One per conversation, the newest, once; also over a restart."""
    alice, carol, phone = world.connect("alice"), world.connect("carol"), world.listener("bob")
    world.listener("bob", "tablet").disconnect()
    mids = []
    for number in range(2):
        alice.publish(f"u/bob/{number}")
        mids.append(mid(phone))
        phone.publish("read/u/alice", f"<={mids[-1]}")
    carol.publish("u/bob/9")
    mids.append(mid(phone))
    phone.publish("read/u/carol", mids[-1])
    world.advance(2)
    world.restart()

    tablet = world.listener("bob", "tablet")
    assert [("m/bob/in/read/u/alice", f"<={mids[1]}"), ("m/bob/in/read/u/carol", mids[2])] == [
        (message.topic, message.payload.decode()) for message in tablet.received("read/")
    ]
    world.advance(2)
    tablet.disconnect()
    assert [] == world.listener("bob", "tablet").received("read/")


def test_marks_that_find_no_room_come_with_the_next_filter(world):
    """What a device has no room for is not told as if it had been: its next subscription goes on from there."""
    phone, names = world.listener("bob"), [f"u{number}" for number in range(NO_ROOM)]
    world.listener("bob", "tablet", filters=("status/#",)).disconnect()
    world.do("user_add", addresses=names)
    for name in names:
        phone.publish(f"read/u/{name}", world.do("send", sender=name, to="bob", text="x")["mid"])
    world.advance(2)

    tablet = world.connect("bob", "tablet")
    tablet.auto_ack = False
    tablet.subscribe("read/#")
    tablet.auto_ack = True
    first = tablet.received("read/")
    tablet.ack(*first)
    tablet.subscribe("read/#")

    told = [message.topic.rpartition("/")[2] for message in [*first, *tablet.received("read/")]]
    assert (WINDOW, names) == (len(first), told)


def test_a_mark_on_its_way_does_not_come_again_with_the_next_filter(world):
    """A device that returns and subscribes once more before it acknowledged has each mark once."""
    alice, phone = world.listener("alice"), world.listener("bob")
    world.listener("bob", "tablet").lose()
    alice.publish("u/bob/1")
    phone.publish("read/u/alice", mid(phone))
    tablet = world.connect("bob", "tablet")
    tablet.auto_ack = False
    for _ in range(3):
        tablet.subscribe("#")

    assert 1 == len(tablet.received("read/"))


def test_a_mark_that_was_not_acknowledged_comes_again(world):
    """A device that lost its link before the PUBACK of a read mark gets the mark at its return."""
    alice, phone, tablet = world.connect("alice"), world.listener("bob"), world.listener("bob", "tablet")
    alice.publish("u/bob/1")
    number = mid(phone)
    tablet.auto_ack = False
    phone.publish("read/u/alice", number)
    assert [number] == tablet.payloads("read/")
    tablet.lose()

    assert [number] == world.listener("bob", "tablet").payloads("read/")


def test_marks_go_on_counting_after_a_restart(world):
    """A mark made after a restart still reaches a device that returns later, whoever came online first."""
    alice, phone = world.listener("alice"), world.listener("bob")
    world.listener("alice", "tablet").disconnect()
    phone.publish("u/alice/1")
    first = mid(alice)
    for _ in range(3):
        alice.publish("read/u/bob", first)
    alice.publish("u/bob/1")
    world.listener("alice", "tablet").disconnect()
    alice.publish("u/bob/2/flags=3")
    world.advance(2)
    world.restart()
    world.listener("bob")  # his acknowledgements and marks are statuses to alice, who is away
    world.connect("bob", "b").publish("u/alice/2", "news")
    world.advance(2)
    alice = world.listener("alice")
    second = mid(alice)
    alice.publish("read/u/bob", second)

    assert [second] == world.listener("alice", "tablet").payloads("read/")


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "1",
        "<=",
        "0123456789ABCDEF",
        "0123456789abcde",
        "<=0123456789abcdefg",
        "all",
        "\xff\xfe",
        ">=0123456789abcdef",
    ],
)
def test_a_malformed_mark_is_a_bad_request(world, payload):
    """The payload is a mid or `<=mid`, nothing else: 0x85 to the reader, acknowledged."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    assert bob.publish("read/u/alice", payload)

    assert [0x85] == [status["status"] for status in bob.statuses()]
    assert [1, 2] == [step for _, step in alice.steps()]


def test_a_forged_mark_is_ignored_and_counted(world):
    """Own messages, unknown mids, mids of other conversations and of other users: acknowledged, nothing told."""
    alice, bob, carol = world.listener("alice"), world.listener("bob"), world.listener("carol")
    alice.publish("u/carol/1")
    foreign = mid(carol)
    bob.publish("u/alice/2")
    own = mid(alice)
    alice.publish("u/bob/3")
    mid(bob)
    alice.steps(), bob.steps()

    for name, payload in (
        ("alice", foreign),
        ("alice", f"<={foreign}"),
        ("carol", foreign),
        ("alice", own),
        ("alice", "f" * 16),
    ):
        assert bob.publish(f"read/u/{name}", payload)

    assert ([], []) == (alice.steps(), bob.steps())
    assert 5 == world.do("stats")["counters"]["read.ignored"]


def test_a_mark_from_before_ones_time_in_a_group_is_forged(world):
    """What was said before somebody came he cannot have read: ignored, and told neither to senders nor his devices."""
    world.group("team", "alice", "bob")
    alice, bob = world.listener("alice"), world.listener("bob")
    carol, tablet = world.listener("carol"), world.listener("carol", "tablet")
    alice.publish("g/team/1")
    before = mid_of(bob.received("g/")[-1])
    world.do("group_join", address="team", users=["carol"])
    alice.steps()

    for payload in (before, f"<={before}"):
        assert carol.publish("read/g/team", payload)

    assert ([], []) == (alice.steps(), tablet.received("read/"))
    assert 2 == world.do("stats")["counters"]["read.ignored"]


def test_a_mark_of_an_unknown_user_is_refused(world):
    """0x83, as for a message to him."""
    bob = world.listener("bob")
    bob.publish("read/u/nobody", "f" * 16)

    assert [0x83] == [status["status"] for status in bob.statuses()]


def test_an_acknowledgement_after_read_is_no_step_back(world):
    """A second device that acknowledges after READ raises nothing."""
    alice, phone, tablet = world.listener("alice"), world.listener("bob"), world.listener("bob", "tablet")
    tablet.auto_ack = False
    alice.publish("u/bob/1")
    phone.publish("read/u/alice", mid(phone))
    alice.statuses()

    tablet.ack(*tablet.received("u/"))
    world.advance(2)

    assert [] == alice.statuses()
    alice.publish("u/bob/1")
    assert [("1", 3)] == alice.steps()


def test_acknowledging_what_was_never_sent_is_ignored(world):
    """Unknown packet ids, and one acknowledged twice, move nothing."""
    from unit.engine import both_ends as wire

    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    (message,) = bob.received("u/")
    bob.send(wire.ack("PUBACK", 5), wire.ack("PUBACK", message.packet_id ^ 64))
    assert [("1", 1)] == alice.steps()

    bob.ack(message)
    bob.ack(message)

    assert [("1", 2)] == alice.steps()


def test_an_expired_message_cannot_be_read(world):
    """A verdict is final: READ of an expired message is no revival."""
    alice, bob = world.listener("alice"), world.connect("bob")
    alice.publish("u/bob/1/expiry=5")
    number = alice.statuses()[0]["mid"]
    world.advance(7)
    alice.statuses()

    bob.publish("read/u/alice", number)

    assert [] == alice.statuses()


@pytest.mark.damages  # the lane is made by hand: its twenty thousand messages are not there
def test_who_reads_nothing_does_not_grow_without_end(world):
    """A device that answers each message and marks none as read: its lane keeps a bounded number of pieces."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.publish("u/alice/0")
    for number in range(3):
        alice.publish(f"u/bob/{number}")
        bob.publish(f"u/alice/a{number}")
    (lane,) = world.messaging._hub.directory.user("bob").lanes.values()
    lane.read = SeqSet(0, ",".join(str(seq) for seq in range(2, 2 * RUNS_MAX + 4, 2)))
    for seqs in (lane.acked, lane.delivered):
        seqs.fill(2 * RUNS_MAX + 4)
    bob.publish("u/alice/more")
    world.turn()
    ((upto, above),) = world.store.read.execute(
        "SELECT read, read_above FROM lane WHERE user_id = ?", (lane.user_id,)
    ).fetchall()

    assert RUNS_MAX > len(above.split(",")) > RUNS_MAX // 2
    assert 1_000 < upto < RUNS_MAX
