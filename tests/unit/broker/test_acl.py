"""FolderAccess: which rule opens which free topic, and that a rule never opens more than it says."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesimqtt.broker.services import OPEN_USER, BareServices
from mesimqtt.domain.access_rules import covers, is_filter
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.hooks import AccessPolicy, Action, Identity
from mesimqtt.settings import Settings
from mesimqtt_plugins.acl import FolderAccess

ALICE = Identity(user="alice", jti="t1")
TOPICS = [
    list(levels)
    for length in (1, 2, 3, 4)
    for levels in product(("a", "b", "", "$x"), repeat=length)
    if levels != ("",)
]
LEVELS = st.sampled_from(["a", "b", "", "+", "$x"])
FILTERS = (
    st.tuples(st.lists(LEVELS, max_size=3), st.booleans()).map(lambda pair: pair[0] + ["#"] * pair[1]).filter(is_filter)
)


class Members(BareServices):
    """Services with groups, and what a plugin told them."""

    def __init__(self, **groups):
        self.groups = groups
        self.rules = None

    def is_member(self, user, group):
        return user in self.groups.get(group, ())

    def rules_loaded(self, rules, changed):
        self.rules = rules


class PluginContext(SimpleNamespace):
    """What a plugin is given; `changed` counts how often it said that permissions have changed."""

    changed = 0
    reload = None

    def permissions_changed(self):
        self.changed += 1

    def on_reload(self, call):
        self.reload = call


def context_of(*rules, rules_file="", members=None, **options):
    return PluginContext(
        settings=replace(Settings(), **options),
        config=FolderAccess.Config(rules=list(rules), rules_file=str(rules_file)),
        services=members or Members(),
    )


def make(*rules, **options):
    return FolderAccess(context_of(*rules, **options))


def matches(topic_filter, topic):
    """The specification's words, level by level: the oracle."""
    if not topic_filter or not topic:
        return topic_filter in (topic, ["#"])
    if topic_filter[0] == "#":
        return True
    return topic_filter[0] in ("+", topic[0]) and matches(topic_filter[1:], topic[1:])


def selects(topic_filter, topic):
    if topic[0].startswith("$") and topic_filter[0] in ("+", "#"):
        return False
    return matches(topic_filter, topic)


@settings(max_examples=400, deadline=None)
@given(FILTERS, FILTERS)
def test_covers_exactly_when_no_topic_escapes_the_rule(rule, wanted):
    """A rule covers a filter exactly if every topic that the filter selects is selected by the rule."""
    expected = all(selects(rule, topic) for topic in TOPICS if selects(wanted, topic))

    assert expected == covers(rule, wanted)


@settings(max_examples=300, deadline=None)
@given(FILTERS, st.sampled_from(TOPICS))
def test_covers_matches_topics(rule, topic):
    """For a topic, covering is matching."""
    expected = selects(rule, topic)

    assert expected == covers(rule, topic)


def test_everything_is_denied_by_default():
    """Without rules no free topic is open to anyone."""
    policy = make()
    decisions = {policy.check_access(ALICE, "phone", action, "weather/oslo") for action in Action}

    assert {(False, "default")} == {(decision.allow, decision.rule) for decision in decisions}
    assert isinstance(policy, AccessPolicy)


def test_the_rule_that_opened_a_topic_is_named():
    """A decision carries the index of its rule."""
    policy = make({"allow": "publish", "topic": "x"}, {"allow": "subscribe", "topic": "weather/#"})

    assert (True, "rules[1]") == decided(policy, Action.SUBSCRIBE, "weather/+/rain")
    assert (True, "rules[1]") == decided(policy, Action.RECEIVE, "weather/oslo")
    assert (False, "default") == decided(policy, Action.PUBLISH, "weather/oslo")
    assert (False, "default") == decided(policy, Action.SUBSCRIBE, "#")
    assert (True, "rules[0]") == decided(policy, Action.WILL, "x")


def decided(policy, action, topic, identity=ALICE, client_id="phone"):
    decision = policy.check_access(identity, client_id, action, topic)
    return decision.allow, decision.rule


