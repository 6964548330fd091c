"""Tokens' rows."""

from __future__ import annotations

import hashlib

import pytest

from mesimqtt.store import tokens
from mesimqtt.store.tokens import TokenRow
from unit.store.rows import memory


def row(jti: str, *, user: int = 1, short: bool = False, issued: int = 10, expires: int = 100) -> TokenRow:
    return TokenRow(jti, user, short, "phone", "user", 128 if short else 0, issued, expires)


def test_a_short_token_is_found_by_its_hash_alone() -> None:
    """What is kept of a short token is its SHA-256, and that leads to its row."""
    connection = memory()
    digest = hashlib.sha256(b"text").digest()
    tokens.add(connection, row("j", short=True), digest)
    kept = b"".join(str(value).encode() for value in connection.execute("SELECT * FROM token").fetchone())

    assert row("j", short=True) == tokens.find_short(connection, digest)
    assert tokens.find_short(connection, b"other") is None
    assert b"text" not in kept


@pytest.mark.parametrize(
    ("now", "revoked", "state"), [(99, None, "valid"), (100, None, "expired"), (99, 50, "revoked")]
)
def test_the_state_of_a_token(now: int, revoked: int | None, state: str) -> None:
    """A token is good until the second it expires, unless it is revoked."""
    found = row("j")._replace(revoked_at=revoked).state(now)

    assert state == found


def test_revoking_happens_once() -> None:
    """The first revocation counts; an unknown jti revokes nothing."""
    connection = memory()
    tokens.add(connection, row("j"), None)
    steps = [tokens.revoke(connection, "j", 20), tokens.revoke(connection, "j", 30), tokens.revoke(connection, "x", 20)]
    found = tokens.find(connection, "j")

    assert [True, False, False] == steps
    assert found is not None
    assert 20 == found.revoked_at


def test_revoking_all_of_a_user_leaves_others_alone() -> None:
    """What still is good of that user is revoked and named; expired ones and other users' stay as they are."""
    connection = memory()
    for each in (row("a"), row("b"), row("old", expires=15), row("other", user=2)):
        tokens.add(connection, each, None)
    tokens.revoke(connection, "b", 11)
    revoked = tokens.revoke_all(connection, 1, 20)
    states = {
        each.jti: each.state(20) for each in [*tokens.of_user(connection, 1, 9), *tokens.of_user(connection, 2, 9)]
    }

    assert ["a"] == revoked
    assert {"a": "revoked", "b": "revoked", "old": "expired", "other": "valid"} == states


def test_the_newest_come_first() -> None:
    """A list is cut at its limit, and what is cut is the oldest."""
    connection = memory()
    for jti, issued in (("first", 1), ("third", 3), ("second", 2)):
        tokens.add(connection, row(jti, issued=issued), None)

    assert ["third", "second"] == [each.jti for each in tokens.of_user(connection, 1, 2)]
