"""Policies: made, changed, named by users, and obeyed at once; guests, who end with everything (docs/people.md)."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.policies import Policy, PolicyError, check_policy, rules_of, with_rules

HOME = Path(__file__).resolve().parents[3]


def test_every_rule_is_obeyed_somewhere():
    """A rule that nothing reads is a lie."""
    files = [
        path for path in (HOME / "mesimqtt").rglob("*.py") if path.name != "policies.py" or "messaging" in str(path)
    ]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    by_name = {"presence", "last_seen", "profile", "receipts"}  # people.py: audience
    unread = [each.name for each in fields(Policy) if each.name not in by_name]

    assert [] == [name for name in unread if not re.search(rf"policy(_of\(\w+, \w+\))?\.{name}\b", code)]
    assert "getattr(user.policy, what)" in code


def test_rules_are_written_and_read_alike():
    """What `policy show` prints can be given to `policy set`."""
    rules = {"messages": "60:5", "peers": "paired", "silent_blocks": "on", "devices_max": "3"}
    policy = with_rules(Policy(), rules)

    assert ("60:5", "paired", True, 3) == (policy.messages, policy.peers, policy.silent_blocks, policy.devices_max)
    assert rules.items() <= rules_of(policy).items()
    assert policy == with_rules(Policy(), {key: value for key, value in rules_of(policy).items() if value})


@pytest.mark.parametrize(
    "rules",
    [{"x": "1"}, {"peers": "some"}, {"messages": "60"}, {"silent_blocks": "1"}, {"devices_max": "-1"},
     {"devices_max": "9" * 20}, {"presence": ""}],
)  # fmt: skip
def test_a_wrong_rule_is_refused(rules):
    """With a sentence."""
    with pytest.raises(PolicyError):
        with_rules(Policy(), rules)


def test_a_configured_policy_is_checked():
    """Types are checked by the loader, bounds here."""
    with pytest.raises(PolicyError, match="devices_max"):
        check_policy(Policy(devices_max=-1))
    with pytest.raises(PolicyError, match="logins"):
        check_policy(Policy(logins="often"))


def test_a_change_of_a_policy_acts_at_once(world):
    """Who has it is bound by it with his next message, on the connection that he has."""
    world.do("policy_set", name="slow", rules={})
    world.do("user_set", address="alice", policy="slow")
    alice = world.listener("alice")
    alice.publish("u/bob/1")
    world.do("policy_set", name="slow", rules={"messages": "60:1", "payload_max": "10"})
    alice.publish("u/bob/2", "x" * 11)
    alice.publish("u/bob/3")
    world.do("policy_set", name="slow", rules={"messages": ""})
    alice.publish("u/bob/4")
    alice.publish("u/bob/5", "x" * 11)

    told = [(each["cid"], each["status"], each.get("limit")) for each in alice.statuses()]
    assert [("1", 1, None), ("2", 0x85, 10), ("3", 0x8C, None), ("4", 1, None), ("5", 0x85, 10)] == told


def test_rates_bound_guesses_of_addresses_too(world):
    """Messages to nobody count like any other: who tries out addresses is slowed down."""
    world.do("user_set", address="alice", rules={"messages": "60:2"})
    alice = world.listener("alice")
    for number in range(4):
        alice.publish(f"u/guess{number}/{number}")

    assert [0x83, 0x83, 0x8C, 0x8C] == [each["status"] for each in alice.statuses()]


def test_what_differs_for_one_user_goes_before_his_policy(world):
    """And an empty value takes it back."""
    world.do("policy_set", name="staff", rules={"payload_max": "10"})
    answer = world.do("user_set", address="alice", policy="staff", rules={"payload_max": "20"})
    alice = world.listener("alice")
    alice.publish("u/bob/1", "x" * 15)
    world.do("user_set", address="alice", rules={"payload_max": ""})
    alice.publish("u/bob/2", "x" * 15)

    assert ("staff", {"payload_max": "20"}) == (answer["policy"], answer["rules"])
    assert [("1", 1), ("2", 0x85)] == alice.steps()


def test_policies_survive_a_restart(world):
    """And users keep theirs."""
    world.do("policy_set", name="slow", rules={"messages": "60:1"})
    world.do("user_set", address="alice", policy="slow")
    world.restart()
    alice = world.listener("alice")
    alice.publish("u/bob/1")
    alice.publish("u/bob/2")

    assert [("1", 1), ("2", 0x8C)] == alice.steps()
    assert [("default", True, 0), ("guest", True, 0), ("slow", False, 1)] == [
        (each["name"], each["configured"], each["users"]) for each in world.do("policy_list")["policies"]
    ]


@pytest.mark.parametrize(
    ("op", "arguments", "code"),
    [
        ("policy_set", {"name": "default", "rules": {}}, "configured"),
        ("policy_set", {"name": "", "rules": {}}, "bad-argument"),
        ("policy_set", {"name": "a", "rules": {"x": "1"}}, "bad-argument"),
        ("policy_delete", {"name": "guest"}, "configured"),
        ("policy_delete", {"name": "used"}, "in-use"),
        ("policy_show", {"name": "none"}, "no-such-policy"),
        ("user_set", {"address": "alice", "policy": "none"}, "no-such-policy"),
        ("user_set", {"address": "alice", "rules": {"peers": "x"}}, "bad-argument"),
        ("user_set", {"address": "alice", "privacy": {"presence": "x"}}, "bad-argument"),
        ("user_set", {"address": "alice"}, "bad-argument"),
    ],
)
def test_what_cannot_be_done_is_said(world, op, arguments, code):
    """With a code for programs, and nothing is changed."""
    world.do("policy_set", name="used", rules={})
    world.do("user_set", address="bob", policy="used")
    with pytest.raises(OperationError) as caught:
        world.do(op, **arguments)

    assert code == caught.value.code


def test_a_deleted_policy_is_gone(world):
    """And deleting it again says so."""
    world.do("policy_set", name="trial", rules={})

    assert [True, False] == [world.do("policy_delete", name="trial")["deleted"] for _ in range(2)]
    assert ["default", "guest"] == [each["name"] for each in world.do("policy_list")["policies"]]


def test_a_policy_bounds_logins(world):
    """Who connects too often is refused for a while: server unavailable, not "wrong password"."""
    world.do("user_set", address="alice", rules={"logins": "60:2"})
    codes = [world.connect("alice", f"d{number}").connack[2] for number in range(3)]
    world.advance(31)

    assert ([0, 0, 3], 0) == (codes, world.connect("alice", "later").connack[2])


def test_a_policy_bounds_devices(world):
    """The third device displaces the first."""
    world.do("user_set", address="alice", rules={"devices_max": "2"})
    for device in ("one", "two", "three"):
        world.listener("alice", device).lose()

    assert ["two", "three"] == [each["device"] for each in world.do("user_show", address="alice")["devices"]]


def test_a_policy_bounds_groups(world):
    """How many one may own, and whether one may make any; the backend makes them all the same."""
    world.do("user_set", address="alice", rules={"groups_max": "1"})
    world.do("user_set", address="bob", rules={"create_groups": "off"})
    alice, bob = world.listener("alice"), world.listener("bob")
    answers = [alice.rpc("group_add", address=name)[0] for name in ("one", "two")] + bob.rpc("group_add", address="b")

    assert [None, "too-many-groups", "not-allowed"] == [each.get("code") for each in answers]
    assert "bob" == world.do("group_add", address="b", owner="bob")["owner"]


def test_a_single_token_revokes_those_before(world):
    """Per policy: the connection of the old one closes, other users keep theirs."""
    world.do("user_set", address="alice", rules={"single_token": "on", "token_ttl_s": "600"})
    alice, bob = world.listener("alice"), world.listener("bob")
    tokens = world.do("token_issue", addresses=["alice", "bob"])["tokens"]

    assert (True, False) == (alice.is_closed, bob.is_closed)
    assert [600, world.settings.tokens.ttl_default_s] == [each["expires_at"] - each["issued_at"] for each in tokens]


# ---- guests ------------------------------------------------------------------------------------------------------


def test_a_guest_ends_with_everything(world):
    """Made with a token that works; at the end the connection closes, he is gone, and who wrote to him is told."""
    alice = world.listener("alice")
    guest = world.do("guest_add", name="Visitor", ttl=60)
    address, token = guest["address"], guest["token"]["token"]
    peer = world.listener(address, token=token)
    peer.publish("u/alice/1", "hello")
    assert ["hello"] == alice.payloads()
    assert "guest" == world.do("user_show", address=address)["policy"]
    peer.disconnect()
    alice.publish(f"u/{address}/2")
    world.advance(70)

    assert [("2", 1), ("2", 0x80)] == alice.steps()
    assert ("CONNACK", 0, 5) == world.connect(address, token=token).connack
    with pytest.raises(OperationError, match="no user"):
        world.do("user_show", address=address)


def test_a_guest_ends_when_his_policy_says(world):
    """A longer wish is cut to a day; a token that is issued later ends with him, too."""
    guest = world.do("guest_add", ttl=10 * 86_400)
    (token,) = world.do("token_issue", addresses=[guest["address"]], ttl=5 * 86_400)["tokens"]

    end = world.ms // 1000 + 86_400
    assert (end, end, end) == (guest["expires_at"], guest["token"]["expires_at"], token["expires_at"])
    assert re.fullmatch(r"guest-[a-z2-9]{12}", guest["address"])


def test_users_of_a_policy_with_an_end_are_deleted(world):
    """Also those who were there before it was set; nobody else."""
    world.do("policy_set", name="trial", rules={})
    world.do("user_set", address="bob", policy="trial")
    world.advance(60)
    world.do("policy_set", name="trial", rules={"expires_s": "50"})
    world.advance(6)

    assert ["alice", "carol"] == [each["address"] for each in world.do("user_list")["users"]]
