"""What `acl explain` and `acl list` answer: the decision, its rule, and what every layer said before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mesimqtt.domain.errors import OperationError
from mesimqtt.messaging.access import PLUGIN
from mesimqtt.messaging.operations import ArgumentError
from mesimqtt.settings import Settings
from unit.messaging.desk import NOW_S, FakeDesk

RULES = [
    {"deny": "all", "topic": "+/safe/#"},
    {"allow": "all", "topic": "home/%u/%c/#"},
    {"allow": "all", "topic": "home/#", "groups": ["family"]},
    {"allow": "subscribe", "topic": "lab/#", "scope": "backend"},
]


def desk_of(rules: list[dict[str, Any]] | None = None, **plugins: Any) -> FakeDesk:
    """Return a desk with alice and bob, and a configuration with these rules."""
    broker = {
        "plugins": {
            PLUGIN: {"rules": RULES if rules is None else rules},
            "mesimqtt_plugins.routing.MessageRouting": {},
            **plugins,
        }
    }
    desk = FakeDesk("alice", "bob", settings=replace(Settings(), broker=broker))
    desk.messaging.groups["family"] = {"bob"}
    return desk


def explained(desk: FakeDesk, user: str, action: str, topic: str, **more: Any) -> tuple[bool, str]:
    """Return the decision and its rule."""
    answer = desk.do("acl_explain", user=user, action=action, topic=topic, **more)
    return answer["allow"], answer["rule"]


def test_every_layer_is_shown_up_to_the_one_that_decides() -> None:
    """The user, then each rule in order with the reason why it did not match, then the one that did."""
    answer = desk_of().do("acl_explain", user="alice", action="publish", topic="home/alice/phone/x", client_id="phone")

    assert (True, "rules[1]") == (answer["allow"], answer["rule"])
    assert [
        ("user", "pass", "known and enabled"),
        ("rules[0]", "pass", "{deny: all, topic: +/safe/#}: the topic does not match"),
        ("rules[1]", "allow", "{allow: all, topic: home/%u/%c/#}"),
    ] == [(step["layer"], step["said"], step["why"]) for step in answer["steps"]]


def test_what_no_rule_opens_is_denied_by_default() -> None:
    """The last two layers are the token's own rules and the default."""
    answer = desk_of().do("acl_explain", user="alice", action="subscribe", topic="lab/#")

    assert (False, "default") == (answer["allow"], answer["rule"])
    assert ["user", "rules[0]", "rules[1]", "rules[2]", "rules[3]", "token", "default"] == [
        step["layer"] for step in answer["steps"]
    ]
    assert "is for scope backend" in answer["steps"][4]["why"]


def test_groups_scope_and_denial_count() -> None:
    """Membership is looked up, a scope can be tried, and a denying rule is named."""
    desk = desk_of()

    assert (True, "rules[2]") == explained(desk, "bob", "publish", "home/lamp")
    assert (False, "default") == explained(desk, "alice", "publish", "home/lamp")
    assert (False, "rules[0]") == explained(desk, "bob", "publish", "home/safe/code")
    assert (True, "rules[3]") == explained(desk, "alice", "subscribe", "lab/#", scope="backend")


@pytest.mark.parametrize(
    ("action", "topic", "expected"),
    [
        ("publish", "m/alice/out/u/bob/42", (True, "folder")),
        ("publish", "m/alice/out/nonsense", (False, "folder")),
        ("publish", "m/bob/out/u/alice/42", (False, "root")),
        ("publish", "m/alice/in/u/bob/42", (False, "root")),
        ("publish", "m", (False, "root")),
        ("subscribe", "m/alice/in/#", (True, "folder")),
        ("subscribe", "m/alice/in/u/+", (False, "folder")),
        ("subscribe", "m/#", (False, "root")),
        ("subscribe", "m/bob/in/#", (False, "root")),
        ("subscribe", "$SYS/#", (False, "sys")),
        ("publish", "$SYS/broker", (False, "sys")),
        ("subscribe", "$share/x/m/alice/in/#", (False, "share")),
        ("subscribe", "$share/x/+/safe/#", (False, "rules[0]")),
    ],
)
def test_topics_of_messaging_and_of_the_server_are_explained_too(
    action: str, topic: str, expected: tuple[bool, str]
) -> None:
    """Under the root the two folders decide, under `$` the scope; a shared filter is judged by what it selects."""
    assert expected == explained(desk_of(), "alice", action, topic)


@pytest.mark.parametrize(
    ("action", "topic"),
    [
        ("subscribe", "$share/workers/" + "x" * 500),
        ("publish", "x" * 513),
        ("publish", "/".join("x" * 33)),
        ("publish", "m/alice/out/u/bob/42/k=" + "x" * 4096),
        ("subscribe", "m/alice/in/u/" + "x" * 4096 + "/#"),
    ],
)
def test_what_is_too_long_for_a_client_is_denied(action: str, topic: str) -> None:
    """The bounds of topics and filters are those that a client meets, the name of a share included."""
    desk = desk_of([{"allow": "all", "topic": "#"}])

    assert (False, "limit") == explained(desk, "alice", action, topic)
    assert (True, "rules[0]") == explained(desk, "alice", "subscribe", "$share/workers/" + "x" * 490)


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "\x9f", "\uffff", "x" * 65_536])
def test_what_no_client_can_write_is_no_question(text: str) -> None:
    """Control characters and non-characters, and what is too long, in a topic and in a client id."""
    desk = desk_of()

    for arguments in ({"topic": text}, {"topic": "x", "client_id": text}):
        with pytest.raises(ArgumentError, match=r"is text without control characters|has at most 65535 bytes"):
            desk.do("acl_explain", user="alice", action="publish", **arguments)


