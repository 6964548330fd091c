"""A store that cannot write: nothing is acknowledged, the sender told, it recovers by itself (contract section 4)."""

from __future__ import annotations

import sqlite3

import pytest

from mesimqtt.domain.errors import OperationError, StoreError
from unit.engine.both_ends import publish


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR, 4874])
def test_nothing_is_acknowledged_that_is_not_committed(world, code):
    """Disk full, locked, I/O error: status 0x80 `store`, no PUBACK, the connection closed, nothing delivered."""
    phone, alice, bob = world.listener("alice"), world.connect("alice", "laptop"), world.listener("bob")
    world.database.code = code
    acknowledged = alice.publish("u/bob/1")

    (status,) = phone.statuses()
    assert ("1", 0x80, "failed", "store", "bob") == tuple(
        status[key] for key in ("cid", "status", "name", "reason", "peer")
    )
    assert (False, True, False) == (acknowledged, alice.is_closed, phone.is_closed)
    assert ([], [(0,)]) == (bob.received(), world.rows("SELECT count(*) FROM message"))


def test_an_operator_is_told_what_the_store_lacks(world):
    """`mesimqtt send` is refused in words that lead on; `stats` has the same word, and who is connected since when."""
    world.listener("alice")
    world.database.code = sqlite3.SQLITE_FULL
    with pytest.raises(OperationError) as refused:
        world.do("send", sender="alice", to="bob", text="x")
    stats = world.do("stats")

    assert "not sent: the store cannot take it now (disk-full); look at: mesimqtt stats" == str(refused.value)
    assert ("disk-full", 1, 0) == (stats["health"], stats["connections"], stats["uptime_s"])
    world.advance(7)
    assert world.do("stats")["uptime_s"] == 7


def test_a_qos_0_publisher_is_told_and_stays(world):
    """There is nothing to acknowledge, so its connection lives."""
    alice = world.listener("alice")
    world.database.code = sqlite3.SQLITE_FULL
    alice.publish("u/bob/1", qos=0)

    assert ([("1", 0x80)], False) == (alice.steps(), alice.is_closed)


def test_it_recovers_without_a_restart(world):
    """When there is room again the resend is accepted, under the same cid, with the seq that was free."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/0")
    world.database.code = sqlite3.SQLITE_FULL
    alice.publish("u/bob/1")
    assert "disk-full" == world.messaging.stats()["health"]
    world.database.code = 0
    world.advance(5)

    alice = world.listener("alice")
    assert alice.publish("u/bob/1")
    assert "ok" == world.messaging.stats()["health"]
    assert ["seq=1", "seq=2"] == [message.topic.rpartition("/")[2] for message in bob.received("u/")]


def test_acknowledgements_are_kept_until_they_can_be_written(world):
    """A device's acknowledgement during a fault raises DELIVERED once the store writes again, and is not lost."""
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    alice.publish("u/bob/1")
    alice.steps()
    world.database.code = sqlite3.SQLITE_FULL
    bob.ack(*bob.received("u/"))
    world.advance(3)
    assert [] == alice.steps()
    world.database.code = 0
    world.advance(2)

    assert [("1", 2)] == alice.steps()
    world.restart()
    assert [] == world.listener("bob").received("u/")


def test_a_verdict_that_cannot_be_written_is_given_once(world):
    """A deadline that passes on a full disk is looked at again every second, and judged once for all that."""
    alice = world.listener("alice")
    alice.publish("u/bob/1/expiry=5")
    alice.steps()
    world.advance(4)
    world.database.code = sqlite3.SQLITE_FULL
    world.advance(10)
    assert [] == alice.steps()
    world.database.code = 0
    world.advance(5)

    assert [("1", 0x84)] == alice.steps()
    assert [(1,)] == world.rows("SELECT count(*) FROM step WHERE status = ?", 0x84)


