"""Wills over the end of a process: under `out/` and of free topics, on the real store, in virtual time."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from mesimqtt.hooks import PASS
from mesimqtt.store import wills
from mesimqtt.testing import wire5
from unit.messaging import five

TO_BOB = "m/alice/out/u/bob/w1"
MINUTE_S = 60


@pytest.fixture
def bob(world):
    """Return what gives bob's phone back, which is there from the beginning, and away."""
    world.user("alice", "bob")
    world.listener("bob").lose()

    def back():
        return world.listener("bob")

    return back


def sensor(world, topic=TO_BOB, *, delay=MINUTE_S, device="sensor", **options):
    """Connect alice's sensor, whose will says that it is gone."""
    left = wire5.will(topic, b"gone", qos=1, will_delay_interval=delay)
    return five.connect(world, "alice", device, will=left, **options)


def kept(world):
    """Return how many wills the store has."""
    return world.rows("SELECT count(*) FROM will")[0][0]


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_a_delayed_will_is_sent_once_over_restarts(world, bob, kill):
    """Its delay counts on: it is a message at its time, with its statuses, and none again after the next restart."""
    sensor(world).lose()
    world.advance(30)
    world.restart(kill=kill)
    phone, alice = bob(), world.listener("alice")
    world.advance(29)

    assert [] == phone.payloads()

    world.advance(2)
    (message,) = phone.received("u/")
    mid = message.topic.split("/")[5]

    assert (f"m/bob/in/u/alice/{mid}/seq=1", b"gone") == (message.topic, message.payload)
    assert [(mid, 1), (mid, 2)] == alice.steps()
    assert 0 == kept(world)
    world.restart(kill=kill)
    world.advance(2 * MINUTE_S)
    assert [] == bob().payloads()


def test_a_will_is_forgotten_in_the_commit_of_its_message_alone(world):
    """That is all of its work: nobody asks for a commit that only forgets it again."""
    world.user("alice", "bob")
    sensor(world, delay=1).lose()
    statements = []
    world.store.read.set_trace_callback(statements.append)
    world.advance(2)

    assert (0, 1) == (kept(world), sum(each.startswith("DELETE FROM will") for each in statements))


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "kept"])
@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_who_was_connected_leaves_his_will_to_the_next_start(world, bob, kill, clean):
    """The end of the process ends his connection; whether he had said goodbye nobody can ask him any more."""
    sensor(world, delay=0, clean=clean, expiry=0 if clean else 3600)
    world.restart(kill=kill)
    world.restart(kill=kill)

    assert (["gone"], 0) == (bob().payloads(), kept(world))


def test_a_delay_that_began_with_a_kill_goes_on_over_the_next_one(world, bob):
    """It does not begin anew with each start: a server that is killed again and again sends the will all the same."""
    sensor(world, delay=20)
    for _ in range(4):
        world.restart()
        world.advance(6)

    assert (["gone"], 0) == (bob().payloads(), kept(world))


def test_an_absence_that_began_with_a_kill_goes_on_over_the_next_one(world):
    """A session ends after its expiry, however often the server is killed meanwhile."""
    five.connect(world, "alice", "sensor", expiry=20)
    for _ in range(4):
        world.restart()
        world.advance(6)

    assert 0 == five.connect(world, "alice", "sensor").connack.session_present


def test_who_is_back_in_time_has_his_will_not_sent(world, bob):
    """Also where he left it to a process that is no more."""
    sensor(world).lose()
    sensor(world, device="other")
    world.restart()
    five.connect(world, "alice", "sensor")
    five.connect(world, "alice", "other")
    world.restart()
    world.advance(2 * MINUTE_S)

    assert ([], 0) == (bob().payloads(), kept(world))


def test_a_delay_that_passed_without_a_server_is_over_at_its_start(world, bob):
    """The message comes before anything that happens after the start."""
    sensor(world).lose()
    sensor(world, device="short", delay=3 * MINUTE_S, expiry=90).lose()
    world.advance(2)
    world.ms += 2 * MINUTE_S * 1000
    world.restart()
    five.connect(world, "alice", "sensor").publish("u/bob/1", "back")

    assert ["gone", "gone", "back"] == bob().payloads()
    assert 0 == kept(world)


