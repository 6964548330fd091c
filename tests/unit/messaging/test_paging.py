"""Pages of the store: who takes what he is read is read more, and of who takes nothing little is in memory."""

from __future__ import annotations

from unit.messaging.test_order import send

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


def test_who_reads_nothing_is_read_no_second_large_one(world):
    """As long as the first is not on his own machine, its successor would be in memory; small ones are read."""
    alice, bob = world.connect("alice"), world.listener("bob")
    bob.lose()
    send_large(alice, 0, 9)
    bob = come_back(world, "bob")
    world.engine.untaken = {bob.connection: 1}.__getitem__
    world.advance(30)
    assert [0] == numbers(bob)

    world.engine.untaken = lambda _: 0
    world.advance(6)
    assert [1] == numbers(bob)


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
