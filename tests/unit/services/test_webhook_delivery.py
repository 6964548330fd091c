"""How webhooks are sent: in order, in batches, at least once, again and again, and at last as dead letters."""

from __future__ import annotations

import sqlite3

import pytest

from mesimqtt.services.webhooks.ports import Reply
from unit.services.hooked import SECRET, URL, cids, sender_of, signers

ACCEPTED = {"events": ("message.accepted",)}


def test_a_request_is_signed_and_says_when_it_began(hooked):
    """The library of Standard Webhooks verifies it; another secret does not."""
    world = hooked(ACCEPTED)
    sender_of(world).publish("u/bob/1", "x")
    (sent,) = world.receivers.sent
    signed_at = int(sent[1]["webhook-timestamp"])
    key = sent[1]["webhook-id"]

    assert world.ms // 1000 == signed_at
    assert key.startswith("msg_1_")
    assert "events" == world.receivers.take()[0]["type"]
    assert [SECRET] == signers(sent, SECRET, "whsec_" + "A" * 43 + "=")


def test_a_batch_gathers_what_came_while_the_last_was_on_its_way(hooked):
    """One request at a time; what waits goes together with the next, in the order of its commits."""
    world = hooked(ACCEPTED)
    alice = sender_of(world)
    held = world.later()
    world.receivers.answers[URL] = [held]
    for number in range(4):
        alice.publish(f"u/bob/{number}", "x")
    assert [["0"]] == cids(world.receivers.take())
    held.set_result(Reply(204))
    world.turn()
    world.tick()

    assert [["1", "2", "3"]] == cids(world.receivers.take())
    world.advance(2)
    assert [] == world.rows("SELECT * FROM outbox")


def test_a_batch_has_bounds(hooked):
    """batch_max bounds the events and batch_bytes_max the bytes of a request."""
    world = hooked({**ACCEPTED, "batch_max": 3, "payload": True}, webhooks={"batch_bytes_max": 2_000})
    alice = sender_of(world)
    held = world.later()
    world.receivers.answers[URL] = [held]
    for number in range(8):
        alice.publish(f"u/bob/{number}", "x" if number < 5 else "x" * 1_000)
    held.set_result(Reply(200))
    world.advance(2)

    assert [["0"], ["1", "2", "3"], ["4", "5"], ["6"], ["7"]] == cids(world.receivers.take())


def test_requests_keep_a_distance_unless_a_batch_is_full(hooked):
    """The first event goes at once, the next wait for batch_age_s or until they are batch_max."""
    world = hooked({**ACCEPTED, "batch_age_s": 10, "batch_max": 5})
    alice = sender_of(world)
    world.advance(11)
    for number in range(4):
        alice.publish(f"u/bob/{number}", "x")
    assert [["0"]] == cids(world.receivers.take())
    world.advance(9)
    assert [] == world.receivers.take()
    world.advance(2)
    assert [["1", "2", "3"]] == cids(world.receivers.take())
    for number in range(4, 9):
        alice.publish(f"u/bob/{number}", "x")
    world.turn()

    assert [["4", "5", "6", "7", "8"]] == cids(world.receivers.take())


def test_what_is_not_taken_is_tried_again_with_the_same_id(hooked):
    """The waits follow retries_s; the batch, its id and its events stay the same, whatever has come since."""
    world = hooked(ACCEPTED, webhooks={"retries_s": (5, 60)})
    alice = sender_of(world)
    world.receivers.answers[URL] = [Reply(500), Reply(0, error="refused")]
    alice.publish("u/bob/1", "x")
    began = world.ms
    alice.publish("u/bob/2", "x")
    times = []
    while len(world.receivers.sent) < 4 and world.ms < began + 200_000:
        before = len(world.receivers.sent)
        world.tick()
        if len(world.receivers.sent) > before:
            times.append(round((world.ms - began) / 1000))
        world.ms += 250
    first, second, third, fourth = world.receivers.sent

    assert [5, 65, 65] == times or [5, 65] == times[:2]
    assert first[1]["webhook-id"] == second[1]["webhook-id"] == third[1]["webhook-id"] != fourth[1]["webhook-id"]
    assert first[2] == second[2] == third[2]
    assert int(third[1]["webhook-timestamp"]) - int(first[1]["webhook-timestamp"]) in (65, 66)
    assert [["1"], ["1"], ["1"], ["2"]] == cids(world.receivers.take())


