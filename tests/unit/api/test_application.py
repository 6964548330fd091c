"""Requests and their answers: who asks, what is asked, and what a refusal looks like."""

from __future__ import annotations

import sqlite3

import pytest

from mesimqtt.api.routes import TABLE
from mesimqtt.messaging.operations import OPERATIONS


def test_a_message_is_sent_and_delivered(ask) -> None:
    """POST /v1/messages gives mid and cid back; the recipient's device gets the message."""
    bob = ask.world.listener("bob")
    reply = ask("POST", "/v1/messages", {"to": "bob", "text": "hi", "cid": "42"}, user="alice")

    assert (201, "42", 1) == (reply.status, reply.json["cid"], reply.json["status"])
    assert ["hi"] == bob.payloads()


def test_the_one_curl_moment(ask) -> None:
    """A body that is the message itself, to a person and to a group, with its parameters in the query."""
    ask.world.group("team", "alice", "bob")
    bob = ask.world.listener("bob")
    hi = ask("POST", "/v1/send/bob?type=7", body=b"hi", user="alice", content_type="application/x-www-form-urlencoded")
    raw = ask("PUT", "/v1/send/bob", body=b"\xff\x00", user="alice")
    team = ask("POST", "/v1/groups/team/send", body=b"all", user="alice")

    assert [201, 201, 201] == [hi.status, raw.status, team.status]
    assert hi.json["mid"]
    assert [b"hi", b"\xff\x00"] == [each.payload for each in bob.received("u/")]
    assert ["all"] == bob.payloads("g/")


@pytest.mark.parametrize("header", ["", "Bearer", "Basic YWxpY2U6eA==", "Bearer nonsense", "Bearer a.b.c"])
def test_without_a_good_token_nothing_is_answered(ask, header) -> None:
    """401 and how to ask, whatever is wrong, also where there is nothing."""
    for path in ("/v1/users", "/v1/nothing"):
        reply = ask("GET", path, **({"authorization": header} if header else {}))

        assert (401, "unauthorized", "Bearer") == (reply.status, reply.code, reply.headers["www-authenticate"])


def test_a_token_acts_within_its_scope(ask) -> None:
    """A user's token may not do what a backend's may, nor a backend's what an admin's may; nobody acts for another."""
    for path, user in (("/v1/users", "alice"), ("/v1/stats", "alice"), ("/v1/stats", "shop")):
        reply = ask("GET", path, user=user)

        assert (403, "forbidden") == (reply.status, reply.code)
    assert 200 == ask("GET", "/v1/users", user="shop").status
    assert 200 == ask("GET", "/v1/stats", user="root").status
    forged = ask("POST", "/v1/messages", {"sender": "bob", "to": "carol", "text": "x"}, user="alice")
    assert (403, "forbidden") == (forged.status, forged.code)


def test_revocation_acts_at_once(ask) -> None:
    """A token that was good a moment ago is not, once it is revoked or its user disabled; one that expired neither."""
    world = ask.world
    token = ask.token("alice", ttl=60)
    assert 200 == ask("GET", "/v1/ping", token=token).status

    world.advance(61)
    assert 401 == ask("GET", "/v1/ping", token=token).status
    world.do("token_revoke", what="alice")
    assert 401 == ask("GET", "/v1/ping", user="alice").status
    world.do("user_disable", addresses=["bob"])
    assert 401 == ask("GET", "/v1/ping", user="bob").status


def test_a_short_token_and_one_bound_to_a_device_are_good(ask) -> None:
    """A request has no client id: a bound token speaks for its device."""
    for more in ({"short": True}, {"device": "phone"}, {"short": True, "device": "phone"}):
        assert 200 == ask("GET", "/v1/ping", token=ask.token("alice", **more)).status


def test_me_is_who_asks(ask) -> None:
    """In the path of a user `me` stands for the caller; elsewhere it is a name like any other."""
    assert "alice" == ask("GET", "/v1/users/me/inbox", user="alice").json["user"]
    assert "shop" == ask("GET", "/v1/users/me", user="shop").json["address"]
    assert "no-such-group" == ask("GET", "/v1/groups/me", user="shop").code


def test_an_address_in_the_path_is_decoded_after_the_split(ask) -> None:
    """`door/7` and a percent sign arrive as they are; no dot, double slash or parameter leads anywhere else."""
    ask.world.user("door/7", "50%")
    assert "door/7" == ask("GET", "/v1/users/door%2F7", user="shop").json["address"]
    assert "50%" == ask("GET", "/v1/users/50%25", user="shop").json["address"]

    for path in (
        "/v1//users",
        "//v1/users",
        "/v1/./users",
        "/v1/../v1/users",
        "/v1/users/",
        "/v1/users;x=1",
        "/V1/users",
    ):
        assert (404, "no-such-path") == (ask("GET", path, user="root").status, ask("GET", path, user="root").code)
    assert 400 == ask("GET", "/v1/users/%ff", user="root").status


