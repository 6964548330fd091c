"""Rules for free topics: first match, deny, groups, and what a mistake in one says."""

from __future__ import annotations

import pytest

from mesimqtt.domain.access_rules import Asker, parse_rules
from mesimqtt.domain.errors import MesimqttError

FAMILY = {"family": {"alice", "door/7"}, "a b": {"alice"}}
ALICE = Asker("alice", "user", "phone")
EVE = Asker("eve", "user", "phone")


def is_member(user, group):
    return user in FAMILY.get(group, ())


def first(rules, asker, action, topic):
    """Return the name of the first rule that matches, and whether it allows."""
    for rule in parse_rules(list(rules), "rules"):
        if not rule.miss(asker, action, topic.split("/"), is_member):
            return rule.name, rule.is_allowing
    return None


def test_the_first_rule_that_matches_decides():
    """A denying rule before an allowing one takes its topics out; behind it, it takes nothing."""
    open_ = {"allow": "all", "topic": "home/#"}
    shut = {"deny": "publish", "topic": "home/safe/#"}

    assert ("rules[0]", False) == first([shut, open_], ALICE, "publish", "home/safe/code")
    assert ("rules[1]", True) == first([shut, open_], ALICE, "subscribe", "home/safe/code")
    assert ("rules[1]", True) == first([shut, open_], ALICE, "publish", "home/lamp")
    assert ("rules[0]", True) == first([open_, shut], ALICE, "publish", "home/safe/code")


def test_a_denying_rule_takes_a_filter_only_as_a_whole():
    """A wider subscription is granted; each message of the denied part is judged by itself."""
    rules = [{"deny": "all", "topic": "home/safe/#"}, {"allow": "all", "topic": "home/#"}]

    assert ("rules[0]", False) == first(rules, ALICE, "subscribe", "home/safe/+")
    assert ("rules[1]", True) == first(rules, ALICE, "subscribe", "home/#")
    assert ("rules[0]", False) == first(rules, ALICE, "subscribe", "home/safe/door")


def test_groups_narrow_a_rule_to_their_members():
    """Members of any of the groups, and nobody else; users, groups and scope must all fit."""
    rules = [{"allow": "all", "topic": "home/#", "groups": ["family", "guests"]}]
    narrow = [{"allow": "all", "topic": "home/#", "groups": ["family"], "users": ["door/7"]}]

    assert ("rules[0]", True) == first(rules, ALICE, "publish", "home/lamp")
    assert None is first(rules, EVE, "publish", "home/lamp")
    assert None is first(narrow, ALICE, "publish", "home/lamp")
    assert ("rules[0]", True) == first(narrow, Asker("door/7", "user", ""), "publish", "home/lamp")


@pytest.mark.parametrize(
    ("asker", "topic", "expected"),
    [
        (ALICE, "groups/family/x", True),
        (ALICE, "groups/a%20b/x", True),
        (ALICE, "groups/a b/x", False),  # another spelling of the same group
        (ALICE, "groups/guests/x", False),
        (ALICE, "groups/+/x", False),
        (ALICE, "groups/#", False),
        (ALICE, "groups", False),
        (ALICE, "groups//x", False),
        (EVE, "groups/family/x", False),
        (Asker("door/7", "user", "x"), "groups/family", True),
    ],
)
def test_a_group_in_a_topic_is_one_that_the_user_belongs_to(asker, topic, expected):
    """%g stands for any group of the user, in its one legal spelling, and never for a wildcard."""
    found = first([{"allow": "all", "topic": "groups/%g/#"}], asker, "subscribe", topic)

    assert expected == (found is not None)


def test_a_group_may_be_part_of_a_level():
    """What stands before and after %g in its level stays as it is."""
    rules = [{"allow": "all", "topic": "x/g-%g-out/%u"}]

    assert ("rules[0]", True) == first(rules, ALICE, "publish", "x/g-family-out/alice")
    assert None is first(rules, ALICE, "publish", "x/g--out/alice")
    assert None is first(rules, ALICE, "publish", "x/g-family/alice")
    assert None is first(rules, ALICE, "publish", "x/g-family-out/bob")


def test_a_denying_rule_holds_where_a_name_cannot_stand_in_a_topic():
    """An allowing rule opens nothing for a client id that is more than one level; a denying one shuts them all."""
    strange = Asker("alice", "user", "a/b")

    assert None is first([{"allow": "all", "topic": "x/%c"}], strange, "publish", "x/y")
    assert ("rules[0]", False) == first([{"deny": "all", "topic": "x/%c"}], strange, "publish", "x/y")
    assert None is first([{"deny": "all", "topic": "x/%c"}], ALICE, "publish", "x/y")


def test_why_a_rule_does_not_match_is_told():
    """Each reason is a sentence for the operator."""
    (rule,) = parse_rules([{"allow": "publish", "topic": "a/%g", "groups": ["family"], "scope": "backend"}], "rules")
    backend = Asker("eve", "backend", "")

    assert "is for publish only" == rule.miss(ALICE, "subscribe", ["a"], is_member)
    assert "is for scope backend" == rule.miss(ALICE, "publish", ["a", "family"], is_member)
    assert "the topic does not match" == rule.miss(backend, "publish", ["a", "family"], is_member)
    assert rule.names_groups
    assert "{allow: publish, topic: a/%g, groups: [family], scope: backend}" == rule.text


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("allow", "a rule is {allow:"),
        ({"topic": "a"}, "one of allow and deny"),
        ({"allow": "all", "deny": "all", "topic": "a"}, "one of allow and deny"),
        ({"deny": "read", "topic": "a"}, "deny is publish, subscribe or all"),
        ({"allow": ["all"], "topic": "a"}, "allow is publish, subscribe or all"),
        ({"allow": "all", "topic": "a", "groups": []}, "groups is a list"),
        ({"allow": "all", "topic": "a", "groups": "family"}, "groups is a list"),
        ({"allow": "all", "topic": "a", "users": ["e\u0301"]}, "normal form"),
        ({"allow": "all", "topic": "a", "group": ["family"]}, "unknown key 'group'"),
        ({"allow": "all", "topic": "%g/%g"}, "%g stands once"),
        ({"allow": "all", "topic": "%g-%c"}, "%g stands once"),
        ({"allow": "all", "topic": "$SYS/#"}, "topic: "),
        ({"allow": "all", "topic": "home/%x"}, "topic: %x stands for nothing; there are %u, %c and %g"),
        ({"deny": "all", "topic": "home/a%U/#"}, "topic: %U stands for nothing"),
    ],
)
def test_a_mistake_names_the_rule_and_the_key(rule, words):
    """The text begins with the source and number of the rule and says what to write."""
    with pytest.raises(MesimqttError) as caught:
        parse_rules([{"allow": "all", "topic": "ok"}, rule], "rules")

    assert str(caught.value).startswith("rules[1]: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("topic", ["home/door%2F7", "home/%C3%A9", "fill/50%", "%u/%c/%g", "%/x"])
def test_a_percent_sign_may_be_part_of_a_topic(topic):
    """An encoded address, a sign of its own, and what stands for a name."""
    assert topic.split("/") == list(parse_rules([{"allow": "all", "topic": topic}], "rules")[0].levels)


def test_rules_are_a_list():
    """A mapping where a list belongs is refused with an example."""
    with pytest.raises(MesimqttError, match=r"rules_file: rules are a list: - \{allow"):
        parse_rules({"home/#": "all"}, "rules_file")