@pytest.mark.parametrize(("chance", "wait_s"), [(0.0, 8), (0.5, 10), (1.0, 12)])
def test_waits_differ_by_a_fifth(hooked, chance, wait_s):
    """The wait before a try is a fifth more or less, so that many endpoints do not come back together."""
    world = hooked(ACCEPTED, webhooks={"retries_s": (10, 60)})
    world.jitter = chance
    world.receivers.answers[URL] = [Reply(500)]
    sender_of(world).publish("u/bob/1", "x")
    world.advance(wait_s - 1)
    assert 1 == len(world.receivers.sent)
    world.advance(2)

    assert 2 == len(world.receivers.sent)


def test_retry_after_is_honoured(hooked):
    """An endpoint that says how long to wait is not asked before."""
    world = hooked(ACCEPTED, webhooks={"retries_s": (5, 5)})
    world.receivers.answers[URL] = [Reply(429, retry_after_s=120)]
    sender_of(world).publish("u/bob/1", "x")
    world.advance(100)
    assert 1 == len(world.receivers.sent)
    world.advance(30)

    assert 2 == len(world.receivers.sent)


@pytest.mark.parametrize("status", [100, 301, 302, 304, 400, 401, 404, 429, 500, 503])
def test_only_2xx_is_taken(hooked, status):
    """Any other answer, a redirect too, means: again."""
    world = hooked(ACCEPTED)
    world.receivers.answers[URL] = [Reply(status)]
    sender_of(world).publish("u/bob/1", "x")
    world.advance(2)

    assert f"it answered {status}" == world.do("webhook_show", name="crm")["error"]
    assert 1 == world.do("webhook_show", name="crm")["waiting"]


def test_410_switches_an_endpoint_off(hooked):
    """It is not asked again, what waits stays, nothing more is recorded, until somebody switches it on."""
    world = hooked(ACCEPTED)
    world.receivers.answers[URL] = [Reply(410)]
    alice = sender_of(world)
    alice.publish("u/bob/1", "x")
    world.advance(3_600)
    alice.publish("u/bob/2", "x")
    shown = world.do("webhook_show", name="crm")
    assert (False, 1, "it answered 410, gone") == (shown["active"], shown["waiting"], shown["error"])
    assert 1 == len(world.receivers.sent)
    world.restart(kill=False)
    world.do("webhook_set", name="crm", active=True)
    world.advance(1)

    assert [["1"], ["1"]] == cids(world.receivers.take())


def test_after_the_last_try_a_batch_is_a_dead_letter_that_can_be_sent_again(hooked):
    """It is listed with its reason, the next batch has its turn, and it comes again under its former id."""
    world = hooked(ACCEPTED, webhooks={"retries_s": (5, 5)})
    world.receivers.answers[URL] = [Reply(500)] * 3
    alice = sender_of(world)
    alice.publish("u/bob/1", "x")
    alice.publish("u/bob/2", "x")
    world.advance(20)
    (letter,) = world.do("webhook_dead_list", name="crm")["letters"]
    key = world.receivers.keys()[0]
    assert (1, 3, "it answered 500", key) == (
        letter["events"], letter["attempts"], letter["reason"], letter["webhook_id"],
    )  # fmt: skip
    assert [["1"], ["1"], ["1"], ["2"]] == cids(world.receivers.take())
    assert 1 == world.do("webhook_show", name="crm")["dead_letters"]
    again = world.do("webhook_dead_retry", name="crm")
    world.advance(2)

    assert {"name": "crm", "retried": [letter["id"]], "events": 1} == again
    assert [key] == world.receivers.keys()
    assert [["1"]] == cids(world.receivers.take())
    assert [] == world.do("webhook_dead_list", name="crm")["letters"]
    assert [] == world.rows("SELECT * FROM outbox")


