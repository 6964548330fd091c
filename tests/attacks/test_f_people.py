"""Sections B, F and people: forged fields, enumeration, what a blocked user could learn, and stalking by strangers."""

from __future__ import annotations

import json
import time

import pytest

from attacks.attacker import DEADLINE_S, publish

MID_DIGITS = 16  # a mid stands in for a cid that was not given


def rpc(client, op, **arguments):
    """Ask by rpc; return the answer."""
    client.send(publish(f"m/{client.user}/out/rpc/{op}/r", json.dumps(arguments), 1, 7))
    found = client.message("/in/rpc/r")
    return json.loads(found[1])


def strangers(target, *names):
    """Return connections of new users who listen to everything of theirs."""
    target.users(*names)
    return [target.client(name).listen() for name in names]


def heard(client, hidden):
    """Return all that a client was told in this moment, with the names of whom it asked about made equal."""
    found = []
    for _first, body in client.exchange():
        text = body.decode("latin-1").replace(hidden, "WHOM")
        start = text.find("{")
        if start >= 0:
            said = json.loads(text[start:])
            for drawn in ("ts", "mid", *(("cid",) if len(said.get("cid", "")) == MID_DIGITS else ())):
                said.pop(drawn, None)
            text = json.dumps(said)
        found.append(text)
    return sorted(found)


def test_forged_fields_change_nothing(target):
    """Row 44: `from`, `ts`, `seq`, `id` in payload or parameters; who sent it, and when, the topic alone says."""
    mallory, victim = strangers(target, "forger", "forged")
    claims = json.dumps({"from": "alice", "ts": 1, "seq": 99, "id": "0" * 16, "receipt": True, "sender": "alice"})
    mallory.send(publish("m/forger/out/u/forged/1/from=alice&ts=1&mid=0000000000000001", claims, 1))
    topic, payload = victim.message()
    assert claims.encode() == payload  # opaque: what an application writes into it is its own affair
    assert topic.startswith("m/forged/in/u/forger/")
    mid, params = topic.split("/")[5:]
    assert ("0" * 15 + "1" != mid, "seq=1&from=alice&ts=1&mid=0000000000000001") == (True, params)
    mallory.send(publish("m/forger/out/u/forged/2/seq=7", "x", 1))
    mallory.message("/in/status/1")

    assert 0x85 == json.loads(mallory.message("/in/status/2")[1])["status"]


@pytest.mark.parametrize(
    "payload",
    [
        '{"state":"online","version":9007199254740991,"ts":1}',
        '{"version":9007199254740991}',
        '{"\\u0073tate":"offline"}',
        ' \n{"state":"offline"}',
        '\ufeff{"state":"offline"}',
        '{"state":"offline",}',
        '{"presence":3,"state":"x","state":"y"}',
    ],
)
def test_nobody_forges_the_servers_word_on_presence(target, payload):
    """Row 44: what looks like the server's state of a user is refused from the user himself."""
    names = [f"liar{abs(hash(payload)) % 10**8}", f"told{abs(hash(payload)) % 10**8}"]
    liar, victim = strangers(target, *names)
    liar.send(publish(f"m/{names[0]}/out/presence/u/{names[1]}", payload.encode(), 1))

    assert 0x85 == json.loads(liar.message("/in/status/")[1])["status"]
    assert victim.message("/in/presence/", deadline_s=0.2) is None


def test_who_hides_is_told_apart_from_nobody_by_nothing(target):
    """Row 103: message, typing, profile, presence, contact, block: the same bytes for a hidden user and for none."""
    (spy,) = strangers(target, "spy")
    target.users("hider")
    assert target.ask("user_set", address="hider", rules={"peers": "paired"})["ok"]
    told = []
    for whom in ("hider", "nobodY"):
        spy.send(publish(f"m/spy/out/u/{whom}/c1", "are you there?", 1, 1))
        spy.send(publish(f"m/spy/out/u/{whom}/c2/expiry=0", "are you online?", 1, 2))
        spy.send(publish(f"m/spy/out/presence/u/{whom}", "typing", 1, 3))
        said = heard(spy, whom)  # refusals wait for no commit
        for op, arguments in (
            ("profile", {"address": whom}),
            ("presence", {"addresses": [whom]}),
            ("presence_follow", {"addresses": [whom]}),
            ("contact_add", {"contacts": {whom: ""}}),
            ("block_add", {"peers": [whom]}),
            ("send", {"to": whom, "text": "x", "cid": "c3"}),
            ("history", {"peer": whom}),
            ("inbox", {}),
        ):
            said.append(json.dumps(rpc(spy, op, **arguments)).replace(whom, "WHOM"))
        told.append(said)
        spy.exchange()

    assert told[0] == told[1]


