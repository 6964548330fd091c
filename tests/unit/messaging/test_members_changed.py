"""Whoever decides by groups learns of every change of members, however it came about."""

from __future__ import annotations

import pytest

from mesimqtt.messaging.access import AccessRules


def watch(world, rules):
    """Put rules in force; return what they were told: whether alice and bob are members then."""
    heard = []
    access = world.messaging.access
    access.loaded(
        AccessRules(rules, "", root="m", is_member=access.is_member),
        lambda: heard.append((access.is_member("alice", "family"), access.is_member("bob", "family"))),
    )
    return heard


@pytest.mark.parametrize(
    ("op", "arguments", "members"),
    [
        ("group_join", {"address": "family", "users": ["bob"]}, (True, True)),
        ("group_leave", {"address": "family", "users": ["alice"]}, (False, False)),
        ("group_delete", {"addresses": ["family"]}, (False, False)),
        ("user_delete", {"addresses": ["alice"]}, (False, False)),
    ],
)
def test_each_change_of_members_is_told_when_it_counts(world, op, arguments, members):
    """Joining, leaving, a group or a user deleted: the rules are told once the members are others."""
    world.user("alice", "bob")
    world.group("family", "alice")
    heard = watch(world, [{"allow": "all", "topic": "home/#", "groups": ["family"]}])
    world.do(op, **arguments)

    assert heard
    assert members == heard[-1]


def test_a_new_group_with_an_owner_is_told(world):
    """Its owner is a member from the start."""
    world.user("alice", "bob")
    heard = watch(world, [{"allow": "all", "topic": "groups/%g/#"}])
    world.do("group_add", address="family", owner="alice")

    assert [(True, False)] == heard


def test_rules_without_groups_are_not_disturbed(world):
    """Where no rule names a group, members come and go without a decision being taken again."""
    world.user("alice", "bob")
    heard = watch(world, [{"allow": "all", "topic": "home/%u/#"}])
    world.group("family", "alice")
    world.do("group_leave", address="family", users=["alice"])

    assert [] == heard
