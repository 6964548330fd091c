"""`POST /backend`: requests as Mesibo's documentation and PHP sample have them, word for word but for the token."""

from __future__ import annotations

import pytest

USERADD = {
    "op": "useradd",
    "user": {
        "address": "xyz@example.com",
        "name": "User Name",
        "token": {"appid": "com.example.mesiboapp", "expiry": 525600},
    },
}
GROUPADD = {"op": "groupadd", "name": "testGroup", "flag": 0}


@pytest.fixture
def backend(ask):
    """Ask as Mesibo's helpers do; the app token is one of ours of scope backend."""

    def call(request, token=None):
        body = {**request, "token": ask.world.tokens["shop"] if token is None else token}
        reply = ask("POST", "/backend", body)
        assert 200 == reply.status
        return reply.json

    call.ask = ask
    return call


def test_useradd_with_a_token(backend) -> None:
    """The documented request: a user, and a token that lets him in; again gives another token and no other user."""
    first, again = backend(USERADD), backend(USERADD)
    token = first["user"]["token"]

    assert ("useradd", True, "xyz@example.com") == (first["op"], first["result"], first["user"]["address"])
    assert first["user"]["uid"] == again["user"]["uid"]
    assert token != again["user"]["token"]
    assert 200 == backend.ask("GET", "/v1/users/me/inbox", token=token).status
    assert "User Name" == backend.ask("GET", "/v1/users/xyz@example.com", user="shop").json["name"]


def test_useradd_without_a_token_object_makes_none(backend) -> None:
    """Mesibo makes a token only if it is asked for one; the flat form with appid asks for one."""
    plain = backend({"op": "useradd", "user": {"address": "dave"}})
    flat = backend({"op": "useradd", "addr": "eve", "appid": "com.example.app", "expiry": "60"})

    assert "token" not in plain["user"]
    assert flat["user"]["token"]


def test_a_failed_request(backend) -> None:
    """The documented answer to an operation that there is not, with the id echoed."""
    answer = backend({"op": "someop", "id": 42})

    assert {"op": "someop", "result": False, "error": "BADOP", "id": 42}.items() <= answer.items()


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"op": "useradd"}, "BADREQ"),
        ({"op": "useradd", "user": {"address": 1.5}}, "BADREQ"),
        ({"op": "useradd", "user": {"address": " x"}}, "BADREQ"),
        ({"op": "userset", "user": {"address": "nobody", "name": "x"}}, "NOSUCHUSER"),
        ({"op": "userdel", "user": {"uid": 999}}, "NOSUCHUSER"),
        ({"op": "userset", "user": {"address": "bob", "permissions": {"peers": 9}}}, "BADREQ"),
        ({"op": "groupset", "gid": 999, "name": "x"}, "NOSUCHGROUP"),
        ({"op": "groupdel", "gid": "nothing"}, "NOSUCHGROUP"),
        ({"op": "groupadd", "flag": "x"}, "BADREQ"),
        ({"op": "message", "from": "alice", "message": "x"}, "BADREQ"),
        ({"op": "message", "from": "alice", "to": "nobody", "message": "x"}, "INVALIDDEST"),
        ({"op": "message", "from": "nobody", "to": "bob", "message": "x"}, "NOSUCHUSER"),
        ({"op": "message", "from": "alice", "to": "bob", "message": "x", "when": -1}, "BADREQ"),
        ({"op": ["message"]}, "BADOP"),
        ({}, "BADOP"),
    ],
)
def test_every_refusal_is_an_answer(backend, request_, error) -> None:
    """`result` false and a code, never anything else."""
    answer = backend(request_)

    assert (False, error) == (answer["result"], answer["error"])


