"""Joining by PIN: what a PIN gives, how often and until when; and what guessing yields."""

from __future__ import annotations

import pytest

from mesimqtt.domain.errors import OperationError


@pytest.fixture
def team(world):
    """The group `team`, which alice made; bob is a member, carol and dave are not."""
    world.user("dave")
    world.do("group_add", address="team", owner="alice")
    world.do("group_join", address="team", users=["bob"])
    return world


def ask(peer, op, **arguments):
    """Ask about the group `team`; return the result, or the code of the refusal."""
    (answer,) = peer.rpc(op, address="team", **arguments)
    return answer["result"] if answer["ok"] else answer["code"]


def test_a_pin_lets_so_many_in_and_is_gone(team):
    """Two uses are two members; who is one already uses none up."""
    alice, bob, carol, dave = (team.listener(name) for name in ("alice", "bob", "carol", "dave"))
    made = ask(alice, "group_pin_add", uses=1)
    assert (8, True) == (len(made["pin"]), made["pin"].isdigit())

    assert [] == ask(bob, "group_enter", pin=made["pin"])["joined"]
    assert ["carol"] == ask(carol, "group_enter", pin=made["pin"])["joined"]
    assert "bad-pin" == ask(dave, "group_enter", pin=made["pin"])
    assert [] == ask(alice, "group_pin_list")["pins"]
    carol.publish("g/team/1", "I am in")
    assert ["I am in"] == alice.payloads("g/")


def test_a_pin_ends_at_its_time_and_when_it_is_removed(team):
    """Then it is as wrong as any other."""
    alice, carol = team.listener("alice"), team.listener("carol")
    short, other = ask(alice, "group_pin_add", ttl=60), ask(alice, "group_pin_add", pin="open sesame")
    team.jump(61)
    ask(alice, "group_pin_remove", id=other["id"])

    assert ["bad-pin", "bad-pin"] == [ask(carol, "group_enter", pin=pin["pin"]) for pin in (short, other)]
    assert "no-such-pin" == ask(alice, "group_pin_remove", id=other["id"])


def test_only_a_hash_is_kept(team):
    """Neither the PIN nor anything that says it is in the data folder, or told again."""
    alice = team.listener("alice")
    pin = ask(alice, "group_pin_add", pin="swordfish-77")["pin"]
    listed = ask(alice, "group_pin_list")
    dump = "\n".join(team.store.read.iterdump())

    assert "swordfish-77" == pin
    assert "swordfish" not in f"{dump}{listed}"
    assert b"swordfish-77".hex() not in dump.lower()
    assert [(32,)] == team.rows("SELECT length(digest) FROM pin")


def test_a_pin_gives_what_its_maker_may_give(team):
    """Rights and an admin's part, if the maker has them; he can give no more, and what he loses his PINs lose."""
    alice, bob, carol, dave = (team.listener(name) for name in ("alice", "bob", "carol", "dave"))
    team.do("group_set", address="team", profile={"admin:bob": "0x2000"})  # ADDPIN alone
    assert "not-allowed" == ask(bob, "group_pin_add", role="admin")
    assert "cannot-grant" == ask(bob, "group_pin_add", rights=["record"])
    team.do("group_set", address="team", profile={"admin:bob": "0x2050"})  # and ADDUSER, ADDADMIN
    assert "cannot-grant" == ask(bob, "group_pin_add", role="admin", admin=1)
    first, second = (ask(bob, "group_pin_add", role="admin", admin=0x10)["pin"] for _ in range(2))
    assert ask(carol, "group_enter", pin=first)["joined"]
    assert ("admin", 0x10) == tuple(ask(carol, "group_show")["you"][key] for key in ("role", "admin"))
    team.do("group_set", address="team", profile={"role:bob": "member"})

    assert "bad-pin" == ask(dave, "group_enter", pin=second)
    assert ask(alice, "group_pin_add", rights=["record"])["rights"] == ["record"]


def test_a_member_with_that_right_shares_plain_pins(team):
    """SHAREDPIN: he invites without being an admin, but gives nothing beside membership."""
    bob, carol = team.listener("bob"), team.listener("carol")
    assert "not-allowed" == ask(bob, "group_pin_add")
    team.do("group_set", address="team", profile={"pins:bob": "on"})
    pin = ask(bob, "group_pin_add", uses=1)["pin"]

    assert ["not-allowed"] * 3 == [
        ask(bob, "group_pin_add", role="admin"),
        ask(bob, "group_pin_add", rights=["list"]),
        ask(bob, "group_pin_list"),
    ]
    assert ["carol"] == ask(carol, "group_enter", pin=pin)["joined"]


def test_guessing_is_throttled(team):
    """Five wrong PINs in a quarter of an hour; then even the right one has to wait, for that user alone."""
    alice, carol, dave = (team.listener(name) for name in ("alice", "carol", "dave"))
    pin = ask(alice, "group_pin_add")["pin"]
    tried = [ask(carol, "group_enter", pin=f"wrong{number}") for number in range(5)]

    assert ["bad-pin"] * 5 == tried
    assert "rate-limited" == ask(carol, "group_enter", pin=pin)
    assert ["dave"] == ask(dave, "group_enter", pin=pin)["joined"]
    team.jump(901)
    assert ["carol"] == ask(carol, "group_enter", pin=pin)["joined"]


def test_many_who_guess_together_are_throttled_together(make_world):
    """A group takes twenty times what one user may try, from all of them."""
    world = make_world(rates={"failed_pins": "900:1"})
    names = [f"user{number}" for number in range(22)]
    world.user(*names)
    world.do("group_add", address="team", owner="alice")
    pin = world.do("group_pin_add", address="team")["pin"]
    codes = []
    for name in names[:21]:
        with pytest.raises(OperationError) as refused:
            world.do("group_enter", address="team", user=name, pin="wrong1")
        codes.append(refused.value.code)

    assert ["bad-pin"] * 20 + ["rate-limited"] == codes
    with pytest.raises(OperationError, match="try again in"):
        world.do("group_enter", address="team", user=names[21], pin=pin)


def test_a_group_has_so_many_pins(make_world):
    """Those that have ended make room for others."""
    world = make_world(groups={"pins_max": 2})
    world.do("group_add", address="team")
    world.do("group_pin_add", address="team", ttl=10)
    world.do("group_pin_add", address="team")
    with pytest.raises(OperationError, match="at most 2 PINs"):
        world.do("group_pin_add", address="team")
    world.jump(11)

    assert world.do("group_pin_add", address="team")["id"]