def test_sys_is_open_to_admins() -> None:
    """`$SYS` is for scope admin, to read."""
    assert (True, "sys") == explained(desk_of(), "alice", "subscribe", "$SYS/#", scope="admin")


def test_a_token_brings_its_scope_and_rules() -> None:
    """With a token its own rules count; one of another user, or a bad one, is refused."""
    desk = desk_of()
    signer = desk.messaging.signer
    acl = (("publish", "gate/#"),)
    token = signer.issue("alice", now=NOW_S, ttl_s=60, jti="j", scope="backend", acl=acl)

    assert (True, "token") == explained(desk, "alice", "publish", "gate/1", token=token)
    assert (True, "rules[3]") == explained(desk, "alice", "subscribe", "lab/#", token=token)
    with pytest.raises(ArgumentError, match="another user"):
        explained(desk, "bob", "publish", "gate/1", token=token)
    with pytest.raises(ArgumentError, match="is not good: neither a JWT "):
        explained(desk, "bob", "publish", "gate/1", token="x")


def test_a_disabled_user_may_nothing_and_an_unknown_one_is_named_so() -> None:
    """A disabled user cannot connect; somebody unknown could be let in by another plugin, so the rules are tried."""
    desk = desk_of([{"allow": "all", "topic": "#"}])
    desk.do("user_disable", addresses=["bob"])

    assert (False, "user") == explained(desk, "bob", "publish", "x")
    answer = desk.do("acl_explain", user="eve", action="publish", topic="x")
    assert answer["allow"]
    assert "no such user" in answer["steps"][0]["why"]
    assert (False, "root") == explained(desk, "eve", "publish", "m/eve/out/u/bob")


def test_other_plugins_that_may_say_no_are_named() -> None:
    """What a plugin of somebody else's would say is not known here, and that is said."""
    desk = desk_of([{"allow": "all", "topic": "#"}], **{"shop.Access": {}})
    answer = desk.do("acl_explain", user="alice", action="publish", topic="x")

    assert answer["steps"][-1]["layer"] == "plugin"
    assert answer["steps"][-1]["why"].startswith("shop.Access is not asked here")
    assert ["shop.Access"] == desk.do("acl_list")["others"]


def test_a_wide_subscription_tells_what_it_will_not_get() -> None:
    """A denying rule that takes only a part out of a filter does not deny it, and is pointed at."""
    answer = desk_of().do("acl_explain", user="bob", action="subscribe", topic="home/+/code")

    assert (True, "rules[2]") == (answer["allow"], answer["rule"])
    assert "the topics that both match are left out" in answer["steps"][1]["why"]


def test_a_topic_beyond_the_limits_is_denied() -> None:
    """The limits of topics are a layer, too."""
    assert (False, "limit") == explained(desk_of(), "alice", "publish", "/".join("a" * 40))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"user": "", "action": "publish", "topic": "x"}, "1 to 63 bytes"),
        ({"user": "alice", "action": "read", "topic": "x"}, "action is publish or subscribe"),
        ({"user": "alice", "action": "publish", "topic": "x/#"}, "nobody can publish to a filter"),
        ({"user": "alice", "action": "publish", "topic": ""}, "1 to 65535 bytes"),
        ({"user": "alice", "action": "subscribe", "topic": "x/#/y"}, "no topic filter"),
        ({"user": "alice", "action": "subscribe", "topic": "x", "scope": "root"}, "scope is one of"),
    ],
)
def test_bad_input_is_refused_with_what_to_write(arguments: dict[str, Any], words: str) -> None:
    """Exit code 2, and a sentence."""
    with pytest.raises(ArgumentError, match=words) as caught:
        desk_of().do("acl_explain", **arguments)

    assert 2 == caught.value.exit_code


def test_the_rules_in_force_are_listed_in_order() -> None:
    """As they were written, with the names that decisions carry."""
    listed = desk_of().do("acl_list")["rules"]

    assert [f"rules[{number}]" for number in range(4)] == [each["name"] for each in listed]
    assert "{allow: all, topic: home/#, groups: [family]}" == listed[2]["rule"]


def test_without_our_plugin_there_is_nothing_to_explain() -> None:
    """Where the configuration names other plugins alone, they are named."""
    desk = FakeDesk("alice", settings=replace(Settings(), broker={"plugins": [{"shop.Access": {}}, "shop.Log"]}))

    with pytest.raises(OperationError, match=r"shop\.Access, shop\.Log decides"):
        desk.do("acl_list")