def test_a_read_mark_that_cannot_be_written_is_not_acknowledged(world):
    """Its connection is closed, so that the client sends it again; READ is told once."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    number = bob.received("u/")[0].topic.split("/")[5]
    alice.steps()
    world.database.code = sqlite3.SQLITE_FULL
    assert not bob.publish("read/u/alice", number)
    assert bob.is_closed
    world.database.code = 0
    world.advance(2)
    bob = world.listener("bob")
    assert bob.publish("read/u/alice", number)

    assert [("1", 3)] == alice.steps()


def test_a_subscribe_that_cannot_be_written_is_not_acknowledged(world):
    """A new device whose row cannot be written is closed, and enrolled when it comes again."""
    world.database.code = sqlite3.SQLITE_FULL
    bob = world.connect("bob", clean=True)
    assert bob.subscribe("#") is None
    assert bob.is_closed
    world.database.code = 0
    world.advance(2)
    world.listener("alice").publish("u/bob/1")

    assert ["hi"] == world.listener("bob", clean=True).payloads()
    assert [(1,)] == world.rows("SELECT count(*) FROM device WHERE user_id = 2")


def test_three_io_errors_in_a_row_end_the_server(world):
    """After the third the reason is given to who runs the server; nothing was acknowledged."""
    world.database.code = sqlite3.SQLITE_IOERR
    for number in range(3):
        assert [] == world.fatal
        assert not world.connect("alice", str(number), clean=True).publish("u/bob/1")

    assert 1 == len(world.fatal)
    assert "check the disk" in world.fatal[0]


def test_a_success_between_io_errors_starts_the_count_again(world):
    """Two errors, a commit, two errors: the server goes on."""
    for turn in range(2):
        world.database.code = sqlite3.SQLITE_IOERR
        for number in range(2):
            world.connect("alice", f"{turn}{number}", clean=True).publish("u/bob/1")
        world.database.code = 0
        assert world.connect("alice", f"{turn}x", clean=True).publish(f"u/bob/x{turn}")

    assert [] == world.fatal


def test_the_inbox_count_survives_a_fault(make_world):
    """What could not be committed does not fill the recipient's inbox."""
    world = make_world(messaging={"inbox_messages_max": 2})
    alice = world.listener("alice")
    world.database.code = sqlite3.SQLITE_FULL
    for number in range(5):
        alice.publish(f"u/bob/{number}", qos=0)
    world.database.code = 0
    alice.steps()
    for number in range(3):
        alice.publish(f"u/bob/{number}")

    assert [("0", 1), ("1", 1), ("2", 0x82)] == alice.steps()


def test_a_group_change_that_cannot_be_written_did_not_happen(world):
    """The operation says so, and memory agrees with the store."""
    world.group("team", "alice", "bob")
    alice, bob = world.listener("alice"), world.listener("bob")
    world.database.code = sqlite3.SQLITE_FULL
    for op, arguments in (
        ("group_leave", {"address": "team", "users": ["bob"]}),
        ("group_delete", {"addresses": ["team"]}),
    ):
        with pytest.raises(Exception, match="cannot write"):
            world.do(op, **arguments)
    world.database.code = 0

    assert alice.publish("g/team/1")
    assert ["hi"] == bob.payloads("g/")
    assert bob.publish("g/team/2")
    assert ["hi"] == alice.payloads("g/")


def test_a_will_during_a_fault_is_lost_in_silence(world):
    """Nobody is there to be told; the server goes on."""
    alice = world.connect("alice", will=("m/alice/out/u/bob/w", b"gone", 1, False))
    world.database.code = sqlite3.SQLITE_FULL
    alice.lose()
    world.database.code = 0
    world.advance(2)

    assert [] == world.listener("bob").payloads()


@pytest.mark.damages
def test_one_message_in_trouble_keeps_no_other_of_its_commit_from_its_answer(world, caplog):
    """What cannot be handed over is logged; whoever else was in that commit gets PUBACK, SENT and delivery."""
    world.group("team", "alice", "carol")
    world.listener("carol")
    world.advance(2)
    world.restart()
    alice, bob, _ = world.listener("alice"), world.listener("bob"), world.listener("carol")
    world.store.read.execute("UPDATE lane SET acked = 'x' WHERE user_id = 3")
    alice.send(
        publish("m/alice/out/g/team/1", b"one", qos=1, packet_id=11),
        publish("m/alice/out/u/bob/2", b"two", qos=1, packet_id=12),
    )

    assert [True, True] == [alice.took("PUBACK", 11), alice.took("PUBACK", 12)]
    assert ("2", 1) in alice.steps()
    assert ["two"] == bob.payloads()
    assert 0 == world.messaging._acceptor._unanswered
    assert "cannot be handed over" in caplog.text