def test_dead_letters_are_chosen_by_number_and_come_one_by_one(hooked):
    """Letters that are sent again keep their batches apart; an unknown number does nothing."""
    world = hooked(ACCEPTED, webhooks={"retries_s": (1,)})
    world.receivers.answers[URL] = [Reply(500)] * 6
    alice = sender_of(world)
    for number in range(3):
        alice.publish(f"u/bob/{number}", "x")
        world.advance(3)
    numbers = [letter["id"] for letter in world.do("webhook_dead_list", name="crm")["letters"]]
    world.receivers.take()
    answer = world.do("webhook_dead_retry", name="crm", ids=[numbers[2], numbers[0], "7"])
    world.advance(2)

    assert [numbers[2], numbers[0]] == answer["retried"]
    assert [["2"], ["0"]] == cids(world.receivers.take())
    assert [numbers[1]] == [letter["id"] for letter in world.do("webhook_dead_list", name="crm")["letters"]]


def test_a_full_outbox_turns_its_oldest_into_dead_letters(hooked):
    """The newest stay, the oldest become dead letters and are counted; nothing vanishes in silence."""
    world = hooked(ACCEPTED, webhooks={"outbox_events_max": 3, "retries_s": (600,)})
    world.receivers.answers[URL] = [Reply(500)]
    alice = sender_of(world)
    for number in range(8):
        alice.publish(f"u/bob/{number}", "x")
        world.advance(1)
    shown = world.do("webhook_show", name="crm")
    letters = world.do("webhook_dead_list", name="crm")["letters"]

    assert shown["waiting"] <= 3
    assert 8 == shown["waiting"] + sum(letter["events"] for letter in letters)
    assert {"the outbox is full"} == {letter["reason"] for letter in letters}
    assert world.do("stats")["counters"]["webhooks.dead"] == sum(letter["events"] for letter in letters)


def test_dead_letters_have_a_bound_and_an_age(hooked):
    """Beyond dead_letters_max the oldest go, after dead_kept_s all; both are counted."""
    world = hooked(ACCEPTED, webhooks={"retries_s": (1,), "dead_letters_max": 2, "dead_kept_s": 7_200})
    world.receivers.answers[URL] = [Reply(500)] * 8
    alice = sender_of(world)
    for number in range(4):
        alice.publish(f"u/bob/{number}", "x")
        world.advance(3)
    letters = world.do("webhook_dead_list", name="crm")["letters"]
    assert 2 == len(letters)
    assert 2 == world.do("stats")["counters"]["webhooks.dropped"]
    world.jump(7_300)
    world.jump(3_700)

    assert [] == world.do("webhook_dead_list", name="crm")["letters"]
    assert 4 == world.do("stats")["counters"]["webhooks.dropped"]


def test_a_failing_endpoint_holds_up_no_other(hooked):
    """Each endpoint has its own queue, and messages do not wait for any."""
    other = "https://other.example.org/"
    world = hooked(ACCEPTED, {**ACCEPTED, "name": "other", "url": other})
    silent = world.later()
    world.receivers.answers[URL] = [silent]
    alice = sender_of(world)
    for number in range(3):
        assert alice.publish(f"u/bob/{number}", "x")
    world.advance(2)

    assert [["0"]] == cids(world.receivers.take())
    assert ["0", "1", "2"] == [cid for body in cids(world.receivers.take(other)) for cid in body]
    silent.set_result(Reply(200))
    world.turn()


def test_no_more_requests_at_once_than_allowed(hooked):
    """webhooks.concurrency bounds the requests of all endpoints together; the rest have their turn afterwards."""
    urls = [f"https://e{number}.example.org/" for number in range(4)]
    world = hooked(
        *[{**ACCEPTED, "name": f"e{n}", "url": url} for n, url in enumerate(urls)], webhooks={"concurrency": 2}
    )
    held = [world.later() for _ in urls]
    world.receivers.answers = {url: [future] for url, future in zip(urls, held, strict=True)}
    sender_of(world).publish("u/bob/1", "x")
    assert 2 == len(world.receivers.sent)
    for future in held:
        future.set_result(Reply(200))
        world.turn()

    assert sorted(urls) == sorted(sent[0] for sent in world.receivers.sent)


