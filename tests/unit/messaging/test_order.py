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


def test_a_conversation_that_goes_on_does_not_hold_up_one_that_waits(world):
    """A device that always has carol's newest message in flight still gets what waits of alice's in the store."""
    alice, carol, bob = world.connect("alice"), world.connect("carol"), world.listener("bob")
    bob.auto_ack = False
    got, newest = [], []
    for number in range(12):
        assert carol.publish(f"u/bob/{number}", "x" * 40_000)
        if not number:
            send(alice, 400)
        fresh = bob.received("u/")
        of_carol = [*newest, *(message for message in fresh if "u/carol" in message.topic)]
        of_alice = [message for message in fresh if "u/alice" in message.topic]
        bob.ack(*of_carol[:-1], *of_alice)
        newest = of_carol[-1:]
        got += of_alice

    assert [str(number) for number in range(400)] == [message.payload.decode() for message in got]
    assert 1 == len(bob.connection.claimed)


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


LARGE = 200_000


def send_large(peer, first, last):
    for number in range(first, last):
        assert peer.publish(f"u/bob/large-{number}", f"{number:03} " + "x" * LARGE)


def numbers(peer):
    return [int(payload[:3]) for payload in peer.payloads()]


def in_memory(peer):
    """Return how many bytes the server holds for a device: what waits for room, and what is not written."""
    connection = peer.connection
    return sum(len(each.payload) for each in connection.claim_state.outbox) + sum(map(len, connection.out))


def test_of_large_messages_a_slow_reader_has_few_in_memory(world):
    """What waits for a congested connection is bounded in bytes, too, whatever it is made of; all of it comes later."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.connection.set_congested(True)
    send_large(alice, 0, 30)

    assert 512 * 1024 + LARGE + 100 > in_memory(bob) > LARGE
    bob.connection.set_congested(False)
    world.turn()
    assert list(range(30)) == numbers(bob)


def test_of_large_messages_few_are_read_from_the_store_at_once(world):
    """Who comes back is given one, and more when he has taken that: not a page of so many messages."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.lose()
    send_large(alice, 0, 30)
    world.reads.hold_answers()
    back = world.connect("bob")
    while world.reads.jobs and not in_memory(back):
        world.reads.step()
        world.loop.run()

    assert LARGE + 100 > in_memory(back) > LARGE
    world.reads.release()
    world.turn()
    assert list(range(30)) == numbers(back)


def come_back(world, user):
    """Connect without acknowledging anything by itself."""
    world.reads.hold_answers()
    back = world.connect(user)
    back.auto_ack = False
    world.reads.release()
    world.turn()
    return back


def test_who_acknowledges_nothing_is_read_nothing_more(world):
    """Each return costs one large message, of which nothing is kept once it is written; who takes it gets all."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.lose()
    send_large(alice, 0, 9)
    for _ in range(3):
        back = come_back(world, "bob")
        (token,) = back.connection.claimed.values()
        assert ([0], b"", LARGE + 4) == (numbers(back), token[1].payload, token[1].size)
        back.lose()

    back, portions = come_back(world, "bob"), []
    while messages := back.received("u/"):
        portions.append([int(message.payload[:3]) for message in messages])
        back.ack(*messages)

    assert [[0], [1], [2, 3], [4, 5, 6], [7, 8]] == portions
    user = back.connection.claim_state.user
    assert (0, 0) == (user.inbox_messages, user.inbox_bytes)


def take_all_but(peer, held):
    """Acknowledge what comes, but never `held`; return how many came."""
    count = 0
    while messages := peer.received("u/"):
        count += len(messages)
        peer.ack(*(each for each in messages if each.payload[:4] != held))
    return count


def test_who_works_on_one_message_for_long_is_read_all_others(world):
    """What came live and is not acknowledged, small as it is, does not keep back what waits in the store."""
    alice, carol, bob = world.connect("alice"), world.connect("carol"), world.listener("bob")
    bob.auto_ack = False
    assert alice.publish("u/bob/1", "held")
    send(carol, 400)

    assert 401 == take_all_but(bob, b"held")


def test_who_works_on_a_large_message_for_long_is_read_all_others(world):
    """After five seconds a large one that is not acknowledged keeps back nothing that waits any more."""
    alice, carol, bob = world.connect("alice"), world.connect("carol"), world.listener("bob")
    bob.lose()
    send_large(alice, 0, 1)
    send(carol, 400)
    bob = come_back(world, "bob")

    assert 1 == take_all_but(bob, b"000 ")
    world.advance(6)
    assert 400 == take_all_but(bob, b"000 ")


def test_who_acknowledges_only_when_he_has_several_gets_several(world):
    """Of large messages one more is read every five seconds for who has acknowledged none, up to his window."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.lose()
    send_large(alice, 0, 60)
    bob, came = come_back(world, "bob"), []
    for _ in range(60):
        came += bob.received("u/")
        world.advance(5.5)
    assert list(range(56)) == [int(each.payload[:3]) for each in came]
    bob.ack(*came)

    assert 4 == take_all_but(bob, b"none")


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
