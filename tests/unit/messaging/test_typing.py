"""Typing and other presence that users tell themselves: handed on, never stored, ended by itself (docs/presence.md)."""

from __future__ import annotations

import pytest

TYPING = '{"presence":3}'
CLEARED = b'{"presence":4}'


def told(peer, part="presence/"):
    return [(each.topic, each.payload) for each in peer.received(part)]


def test_typing_ends_after_a_while(world):
    """Ten seconds, then the server says that it is over; once."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("presence/u/bob", TYPING)
    assert [("m/bob/in/presence/u/alice", TYPING.encode())] == told(bob)
    world.advance(9.5)
    assert [] == told(bob)
    world.advance(30)

    assert [("m/bob/in/presence/u/alice", CLEARED)] == told(bob)


def test_typing_ends_when_its_sender_says_so_or_is_gone(world):
    """An interval of his own, a code of his own, the end of his connection; in a group, too."""
    world.group("team", "alice", "bob", "carol")
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("presence/u/bob", '{"presence":3,"interval":2}')
    world.advance(2.25)
    assert 2 == len(told(bob))
    alice.publish("presence/u/bob", TYPING)
    alice.publish("presence/u/bob", CLEARED)
    world.advance(30)
    assert 2 == len(told(bob))
    alice.publish("presence/g/team", TYPING)
    alice.lose()

    assert [("m/bob/in/presence/g/team/alice", TYPING.encode()), ("m/bob/in/presence/g/team/alice", CLEARED)] == told(
        bob
    )


def test_typing_again_puts_the_end_off(world):
    """Repeated every few seconds it does not end."""
    alice, bob = world.listener("alice"), world.listener("bob")
    for _ in range(5):
        alice.publish("presence/u/bob", TYPING)
        world.advance(8)

    assert [TYPING.encode()] * 5 == [payload for _, payload in told(bob)]


@pytest.mark.parametrize(
    "payload", [b"typing", b"\x00\x01", b"", b"[1]", b'{"presence":10,"value":7}', b'{"x":"state"}']
)
def test_other_payloads_are_the_applications(world, payload):
    """Handed on byte for byte, and nothing follows."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("presence/u/bob", payload)
    world.advance(60)

    assert [("m/bob/in/presence/u/alice", payload)] == told(bob)


def test_open_conversations_are_bounded(world):
    """Of one device at most 16 are open; the oldest ends when another begins."""
    names = [f"user{number}" for number in range(17)]
    world.user(*names)
    alice, first = world.listener("alice"), world.listener("user0")
    for name in names:
        alice.publish(f"presence/u/{name}", TYPING)

    assert [TYPING.encode(), CLEARED] == [payload for _, payload in told(first)]


def test_what_is_too_large_is_refused(world):
    """0x85 with the limit, and nobody gets it."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("presence/u/bob", b"x" * 4_097)

    (status,) = alice.statuses()
    assert (0x85, "limit", 4_096, []) == (status["status"], status["reason"], status["limit"], told(bob))