@pytest.mark.parametrize(
    ("user", "client_id", "topic", "expected"),
    [
        ("alice", "phone", "home/alice/phone/x", True),
        ("alice", "phone", "home/bob/phone/x", False),
        ("door/7", "phone", "home/door%2F7/phone/x", True),
        ("door/7", "phone", "home/door/7/phone/x", False),
        ("alice", "+", "home/alice/+/x", False),
        ("alice", "#", "home/alice/#", False),
        ("alice", "a/b", "home/alice/a/b/x", False),
        ("alice", "", "home/alice//x", False),
        ("alice", "%u", "home/alice/%u/x", True),
        ("alice", "%u", "home/alice/alice/x", False),
        ("+", "phone", "home/+/phone/x", False),
        ("+", "phone", "home/%2B/phone/x", True),
        (" not an address", "phone", "home/ not an address/phone/x", False),
    ],
)
def test_user_and_client_id_stand_for_themselves_alone(user, client_id, topic, expected):
    """%u is the percent-encoded user, %c the client id; a value that could be more than one level never matches."""
    policy = make({"allow": "all", "topic": "home/%u/%c/#"})
    allow, _rule = decided(policy, Action.PUBLISH, topic, Identity(user=user), client_id)

    assert expected == allow


def test_rules_are_narrowed_by_users_and_scope():
    """`users` and `scope` must both fit."""
    policy = make(
        {"allow": "all", "topic": "lab/#", "users": ["bob"]}, {"allow": "all", "topic": "ops/#", "scope": "backend"}
    )

    assert (False, "default") == decided(policy, Action.PUBLISH, "lab/x")
    assert (True, "rules[0]") == decided(policy, Action.PUBLISH, "lab/x", Identity(user="bob"))
    assert (False, "default") == decided(policy, Action.PUBLISH, "ops/x", Identity(user="bob"))
    assert (True, "rules[1]") == decided(policy, Action.PUBLISH, "ops/x", Identity(user="shop", scope="backend"))


def test_a_token_opens_free_topics_but_never_the_root_or_dollar():
    """The token's acl is for free topics only (contract section 5)."""
    acl = (("publish", "gate/#"), ("publish", "m/#"), ("subscribe", "#"), ("publish", "$SYS/#"), ("publish", "a#/x"))
    identity = Identity(user="alice", jti="t2", acl=acl)
    policy = make()

    assert (True, "token") == decided(policy, Action.PUBLISH, "gate/1", identity)
    assert (False, "default") == decided(policy, Action.PUBLISH, "a#/x", identity)
    assert (True, "token") == decided(policy, Action.SUBSCRIBE, "#", identity)
    assert (False, "root") == decided(policy, Action.PUBLISH, "m/bob/out/u/alice", identity)
    assert (False, "root") == decided(policy, Action.SUBSCRIBE, "m/#", identity)
    assert (False, "sys") == decided(policy, Action.PUBLISH, "$SYS/broker", identity)
    assert (False, "sys") == decided(policy, Action.SUBSCRIBE, "$SYS/#", identity)


def test_sys_is_read_by_admins_and_written_by_nobody():
    """`$SYS/#` is for scope admin, subscribe only; other `$` topics are for nobody."""
    admin = Identity(user="root", scope="admin")
    policy = make({"allow": "all", "topic": "#"})

    assert (True, "sys") == decided(policy, Action.SUBSCRIBE, "$SYS/#", admin)
    assert (True, "sys") == decided(policy, Action.RECEIVE, "$SYS/broker/uptime", admin)
    assert (False, "sys") == decided(policy, Action.PUBLISH, "$SYS/broker/uptime", admin)
    assert (False, "sys") == decided(policy, Action.SUBSCRIBE, "$share/g/x", admin)
    assert (False, "sys") == decided(policy, Action.SUBSCRIBE, "$SYS/#")


def test_open_mode_opens_free_topics_to_the_open_user_alone():
    """With `--open` who comes without a token may use every free topic, others what rules say, nobody the root."""
    policy = make(open=True)
    anyone = Identity(user=OPEN_USER)

    assert (True, "open") == decided(policy, Action.PUBLISH, "x", anyone)
    assert (True, "open") == decided(policy, Action.SUBSCRIBE, "#", anyone)
    assert (False, "root") == decided(policy, Action.PUBLISH, "m/open/out/u/bob", anyone)
    assert (False, "sys") == decided(policy, Action.SUBSCRIBE, "$SYS/#", anyone)
    assert (False, "default") == decided(policy, Action.PUBLISH, "x")
    assert (False, "default") == decided(make(), Action.PUBLISH, "x", anyone)


