"""Every refusal is a visible verdict, at once, to the sender's online devices alone (contract section 4)."""

from __future__ import annotations

import logging

import pytest

from mesimqtt.messaging.audit import LINES_PER_USER_S
from mesimqtt.testing import wire


def verdict(peer, *keys):
    (status,) = peer.statuses()
    return [status.get(key) for key in keys]


def test_an_unknown_user(world):
    """0x83, acknowledged, nothing stored, nothing told later."""
    alice, laptop = world.listener("alice"), world.listener("alice", "laptop")
    assert alice.publish("u/nobody/1")

    expected = ["1", "nobody", 0x83, "invalid-destination"]
    assert expected == verdict(alice, "cid", "peer", "status", "name")
    assert expected == verdict(laptop, "cid", "peer", "status", "name")
    assert [(0,)] == world.rows("SELECT count(*) FROM message")
    alice.disconnect()
    assert [] == world.listener("alice").statuses()


def test_without_a_usable_cid_a_mid_stands_for_it(world):
    """Also for a refusal: cid and mid are equal."""
    alice = world.listener("alice")
    alice.publish("u/nobody")

    cid, mid = verdict(alice, "cid", "mid")
    assert cid == mid
    assert 16 == len(cid)


@pytest.mark.parametrize(
    "topic",
    ["m/bob/out/u/carol/7", "m/bob/in/u/alice/7", "m/alice/in/u/bob/7", "m/bob", "m/x/y", "m/%62ob/out/u/carol/7"],
)
def test_a_foreign_folder_is_denied_and_audited(world, topic, caplog):
    """0x8D with the rule, one audit line, nothing stored and nothing delivered."""
    alice, bob, carol = world.listener("alice"), world.listener("bob"), world.listener("carol")
    with caplog.at_level(logging.WARNING, logger="mesimqtt.audit"):
        assert alice.publish(topic)

    assert [0x8D, "denied", "own-folder"] == verdict(alice, "status", "name", "rule")
    assert ([], [], [(0,)]) == (bob.received(), carol.received(), world.rows("SELECT count(*) FROM message"))
    assert 1 == len([record for record in caplog.records if record.name == "mesimqtt.audit"])


@pytest.mark.parametrize("folder", ["m/door%2f7", "m/door/7", "m/%64oor%2F7"])
def test_another_spelling_of_the_own_folder_is_told_the_right_one(world, folder):
    """An address is written in one way only (contract section 1); who writes another is no stranger."""
    world.user("door/7")
    door = world.connect("door/7", "lock")
    door.user = "door%2F7"  # as it stands in a topic
    door.subscribe("#")
    door.publish(f"{folder}/out/u/bob/7")

    assert [0x85, "own-folder: write m/door%2F7/"] == verdict(door, "status", "reason")


def test_a_refused_filter_leaves_a_line(world, caplog):
    """Outside the own `in/`, and one that there is not: an audit line each, with the rule."""
    alice = world.connect("alice", "phone")
    with caplog.at_level(logging.WARNING, logger="mesimqtt.audit"):
        alice.subscribe("m/bob/in/#")
        alice.subscribe("m/alice/in/status/1")

    assert ["'m/bob/in/#' rule=own-folder", "'m/alice/in/status/1' rule=no such filter"] == [
        record.getMessage().partition("topic=")[2] for record in caplog.records if record.name == "mesimqtt.audit"
    ]


def test_a_denied_message_names_its_cid(world):
    """`m/bob/out/u/carol/7` has a usable cid, so the sender can tell which of his sends it was."""
    alice = world.listener("alice")
    alice.publish("m/bob/out/u/carol/7")

    assert ["7"] == verdict(alice, "cid")


BAD = [
    ("u/bob/c!d", None), ("u/bob/" + "x" * 65, None), ("u/bob/1/k=v/x", None), ("u", None), ("nothing/bob/1", None),
    ("u/%62ob/1", "1"), ("u/bo%zz/1", "1"), ("u/bob/1/type=x", "1"), ("u/bob/1/type=4294967296", "1"),
    ("u/bob/1/expiry=-1", "1"), ("u/bob/1/expiry=31536001", "1"), ("u/bob/1/expiry=1e3", "1"),
    ("u/bob/1/flags=8", "1"), ("u/bob/1/seq=4", "1"), ("u/bob/1/a=1&a=2", "1"), ("u/bob/1/a=b c", "1"),
    ("u/bob/1/ref=1", "1"), ("u/bob/1/=1", "1"), ("u/bob/1/a=%ff", "1"),
    ("u/bob/1/" + "&".join(f"k{number}=1" for number in range(17)), "1"), ("u/bob/1/k=" + "x" * 2050, "1"),
    ("read/u/bob/1", None), ("read/x/bob", None), ("presence/u", None), ("rpc/status", None), ("rpc//1", None),
]  # fmt: skip


