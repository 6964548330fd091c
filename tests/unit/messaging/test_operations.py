"""The registry of operations: names, arguments, and users, groups and messages through it."""

from __future__ import annotations

from typing import Any

import pytest

from mesimqtt.domain.errors import OperationError
from mesimqtt.messaging.operations import OPERATIONS, OPERATOR, ArgumentError, Caller
from mesimqtt.messaging.sending import Letter
from mesimqtt.store import users
from unit.messaging.desk import NOW_MS, FakeDesk

EXPECTED = {
    "user_add",
    "user_import",
    "user_disable",
    "user_enable",
    "user_delete",
    "user_list",
    "user_show",
    "user_set",
    "token_issue",
    "token_list",
    "token_show",
    "token_revoke",
    "group_add",
    "group_list",
    "group_show",
    "group_set",
    "group_delete",
    "group_join",
    "group_leave",
    "send",
    "status",
    "inbox",
    "stats",
    "server_info",
    "ping",
}


def test_every_operation_has_a_name_and_a_sentence() -> None:
    """What the contract's command line needs is there, and each says what it does."""
    silent = [each.name for each in OPERATIONS.values() if not each.description.splitlines()[0].endswith((".", ";"))]

    assert set(OPERATIONS) >= EXPECTED
    assert [] == silent


@pytest.mark.parametrize(
    ("op", "arguments", "told"),
    [
        ("nope", {}, "no operation 'nope'; there are acl_explain, "),
        ("user_add", {"addresses": ["a"], "admin": True}, "unknown argument 'admin'; it takes addresses"),
        ("user_add", {}, "addresses is missing"),
        ("user_add", {"addresses": "alice"}, "addresses must be a list of at most 1000 texts"),
        ("user_add", {"addresses": ["alice", 1]}, "addresses must be a list of at most 1000 texts"),
        ("user_add", {"addresses": ["a"] * 1_001}, "addresses must be a list of at most 1000 texts"),
        ("user_add", {"addresses": ["\ud800"]}, "addresses must be a list of at most 1000 texts"),
        ("user_add", {"addresses": []}, "name at least one address"),
        ("user_add", {"addresses": ["a\nb"]}, "'a\\\\nb': an address must not contain control characters"),
        ("user_set", {"address": "alice", "profile": {"name": 1}}, "profile must be an object whose values are texts"),
        ("user_set", {"address": "alice", "profile": {}}, "name at least one KEY=VALUE"),
        ("user_list", {"limit": True}, "limit must be a whole number"),
        ("user_list", {"limit": 1_001}, "limit must be from 1 to 1000"),
        ("token_issue", {"addresses": ["alice"], "short": "yes"}, "short must be true or false"),
        ("token_issue", {"addresses": ["alice"], "ttl": 1e9}, "ttl must be a whole number or null"),
        ("status", {"mid": "12"}, "'12' is no mid"),
        ("send", {"sender": "alice", "text": "x"}, "name one destination"),
        ("send", {"sender": "alice", "to": "bob", "group": "g", "text": "x"}, "name one destination"),
        ("send", {"sender": "alice", "to": "bob"}, "give text, or payload in base64"),
        ("send", {"sender": "alice", "to": "bob", "payload": "%%%"}, "payload valid base64"),
        ("send", {"sender": "alice", "to": "bob", "text": "x", "cid": "a/b"}, "cid is 1 to 64"),
        ("send", {"sender": "alice", "to": "bob", "text": "x", "type": -1}, "type is a number from 0"),
        ("send", {"sender": "alice", "to": "bob", "text": "x", "expiry": 31_536_001}, "expiry is a number from 0"),
    ],
)
def test_wrong_arguments_are_named(op: str, arguments: dict[str, Any], told: str) -> None:
    """A wrong argument is refused with its name and what it should be, as wrong usage, before anything is done."""
    desk = FakeDesk("alice", "bob")
    with pytest.raises(ArgumentError, match=told) as refusal:
        desk.do(op, **arguments)

    code = "no-such-operation" if op == "nope" else "bad-argument"
    assert (2, code) == (refusal.value.exit_code, refusal.value.code)
    assert [] == desk.told


def test_adding_tells_who_existed() -> None:
    """New users are made and told to messaging; who existed is named and left alone; twice in one call counts once."""
    desk = FakeDesk("bob")
    answer = desk.do("user_add", addresses=["alice", "bob", "alice"])

    assert {"added": ["alice"], "existed": ["bob"]} == answer
    assert [("user_changed", "alice", "added")] == desk.told
    assert ["alice", "bob"] == [each["address"] for each in desk.do("user_list")["users"]]


def test_importing_gives_names() -> None:
    """A name becomes the profile's; one that breaks the rules stops the import before it begins."""
    desk = FakeDesk()
    answer = desk.do("user_import", names={"alice": "Alice Liddell", "bob": ""})
    with pytest.raises(ArgumentError, match="name: at most 128"):
        desk.do("user_import", names={"carol": "ok", "dave": "x\x1b"})

    assert {"added": ["alice", "bob"], "existed": []} == answer
    assert ["Alice Liddell", ""] == [each["name"] for each in desk.do("user_list")["users"]]


