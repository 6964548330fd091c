"""What memory holds of round-robin groups: as much as somebody can take, and of groups at rest a bounded number."""

from __future__ import annotations

from collections import Counter

import pytest

from mesimqtt.messaging import round_robin, work_queue
from unit.messaging.test_round_robin import make, silent, silent_from, told
from unit.messaging.world import mid_of


@pytest.fixture
def desk(world):
    """A help desk of bob, carol and dave, to which alice sends."""
    world.user("dave")
    make(world)
    return world


@pytest.fixture
def forgetful(monkeypatch, desk):
    """The same, where no group at rest is remembered."""
    monkeypatch.setattr(round_robin, "IDLE_MAX", 0)
    return desk


def queues(world):
    return world.messaging._round_robin._queues


def in_memory(world):
    """Return how many pieces of work are in memory."""
    return sum(len(queue.waiting) + len(queue.held) for queue in queues(world).values())


def test_work_that_nobody_can_take_is_not_in_memory(desk):
    """It is in the store, and comes from there to whoever can: all of it, once, in order."""
    alice = desk.connect("alice")
    for number in range(300):
        alice.publish(f"g/desk/{number}", str(number))
    before = in_memory(desk)
    bob = silent_from(desk, "bob")
    held = in_memory(desk)
    bob.lose()
    after = in_memory(desk)
    carol = desk.listener("carol")
    desk.advance(1)

    assert (0, 0) == (before, after)
    assert 0 < held <= work_queue.WAITING_MAX + 16
    assert [str(number) for number in range(300)] == carol.payloads("g/")
    assert [(0,)] == desk.rows("SELECT count(*) FROM work")


def test_what_somebody_had_comes_again_as_a_repeat(forgetful):
    """Also where memory has forgotten that he had it."""
    alice, bob = forgetful.listener("alice", filters=["status/#"]), silent(forgetful, "bob")
    alice.publish("g/desk/1", "help")
    (first,) = bob.received("g/")
    bob.lose()
    forgetful.advance(2)
    assert {} == queues(forgetful)
    carol = forgetful.listener("carol")
    (again,) = carol.received("g/")

    assert (False, True, mid_of(first)) == (first.dup, again.dup, mid_of(again))
    assert [("1", "carol", 2)] == told(alice)


def test_who_unsubscribes_may_still_acknowledge(desk):
    """What he has in flight is his until his connection ends, whoever comes meanwhile."""
    alice, bob = desk.listener("alice"), silent(desk, "bob")
    alice.publish("g/desk/1", "help")
    (message,) = bob.received("g/")
    bob.unsubscribe("#")
    desk.advance(40)
    bob.ack(message)
    carol = desk.listener("carol")

    assert [] == carol.received("g/")
    assert [("1", "bob", 2)] == told(alice)


def test_groups_at_rest_are_forgotten(desk, monkeypatch):
    """So many are remembered, those used last; the others begin anew with the next message, and nothing is lost."""
    monkeypatch.setattr(round_robin, "IDLE_MAX", 3)
    alice, bob = desk.listener("alice"), desk.listener("bob")
    for number in range(8):
        desk.do("group_add", address=f"g{number}", kind="round-robin")
        desk.do("group_join", address=f"g{number}", users=["alice", "bob"])
    for turn in range(2):
        for number in range(8):
            alice.publish(f"g/g{number}/{turn}-{number}", f"{turn}-{number}")
        desk.advance(2)
        assert 3 == len(queues(desk))

    assert [f"{turn}-{number}" for turn in range(2) for number in range(8)] == bob.payloads("g/")
    assert {"g5", "g6", "g7"} == {queue.group.address for queue in queues(desk).values()}


def test_forgotten_work_is_found_by_who_comes(forgetful):
    """Nobody was there, and memory has forgotten the group: a member finds its work, a stranger finds none."""
    alice = forgetful.connect("alice")
    for number in range(20):
        alice.publish(f"g/desk/{number}", str(number))
    forgetful.advance(2)
    assert {} == queues(forgetful)
    erin = forgetful.listener("erin")
    assert {} == queues(forgetful)
    bob = forgetful.listener("bob")
    forgetful.advance(2)

    assert ([], [str(number) for number in range(20)]) == (erin.received("g/"), bob.payloads("g/"))
    assert {} == queues(forgetful)