@pytest.mark.parametrize(("topic", "cid"), BAD)
def test_a_malformed_topic_is_a_bad_request(world, topic, cid):
    """0x85 with a reason in words, under the cid if that is usable; acknowledged."""
    alice = world.listener("alice")
    assert alice.publish(topic)

    (status,) = alice.statuses()
    assert (0x85, "bad-request", True) == (status["status"], status["name"], len(status["reason"]) > 10)
    assert (cid or status["mid"]) == status["cid"]


def test_too_large_is_answered_with_the_limit(world):
    """A payload over the limit is discarded while it is read: 0x85 with `limit`, acknowledged, the link lives."""
    alice, bob = world.listener("alice"), world.listener("bob")
    limit = world.settings.limits.payload_max
    assert alice.publish("u/bob/1", b"x" * (limit + 1))

    assert ["1", 0x85, "limit", limit] == verdict(alice, "cid", "status", "reason", "limit")
    assert alice.publish("u/bob/1", b"x" * limit)
    assert [limit] == [len(message.payload) for message in bob.received("u/")]


def test_too_large_on_a_foreign_topic_is_denied(world):
    """The access rule comes first."""
    alice = world.listener("alice")
    alice.publish("m/bob/out/u/carol/1", b"x" * 300_000)

    assert [0x8D] == verdict(alice, "status")


def test_refusals_go_to_small_devices_as_numbers(world):
    """`in/s/{cid}` has the decimal code."""
    tiny = world.listener("alice", "tiny", filters=("s/#",))
    tiny.publish("u/nobody/1")

    assert ["131"] == tiny.payloads("s/")


# ---- the inbox cap -----------------------------------------------------------------------------------------


def test_a_full_inbox_refuses_and_is_released_by_acknowledgements(make_world):
    """The cap counts what no device has acknowledged: 0x82 beyond it, room again after a PUBACK."""
    world = make_world(messaging={"inbox_messages_max": 3})
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    for number in range(3):
        alice.publish(f"u/bob/{number}")
    alice.statuses()
    assert alice.publish("u/bob/3")
    assert ["3", "bob", 0x82, "inbox-full"] == verdict(alice, "cid", "peer", "status", "name")

    bob.ack(bob.received("u/")[0])
    alice.statuses()
    alice.publish("u/bob/3")
    alice.publish("u/bob/4")

    assert [("3", 1), ("4", 0x82)] == alice.steps()


def test_the_owner_of_a_full_inbox_is_told(make_world):
    """On `in/session` of his online devices, at most once a minute."""
    world = make_world(messaging={"inbox_messages_max": 1})
    alice, bob = world.listener("alice"), world.listener("bob", filters=("session",))
    for number in range(5):
        alice.publish(f"u/bob/{number}")
    world.advance(61)
    alice.publish("u/bob/6")

    assert [{"event": "inbox-full", "messages": 1, "bytes": 2}] * 2 == bob.news()


def test_the_count_survives_a_restart(make_world):
    """Also where messages above an unacknowledged one are acknowledged, and where some expired."""
    world = make_world(messaging={"inbox_messages_max": 4})
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.auto_ack = False
    for number in range(3):
        alice.publish(f"u/bob/{number}")
    bob.publish("u/alice/own")
    bob.ack(*bob.received("u/")[1:])
    world.advance(2)
    world.restart()
    alice = world.listener("alice")
    alice.statuses()

    for number in range(10, 14):
        alice.publish(f"u/bob/{number}")

    assert [("10", 1), ("11", 1), ("12", 1), ("13", 0x82)] == alice.steps()


def test_the_cap_counts_bytes_too(make_world):
    """A message that would pass the cap of bytes is refused; a smaller one is not."""
    world = make_world(messaging={"inbox_bytes_max": 1000})
    alice = world.listener("alice")
    for cid, size in (("1", 600), ("2", 600), ("3", 400)):
        alice.publish(f"u/bob/{cid}", b"x" * size)

    assert [("1", 1), ("2", 0x82), ("3", 1)] == alice.steps()


def test_expired_messages_leave_the_inbox(make_world):
    """What got its verdict no longer counts."""
    world = make_world(messaging={"inbox_messages_max": 1})
    alice = world.listener("alice")
    alice.publish("u/bob/1/expiry=5")
    alice.publish("u/bob/2")
    world.advance(7)
    alice.publish("u/bob/2")

    assert [("1", 1), ("2", 0x82), ("1", 0x84), ("2", 1)] == alice.steps()


def test_a_resend_does_not_fill_the_inbox(make_world):
    """Repeats and refused cids count for nothing."""
    world = make_world(messaging={"inbox_messages_max": 3})
    alice = world.listener("alice")
    alice.publish("u/bob/1")
    for _ in range(5):
        alice.publish("u/bob/1")
        alice.publish("u/bob/1", "other")
    alice.statuses()
    alice.publish("u/bob/2")
    alice.publish("u/bob/3")
    alice.publish("u/bob/4")

    assert [("2", 1), ("3", 1), ("4", 0x82)] == alice.steps()


