"""Idempotency-Key: one effect, one answer, whoever asks again and whenever."""

from __future__ import annotations

import asyncio

from mesimqtt.api import idempotency
from mesimqtt.store import idempotency as rows

WEEK_S = 7 * 86_400


def test_a_send_that_is_repeated_is_one_message(ask) -> None:
    """The same answer again, word for word, also after the message was delivered; the key is the cid."""
    bob = ask.world.listener("bob")
    first = ask("POST", "/v1/messages", {"to": "bob", "text": "hi"}, user="alice", idempotency_key="order-7")
    again = ask("POST", "/v1/messages", {"text": "hi", "to": "bob"}, user="alice", idempotency_key="order-7")
    generic = ask("POST", "/v1/op/send", {"to": "bob", "text": "hi"}, user="alice", idempotency_key="order-7")

    assert (201, "order-7", "sent") == (first.status, first.json["cid"], first.json["name"])
    assert first.json == again.json == generic.json
    assert ["hi"] == bob.payloads()


def test_over_mqtt_it_is_the_same_message(ask) -> None:
    """A phone that sends with that cid sends nothing new; other content with it is refused."""
    bob, alice = ask.world.listener("bob"), ask.world.listener("alice")
    ask("POST", "/v1/send/bob", body=b"hi", user="alice", idempotency_key="c1")
    alice.statuses()
    alice.publish("u/bob/c1", b"hi")
    alice.publish("u/bob/c1", b"other")

    assert ["hi"] == bob.payloads()
    assert [("c1", 2), ("c1", 0x85)] == alice.steps()


def test_parallel_retries_have_one_effect(ask) -> None:
    """Ten at once: one does it, all have its answer."""
    bob = ask.world.listener("bob")

    async def many():
        return await asyncio.gather(*(
            ask.ask("POST", "/v1/tokens", {"addresses": ["bob"]}, user="shop", idempotency_key="k k".replace(" ", "-"))
            for _ in range(10)
        ))  # fmt: skip

    before = len(ask.world.do("token_list", address="bob")["tokens"])
    replies = ask.world.run(many())

    assert 1 == len({reply.json["tokens"][0]["token"] for reply in replies})
    assert before + 1 == len(ask.world.do("token_list", address="bob")["tokens"])
    assert not bob.is_closed


def test_another_request_with_the_same_key_is_refused(ask) -> None:
    """Other arguments, another operation: 422, and nothing happens; another user's key is his own."""
    body = {"addresses": ["dave"]}
    assert 200 == ask("POST", "/v1/users", body, user="shop", idempotency_key="1").status

    for path, other in (("/v1/users", {"addresses": ["eve"]}), ("/v1/groups", {"address": "team"})):
        reply = ask("POST", path, other, user="shop", idempotency_key="1")
        assert (422, "idempotency-key-reused") == (reply.status, reply.code)
    assert {"added": ["eve"], "existed": []} == (
        ask("POST", "/v1/users", {"addresses": ["eve"]}, user="root", idempotency_key="1").json
    )


def test_a_refusal_is_judged_afresh(ask) -> None:
    """Only what was done is kept, as with a cid."""
    body = {"to": "dave", "text": "hi"}
    refused = ask("POST", "/v1/messages", body, user="alice", idempotency_key="x")
    ask.world.user("dave")
    done = ask("POST", "/v1/messages", body, user="alice", idempotency_key="x")

    assert (404, 201) == (refused.status, done.status)


def test_a_key_outlives_a_restart_and_a_week(ask) -> None:
    """A kill between two tries changes nothing; after seven days a key is free again, and its row is gone."""
    world = ask.world
    first = ask("POST", "/v1/groups", {"address": "team"}, user="shop", idempotency_key="g")
    world.restart()
    ask.open(ask._perform)
    assert first.json == ask("POST", "/v1/groups", {"address": "team"}, user="shop", idempotency_key="g").json

    world.jump(WEEK_S + 1)
    assert 409 == ask("POST", "/v1/groups", {"address": "team"}, user="shop", idempotency_key="g").status
    ask.application.keys.tick(world.now())
    world.advance(2)
    world.do("user_add", addresses=["dave"])
    assert [(0,)] == world.rows("SELECT COUNT(*) FROM idempotency")