def test_a_goodbye_leaves_nothing(world, bob):
    """DISCONNECT takes the will out of the store, and a connection without one never had anything there."""
    sensor(world, delay=0).leave()
    sensor(world, device="clean", clean=True, expiry=0).leave()
    five.connect(world, "alice", "plain")

    assert 0 == kept(world)
    world.restart()
    assert [] == bob().payloads()


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_kill_while_a_will_is_sent(world, bob, is_committed):
    """The store forgets the will in the commit that keeps its message: both are there after it, or neither."""
    gone = sensor(world, delay=0)
    if is_committed:
        world.commits.hold_answers()
    else:
        world.commits.hold()
    gone.lose()
    world.restart()

    assert (["gone"], 0) == (bob().payloads(), kept(world))


def test_a_large_batch_is_divided_and_the_will_with_its_message(make_world):
    """A will whose message waits for the second part of a batch is forgotten with that part."""
    world = make_world(store={"batch_max": 2})
    world.user("alice", "bob")
    world.listener("bob").lose()
    gone, carol = sensor(world, delay=0), world.connect("carol")
    world.commits.hold()
    for number in range(4):
        carol.publish(f"u/bob/{number}", "before")
    gone.lose()
    for _ in range(2):
        world.commits.step()

    assert 1 == len(world.commits.jobs)
    world.restart()

    assert (1, 0) == (world.listener("bob").payloads().count("gone"), kept(world))


def test_a_will_that_the_store_cannot_take_is_sent_later(world, bob):
    """On a full disk it stays, and is tried again: nobody else would say it."""
    gone, phone = sensor(world, delay=0), bob()
    world.database.code = sqlite3.SQLITE_FULL
    gone.lose()
    world.advance(15)

    assert [] == phone.payloads()
    world.database.code = 0
    world.advance(15)
    assert (["gone"], 0) == (phone.payloads(), kept(world))


def test_who_comes_and_goes_on_a_full_disk_does_not_fill_the_memory(world, bob, monkeypatch):
    """Of wills that cannot be written, and of those that were due, a bounded number waits; those are sent later."""
    monkeypatch.setattr("mesimqtt.store.sessions._WILLS_UNSURE_MAX", 3)
    monkeypatch.setattr("mesimqtt.engine.wills.WAITING_MAX", 5)
    phone = bob()
    world.database.code = sqlite3.SQLITE_FULL
    for number in range(20):
        sensor(world, delay=0, device=f"sensor-{number}").lose()
        world.advance(0.5)

    rows = [values for sql, values in world.store.committer.batch.rows if sql == wills.INSERT]
    assert (5, True) == (len(world.engine.wills), len(rows) <= 4)  # the first one found the disk full
    world.database.code = 0
    world.advance(15)
    assert (["gone"] * 5, 0) == (phone.payloads(), kept(world))
    later = sensor(world, delay=0, device="later")
    assert 1 == kept(world)
    later.lose()
    assert (["gone"], 0) == (phone.payloads(), kept(world))


def test_a_will_that_a_module_judges_is_sent_after_a_kill(world, bob):
    """While a module thinks about it nothing is kept but the will; after a restart it is asked again."""

    async def think(message):
        await asyncio.get_running_loop().create_future()

    world.messaging.modules.add("slow", think)
    sensor(world, delay=0).lose()
    world.restart()
    world.messaging.modules.add("quick", lambda message: PASS)

    assert (["gone"], 0) == (bob().payloads(), kept(world))


def test_a_kill_while_a_will_is_sent_that_a_module_has_passed(world, bob):
    """However late it is accepted, its message is kept and it is forgotten in one commit."""
    thoughts = []

    async def think(message):
        thoughts.append(asyncio.get_running_loop().create_future())
        return await thoughts[-1]

    async def pass_on():
        thoughts[0].set_result(PASS)

    world.messaging.modules.add("slow", think)
    sensor(world, delay=0).lose()
    world.commits.hold_answers()
    world.run(pass_on())
    world.restart()

    assert (["gone"], 0) == (bob().payloads(), kept(world))


def test_a_kill_while_a_will_is_sent_for_later(world, bob):
    """A will with `when` is forgotten in the commit that keeps its message until that time."""
    gone = sensor(world, f"{TO_BOB}/when=5", delay=0)
    world.commits.hold_answers()
    gone.lose()
    world.restart()
    phone = bob()
    world.advance(10)

    assert (["gone"], 0) == (phone.payloads(), kept(world))