def test_the_app_token_is_a_token_of_scope_backend(backend) -> None:
    """None, a wrong one, a user's: refused."""
    for token, error in (
        ("", "AUTHFAIL"),
        ("nonsense", "AUTHFAIL"),
        (7, "AUTHFAIL"),
        (backend.ask.token("alice"), "DENIED"),
    ):
        assert error == backend({"op": "usersget"}, token)["error"]
    reply = backend.ask("POST", "/backend", {"op": "usersget"})
    assert ("AUTHFAIL", "token is missing: the app token, a text") == (reply.json["error"], reply.json["message"])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"op=useradd&token=x", "it is no JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"", "it is no JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'{"op":"useradd","op":"userdel"}', "it is no JSON: a key stands twice"),
        (b'{"op":"\xff"}', "it is not UTF-8"),
        (b'["useradd"]', "it is a list"),
        (b'"useradd"', "it is a text"),
        (b"null", "it is null"),
        (b"7", "it is a number"),
    ],
)
def test_a_body_that_is_no_request(backend, body, why) -> None:
    """BADREQ, and what is wrong with it: nobody is sent to look for a mistake in his token."""
    reply = backend.ask("POST", "/backend", body=body, content_type="application/x-www-form-urlencoded")

    assert 200 == reply.status
    assert {
        "error": "BADREQ",
        "message": f"a request is a JSON object with op and token; {why}",
        "op": "",
        "result": False,
    } == reply.json


def test_a_body_that_is_no_request_is_no_failed_login(backend) -> None:
    """However often it comes, the app token is still looked at; wrong tokens from there are bounded as they were."""
    for _ in range(30):
        backend.ask("POST", "/backend", body=b"nonsense")
        backend.ask("POST", "/backend", {"op": "usersget"})

    assert backend({"op": "usersget"})["result"]


def test_a_backend_that_asks_too_much_waits(make_asker) -> None:
    """The rate of requests holds here as under /v1, that of look-ups too: RATELIMIT."""
    for rates in ({"http": "10:1"}, {"lookups": "10:1"}):
        ask = make_asker(rates=rates)
        request = {"op": "usersget", "token": ask.world.tokens["shop"]}
        first, second = (ask("POST", "/backend", request).json for _ in range(2))

        assert (True, "RATELIMIT") == (first["result"], second["error"])


def test_the_slash_of_mesibos_url_stays(backend) -> None:
    """Who changes the host of `https://api.mesibo.com/backend/` alone keeps the slash at its end."""
    reply = backend.ask("POST", "/backend/", {"op": "nope", "token": backend.ask.world.tokens["shop"]})

    assert (200, "BADOP") == (reply.status, reply.json["error"])


def test_userset_userdel_usersget(backend) -> None:
    """A user is changed, disabled, found by address and by uid, listed, and deleted."""
    uid = backend(USERADD)["user"]["uid"]
    disabled = backend({"op": "userset", "user": {"uid": uid, "active": False, "permissions": {"peers": 1}}})
    found = backend({"op": "usersget", "user": {"address": "xyz@example.com"}})
    every = backend({"op": "usersget", "user": {"address": "*"}})

    assert disabled["result"]
    assert [{"uid": uid, "address": "xyz@example.com", "name": "User Name", "active": False}] == found["users"]
    assert 6 == every["count"] == len(every["users"])
    assert backend({"op": "userdel", "user": {"uid": uid}})["result"]
    assert "NOSUCHUSER" == backend({"op": "userdel", "user": {"address": "xyz@example.com"}})["error"]


def test_tokendel_keeps_user_and_mail(backend) -> None:
    """The user is logged out, and what waits for him stays."""
    token = backend(USERADD)["user"]["token"]
    backend({"op": "message", "from": "alice", "to": "xyz@example.com", "message": "hi"})
    assert backend({"op": "tokendel", "user": {"address": "xyz@example.com"}})["result"]

    assert 401 == backend.ask("GET", "/v1/ping", token=token).status
    fresh = backend(USERADD)["user"]["token"]
    assert 1 == backend.ask("GET", "/v1/users/me/inbox", token=fresh).json["messages"]


