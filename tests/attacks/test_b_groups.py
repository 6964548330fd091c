"""Section B, groups: races of membership, what strangers and former members can do, and who makes himself more.

In virtual time, on the real engine, messaging and store; the same over sockets is in test_b_names.py.
"""

from __future__ import annotations

import json
import os
import random

import pytest

from unit.messaging.world import World, mid_of, seq_of

ROUNDS = int(os.environ.get("RACE_ROUNDS", "200"))  # of each of four seeds; `make race` does 2 500
AT_ONCE = 20
SENT, DELIVERED, UNKNOWN, NOT_MEMBER = 1, 2, 0x83, 0x91


@pytest.fixture
def make(tmp_path):
    """Return a maker of worlds in which alice, bob and eve are users."""
    made = []

    def build(**settings) -> World:
        made.append(World(tmp_path / f"data{len(made)}", **settings))
        made[-1].user("alice", "bob", "eve")
        return made[-1]

    yield build
    for world in made:
        world.close()


@pytest.fixture
def world(make):
    """A world with the group `team` of alice, who owns it, and bob."""
    world = make()
    world.do("group_add", address="team", owner="alice")
    world.do("group_join", address="team", users=["bob"])
    return world


def ask(peer, op, **arguments):
    """Ask, and return the code of the refusal, or 'ok'."""
    (answer,) = peer.rpc(op, **arguments)
    return "ok" if answer["ok"] else answer["code"]


class Race:
    """Groups in each of which bob is removed while he and alice write to it."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.names = [f"g{number}" for number in range(AT_ONCE)]
        for name in self.names:
            world.do("group_add", address=name, owner="alice")
        self.alice, self.bob = world.listener("alice"), world.listener("bob")
        self.taken = 0
        self.refused = 0

    def run(self, turn: int) -> None:
        """Let everything happen at once in all groups, in an order of chance, commits in between; then look."""
        world, commits = self.world, self.world.commits
        commits.hold()
        for number, name in enumerate(self.names):
            self.alice.publish(f"rpc/group_join/j{number}", f'{{"address":"{name}","users":["bob"]}}')
        commits.release()
        world.turn()
        self.bob.received()
        self.alice.received()
        deeds = [(what, name) for name in self.names for what in ("alice", "bob", "remove")]
        self.random.shuffle(deeds)
        commits.hold()
        for number, (what, name) in enumerate(deeds):
            if what == "remove":
                body = json.dumps({"address": name, "users": ["bob"]})
                self.alice.publish(f"rpc/group_leave/r{number}", body)
            else:
                peer = self.bob if what.startswith("bob") else self.alice
                peer.publish(f"g/{name}/{what}-{turn}-{name}", f"{what}-{turn}-{name}")
            if self.random.random() < 0.2:
                commits.step(self.random.randint(1, 3))
        commits.release()
        world.turn()
        self.alice.other.clear()
        self.bob.other.clear()
        self.check(turn)

    def check(self, turn: int) -> None:
        """Compare what everybody was told with the one order that the store gave it all."""
        removed = {}
        for message in self.bob.received("event/"):
            event = json.loads(message.payload)
            if event["event"] == "removed":
                removed[event["group"]] = seq_of(message)
        assert set(self.names) == set(removed)
        for message in self.bob.received("g/"):
            assert seq_of(message) < removed[message.topic.split("/")[4]], message
        codes = {}
        for peer in (self.alice, self.bob):
            for status in peer.statuses():
                codes.setdefault(status["cid"], []).append((status.get("peer"), status["status"]))
        seqs = dict(self.world.rows("SELECT m.cid, m.seq FROM message m ORDER BY m.id DESC LIMIT ?", 8 * AT_ONCE))
        for name in self.names:
            cid = f"alice-{turn}-{name}"
            self.check_receipt(codes[cid], is_before=seqs[cid] < removed[name])
            cid = f"bob-{turn}-{name}"
            own = [code for peer, code in codes[cid] if peer is None]
            assert own == ([SENT] if cid in seqs else [UNKNOWN])
            assert seqs.get(cid, 0) < removed[name]
            self.refused += cid not in seqs
            self.taken += cid in seqs

    @staticmethod
    def check_receipt(codes, *, is_before: bool) -> None:
        """A message from before the removal has one verdict for bob, a later one none."""
        bobs = [code for peer, code in codes if peer == "bob"]
        assert (None, SENT) in codes
        assert bobs in ([[DELIVERED], [NOT_MEMBER]] if is_before else [[]])


@pytest.mark.parametrize("seed", [50, 51, 52, 53])
def test_a_send_commits_before_a_removal_or_is_refused(make, seed):
    """Row 50: a removal races with sends of both; who was removed sees nothing after it, not even his own."""
    world = make(rates={"invitations": ""})
    race = Race(world, seed)
    for turn in range(ROUNDS // AT_ONCE):
        race.run(turn)

    assert race.refused > ROUNDS // 10
    assert race.taken > ROUNDS // 10
    world.advance(2)
    world.restart()
    assert [] == world.listener("bob").received("g/")


def test_receipts_of_who_left_or_never_was_there_are_ignored(world):
    """Row 42: READ of a message that one had, after leaving; of one that was never one's; by a stranger."""
    alice, bob, eve = world.listener("alice"), world.listener("bob"), world.listener("eve")
    alice.publish("g/team/1")
    mid = mid_of(bob.received("g/")[0])
    world.do("group_leave", address="team", users=["bob"])
    alice.publish("g/team/2")
    later = alice.statuses()[-1]["mid"]
    for peer in (bob, eve):
        for payload in (mid, f"<={mid}", later, f"<={later}", "0" * 16, "f" * 16):
            peer.publish("read/g/team", payload)
            peer.publish("read/u/alice", payload)

    assert [] == [status for status in alice.statuses() if status["status"] == 3]
    assert {UNKNOWN} == {status["status"] for status in eve.statuses()}