def test_a_module_that_takes_a_will_takes_it_for_good(world, bob):
    """What a module refuses is not sent after a restart either."""

    async def refuse(message):
        raise ValueError(message)

    world.messaging.modules.add("no", refuse)
    sensor(world, delay=0).lose()

    assert 0 == kept(world)
    world.restart()
    assert [] == bob().payloads()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE user SET active = 0 WHERE address = 'alice'",
        "UPDATE token SET revoked_at = 1 WHERE user_id = (SELECT id FROM user WHERE address = 'alice')",
    ],
    ids=["disabled", "revoked"],
)
@pytest.mark.parametrize("topic", [TO_BOB, "free/w"])
def test_who_may_not_speak_any_more_leaves_no_will(world, bob, sql, topic):
    """A user who is disabled, or a token that is revoked, while no server runs: what he left is forgotten."""
    world.connect("bob", "watcher").subscribe("free/w")
    sensor(world, topic).lose()
    sensor(world, topic, delay=0, device="connected")
    world.store.committer.row(sql)
    world.store.committer.wake()
    world.turn()
    world.restart()
    world.advance(2 * MINUTE_S)
    watcher = world.connect("bob", "watcher")

    assert ([], []) == (bob().payloads(), [message.payload for message in watcher.inbox])
    assert 0 == kept(world)


def test_a_deleted_user_leaves_no_will(world, bob):
    """Whoever gets his name next inherits none; also where his server did not run."""
    sensor(world).lose()
    sensor(world, device="connected", delay=0)
    world.do("user_delete", addresses=["alice"])

    assert 0 == kept(world)
    world.restart()
    world.user("alice")
    world.advance(2 * MINUTE_S)
    assert [] == bob().payloads()


def test_a_renewed_token_is_the_one_that_speaks(world, bob):
    """The will of a client that has authenticated anew is that of its new token, whatever becomes of the old one."""
    (old,) = world.do("token_issue", addresses=["alice"])["tokens"]
    (new,) = world.do("token_issue", addresses=["alice"])["tokens"]
    client = sensor(world, delay=0, token=old["token"], authentication_method="OAUTH2-JWT")
    client.send(wire5.auth(0x19, authentication_method="OAUTH2-JWT", authentication_data=new["token"].encode()))
    world.do("token_revoke", what=old["jti"])
    world.restart()

    assert (["gone"], 0) == (bob().payloads(), kept(world))


@pytest.mark.parametrize("column", ["user", "client_id", "jti", "identity", "topic", "payload", "properties"])
def test_a_damaged_will_is_nobody_s(world, bob, column):
    """What was altered on the disk is not sent, and said; `due` alone can be altered without being found."""
    sensor(world, delay=0)
    world.store.committer.row(f"UPDATE will SET {column} = 'x', due = 'y'")  # noqa: S608 - a name of this file's
    world.store.committer.wake()
    world.turn()
    world.restart()

    assert ([], 1, 0) == (bob().payloads(), world.store.damaged, kept(world))


def test_an_altered_time_delays_no_start(world, bob):
    """A time that is none is taken for that of who was connected."""
    sensor(world, delay=0)
    world.store.committer.row("UPDATE will SET due = 'y'")
    world.store.committer.wake()
    world.turn()
    world.restart()

    assert (["gone"], 0) == (bob().payloads(), kept(world))


def test_wills_of_free_topics_come_before_who_is_back(world):
    """A retained `online` of a client that is back after a kill stands, and not the will of its former connection."""
    world.user("alice", "bob")
    watcher = world.connect("bob", "watcher")
    watcher.subscribe("free/#")
    watcher.lose()
    left = wire5.will("free/state", b"offline", qos=1, retain=True)
    five.connect(world, "alice", "sensor", will=left, clean=True, expiry=0).publish("free/state", "online", retain=True)
    world.restart()
    five.connect(world, "alice", "sensor", will=left, clean=True, expiry=0).publish("free/state", "online", retain=True)
    heard = [message.payload for message in world.connect("bob", "watcher").inbox]

    assert [b"online", b"offline", b"online"] == heard
    reader = world.connect("bob", "reader", clean=True)
    reader.subscribe("free/#")
    assert [b"online"] == [message.payload for message in reader.inbox]
