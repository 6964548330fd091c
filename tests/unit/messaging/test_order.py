"""Order and flow: seq, backlog before live, the window, devices that do not acknowledge (contract section 3)."""

from __future__ import annotations

from mesimqtt.testing import wire
from unit.messaging.world import seq_of


def send(peer, count, *, to="u/bob", start=0):
    for number in range(start, start + count):
        assert peer.publish(f"{to}/{peer.device}{number}", str(number))


def test_seq_is_dense_over_both_directions(world):
    """A pair of users has one seq, given in the order of commit."""
    alice, bob = world.listener("alice", "a"), world.listener("bob")
    send(alice, 2)
    bob.publish("u/alice/x")
    send(alice, 1, start=2)

    assert [1, 2, 4] == [seq_of(message) for message in bob.received("u/")]
    assert [3] == [seq_of(message) for message in alice.received("u/")]


def test_conversations_have_a_seq_each(world):
    """Every pair begins at 1."""
    alice, carol, bob = world.listener("alice"), world.listener("carol"), world.listener("bob")
    alice.publish("u/bob/1")
    carol.publish("u/bob/1")

    assert [1, 1] == [seq_of(message) for message in bob.received("u/")]


def test_the_backlog_comes_before_live_messages(world):
    """What waits is handed over first, in order; what comes meanwhile follows it."""
    alice = world.connect("alice")
    send(alice, 400)  # more than is taken from the store at once
    bob = world.connect("bob")
    bob.auto_ack = False
    bob.subscribe("#")
    send(alice, 5, start=400)
    bob.auto_ack = True
    bob.ack(*bob.inbox)

    assert [str(number) for number in range(405)] == bob.payloads()


def test_at_most_64_are_in_flight(world):
    """The 57th message waits for an acknowledgement: of the 64 places a few are left for what is no message."""
    alice = world.connect("alice")
    bob = world.listener("bob")
    bob.auto_ack = False
    send(alice, 100)

    first = bob.received("u/")
    bob.ack(*first[:10])
    second = bob.received("u/")

    assert (56, 10) == (len(first), len(second))
    assert list(range(1, 67)) == [seq_of(message) for message in first + second]