def test_keys_are_forgotten_as_fast_as_they_are_made(ask) -> None:
    """All that ran out goes at the next look, however many there are, in transactions that each hold up nobody."""
    world = ask.world
    committer, count = world.store.committer, 5 * idempotency.PURGED_MAX + 7

    def fill(connection):
        for number in range(count):
            rows.add(connection, "shop", number.to_bytes(4), rows.Kept(b"", 200, b""), world.now_ms())

    async def keep():
        await committer.run(fill)

    world.run(keep())
    world.jump(WEEK_S + 1)
    before = committer.commits
    ask.application.keys.tick(world.now())
    world.turn()

    assert [(0,)] == world.rows("SELECT COUNT(*) FROM idempotency")
    assert 6 == committer.commits - before


def test_nothing_to_forget_is_no_commit(ask) -> None:
    """A server at rest leaves the disk alone."""
    before = ask.world.store.committer.commits
    ask.application.keys.tick(ask.world.now())
    ask.world.turn()

    assert before == ask.world.store.committer.commits


def test_what_is_kept_of_one_user_has_a_bound(ask, monkeypatch) -> None:
    """In bytes, too: a large answer, kept under key after key, would fill the disk; other users notice nothing."""
    monkeypatch.setattr(idempotency, "BYTES_MAX", 1_000)
    ask.world.do("send", sender="alice", to="bob", text="x" * 900)
    path, body = "/v1/op/history", {"peer": "alice"}
    for user, key, status in (("bob", "1", 200), ("bob", "2", 429), ("bob", "1", 200), ("alice", "2", 200)):
        wanted = body if user == "bob" else {"peer": "bob"}
        assert status == ask("POST", path, wanted, user=user, idempotency_key=key).status


def test_counting_what_is_kept_holds_up_nobody(ask) -> None:
    """Of a hundred thousand keys it takes half a second: the loop goes on, and who asks the same meanwhile waits."""
    world = ask.world
    bob, body = world.listener("bob"), {"to": "bob", "text": "hi"}

    async def both():
        world.reads.hold()
        asked = [
            asyncio.create_task(ask.ask("POST", "/v1/messages", body, user="alice", idempotency_key="k"))
            for _ in range(2)
        ]
        for _ in range(5):
            await asyncio.sleep(0)
        waiting = len(world.reads.jobs)
        world.reads.release()
        return waiting, [reply.json["mid"] for reply in await asyncio.gather(*asked)]

    waiting, mids = world.run(both())

    assert 1 == waiting
    assert 1 == len(set(mids))
    assert ["hi"] == bob.payloads()


def test_what_is_kept_is_sealed(ask) -> None:
    """Neither the key nor a token stands in the data."""
    reply = ask("POST", "/v1/tokens", {"addresses": ["bob"]}, user="shop", idempotency_key="very-secret-key")
    rows = ask.world.rows("SELECT owner, key_hash, digest, answer FROM idempotency")

    assert 1 == len(rows)
    assert b"very-secret" not in b"".join(each if isinstance(each, bytes) else each.encode() for each in rows[0])
    assert reply.json["tokens"][0]["token"].encode() not in rows[0][3]


def test_a_key_is_visible_ascii(ask) -> None:
    """Anything else is no key, nothing at all neither; on GET it means nothing."""
    for key in ("", "with space", "k" * 256, "schlüssel"):
        assert 400 == ask("POST", "/v1/users", {"addresses": ["x"]}, user="shop", idempotency_key=key).status
    assert 200 == ask("GET", "/v1/users", user="shop", idempotency_key="with space").status