def test_a_silently_blocked_user_learns_nothing(target):
    """Row 112: messages, typing, receipts, presence, profile: as of somebody who stays away and shows nothing."""
    blocked, victim = strangers(target, "blocked", "victim")
    target.users("absent")
    for name in ("victim", "absent"):
        assert target.ask("user_set", address=name, rules={"silent_blocks": "on"}, privacy={"profile": "nobody"})["ok"]
    assert rpc(victim, "contact_add", contacts={"blocked": ""})["ok"]
    blocked.send(publish("m/blocked/out/u/victim/0", "before", 1))
    _topic, payload = victim.message()
    assert b"before" == payload
    assert rpc(victim, "block_add", peers=["blocked"])["ok"]
    blocked.exchange()
    told = []
    for whom in ("victim", "absent"):
        asked = [rpc(blocked, "presence", addresses=[whom]), rpc(blocked, "profile", address=whom)]
        blocked.exchange()
        blocked.send(publish(f"m/blocked/out/u/{whom}/{whom}1", "let me in", 1, 1))
        blocked.send(publish(f"m/blocked/out/u/{whom}/{whom}2/expiry=0", "are you online?", 1, 2))
        blocked.send(publish(f"m/blocked/out/presence/u/{whom}", "typing", 1, 3))
        said = []
        while len(said) < 5:  # three PUBACKs, `sent` after its commit, and `user-offline`
            said += heard(blocked, whom)
        told.append([json.dumps(each).replace(whom, "WHOM") for each in asked] + sorted(said))
    victim.send(publish("m/victim/out/read/u/blocked", _topic.split("/")[5], 1, 9))
    victim.exchange()

    assert told[0] == told[1]
    assert [] == [body for _, body in victim.exchange() if b"in/u/" in body or b"in/presence" in body]
    assert [] == [body for _, body in blocked.exchange() if b'"status":3' in body]


def test_a_stranger_cannot_stalk(target):
    """Row 113: whom a user has not among his contacts is told `unknown`, by asking or following, whatever he does."""
    (stalker,) = strangers(target, "stalker")
    target.users("prey")
    assert rpc(stalker, "presence_follow", addresses=["prey"])["ok"]
    for _ in range(3):
        prey = target.client("prey").listen()
        assert {"state": "unknown", "address": "prey"} == rpc(stalker, "presence", addresses=["prey"])["result"][
            "presence"
        ][0]
        prey.reset()
    states = [body for _, body in stalker.exchange() if b"in/presence" in body]

    assert {b'{"state":"unknown"}'} >= {state[state.index(b"{") :] for state in states}


def everything(client, part):
    """Return all that waits for a client, however much, of topics with `part`."""
    found = []
    while more := client.exchange():
        found += [body for _, body in more if part in body]
    return found


def test_floods_of_typing_and_questions_end_in_0x8c(target):
    """Row 113: production.yaml bounds what one user publishes as presence and asks by rpc: 200 at once, 20 a second."""
    flooder, flooded = strangers(target, "flooder", "flooded")
    began = time.monotonic()
    typing = (publish("m/flooder/out/presence/u/flooded", '{"presence":3}', 1, number + 1) for number in range(1_000))
    flooder.send(b"".join(typing))
    refused, got = [], []  # all of them: what still waits for a device may displace an answer
    while len(refused) + len(got) < 1_000 and time.monotonic() < began + DEADLINE_S:
        refused += everything(flooder, b'"status":140')
        got += everything(flooded, b"in/presence")
    took_s = time.monotonic() - began  # all are judged

    assert 1_000 == len(refused) + len(got)
    assert 150 < len(got) <= 220 + 20 * took_s
    asked = publish("m/flooder/out/rpc/presence/r", json.dumps({"addresses": ["flooded"]}), 1, 7)
    codes = set()
    for _ in range(10):  # many at once: one by one they come more slowly than the rate where the machine is busy
        flooder.send(asked * 40)
        codes |= {json.loads(flooder.message("/in/rpc/r")[1]).get("code") for _ in range(40)}
    assert "rate-limited" in codes