def test_methods(ask) -> None:
    """A method that a path does not take is 405 and told which it takes; HEAD is GET without its body."""
    reply = ask("PUT", "/v1/users", user="root")

    assert (405, "no-such-method") == (reply.status, reply.code)
    assert {"GET", "HEAD", "POST"} == set(reply.headers["allow"].split(", "))
    assert 200 == ask("HEAD", "/v1/users", user="root").status
    for method in ("TRACE", "CONNECT", "get", "DELETE"):
        assert 405 == ask(method, "/v1/users", user="root").status


def test_every_operation_has_a_generic_path(ask) -> None:
    """POST /v1/op/NAME does what the route of its own does, also for one that has none."""
    assert ask("GET", "/v1/users", user="root").json == ask("POST", "/v1/op/user_list", {}, user="root").json
    assert (404, "no-such-path") == (ask("POST", "/v1/op/nothing", {}, user="root").status, "no-such-path")


def test_arguments_come_once(ask) -> None:
    """A path and a body that differ are refused, and so are arguments in the wrong place or twice."""
    user = {"user": "shop"}
    differs = ask("PATCH", "/v1/users/alice", {"address": "bob", "profile": {"name": "x"}}, **user)
    same = ask("PATCH", "/v1/users/alice", {"address": "alice", "profile": {"name": "Alice"}}, **user)

    assert (400, "id-mismatch") == (differs.status, differs.code)
    assert (200, "Alice") == (same.status, same.json["profile"]["name"])
    assert 400 == ask("GET", "/v1/users?limit=1&limit=2", **user).status
    assert 400 == ask("GET", "/v1/users?limit=x", **user).status
    assert 400 == ask("GET", "/v1/users?nothing=1", **user).status
    assert 400 == ask("GET", "/v1/users?%ff=1", **user).status
    assert 400 == ask("GET", "/v1/users", {"limit": 1}, **user).status
    assert 400 == ask("POST", "/v1/users?x=1", {"addresses": ["dave"]}, **user).status


def test_a_body_is_json_and_says_so(ask) -> None:
    """Another type is 415; what two readers could read differently is 400."""
    plain = ask("POST", "/v1/users", body=b'{"addresses":["dave"]}', user="shop", content_type="text/plain")
    assert (415, "not-json") == (plain.status, plain.code)
    coded = ask("POST", "/v1/users", {"addresses": ["dave"]}, user="shop", content_encoding="gzip")
    assert (415, "bad-encoding") == (coded.status, coded.code)
    for body in (b'{"addresses":["dave"],"addresses":["eve"]}', b"[1]", b'{"a":NaN}', b"\xff{}", b"{" * 9_999, b"{"):
        reply = ask("POST", "/v1/users", body=body, user="shop", content_type="application/json")
        assert (400, "bad-json") == (reply.status, reply.code)
    assert 200 == ask("GET", "/v1/users", user="shop").status


def test_a_hundred_addresses_in_a_query(ask) -> None:
    """What an operation takes in a list fits into the query of its GET."""
    names = "&".join(f"addresses=u{number}" for number in range(100))
    reply = ask("GET", f"/v1/presence?{names}", user="alice")

    assert (200, 100) == (reply.status, len(reply.json["presence"]))


def test_nobody_is_not_the_caller(ask) -> None:
    """An empty name is no name: it is refused, for who may name others, too."""
    reply = ask("GET", "/v1/groups?by=", user="root")

    assert (400, "bad-argument") == (reply.status, reply.code)


def test_the_generic_path_answers_with_the_same_status(ask) -> None:
    """An operation has one status for success, by whichever path it is asked."""
    statuses = [ask("POST", path, {}, user="shop").status for path in ("/v1/groups", "/v1/op/group_add")]

    assert [201, 201] == statuses


def test_a_token_in_the_query_is_refused(ask) -> None:
    """It would stand in logs and histories; the answer does not repeat it."""
    token = ask.world.tokens["alice"]
    for name in ("token", "access_token", "Token"):
        reply = ask("GET", f"/v1/ping?{name}={token}", user="alice")

        assert (400, "token-in-query") == (reply.status, reply.code)
        assert token not in str(reply)


def test_pages_follow_one_another(ask) -> None:
    """`next` of an answer is `after` of the next question; null at the end."""
    found, after = [], ""
    while after is not None:
        reply = ask("GET", f"/v1/users?limit=2&after={after}", user="shop")
        found += [each["address"] for each in reply.json["users"]]
        after = reply.json["next"]

    assert ["alice", "bob", "carol", "root", "shop"] == found


