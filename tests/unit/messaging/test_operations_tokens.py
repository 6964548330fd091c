"""Issuing, showing and revoking tokens through the registry of operations."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mesimqtt.domain.errors import OperationError
from mesimqtt.messaging.operations import ArgumentError
from mesimqtt.settings import Settings, Tokens
from mesimqtt.tokens import TokenSigner
from unit.messaging.desk import NOW_S, FakeDesk


def issue(desk: FakeDesk, **arguments: Any) -> dict[str, Any]:
    """Issue one token for alice."""
    answer = desk.do("token_issue", **{"addresses": ["alice"], **arguments})
    (token,) = answer["tokens"]
    return dict(token)


def test_a_token_says_what_was_asked_for() -> None:
    """Subject, device, scope and lifetime stand in the signed token, and its id in the table."""
    desk = FakeDesk("alice")
    token = issue(desk, ttl=60, device="phone", scope="backend")
    claims = desk.messaging.signer.verify(token["token"], NOW_S)
    (listed,) = desk.do("token_list", address="alice")["tokens"]

    assert ("alice", "phone", "backend", NOW_S, NOW_S + 60) == (
        claims.user,
        claims.device,
        claims.scope,
        claims.issued_at,
        claims.expires_at,
    )
    assert (claims.jti, "valid") == (listed["jti"], listed["state"])
    assert token["token"] not in json.dumps(listed)


def test_a_token_lives_for_thirty_days_unless_told_otherwise() -> None:
    """The default lifetime is the setting's."""
    token = issue(FakeDesk("alice"))

    assert 30 * 86_400 == token["expires_at"] - token["issued_at"]


def test_one_call_issues_several_tokens() -> None:
    """Each user gets one of his own, in the given order; if one user does not exist nobody gets any."""
    desk = FakeDesk("alice", "bob")
    answer = desk.do("token_issue", addresses=["bob", "alice"])
    with pytest.raises(OperationError, match="no user 'nobody'"):
        desk.do("token_issue", addresses=["alice", "nobody"])

    assert ["bob", "alice"] == [each["address"] for each in answer["tokens"]]
    assert 1 == len(desk.do("token_list", address="alice")["tokens"])


def test_a_short_token_is_nowhere_but_in_the_answer() -> None:
    """32 characters; only its hash is kept; packet and device are kept with it."""
    desk = FakeDesk("alice")
    token = issue(desk, short=True, packet=128, device="door")
    kept = repr(desk.connection.execute("SELECT * FROM token").fetchall())
    shown = desk.do("token_show", token=token["token"])

    assert 32 == len(token["token"])
    assert token["token"] not in kept
    assert ("short", "valid", "alice", 128, "door") == tuple(
        shown[key] for key in ("kind", "state", "address", "packet", "device")
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"ttl": 0}, "ttl must be at least 1 second"),
        ({"ttl": 2**50}, "ttl must be at least 1 second and end before"),
        ({"scope": "root"}, "scope is one of admin, backend, user"),
        ({"device": ""}, "device is a client id"),
        ({"device": "a\0b"}, "device is a client id"),
        ({"device": "x" * 257}, "device is a client id"),
        ({"packet": 128}, "packet goes with short"),
        ({"packet": 10, "short": True}, "packet is from 64"),
    ],
)
def test_what_no_token_can_be(arguments: dict[str, Any], told: str) -> None:
    """A wrong lifetime, scope, device or packet is refused, and nothing is issued."""
    desk = FakeDesk("alice")
    with pytest.raises(ArgumentError, match=told):
        issue(desk, **arguments)

    assert [] == desk.do("token_list", address="alice")["tokens"]


def test_a_disabled_user_gets_no_token() -> None:
    """First enable, then issue."""
    desk = FakeDesk("alice")
    desk.do("user_disable", addresses=["alice"])
    with pytest.raises(OperationError, match="'alice' is disabled") as refusal:
        issue(desk)

    assert "user-disabled" == refusal.value.code


def test_a_single_token_policy_revokes_the_older_ones() -> None:
    """With tokens.single a new token makes the older ones worthless, and their connections are closed."""
    desk = FakeDesk("alice", settings=replace(Settings(), tokens=Tokens(single=True)))
    first, second = issue(desk), issue(desk)
    states = {each["jti"]: each["state"] for each in desk.do("token_list", address="alice")["tokens"]}

    assert {first["jti"]: "revoked", second["jti"]: "valid"} == states
    assert [("token_revoked", 1, first["jti"])] == desk.told
    assert [("alice", first["jti"]), ("alice", second["jti"])] == desk.messaging.entry.known


def test_revoking_by_jti_and_by_address() -> None:
    """One token by its id, all of a user by his address; each is told to messaging once."""
    desk = FakeDesk("alice")
    first, second = issue(desk), issue(desk, short=True)
    answers = [desk.do("token_revoke", what=what)["revoked"] for what in (first["jti"], first["jti"], "alice", "alice")]
    with pytest.raises(OperationError, match="neither the jti of a token nor") as refusal:
        desk.do("token_revoke", what="nobody")

    assert [[first["jti"]], [], [second["jti"]], []] == answers
    assert [("token_revoked", 1, each["jti"]) for each in (first, second)] == desk.told
    assert "no-such-token" == refusal.value.code
    assert "revoked" == desk.do("token_show", token=first["token"])["state"]
    assert "revoked" == desk.do("token_show", token=second["token"])["state"]


def test_an_expired_token_is_shown_as_it_claims_to_be() -> None:
    """What does not verify is told with the reason, and its claims as claims."""
    desk = FakeDesk("alice")
    token = issue(desk, ttl=60)
    desk.messaging.time_ms += 100_000
    shown = desk.do("token_show", token=token["token"])

    assert ("jwt", "invalid", "expired") == (shown["kind"], shown["state"], shown["reason"])
    assert "alice" == shown["claims"]["sub"]


def test_a_token_of_another_server_is_invalid() -> None:
    """Neither another secret nor another data folder with the same secret makes a token good here."""
    desk, other = FakeDesk("alice"), FakeDesk("alice")
    stranger = TokenSigner(b"x" * 32, issuer="mesimqtt").issue("alice", now=NOW_S, ttl_s=60, jti="j")
    shown = [desk.do("token_show", token=text) for text in (stranger, issue(other)["token"])]

    assert ["invalid", "invalid"] == [each["state"] for each in shown]
    assert "signature" in shown[0]["reason"]
    assert "signed with our secret, but not issued from this data folder" == shown[1]["reason"]


def test_a_token_of_a_user_who_is_gone_is_invalid() -> None:
    """Disabled, deleted, or deleted and made anew: the old token is no good, and the reason is told."""
    desk = FakeDesk("alice")
    token = issue(desk)["token"]
    desk.do("user_disable", addresses=["alice"])
    disabled = desk.do("token_show", token=token)
    desk.do("user_delete", addresses=["alice"])
    desk.do("user_add", addresses=["alice"])
    again = desk.do("token_show", token=token)

    assert ("invalid", "its user is disabled") == (disabled["state"], disabled["reason"])
    assert "revoked" == again["state"]


@pytest.mark.parametrize("text", ["", "abc", "a.b.c", "e30.WzFd.x", "x" * 33, "é" * 32, "a" * 4_097])
def test_what_is_no_token_at_all(text: str) -> None:
    """Neither three parts nor 32 characters, or three parts without claims: refused in a sentence."""
    with pytest.raises(OperationError):
        FakeDesk("alice").do("token_show", token=text)

    assert [] == FakeDesk("alice").do("token_list", address="alice")["tokens"]