def test_a_full_member_is_told_by_member(make_world):
    """In a group the others get it; the full one's 0x82 names him, and is stored with the message."""
    world = make_world(messaging={"inbox_messages_max": 2})
    world.group("team", "alice", "bob", "carol")
    alice, carol = world.listener("alice"), world.listener("carol")
    for number in range(4):
        alice.publish(f"g/team/{number}")

    told = [(status["cid"], status["status"]) for status in alice.statuses() if status.get("peer") == "bob"]
    assert [("2", 0x82), ("3", 0x82)] == told
    assert ["hi"] * 4 == carol.payloads("g/")
    assert ["hi"] * 2 == world.listener("bob").payloads("g/")


# ---- rate --------------------------------------------------------------------------------------------------


def test_too_fast_is_rate_limited(make_world):
    """Where a rate is configured: 0x8C with `retry_after` beyond the burst, and room again as time passes."""
    world = make_world(rates={"messages": "1.5:3"})
    alice = world.listener("alice")
    for number in range(4):
        alice.publish(f"u/bob/{number}")
    status = alice.statuses()[-1]
    assert ("3", 0x8C, "rate-limited", 1) == (status["cid"], status["status"], status["name"], status["retry_after"])

    world.advance(0.5)
    alice.publish("u/bob/3")
    alice.publish("u/bob/4")

    assert [("3", 1), ("4", 0x8C)] == alice.steps()


def test_the_rate_of_one_user_is_not_another_s(make_world):
    """Each sender has a budget of his own, over all his devices."""
    world = make_world(rates={"messages": "1:1"})
    phone, laptop, bob = world.listener("alice"), world.connect("alice", "laptop"), world.listener("bob")
    phone.publish("u/carol/1")
    laptop.publish("u/carol/2")
    bob.publish("u/carol/1")

    assert ([("1", 1), ("2", 0x8C)], [("1", 1)]) == (phone.steps(), bob.steps())


def test_several_windows_hold_at_once(make_world):
    """`1:2,60:3`: two in a second, and three in a minute however slowly they come."""
    world = make_world(rates={"messages": "1:2,60:3"})
    alice = world.listener("alice")
    for number in range(6):
        alice.publish(f"u/bob/{number}")
        world.advance(0.6)

    limited = [status["retry_after"] for status in alice.statuses() if status["status"] == 0x8C]
    assert [19, 18, 17] == limited


@pytest.mark.parametrize("topic", ["read/u/bob", "presence/u/bob"])
def test_reads_and_presence_have_rates_of_their_own(make_world, topic):
    """Above it status 0x8C tells the seconds to wait; messages go on."""
    world = make_world(rates={"reads": "10:1", "presence": "10:1"})
    alice = world.listener("alice")
    for _ in range(2):
        alice.publish(topic, "0" * 16)
    alice.publish("u/bob/1")

    limited, sent = alice.statuses()
    assert (0x8C, "bob", 10) == (limited["status"], limited["peer"], limited["retry_after"])
    assert ("1", 1) == (sent["cid"], sent["status"])


def test_too_many_questions_are_answered_so(make_world):
    """An rpc beyond its rate is not performed; its answer says when to ask again."""
    world = make_world(rates={"rpc": "4:2"})
    alice = world.listener("alice")
    answers = [alice.rpc("ping", str(number))[-1] for number in range(3)]

    assert [True, True, False] == [answer["ok"] for answer in answers]
    assert ("rate-limited", 2) == (answers[2]["code"], answers[2]["retry_after"])


def test_without_a_limit_nobody_is_slowed(world):
    """By default there is none."""
    alice = world.listener("alice")
    for number in range(300):
        alice.publish(f"u/bob/{number}", qos=0)

    assert {1} == {step for _, step in alice.steps()}


def test_a_flood_of_foreign_topics_does_not_flood_the_log(world, caplog):
    """One user gets a few audit lines a second, in one line each; what was left out is told a second later."""
    alice = world.listener("alice")
    with caplog.at_level(logging.WARNING, logger="mesimqtt.audit"):
        for number in range(50):
            alice.publish(f"m/bob/out/u/carol/{number}")
        world.advance(2)
    lines = [record.getMessage() for record in caplog.records if record.name == "mesimqtt.audit"]

    assert LINES_PER_USER_S + 1 == len(lines)
    assert f"{50 - LINES_PER_USER_S} more denials in the last second" == lines[-1]
    assert 50 == world.messaging.stats()["counters"]["denied.publish"]


def test_a_refusal_is_told_however_many_statuses_wait(world):
    """A device that has not acknowledged 400 SENT yet hears of a later refusal, too: nobody would tell it again."""
    alice = world.listener("alice", filters=("status/#",))
    world.user("bob")
    alice.auto_ack = False
    alice.send(
        *[wire.publish(f"m/alice/out/u/bob/{number}", b"hi", qos=1, packet_id=number) for number in range(1, 401)]
    )
    alice.publish("u/nobody/lost", packet_id=500)
    alice.auto_ack = True
    alice.ack(*alice.inbox)

    assert {**{str(number): 1 for number in range(1, 401)}, "lost": 0x83} == dict(alice.steps())
