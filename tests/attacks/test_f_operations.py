"""Sections D and F, P4, P8 and P9 against operations, by HTTP and rpc, in virtual time: power, oddities, floods."""

from __future__ import annotations

import asyncio
import json

import pytest

from mesimqtt.messaging.asides import RPC_WAITING_MAX
from mesimqtt.messaging.history import History
from mesimqtt.testing import wire
from unit.api.asking import Asker
from unit.messaging.world import World


@pytest.fixture
def ask(tmp_path):
    """Ask a server with alice, bob, carol, and shop, whose token is of scope backend."""
    world = World(tmp_path / "data")
    world.user("alice", "bob", "carol", "shop")
    asker = Asker(world)
    world.tokens["shop"] = asker.token("shop", "backend")
    yield asker
    world.close()


def asked_at_once(device, count: int, **arguments) -> list[dict]:
    """Ask for a history `count` times in one write, and return all answers."""
    topic = f"m/{device.user}/out/rpc/history"
    device.send(*[wire.publish(f"{topic}/{number}", json.dumps(arguments).encode()) for number in range(count)])
    return [json.loads(message.payload) for message in device.received("rpc/")]


@pytest.mark.parametrize("short", [True, False])
def test_a_backend_makes_no_admin(ask, short) -> None:
    """Row 114: nobody issues a token that may do more than his own; his own scope he may give."""
    refused = ask("POST", "/v1/tokens", {"addresses": ["shop"], "scope": "admin", "short": short}, user="shop")
    given = ask("POST", "/v1/tokens", {"addresses": ["bob"], "scope": "backend", "short": short}, user="shop")

    assert (403, "forbidden") == (refused.status, refused.code)
    assert "backend" == given.json["tokens"][0]["scope"]


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("search", {"text": "hello", "type": -1}),
        ("search", {"text": "hello", "type": 2**40}),
        ("send", {"to": "bob", "payload": "é"}),
        ("send", {"to": "bob", "payload": "\u0660\u0661"}),
        ("profile_set", {"profile": {"avatar": "http://["}}),
        ("profile_set", {"profile": {"avatar": "https://[x]/a.png"}}),
    ],
)
def test_odd_arguments_are_refused_and_no_error_of_ours(ask, op, arguments) -> None:
    """Row 74: what an argument cannot mean is refused as such, before anything is asked of the store."""
    reply = ask("POST", f"/v1/op/{op}", arguments, user="alice")

    assert (400, "bad-argument") == (reply.status, reply.code)


@pytest.mark.parametrize("odd", [[], {}, [["a"]], {"a": 1}, "\ud800", 2, None])
def test_odd_words_of_mesibo_are_refused(ask, odd) -> None:
    """Rows 73 and 74: whatever stands where Mesibo has a text or a flag is answered as it answers."""
    requests = [{"op": "useradd", "user": {"address": "eve", "active": odd}}, {"op": odd, "id": odd}]
    requests += [{"op": "otp", "otp": {"address": "eve", "reuse": odd}}, {"op": "otp", "token": odd}]
    requests += [{"op": "userset", "user": {"address": odd, "name": "Eve"}}]
    for request in requests:
        reply = ask("POST", "/backend", {"token": ask.world.tokens["shop"], **request})

        assert (200, False) == (reply.status, reply.json["result"])


@pytest.mark.parametrize("more", [{}, {"when": 60}])
def test_the_same_send_several_times_at_once(ask, more) -> None:
    """P4: retries that overlap are one message, and each is told so at once."""
    letter = {"to": "bob", "text": "hello", "cid": "once", **more}

    async def send():
        return await asyncio.gather(*(ask.ask("POST", "/v1/messages", letter, user="alice") for _ in range(5)))

    replies = ask.world.run(asyncio.wait_for(send(), 20))

    assert [201] * 5 == [reply.status for reply in replies]
    assert 1 == len({reply.json["mid"] for reply in replies})


def test_one_cid_for_two_texts_at_once(ask) -> None:
    """Row 46: of two that overlap the second is refused, and neither gets the other's answer."""

    async def send():
        letters = [{"to": "bob", "text": text, "cid": "once"} for text in ("one", "two", "one")]
        return await asyncio.gather(*(ask.ask("POST", "/v1/messages", letter, user="alice") for letter in letters))

    replies = ask.world.run(asyncio.wait_for(send(), 20))

    assert ["", "cid-reused", ""] == [reply.code for reply in replies]


def test_answers_that_nobody_reads_have_a_bound(ask) -> None:
    """P8: who asks on and on without reading is told that he must read, and costs no more than what is unwritten."""
    world = ask.world
    for _ in range(3):
        world.do("send", sender="bob", to="alice", text="x" * 150_000)
    alice = world.listener("alice", filters=("rpc/#",))
    alice.connection.set_congested(True)

    assert [] == asked_at_once(alice, 100, peer="bob")
    alice.connection.set_congested(False)
    world.tick()
    answers = [message.payload for message in alice.received("rpc/")]
    assert 100 == len(answers)
    assert {"busy", None} == {json.loads(answer).get("code") for answer in answers}
    assert sum(map(len, answers)) < 600 * 1024


def test_one_users_questions_do_not_keep_others_waiting(ask, monkeypatch) -> None:
    """P9: of one user's questions a few are answered at a time, some wait, and the rest are refused; nobody else's."""
    world = ask.world
    alice, carol = world.listener("alice"), world.listener("carol")

    async def never(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(History, "page", never)
    refused = asked_at_once(alice, RPC_WAITING_MAX + 7, peer="bob")

    assert ["busy"] * 7 == [answer["code"] for answer in refused]
    assert carol.rpc("ping")[0]["ok"]


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("user_disable", {"addresses": ["bob", "root"]}),
        ("user_delete", {"addresses": ["root"]}),
        ("user_set", {"address": "root", "profile": {"name": "Eve"}}),
        ("token_revoke", {"what": "root"}),
    ],
)
def test_a_backend_does_not_take_an_admins_way_in(ask, op, arguments) -> None:
    """Row 114: who holds a token of scope admin is managed by admins only, and nothing of such a request is done."""
    ask.world.user("root")
    ask.world.tokens["root"] = ask.token("root", "admin")
    reply = ask("POST", f"/v1/op/{op}", arguments, user="shop")

    assert (403, "forbidden") == (reply.status, reply.code)
    assert [1, 1] == [
        user.json["state"] == "active" for user in (ask("GET", f"/v1/users/{u}", user="shop") for u in ("bob", "root"))
    ]
    assert 200 == ask("POST", f"/v1/op/{op}", arguments, user="root").status


def test_a_backend_revokes_no_token_of_an_admin_by_its_id(ask) -> None:
    """Row 114: nor by its jti, which `token_list` tells; its own kind and a user's it may revoke."""
    ask.world.user("root")
    ask.world.tokens["root"] = ask.token("root", "admin")
    jtis = {u: ask("GET", f"/v1/users/{u}/tokens", user="shop").json["tokens"][0]["jti"] for u in ("root", "bob")}
    codes = {u: ask("POST", "/v1/op/token_revoke", {"what": jti}, user="shop").status for u, jti in jtis.items()}

    assert {"root": 403, "bob": 200} == codes