def test_endpoints_take_turns_where_there_are_too_many(hooked):
    """An endpoint with a long queue does not keep the others from theirs."""
    urls = [f"https://e{number}.example.org/" for number in range(3)]
    world = hooked(
        *[{**ACCEPTED, "name": f"e{n}", "url": url, "batch_max": 1} for n, url in enumerate(urls)],
        webhooks={"concurrency": 1},
    )
    held = world.later()
    world.receivers.answers = {urls[0]: [held]}
    alice = sender_of(world)
    for number in range(4):
        alice.publish(f"u/bob/{number}", "x")
        world.ms += 1
    future = held
    for _ in range(8):
        url = world.receivers.sent[-1][0]
        following = [world.later() for _ in urls]
        world.receivers.answers = {each: [later] for each, later in zip(urls, following, strict=True)}
        world.ms += 1
        future.set_result(Reply(200))
        world.turn()
        future = following[urls.index(world.receivers.sent[-1][0])]
        assert url != world.receivers.sent[-1][0]

    assert {3} == {[sent[0] for sent in world.receivers.sent].count(url) for url in urls}
    future.cancel()


@pytest.mark.parametrize("count", [1, 3])
def test_a_crash_between_sending_and_marking_repeats_the_same_batch(hooked, count):
    """After kill -9 the batch comes again: same id, same events, though more has come meanwhile."""
    world = hooked(ACCEPTED)
    alice = sender_of(world)
    blocked = world.later()
    world.receivers.answers[URL] = [blocked]
    alice.publish("u/bob/first", "x")
    for number in range(count):
        alice.publish(f"u/bob/{number}", "x")
    blocked.set_result(Reply(200))
    lost = world.later()
    world.receivers.answers[URL] = [lost]
    world.advance(1)
    sent = world.receivers.sent[1]
    alice.publish("u/bob/later", "x")
    world.restart(kill=True)
    world.advance(2)
    lost.cancel()
    again = world.receivers.sent[2]

    assert (sent[1]["webhook-id"], sent[2]) == (again[1]["webhook-id"], again[2])
    assert ["first", *map(str, range(count)), *map(str, range(count)), "later"] == [
        cid for body in cids(world.receivers.take()) for cid in body
    ]


def test_what_a_stopped_server_could_not_send_waits(hooked):
    """The outbox survives a stop in order, and its order does, too."""
    world = hooked(ACCEPTED, webhooks={"retries_s": (5, 5, 5)})
    world.receivers.answers[URL] = [Reply(500)]
    alice = sender_of(world)
    for number in range(3):
        alice.publish(f"u/bob/{number}", "x")
    world.run(world.dispatcher.close())
    world.restart(kill=False)
    world.advance(10)

    assert ["0", "0", "1", "2"] == [cid for body in cids(world.receivers.take()) for cid in body]


def test_a_commit_that_fails_tells_nothing(hooked):
    """What the store could not keep is no event; what it keeps later is."""
    world = hooked(ACCEPTED)
    alice = sender_of(world)
    world.database.code = sqlite3.SQLITE_IOERR
    alice.publish("u/bob/1", "x")
    world.advance(1)
    assert world.database.failures
    world.database.code = 0
    world.advance(2)
    assert [] == world.receivers.take()
    world.connect("alice", "tablet").publish("u/bob/2", "x")

    assert [["2"]] == cids(world.receivers.take())


def test_a_message_and_its_event_are_one(hooked):
    """An event that cannot be written takes its message with it: neither is there without the other."""
    world = hooked(ACCEPTED)
    alice = sender_of(world)
    world.store.read.execute("CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'full'); END")
    assert not alice.publish("u/bob/1", "x")
    world.advance(1)

    assert ([(0,)], []) == (world.rows("SELECT count(*) FROM message"), world.receivers.take())
    world.store.read.execute("DROP TRIGGER full")
    assert world.connect("alice", "tablet").publish("u/bob/1", "x")
    world.advance(1)
    assert [["1"]] == cids(world.receivers.take())