@pytest.mark.parametrize("op", ["user_disable", "user_enable", "user_delete"])
def test_an_unknown_user_stops_the_whole_call(op: str) -> None:
    """If one of several does not exist, nothing is changed and nobody is told."""
    desk = FakeDesk("alice")
    with pytest.raises(OperationError, match="no user 'nobody'; make it with: mesimqtt user add nobody") as refusal:
        desk.do(op, addresses=["alice", "nobody"])

    assert ("no-such-user", 1) == (refusal.value.code, refusal.value.exit_code)
    assert [] == desk.told
    assert ["active"] == [each["state"] for each in desk.do("user_list")["users"]]


def test_disabling_and_deleting_are_told_to_messaging() -> None:
    """Who was disabled before is not told again; a deletion is announced before it happens and told afterwards."""
    desk = FakeDesk("alice")
    first = desk.do("user_disable", addresses=["alice"])
    second = desk.do("user_disable", addresses=["alice"])
    desk.do("user_delete", addresses=["alice"])

    assert ({"disabled": ["alice"], "unchanged": []}, {"disabled": [], "unchanged": ["alice"]}) == (first, second)
    assert [
        ("user_changed", "alice", "disabled"),
        ("user_leaving", "alice"),
        ("user_deleted", 1, "alice"),
    ] == desk.told
    assert {"users": [], "next": None} == desk.do("user_list")


def test_a_profile_is_changed_key_by_key() -> None:
    """Keys are added, replaced and, with an empty value, removed; a wrong one changes nothing."""
    desk = FakeDesk("alice")
    desk.do("user_set", address="alice", profile={"name": "Alice", "team": "a", "x": "1"})
    answer = desk.do("user_set", address="alice", profile={"team": "b", "x": ""})
    for wrong in ({"a=b": "x"}, {" a": "x"}, {"a": "x" * 4_097}, {"name": "n\n"}, {str(n): "x" for n in range(63)}):
        with pytest.raises(ArgumentError):
            desk.do("user_set", address="alice", profile=wrong)

    assert {"name": "Alice", "team": "b"} == answer["profile"] == desk.do("user_show", address="alice")["profile"]


def test_a_list_comes_in_pages() -> None:
    """`next` leads through all users and is null at the end."""
    desk = FakeDesk("a", "b", "c")
    first = desk.do("user_list", limit=2)
    second = desk.do("user_list", limit=2, after=first["next"])

    assert (["a", "b"], "b") == ([each["address"] for each in first["users"]], first["next"])
    assert (["c"], None) == ([each["address"] for each in second["users"]], second["next"])


def test_sending_hands_the_bytes_to_messaging() -> None:
    """Text goes as UTF-8, a payload as its bytes; the sender must exist."""
    desk = FakeDesk("alice", "bob")
    desk.do("send", sender="alice", to="bob", text="grüß", type=7, expiry=60, cid="c1")
    desk.do("send", sender="alice", group="team", payload="AAH/")
    with pytest.raises(OperationError, match="no user 'nobody'"):
        desk.do("send", sender="nobody", to="bob", text="x")
    first = Letter(payload="grüß".encode(), params={"type": 7, "expiry": 60}, cid="c1")
    second = Letter(payload=b"\0\x01\xff")

    assert [("send", "alice", "u", "bob", first), ("send", "alice", "g", "team", second)] == desk.told


def test_an_operator_may_see_every_status() -> None:
    """Asked here, a status has no asker: nobody's own messages alone, but all."""
    answer = FakeDesk().do("status", mid="0123456789abcdef")

    assert {"mid": "0123456789abcdef", "asker": None} == answer


def test_the_server_describes_itself() -> None:
    """Version, folder, root and the limits in force; the address of a user who never was is nowhere in it."""
    desk = FakeDesk()
    info = desk.do("server_info")

    assert (str(desk.messaging.store.folder.absolute()), "m", 262_144) == (
        info["data"],
        info["root"],
        info["limits"]["payload_max"],
    )
    assert {"pong": NOW_MS, "version": info["version"], "store": "ok"} == desk.do("ping")
    assert users.find(desk.connection, "nobody") is None


def is_refused(operation: Any, caller: Caller) -> bool:
    """Tell whether an operation is not for this caller."""
    try:
        operation.admit(caller, {})
    except OperationError as error:
        return error.code == "forbidden"
    return False


CALLERS = [Caller("alice", "user"), Caller("shop", "backend"), Caller("root", "admin"), OPERATOR]


@pytest.mark.parametrize("caller", CALLERS)
def test_an_operation_is_for_its_scope_and_those_above(caller: Caller) -> None:
    """A user's token calls what users may, a backend's that too, an admin's and the operator everything."""
    refused = {each.name for each in OPERATIONS.values() if is_refused(each, caller)}
    above = {each.name for each in OPERATIONS.values() if each.scope > caller.power}
    assert above == refused
    assert ("user_add" in refused, "acl_list" in refused) == {
        "user": (True, True), "backend": (False, True), "admin": (False, False)
    }[caller.scope]  # fmt: skip


def test_a_user_acts_in_his_own_name_only() -> None:
    """The actor is filled in where it is left out; a user can name nobody else, a backend can, the operator must."""
    send = OPERATIONS["send"]

    assert {"sender": "alice"} == send.admit(CALLERS[0], {}) == send.admit(CALLERS[0], {"sender": "alice"})
    assert {"sender": "shop"} == send.admit(CALLERS[1], {})
    assert {"sender": "alice"} == send.admit(CALLERS[1], {"sender": "alice"})
    assert {} == send.admit(OPERATOR, {})
    with pytest.raises(OperationError, match="sender is you"):
        send.admit(CALLERS[0], {"sender": "bob"})