@pytest.mark.damages
def test_one_periodic_task_in_trouble_keeps_no_other_from_running(world, caplog):
    """A message that cannot be judged does not keep an expired token's connection open."""
    world.listener("alice").publish("u/bob/1/expiry=1")
    world.restart()
    world.store.read.execute("UPDATE lane SET acked = 'x' WHERE user_id = 2")
    token = world.do("token_issue", addresses=["carol"], ttl=3)["tokens"][0]["token"]
    carol = world.connect("carol", token=token)
    world.advance(6)

    assert carol.is_closed
    assert "a periodic task failed" in caplog.text


class Failing:
    """A part of messaging that fails at each of its turns."""

    def __init__(self, what):
        self.what = what

    def tick(self, _now):
        raise RuntimeError(self.what)


def test_every_part_in_trouble_is_told(world):
    """Parts that fail keep none from its turn, and each is raised: what fails beside another is not passed over."""
    messaging, expired = world.messaging, []
    search, keys = messaging.search, messaging.keys
    messaging.search, messaging.keys = Failing("search"), Failing("keys")
    world.messaging._sweeper.tasks.append(lambda: expired.append(1))
    with pytest.raises(ExceptionGroup) as told:
        messaging.tick(world.now() + 5)
    messaging.search = search
    with pytest.raises(RuntimeError, match="keys"):
        messaging.tick(world.now() + 10)
    messaging.keys = keys

    assert ["search", "keys"] == [str(each) for each in told.value.exceptions]
    assert [1, 1] == expired


def test_a_page_that_the_disk_failed_comes_all_the_same(world):
    """A read that failed is tried again as time passes."""
    answers, tries = [], []

    def read(connection):
        tries.append(connection)
        if len(tries) == 1:
            raise sqlite3.OperationalError("disk I/O error")
        return "page"

    world.store.read_later(read, answers.append)
    world.advance(1.5)

    assert ["page"] == answers


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR])
def test_a_change_whose_commit_failed_is_not_told_and_can_be_made_again(world, code):
    """Who joins and the event of it are one: neither is there after a failed commit, both after a good one."""
    world.group("team", "alice", "bob")
    bob = world.listener("bob")
    world.advance(1)
    bob.inbox.clear()
    world.database.code = code
    for op, users in (("group_join", ["carol"]), ("group_leave", ["alice"])):
        with pytest.raises(StoreError, match="nothing was changed"):
            world.do(op, address="team", users=users)
    assert world.database.failures
    assert [] == bob.received("event/")
    world.database.code = 0
    world.advance(3)
    assert ["alice", "bob"] == [each["address"] for each in world.do("group_show", address="team")["members"]]
    world.do("group_join", address="team", users=["carol"])

    (event,) = bob.received("event/")
    assert b'{"event": "joined", "group": "team", "users": ["carol"]}' == event.payload
    assert [(1,)] == world.rows("SELECT count(*) FROM message WHERE kind = 1 AND payload = ?", event.payload)


def test_a_user_who_could_not_be_deleted_stays(world):
    """While the store fails nobody is deleted; afterwards he comes in with his token and is written to as before."""
    alice, bob = world.listener("alice"), world.listener("bob")
    world.database.code = sqlite3.SQLITE_FULL
    with pytest.raises(StoreError):
        world.do("user_delete", addresses=["bob"])
    assert bob.is_closed
    world.database.code = 0
    world.advance(5)
    bob = world.listener("bob")
    alice.publish("u/bob/1")

    assert (1, 2) == (len(bob.received("u/")), alice.steps()[-1][1])