def test_a_full_window_leaves_room_for_statuses_and_answers(world):
    """Who has not acknowledged a single message yet still hears what became of his own, and gets his answers."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.auto_ack = False
    send(alice, 100)
    bob.publish("u/alice/7")
    bob.publish("rpc/ping/1")

    assert [("7", 1)] == bob.steps()
    assert 1 == len(bob.received("rpc/"))
    for number in range(100):
        bob.publish(f"u/alice/more-{number}")

    assert 64 == len(bob.connection.claimed)


def test_a_backlog_of_thousands_arrives_whole_and_in_order(make_world):
    """Pages of the store follow each other without a gap, in and out of the window."""
    world = make_world(store={"page_messages": 16})
    alice = world.connect("alice")
    send(alice, 700)

    bob = world.listener("bob")

    assert [str(number) for number in range(700)] == bob.payloads()


def test_a_device_that_never_acknowledges_holds_a_bounded_part(world):
    """What a device does not acknowledge stays in the store; in memory waits a bounded number."""
    alice = world.connect("alice")
    bob = world.listener("bob")
    bob.auto_ack = False
    send(alice, 600)

    assert 56 == len(bob.received("u/"))
    assert 256 >= len(bob.connection.claim_state.outbox)
    assert 600 == world.do("inbox", address="bob")["messages"]


def test_what_is_acknowledged_above_the_cursor_is_at_most_64(world):
    """A device that leaves one message unacknowledged gets 64 more and no further until it does."""
    alice = world.connect("alice")
    bob = world.listener("bob")
    bob.auto_ack = False
    send(alice, 300)
    got = bob.received("u/")
    first = got[0]
    pending = got[1:]
    while pending:
        bob.ack(*pending)
        pending = bob.received("u/")
        got += pending

    assert 65 + 63 >= len(got)  # 64 above, and what was in flight when the bound was reached
    bob.auto_ack = True
    bob.ack(first)
    got += bob.received("u/")
    assert list(range(1, 301)) == [seq_of(message) for message in got]


def test_one_stuck_conversation_does_not_hold_up_another(world):
    """A device that leaves alice's first message unacknowledged still gets carol's."""
    alice, carol = world.connect("alice"), world.connect("carol")
    bob = world.listener("bob")
    bob.auto_ack = False
    send(alice, 200)
    pending = bob.received("u/")[1:]
    while pending:
        bob.ack(*pending)
        pending = bob.received("u/")
    send(carol, 3)

    assert ["0", "1", "2"] == bob.payloads("u/carol")


def test_order_holds_over_reconnects(world):
    """Losing the link again and again leaves every device one increasing order, with repeats only as DUP."""
    alice = world.connect("alice")
    seen = []
    for turn in range(8):
        bob = world.listener("bob")
        bob.auto_ack = False
        send(alice, 20, start=turn * 20)
        got = bob.received("u/")
        seen += [(seq_of(message), message.dup) for message in got]
        bob.ack(*got[:13])
        bob.lose()
    bob = world.listener("bob")
    seen += [(seq_of(message), message.dup) for message in bob.received("u/")]

    fresh = [seq for seq, dup in seen if not dup]
    assert list(range(1, 161)) == fresh
    assert sorted({seq for seq, _ in seen}) == fresh


def test_a_commit_between_the_look_for_the_backlog_and_its_answer_is_not_lost(world):
    """What is committed after the store was asked what waits, and before the answer, is delivered too."""
    alice = world.connect("alice")
    bob = world.connect("bob")
    world.reads.hold_answers()
    assert [1] == bob.subscribe("#")
    assert alice.publish("u/bob/1", "between")
    world.reads.release()
    world.turn()
    assert alice.publish("u/bob/2", "after")

    assert ["between", "after"] == bob.payloads()


def test_a_slow_reader_is_bounded_and_gets_all_later(world):
    """To a congested connection nothing is written and little is kept in memory; then all of it comes in order."""
    alice = world.connect("alice")
    bob = world.listener("bob", qos=1)
    bob.connection.set_congested(True)
    send(alice, 400)

    assert [] == bob.received()
    assert 256 >= len(bob.connection.claim_state.outbox)
    bob.connection.set_congested(False)
    world.turn()
    assert [str(number) for number in range(400)] == bob.payloads()


def test_a_slow_reader_at_qos_0_is_bounded_too(world):
    """Also without acknowledgements, what is not written stays in the store."""
    alice = world.connect("alice")
    bob = world.listener("bob", qos=0)
    bob.connection.set_congested(True)
    send(alice, 400)
    bob.connection.set_congested(False)
    world.turn()

    assert [str(number) for number in range(400)] == bob.payloads()


def test_packet_ids_do_not_run_out(make_world):
    """More messages than a reservation of packet ids holds pass through one connection, also beside free topics."""
    world = make_world()
    alice, bob = world.connect("alice"), world.listener("bob", clean=True)
    bob.connection.session.packet_counter = 20_000  # free topics of this session used them up

    send(alice, 5)

    assert ["0", "1", "2", "3", "4"] == bob.payloads()


def test_packet_ids_are_reserved_again_and_again(world):
    """Each reservation is followed by the next, in good time, however long a connection lasts."""
    alice, bob = world.connect("alice"), world.listener("bob")
    device = bob.connection.claim_state
    before = device.ceiling
    for number in range(3):
        bob.connection.session.packet_counter = device.ceiling - 2
        send(alice, 5, start=5 * number)

    assert [str(number) for number in range(15)] == bob.payloads()
    assert device.ceiling > before + 3 * 8_000
    assert [(device.ceiling,)] == world.rows("SELECT ceiling FROM device WHERE id = ?", device.row_id)


def test_what_is_measured_anew_is_of_this_membership(world):
    """A new token's bound, after a member was removed and added again: what waited before is withdrawn."""
    world.group("team", "alice", "bob")
    alice, bob = world.connect("alice"), world.listener("bob", filters=("g/#",))
    bob.auto_ack = False
    for number in range(100):
        alice.publish(f"g/team/{number}", str(number))
    in_flight = len(bob.received("g/"))
    world.do("group_leave", address="team", users=["bob"])
    world.do("group_join", address="team", users=["bob"])
    alice.publish("g/team/again", "again")
    bob.connection.packet_max = 100_000
    world.messaging.claim.reauthenticated(bob.connection)
    bob.auto_ack = True
    bob.send(*[wire.ack("PUBACK", number) for number in list(bob.connection.claimed)])
    alice.publish("g/team/last", "last")

    assert 0 < in_flight < 100
    assert ["again", "last"] == bob.payloads("g/")


def test_a_conversation_that_is_let_go_while_it_is_read_holds_up_no_other(world):
    """Who comes back and unsubscribes from a group of which a page is being read gets what else waits."""
    world.group("team", "alice", "bob")
    alice = world.connect("alice")
    world.listener("bob", filters=("g/#", "u/#")).lose()
    alice.publish("g/team/1", "of the team")
    alice.publish("u/bob/2", "waits")
    world.reads.hold()
    bob = world.connect("bob")
    while not bob.connection.claim_state.is_paging:
        world.reads.step()
        world.loop.run()
    bob.unsubscribe("g/#")
    world.reads.release()
    world.turn()
    alice.publish("u/bob/3", "comes")

    assert ["waits", "comes"] == bob.payloads("u/")
    assert [] == bob.payloads("g/")