def test_work_is_shared_out_fairly_by_who_forgets(forgetful):
    """One piece now and then: each member gets his share, not always the first one."""
    alice = forgetful.listener("alice")
    for name in ("bob", "carol", "dave"):
        forgetful.listener(name)
    for number in range(12):
        alice.publish(f"g/desk/{number}")
        forgetful.advance(2)
        assert {} == queues(forgetful)

    assert Counter({"bob": 4, "carol": 4, "dave": 4}) == Counter(peer for _, peer, code in told(alice) if code == 2)


def test_the_inbox_bound_holds_for_forgotten_groups(make_world, monkeypatch):
    """What waits is counted anew: no more than an inbox holds."""
    monkeypatch.setattr(round_robin, "IDLE_MAX", 0)
    world = make_world(messaging={"inbox_messages_max": 2})
    world.user("dave")
    make(world)
    alice = world.listener("alice")
    for number in range(3):
        alice.publish(f"g/desk/{number}")
        world.advance(2)

    assert [("0", 1), ("1", 1), ("2", 0x82)] == [(each["cid"], each["status"]) for each in alice.statuses()]


def test_large_work_takes_a_bounded_part_of_memory(desk, monkeypatch):
    """Bytes count as well as pieces: a window of them, refilled from the store as it is taken."""
    monkeypatch.setattr(work_queue, "WAITING_BYTES", 10_000)
    monkeypatch.setattr(round_robin, "WAITING_BYTES", 10_000)
    alice, bob = desk.listener("alice"), silent(desk, "bob")
    sent = [f"{number:04}" * 500 for number in range(60)]
    for number, text in enumerate(sent):
        alice.publish(f"g/desk/{number}", text)
    (queue,) = queues(desk).values()
    most = sum(len(job.message.payload) for job in queue.waiting)
    found = bob.received("g/")
    bob.auto_ack = True
    for message in found:
        bob.ack(message)
    desk.advance(2)

    assert 0 < most <= 10_000 + 2_000
    assert sent == [message.payload.decode() for message in found] + bob.payloads("g/")


def test_nothing_is_kept_of_who_left(desk):
    """The turns of former members are forgotten, and what they hold is nothing."""
    alice = desk.listener("alice")
    for name in ("bob", "carol"):
        desk.listener(name)
    for number in range(4):
        alice.publish(f"g/desk/{number}")
    desk.do("group_leave", address="desk", users=["bob"])
    (queue,) = queues(desk).values()

    assert {desk.messaging.find_user("carol").id} == set(queue.last)
    assert {} == queue.load


def test_what_was_read_is_not_looked_at_again(desk):
    """`<=mid` looks at what came since the last one: a long past costs nothing."""
    alice, bob = desk.listener("alice"), desk.listener("bob")
    for number in range(200):
        alice.publish(f"g/desk/{number}")
    steps = {}
    for name in ("all", "one"):
        mid = mid_of(bob.received("g/")[-1])
        taken = []
        desk.store.read.set_progress_handler(lambda taken=taken: taken.append(1), 10)
        bob.publish("read/g/desk", f"<={mid}")
        desk.store.read.set_progress_handler(None, 0)
        steps[name] = len(taken)
        alice.publish(f"g/desk/{name}")

    assert steps["one"] * 10 < steps["all"]
    assert 201 == len([1 for _, _, code in told(alice) if code == 3])


def test_without_work_nobody_is_asked_for_any_at_his_return(desk):
    """Once the work of before a restart is done, who comes costs no look for it."""
    desk.listener("alice").publish("g/desk/1")
    desk.restart()
    assert ["hi"] == desk.listener("bob").payloads("g/")
    desk.listener("carol")
    statements = []
    desk.store.read.set_trace_callback(statements.append)
    desk.listener("dave")
    desk.store.read.set_trace_callback(None)

    assert [] == [each for each in statements if "work" in each]