def test_a_refusal_is_a_problem(ask) -> None:
    """RFC 9457: type, title, status, detail, and our code for programs."""
    reply = ask("GET", "/v1/users/nobody", user="shop")

    assert "application/problem+json" == reply.headers["content-type"]
    assert {"type": "about:blank", "title": "Not Found", "status": 404, "code": "no-such-user"}.items() <= (
        reply.json.items()
    )
    assert "nobody" in reply.json["detail"]


def test_a_full_store_is_507(ask) -> None:
    """What cannot be kept is refused as such, and taken once there is room."""
    database = ask.world.database
    database.code = sqlite3.SQLITE_FULL
    full = ask("POST", "/v1/users", {"addresses": ["dave"]}, user="shop")
    database.code = 0

    assert (507, "store") == (full.status, full.code)
    assert 200 == ask("POST", "/v1/users", {"addresses": ["dave"]}, user="shop").status


def test_who_asks_too_much_waits(make_asker) -> None:
    """Requests and messages have rates; the answer says when to come again."""
    ask = make_asker(rates={"http": "10:3", "messages": "60:1"})
    first, second = (ask("POST", "/v1/send/bob", body=b"x", user="alice") for _ in range(2))
    assert (201, 429, "rate-limited") == (first.status, second.status, second.code)
    assert 60 == int(second.headers["retry-after"])

    ask("GET", "/v1/ping", user="alice")
    last = ask("GET", "/v1/ping", user="alice")
    assert (429, "4") == (last.status, last.headers["retry-after"])
    assert 200 == ask("GET", "/v1/ping", user="bob").status


def test_who_looks_up_too_much_waits(make_asker) -> None:
    """What reads has a window of its own, by whichever path and over rpc, too: 429 with the seconds, and no more."""
    ask = make_asker(rates={"lookups": "10:4"})
    alice = ask.world.listener("alice")
    asked = [
        ("GET", "/v1/users/me/history?peer=bob", None),
        ("GET", "/v1/users/me/inbox", None),
        ("POST", "/v1/op/sync", {"device": "phone"}),
    ]
    first = [ask(method, path, body, user="alice").status for method, path, body in asked]
    (fourth,) = alice.rpc("history", peer="bob")
    (fifth,) = alice.rpc("search", text="x")
    last = ask("GET", "/v1/groups", user="alice")

    assert ([200] * 3, True) == (first, fourth["ok"])
    assert (False, "rate-limited", 3) == (fifth["ok"], fifth["code"], fifth["retry_after"])
    assert (429, "rate-limited", "3") == (last.status, last.code, last.headers["retry-after"])
    assert 201 == ask("POST", "/v1/send/bob", body=b"x", user="alice").status
    assert 200 == ask("GET", "/v1/ping", user="alice").status
    assert 200 == ask("GET", "/v1/groups", user="bob").status
    ask.world.advance(3)
    assert 200 == ask("GET", "/v1/groups", user="alice").status


def test_what_reads_is_a_lookup() -> None:
    """Every GET counts as one, but for those by which a server is watched; so do the two that ask in a body."""
    lookups = {each.name for each in OPERATIONS.values() if each.is_lookup}
    read = {name for name, line in TABLE.items() if line.startswith("GET ")}

    assert read - {"health", "metrics", "ping"} | {"acl_explain", "token_show"} == lookups


def test_who_guesses_tokens_waits_and_nobody_else(make_asker) -> None:
    """After ten that are not good none is looked at, from there and for that name; a good one is still good."""
    ask = make_asker(rates={"failed_logins": "900:10"})
    good = ask.token("alice")
    assert 200 == ask("GET", "/v1/ping", token=good).status
    guess = good[:-2] + ("AA" if good[-2:] != "AA" else "BB")

    assert [401] * 10 + [429] == [ask("GET", "/v1/ping", token=guess).status for _ in range(11)]
    assert 200 == ask("GET", "/v1/ping", token=good).status
    assert 200 == ask("GET", "/v1/ping", user="bob").status


def test_a_mistake_of_ours_shows_no_insides(ask, caplog) -> None:
    """500 and a sentence; the log has the rest."""

    async def perform(*_: object) -> None:
        raise RuntimeError("the secret insides")

    ask.open(perform)
    reply = ask("GET", "/v1/server", user="root")

    assert (500, "internal") == (reply.status, reply.code)
    assert "insides" not in str(reply)
    assert "http: GET /v1/server failed" in caplog.text
    assert "the secret insides" in caplog.text