def test_groups_from_beginning_to_end(backend) -> None:
    """groupadd gives a number; members come, are listed, lose a right, leave; the group is renamed, paused, deleted."""
    made = backend(GROUPADD)
    gid = made["group"]["gid"]
    assert (int, True) == (type(gid), made["result"])
    assert backend({"op": "groupeditmembers", "gid": gid, "m": "alice, bob,carol", "delete": 0})["result"]
    listed = backend({"op": "groupgetmembers", "gid": gid})
    assert (3, ["alice", "bob", "carol"]) == (listed["count"], sorted(each["address"] for each in listed["members"]))

    assert backend({"op": "groupeditmembers", "gid": gid, "m": "carol", "delete": 1})["result"]
    assert 2 == backend({"op": "groupgetmembers", "group": {"gid": str(gid)}})["count"]
    assert backend({"op": "groupset", "gid": gid, "name": "New", "active": 0})["result"]
    paused = backend({"op": "message", "from": "alice", "gid": gid, "message": "x"})
    assert "GROUPPAUSED" == paused["error"]
    assert backend({"op": "groupdel", "gid": gid})["result"]
    assert "NOSUCHGROUP" == backend({"op": "groupgetmembers", "gid": gid})["error"]


def test_messages_to_several_a_group_and_later(backend) -> None:
    """`to` is comma separated, `gid` a group, `when` in seconds; the answer has a mid, as documented."""
    world = backend.ask.world
    bob, carol = world.listener("bob"), world.listener("carol")
    gid = backend(GROUPADD)["group"]["gid"]
    backend({"op": "groupeditmembers", "gid": gid, "m": "alice,bob"})
    bob.received()
    one = backend({"op": "message", "from": "alice", "to": "bob", "type": 3, "message": "one", "title": "T"})
    many = backend({"op": "message", "from": "alice", "to": "bob,carol", "message": "two", "flags": 3, "expiry": 3600})
    group = backend({"op": "message", "from": "alice", "gid": gid, "message": "three"})
    later = backend({"op": "message", "from": "alice", "to": "bob", "message": "four", "when": 60})

    assert all(each["result"] and each["mid"] for each in (one, many, group, later))
    assert 2 == len(many["mids"])
    assert ["one", "two"] == bob.payloads()
    assert (["three"], ["two"]) == (bob.payloads("g/"), carol.payloads())
    world.advance(61)
    assert ["four"] == bob.payloads()


def test_a_message_that_some_may_not_have(backend) -> None:
    """Who gets none is named with his error beside the mids of the others; with several recipients nobody vanishes."""
    gid = backend(GROUPADD)["group"]["gid"]  # alice is no member of it
    send = {"op": "message", "from": "alice", "message": "hi"}
    some = backend({**send, "to": "bob,nobody", "gid": gid})
    none = backend({**send, "to": "nobody,nobody2"})

    refused = [{"to": "nobody", "error": "INVALIDDEST"}, {"gid": gid, "error": "INVALIDDEST"}]
    assert (True, 1, refused) == (some["result"], len(some["mids"]), some["refused"])
    assert (False, "INVALIDDEST") == (none["result"], none["error"])
    assert "refused" not in backend({**send, "to": "bob,carol"})


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method_than_post(backend, method) -> None:
    """Is told which one, without being asked for a token first; and a token in the address where it belongs here."""
    reply = backend.ask(method, "/backend/?op=useradd&token=x")
    query = backend.ask("POST", "/backend?op=useradd&token=x")

    assert (405, "no-such-method", "POST") == (reply.status, reply.code, reply.headers["allow"])
    assert "docs/mesibo.md" in reply.json["detail"]
    assert (400, "token-in-query") == (query.status, query.code)
    assert "body" in query.json["detail"]


def test_a_one_time_password(backend) -> None:
    """`otp` of the PHP sample: good once, for its address, for so many tries and so long."""

    def add(digits):
        return backend({"op": "useradd", "user": {"address": "+1234567890", "otp": digits, "token": {"expiry": 60}}})

    def make(reuse=False):
        wanted = {"address": "+1234567890", "tries": 3, "expiry": 300, "reuse": reuse}
        return backend({"op": "otp", "otp": wanted})["otp"]["otp"]

    digits = make()
    assert digits == make(reuse=True)
    wrong = f"{(int(digits) + 1) % 10**6:06}"
    assert "BADOTP" == add(wrong)["error"]
    assert add(digits)["result"]
    assert "BADOTP" == add(digits)["error"]
    digits = make()
    assert ["BADOTP"] * 4 == [add(each)["error"] for each in (wrong[::-1] + "x", "1", "22", "333")]
    assert "BADOTP" == add(digits)["error"]
    digits = make()
    backend.ask.world.advance(301)
    assert "BADOTP" == add(digits)["error"]