def test_a_rule_that_denies_holds_in_open_mode():
    """With `--open` a rule still takes out what it denies; the rest stays open, with rules that open it or without."""
    policy = make({"deny": "subscribe", "topic": "safe"}, {"allow": "publish", "topic": "home/#"}, open=True)
    anyone = Identity(user=OPEN_USER)

    assert (False, "rules[0]") == decided(policy, Action.SUBSCRIBE, "safe", anyone)
    assert (False, "rules[0]") == decided(policy, Action.RECEIVE, "safe", anyone)
    assert (True, "open") == decided(policy, Action.PUBLISH, "safe", anyone)
    assert (True, "open") == decided(policy, Action.SUBSCRIBE, "#", anyone)
    assert (True, "rules[1]") == decided(policy, Action.PUBLISH, "home/lamp", anyone)
    assert (True, "open") == decided(policy, Action.SUBSCRIBE, "home/lamp", anyone)


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ({"allow": "all"}, "topic"),
        ({"allow": "all", "topic": ""}, "topic"),
        ({"allow": "all", "topic": "a/#/b"}, "topic"),
        ({"allow": "all", "topic": "a+/b"}, "topic"),
        ({"allow": "write", "topic": "a"}, "allow"),
        ({"topic": "a"}, "allow"),
        ({"allow": "all", "topic": "a", "user": ["bob"]}, "'user'"),
        ({"allow": "all", "topic": "a", "users": "bob"}, "users"),
        ({"allow": "all", "topic": "a", "scope": "root"}, "scope"),
        ({"allow": "all", "topic": "$SYS/#"}, "$"),
    ],
)
def test_a_wrong_rule_is_refused_by_name(rule, word):
    """A mistake in a rule stops the start with a line that names the rule and the key."""
    with pytest.raises(MesimqttError) as caught:
        make({"allow": "all", "topic": "ok"}, rule)

    assert "rules[1]" in str(caught.value)
    assert word in str(caught.value)


def test_rules_name_groups_through_the_services():
    """Membership is asked of the services each time, and who keeps the rules learns that groups matter."""
    members = Members(family={"alice"})
    policy = make({"allow": "all", "topic": "home/#", "groups": ["family"]}, members=members)

    assert (True, "rules[0]") == decided(policy, Action.PUBLISH, "home/lamp")
    members.groups["family"] = {"bob"}
    assert (False, "default") == decided(policy, Action.PUBLISH, "home/lamp")
    assert members.rules.names_groups


def test_a_denying_rule_outranks_the_token():
    """What the operator denies no token opens."""
    identity = Identity(user="alice", jti="t", acl=(("publish", "home/#"),))
    policy = make({"deny": "all", "topic": "home/safe/#"})

    assert (False, "rules[0]") == decided(policy, Action.PUBLISH, "home/safe/x", identity)
    assert (True, "token") == decided(policy, Action.PUBLISH, "home/x", identity)


def test_a_file_of_rules_that_is_a_pipe_is_refused(tmp_path):
    """To read it would wait for somebody who writes, at the start and, for everybody, at a reload."""
    pipe = tmp_path / "rules.yaml"
    os.mkfifo(pipe)

    with pytest.raises(MesimqttError, match="it is a pipe; move it away"):
        FolderAccess(context_of(rules_file=pipe))


def test_a_file_of_rules_comes_after_the_others_and_is_read_again(tmp_path):
    """SIGHUP puts the file's new rules in force at once; a mistake in it keeps the old ones and is logged."""
    file = tmp_path / "rules.yaml"
    file.write_text("- {allow: publish, topic: a}\n")
    context = context_of({"deny": "all", "topic": "z"}, rules_file=file)
    policy = FolderAccess(context)

    assert (True, "rules_file[0]") == decided(policy, Action.PUBLISH, "a")
    file.write_text("rules:\n  - {deny: publish, topic: a}\n  - {allow: publish, topic: z}\n")
    context.reload()
    assert (False, "rules_file[0]") == decided(policy, Action.PUBLISH, "a")
    assert (False, "rules[0]") == decided(policy, Action.PUBLISH, "z")
    assert 1 == context.changed
    file.write_text("- {allow: nothing, topic: a}\n")
    context.reload()
    assert (False, "rules_file[0]") == decided(policy, Action.PUBLISH, "a")
    assert 1 == context.changed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file or directory"),
        ("a: [", "is not YAML"),
        ("a: b", "rules are a list"),
        ("- {allow: all}", r"rules_file[0]: topic"),
        ("\xff", "rules are a list"),
    ],
)
def test_a_file_of_rules_that_cannot_be_used_stops_the_start(tmp_path, text, words):
    """The line names the file and what to mend."""
    file = tmp_path / "rules.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(MesimqttError) as caught:
        make(rules_file=file)

    assert str(file) in str(caught.value)
    assert words in str(caught.value)
