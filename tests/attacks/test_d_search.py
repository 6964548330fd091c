"""Section D: what is written into a search, or asked of a history, by somebody who means harm."""

from __future__ import annotations

import json

import pytest

from attacks.attacker import publish
from stopwatch import Stopwatch

HOSTILE = [
    "'; DROP TABLE message; --", "' OR '1'='1", '" OR "1"="1', "%", "_", "%%%", "a%", "*", '"', '"*', '"secret"*',
    "secret*", "text:secret", "NEAR(secret plan)", "secret NOT plan",
    'secret"OR"plan', "{text marks}:secret", "^secret", "-secret",
    "(", ")", "\\", "\0", "u1 OR u2", "marks:u1", "c1", "secret\0", "\u202esecret", "\u017fecret", "🂡", "a" * 1_000,
]  # fmt: skip


@pytest.fixture(scope="module")
def people(target):
    """Two who have a secret, and one who has none."""
    one, other, stranger = target.somebody(), target.somebody(), target.somebody()
    one.send(publish(f"m/{one.user}/out/u/{other.user}/s1", b"the secret plan", 1, 7))
    one.exchange()
    return one, other, stranger


def asked(client, operation, **arguments):
    """Return the answer of an rpc, and how long it took."""
    watch = Stopwatch()
    client.send(publish(f"m/{client.user}/out/rpc/{operation}/r1", json.dumps(arguments).encode(), 1))
    return json.loads(client.message("/in/rpc/r1")[1]), watch.elapsed_s


@pytest.mark.parametrize("text", HOSTILE)
def test_a_search_is_literal(people, text):
    """Row 76: SQL, wildcards and the syntax of the index are words or nothing, for the owner and for a stranger."""
    _, other, stranger = people
    mine, seconds = asked(other, "search", text=text)
    theirs, _ = asked(stranger, "search", text=text)

    assert mine["ok"]
    assert (True, []) == (theirs["ok"], theirs["result"]["messages"])
    assert seconds < 5
    assert 1 == len(asked(other, "search", text="secret")[0]["result"]["messages"])


@pytest.mark.parametrize("text", ["x" * 10_240, "secret " * 1_500, '"' * 10_240, "%" * 10_240, "ä" * 10_240])
def test_ten_kilobytes_are_refused_at_once(people, text):
    """Row 76: a question has a bound, and says it."""
    answer, seconds = asked(people[1], "search", text=text)

    assert (False, "bad-argument") == (answer["ok"], answer["code"])
    assert seconds < 5


def test_history_of_others_is_not_asked_for(people):
    """Rows 51, 76: who was not there sees nothing, however he asks, and no other name is accepted as his own."""
    one, other, stranger = people
    for arguments in ({"peer": one.user}, {"peer": other.user}, {"group": one.user}, {"peer": "x' OR '1'='1"}):
        answer, _ = asked(stranger, "history", **arguments)
        assert [] == answer["result"]["messages"]
    for operation in ("history", "inbox", "search", "sync"):
        more = {"history": {"peer": one.user}, "search": {"text": "secret"}}.get(operation, {})
        answer, _ = asked(stranger, operation, address=other.user, **more)
        assert (False, "forbidden") == (answer["ok"], answer["code"])
    for operation in ("purge", "retention_set", "retention_list"):
        answer, _ = asked(stranger, operation)
        assert (False, "forbidden") == (answer["ok"], answer["code"])


@pytest.mark.parametrize(
    "cursor", ["", "x", "e30", "W10", "bnVsbA", "eyJzIjotMSwibiI6dHJ1ZX0", "eyJtIjoxZTk5OX0", "A" * 5_000]
)
def test_cursors_are_checked(people, cursor):
    """Row 76: a cursor that we did not give is refused by all that take one, and nothing else happens."""
    one, other, _ = people
    for operation, more in (
        ("history", {"peer": one.user}),
        ("inbox", {}),
        ("search", {"text": "secret"}),
        ("sync", {}),
    ):
        answer, _ = asked(other, operation, cursor=cursor, **more)
        assert (operation, False, "bad-cursor") == (operation, answer["ok"], answer["code"])