def test_what_is_no_group_of_mine_is_no_group(world):
    """Row 49: never a member, removed a moment ago, muted out, a group deleted, one that never was: one answer."""
    bob, eve = world.listener("bob"), world.listener("eve")
    bob.publish("g/team/warm")
    bob.statuses()
    world.do("group_add", address="gone")
    world.do("group_join", address="gone", users=["eve"])
    world.do("group_delete", addresses=["gone"])
    world.do("group_leave", address="team", users=["bob"])
    answers = set()
    for peer, names in ((bob, ["team"]), (eve, ["team", "gone", "never"])):
        peer.received()
        for name in names:
            peer.publish(f"g/{name}/x")
            (status,) = peer.statuses()
            status["group"] = status["mid"] = status["ts"] = ""
            answers.add(json.dumps(status))

    assert 1 == len(answers)
    assert UNKNOWN == json.loads(answers.pop())["status"]


def test_nothing_from_before_joining_can_be_had(world):
    """Row 51: neither delivered, nor by history, sync, inbox, status or trace, nor marked as read."""
    alice = world.listener("alice")
    alice.publish("g/team/secret", "from before")
    mid = alice.statuses()[0]["mid"]
    world.do("group_join", address="team", users=["eve"])
    alice.publish("g/team/open", "from after")
    eve = world.listener("eve")
    assert ["from after"] == eve.payloads("g/")
    alice.statuses()
    eve.publish("read/g/team", mid)
    heard = [
        eve.rpc(op, **arguments)
        for op, arguments in (
            ("history", {"group": "team"}),
            ("history", {"group": "team", "after": "0"}),
            ("sync", {}),
            ("inbox", {}),
            ("status", {"mid": mid}),
            ("search", {"text": "before"}),
        )
    ]

    assert "from before" not in json.dumps(heard)
    assert [] == [status for status in alice.statuses() if status["status"] == 3]


def test_nobody_makes_himself_more_than_he_is(world):
    """Row 52: a member no admin, an admin no owner and no richer admin, and nobody removes the last owner."""
    alice, bob, eve = world.listener("alice"), world.listener("bob"), world.listener("eve")
    for wanted in ("admin", "owner"):
        assert "not-allowed" == ask(bob, "group_set", address="team", profile={"role:bob": wanted})
        assert "no-such-group" == ask(eve, "group_set", address="team", profile={"role:eve": wanted})
    assert "not-allowed" == ask(bob, "group_set", address="team", profile={"admin:bob": "0"})
    assert "not-allowed" == ask(bob, "group_set", address="team", profile={"send:bob": "on"})
    ask(alice, "group_set", address="team", profile={"admin:bob": "0xD1"})  # MODIFY, ADDUSER, ADDADMIN, REMADMIN
    for profile, code in (
        ({"role:bob": "owner"}, "not-allowed"),
        ({"admin:bob": "0x1D1"}, "cannot-grant"),
        ({"role:alice": "member"}, "not-allowed"),
        ({"admin:alice": "0"}, "not-allowed"),
    ):
        assert code == ask(bob, "group_set", address="team", profile=profile)
    assert "not-allowed" == ask(bob, "group_leave", address="team", users=["alice"])
    assert "last-owner" == ask(alice, "group_leave", address="team")
    assert "forbidden" == ask(bob, "group_leave", address="team", users=["alice"], by="alice")
    assert "forbidden" == ask(eve, "group_enter", address="team", user="bob")
    assert "owner" == world.do("group_show", address="team")["members"][0]["role"]


def test_floods_of_groups_and_members_meet_their_bounds(make):
    """Row 52: groups of one owner, memberships of one user, members of one group: the next one is refused."""
    world = make(groups={"owned_max": 5, "member_of_max": 8}, messaging={"group_members_max": 10})
    eve = world.listener("eve")
    made = [ask(eve, "group_add", address=f"mine{number}") for number in range(20)]
    names = [f"user{number}" for number in range(20)]
    world.user(*names)
    added = [ask(eve, "group_join", address="mine0", users=[name]) for name in names]
    for number in range(10):
        world.do("group_add", address=f"room{number}", kind="public")
    entered = [ask(eve, "group_enter", address=f"room{number}") for number in range(10)]

    assert ["ok"] * 5 + ["too-many-groups"] * 15 == made
    assert ["ok"] * 9 + ["group-full"] * 11 == added
    assert ["ok"] * 3 + ["too-many-groups"] * 7 == entered
