"""Section B: topics, identity and groups: nobody reads, writes or moves what is another's."""

from __future__ import annotations

import json

import pytest

from attacks.attacker import connect, publish

DENIED, BAD_REQUEST, UNKNOWN = 0x8D, 0x85, 0x83


def send(sender, peer, cid, payload="x", tail="", packet_id=7):
    sender.send(publish(f"m/{sender.user}/out/u/{peer.user}/{cid}{tail}", payload, 1, packet_id))


@pytest.fixture
def three(target):
    """Somebody who attacks, somebody to be attacked, and a third."""
    return target.somebody(), target.somebody("victim"), target.somebody()


def test_folders_of_others_are_closed_to_publishes(target, three):
    """Row 36: whatever is not one's own `out/` is refused visibly and stored nowhere."""
    attacker, victim, _ = three
    me, other = attacker.user, victim.user
    for topic in (
        f"m/{other}/in/u/{me}/x", f"m/{other}/out/u/{me}/x", f"m/{me}/in/u/{other}/x", f"m/{other}/in/status/c1",
        "m", "m/",
        f"m/{me}", f"m//out/u/{other}/1", f"m/{me.upper()}/out/u/{other}/1",
    ):  # fmt: skip
        ((status, _),) = attacker.refusals(publish(topic, "forged", 1, 3))
        assert status == DENIED
    ((status, _),) = attacker.refusals(publish(f"m/%{ord(me[0]):02x}{me[1:]}/out/u/{other}/1", "forged", 1, 3))
    assert status == BAD_REQUEST  # one's own folder, in a spelling that is none
    for tail in ("", "u", f"sent/u/{other}/1", f"u/{other}/a/b/c", "status/1"):
        ((status, _),) = attacker.refusals(publish(f"m/{me}/out/{tail}", "forged", 1, 3))
        assert status == BAD_REQUEST

    assert [] == victim.exchange()
    assert 0 == target.ask("inbox", address=other)["result"]["messages"]
    lines = target.logged("denied: ", f"user='{me}'")
    assert 1 <= len(lines) <= 10
    assert not any("forged" in line for line in lines)


def test_folders_of_others_are_closed_to_filters(three):
    """Row 37, row 38: every filter that reaches beyond one's own `in/` gets 0x80, and only that one."""
    attacker, victim, _ = three
    me, other = attacker.user, victim.user
    forbidden = [
        f"m/{other}/in/#", "#", "+/#", "m/#", "m/+/in/#", "m/%2b/in/#", f"$share/x/m/{other}/in/#",
        f"$share/x/m/{me}/in/#",
        f"m/{me}/../{other}/in/#", f"m/{me}/in/u/+/#", f"m/{me}/in/u/%75x/#", f"m/{me}/out/#", f"+/{other}/in/#",
        f"m/{me}/in/sent/u/{other}/#", "+/+/+/+/+",
    ]  # fmt: skip

    assert [0x80] * len(forbidden) == attacker.granted(*forbidden)
    assert [1, 0x80, 0x80, 1] == attacker.granted(f"m/{me}/in/u/#", f"m/{other}/in/#", "m/+/in/#", f"m/{me}/in/sent/#")


@pytest.mark.parametrize("name", ["..", ".", "", " x", "x ", "\0", "a\nb", "x" * 64, "e\u0301", "\u00a0x", "\ud800"])
def test_bad_addresses_are_no_users(target, name):
    """Row 39: an illegal address is refused, not folded into another."""
    answer = target.ask("user_add", addresses=[name])

    assert "bad-argument" == answer.get("code")


@pytest.mark.parametrize(("name", "level"), [("#", "%23"), ("+", "%2B"), ("a/b", "a%2Fb"), ("$SYS", "%24SYS")])
def test_odd_addresses_have_one_spelling(target, name, level):
    """Row 39: `#`, `+`, `a/b` and `$SYS` are users like others: one spelling each, and no further than their folder."""
    target.users(name)
    odd, victim = target.client(name), target.somebody()
    assert [1, 0x80, 0x80] == odd.granted(f"m/{level}/in/#", f"m/{name}/in/#", f"m/{victim.user}/in/#")
    odd.send(publish(f"m/{level}/out/u/{victim.user}/1", "hello", 1))

    assert victim.message()[0].startswith(f"m/{victim.user}/in/u/{level}/")


@pytest.mark.parametrize(
    "topic",
    ["m/VICTIM/in/u/ME/1", "m/VICTIM/out/u/ME/1", "$SYS/x", "free/x", "m/ME/in/u/x", "m/ME/out/read/u/VICTIM", "m",
     "m/ME/out/rpc/inbox/1", "m/ME/out/u/VICTIM/x/expiry=zz"],
)  # fmt: skip
def test_foreign_wills_are_refused(target, three, topic):
    """Row 40: a will outside one's own messages ends in CONNACK 5; nothing of it is sent."""
    attacker, victim, _ = three
    topic = topic.replace("VICTIM", victim.user).replace("ME", attacker.user)
    will = (topic, "bye", 1, True)
    refused = target.raw().enter(attacker.user, target.tokens[attacker.user], "will", will=will)

    assert 5 == refused.code
    assert refused.is_cut()
    assert [] == victim.exchange()


def test_receipts_cannot_be_forged(three):
    """Row 41: a receipt counts only from the user to whom that message was addressed, and only once."""
    alice, bob, eve = three
    send(alice, bob, "k1")
    mid = bob.message()[0].split("/")[5]
    assert [1, 2] == [alice.status()["status"], alice.status()["status"]]
    future = f"{int(mid, 16) + (10**6 << 22):016x}"
    for reader, peer, payload in (
        (eve, alice, mid), (eve, alice, f"<={mid}"), (alice, bob, mid), (bob, eve, mid), (bob, alice, f"<={future}"),
        (bob, alice, "f" * 16), (bob, alice, future),
    ):  # fmt: skip
        assert [] == reader.refusals(publish(f"m/{reader.user}/out/read/u/{peer.user}", payload, 1, 8))
    assert [(DENIED, None)] == eve.refusals(publish(f"m/{bob.user}/out/read/u/{alice.user}", mid, 1, 8))
    for payload in ("", "x", "<=", mid + "0", f"<=<={mid}", "-1", "\u0660" * 16, b"\xff" * 16):
        ((status, _),) = bob.refusals(publish(f"m/{bob.user}/out/read/u/{alice.user}", payload, 1, 8))
        assert status == BAD_REQUEST
    bob.send(publish(f"m/{bob.user}/out/read/u/{alice.user}", mid, 1, 8) * 2)

    assert 3 == alice.status()["status"]
    assert alice.status(0.2) is None


def test_receipts_end_with_membership(target, three):
    """Row 42: who left a group, or was never in it, moves no receipt of it."""
    alice, bob, eve = three
    target.ask("group_add", address="left")
    target.ask("group_join", address="left", users=[alice.user, bob.user])
    alice.send(publish(f"m/{alice.user}/out/g/left/1", "x", 1))
    mid = bob.message("/in/g/left/")[0].split("/")[6]
    assert [1, 2] == [alice.status()["status"] for _ in range(2)]
    target.ask("group_leave", address="left", users=[bob.user])
    for reader in (bob, eve):
        assert [(UNKNOWN, None)] == reader.refusals(publish(f"m/{reader.user}/out/read/g/left", mid, 1, 8))

    assert alice.status(0.2) is None


def test_receipts_revive_nothing(three):
    """Row 43: a message that expired stays expired, whoever says that he read it."""
    alice, bob, _ = three
    bob.close()
    send(alice, bob, "short", tail="/expiry=1")
    mid = alice.status()["mid"]
    assert 0x84 == alice.status()["status"]
    alice.exchange(publish(f"m/{alice.user}/out/read/u/{bob.user}", mid, 1, 8))

    assert alice.status(0.2) is None


def test_payload_fields_change_nothing(three):
    """Row 44: `from`, `seq` and the like in a payload are bytes; `seq` as a parameter is refused."""
    attacker, victim, third = three
    forged = json.dumps({"from": third.user, "seq": 999, "ts": 1, "mid": "0" * 16}).encode()
    send(attacker, victim, "f1", forged)
    topic, payload = victim.message()

    assert forged == payload
    assert topic.startswith(f"m/{victim.user}/in/u/{attacker.user}/")
    assert topic.endswith("/seq=1")
    for parameter in ("seq=9", "%73eq=9"):
        ((status, _),) = attacker.refusals(publish(f"m/{attacker.user}/out/u/{victim.user}/f2/{parameter}", "x", 1, 9))
        assert status == BAD_REQUEST


def test_a_cid_belongs_to_its_sender(three):
    """Row 45, row 46, row 47: others may use the same cid; its owner may not for anything else; a replay is none."""
    attacker, victim, third = three
    for sender in (attacker, third):
        send(sender, victim, "same", f"of {sender.user}")
        assert f"of {sender.user}".encode() == victim.message()[1]
        assert [1, 2] == [sender.status()["status"] for _ in range(2)]
    for topic, payload in (
        (f"u/{victim.user}/same", "another"),
        (f"u/{third.user}/same", f"of {attacker.user}"),
        (f"u/{victim.user}/same/type=1", f"of {attacker.user}"),
    ):
        attacker.send(publish(f"m/{attacker.user}/out/{topic}", payload, 1, 9))
        assert "cid-reused" == attacker.status()["reason"]
    for packet_id in range(1, 4):
        send(attacker, victim, "same", f"of {attacker.user}", packet_id=packet_id)

    assert victim.message(deadline_s=0.3) is None
    assert third.message(deadline_s=0.1) is None


@pytest.mark.parametrize("word", ["edit", "recall"])
def test_messages_of_others_stay_as_they_are(three, word):
    """Row 48: nobody edits or recalls what another has sent."""
    alice, bob, eve = three
    send(alice, bob, "mine")
    mid = bob.message()[0].split("/")[5]
    ((status, _),) = eve.refusals(publish(f"m/{eve.user}/out/u/{bob.user}/e1/{word}={mid}", "", 1))

    assert DENIED == status
    assert bob.message(deadline_s=0.1) is None


def test_what_was_taken_back_is_revived_by_nothing(three):
    """Row 43: neither a receipt nor an edit nor a forward brings back a message that its sender recalled."""
    alice, bob, _ = three
    send(alice, bob, "gone")
    mid = bob.message()[0].split("/")[5]
    assert [1, 2] == [alice.status()["status"] for _ in range(2)]
    alice.send(publish(f"m/{alice.user}/out/u/{bob.user}/back/recall={mid}", "", 1, 8))
    assert {1, 0x21} == {alice.status()["status"] for _ in range(2)}
    bob.exchange(publish(f"m/{bob.user}/out/read/u/{alice.user}", mid, 1, 9))
    ((edited, _),) = alice.refusals(publish(f"m/{alice.user}/out/u/{bob.user}/e1/edit={mid}", "x", 1, 10))
    ((forwarded, _),) = bob.refusals(publish(f"m/{bob.user}/out/u/{alice.user}/f1/flags=131&ref={mid}", "x", 1, 11))

    assert [DENIED, DENIED] == [edited, forwarded]


def test_a_group_that_one_may_not_know_of_is_none(target, three):
    """Row 49: not a member, removed, deleted and never existed get one and the same answer."""
    alice, bob, eve = three
    for group in ("known", "gone"):
        target.ask("group_add", address=group)
        target.ask("group_join", address=group, users=[alice.user, bob.user])
    target.ask("group_leave", address="known", users=[bob.user])
    target.ask("group_delete", addresses=["gone"])
    for outsider, group in ((eve, "known"), (eve, "never"), (bob, "known"), (bob, "gone")):
        for topic in (f"g/{group}/1", f"read/g/{group}", f"presence/g/{group}"):
            answer = outsider.refusals(publish(f"m/{outsider.user}/out/{topic}", "0" * 16, 1))
            assert [(UNKNOWN, None)] == answer

    assert alice.message("/in/g/", 0.1) is None


def test_history_begins_with_membership(target, three):
    """Row 51: who joins sees his joining and what comes then, nothing of before."""
    alice, bob, _ = three
    target.ask("group_add", address="history")
    target.ask("group_join", address="history", users=[alice.user])
    alice.send(publish(f"m/{alice.user}/out/g/history/1", "secret", 1))
    assert 1 == alice.status()["status"]
    target.ask("group_join", address="history", users=[bob.user])
    alice.send(publish(f"m/{alice.user}/out/g/history/2", "welcome", 1))

    assert b"welcome" == bob.message("/in/g/")[1]


def test_nothing_is_retained_under_the_root(target, three):
    """Row 53: the retain flag of a message is dropped; a later subscriber gets it once, from the store."""
    attacker, victim, _ = three
    attacker.send(publish(f"m/{attacker.user}/out/u/{victim.user}/r1", "x", 1, retain=True))
    assert victim.message() is not None
    newcomer = target.client(victim.user, "newcomer")
    newcomer.granted(f"m/{victim.user}/in/#")

    assert not any(first & 1 for first, _ in newcomer.exchange() if first & 0xF0 == 0x30)


def test_system_topics_are_closed(target, three):
    """Row 54: `$SYS`, `$CONTROL` and `$share` take no publish, and no filter of who is not admin."""
    attacker = three[0]
    filters = ["$SYS/#", "$SYS/broker/version", "$CONTROL/#", "$share/x/#", "$queue/#", "$#"]
    assert [0x80] * len(filters) == attacker.granted(*filters)
    attacker.exchange(publish("$SYS/x", "x") + publish("$share/g/x", "x") + publish("$CONTROL/x", "x"))
    token = target.ask("token_issue", addresses=[attacker.user], scope="admin")["result"]["tokens"][0]["token"]
    admin = target.raw().enter(attacker.user, token, "admin")

    assert [1, 0x80] == admin.granted("$SYS/#", "$CONTROL/#")
    assert not any(b"$SYS/x" in body for _, body in admin.exchange())


def test_a_client_id_is_nobodys_key(target, three):
    """Row 55, row 56: another's client id, with one's own token, another's or none, leaves his session alone."""
    attacker, victim, _ = three
    tokens = target.tokens
    assert [] == target.client(attacker.user, "victim").exchange()
    for user, token in (
        (victim.user, tokens[attacker.user]), (attacker.user, tokens[victim.user]), (victim.user, "wrong"),
        (victim.user, ""), (victim.user, None), (None, None), ("", ""), (victim.user.upper(), tokens[victim.user]),
    ):  # fmt: skip
        refused = target.raw().enter(user, token, "victim")
        assert refused.code == 5
        assert refused.is_cut()
    bound = target.ask("token_issue", addresses=[victim.user], device="tablet")["result"]["tokens"][0]["token"]

    assert 5 == target.raw().enter(victim.user, bound, "victim").code
    assert [] == victim.exchange()


def test_a_take_over_flood_ends_with_the_last(target):
    """Row 58: of 200 connections with one client id the last one stays, and nothing of the others."""
    victim = target.somebody()
    files = target.open_files
    flood = [target.client(victim.user, "one", clean=False) for _ in range(200)]

    assert all(each.is_cut() for each in flood[:-1])
    assert [] == flood[-1].exchange()
    assert target.files_left(files + 2) <= files + 2


def test_a_newcomer_gets_nothing_unasked(target, three):
    """Row 59: a client that subscribed to nothing receives nothing, also of what waits for its user."""
    attacker, victim, _ = three
    silent = target.client(victim.user, "silent")
    send(attacker, victim, "s1")
    assert victim.message() is not None

    assert [] == silent.exchange()


def test_status_of_others_is_unknown(three):
    """Beyond the rows: who did not send a message learns nothing of it by rpc, not even that it exists."""
    alice, bob, eve = three
    send(alice, bob, "s1")
    mid = bob.message()[0].split("/")[5]
    answers = []
    for asked in (mid, "0" * 16):
        eve.send(publish(f"m/{eve.user}/out/rpc/status/r1", json.dumps({"mid": asked}), 1))
        answers.append(eve.message("/in/rpc/r1")[1].replace(asked.encode(), b"MID"))

    assert answers[0] == answers[1]


def test_a_user_and_a_group_may_share_an_address(target, three):
    """Beyond the rows: the user `twin` and the group `twin` are two; each gets what is meant for it."""
    alice, bob, _ = three
    target.users("twin")
    target.ask("group_add", address="twin")
    target.ask("group_join", address="twin", users=[alice.user, bob.user])
    twin = target.client("twin").listen()
    alice.send(publish(f"m/{alice.user}/out/u/twin/1", "for the user", 1))
    alice.send(publish(f"m/{alice.user}/out/g/twin/2", "for the group", 1, 2))

    assert b"for the user" == twin.message("/in/")[1]
    assert b"for the group" == bob.message("/in/g/")[1]
    assert twin.message("/in/", 0.1) is None


def test_a_connect_with_everything_behind_it_waits_for_its_token(target, three):
    """Beyond the rows: what follows a refused CONNECT in one segment is not looked at."""
    attacker, victim, _ = three
    message = publish(f"m/{attacker.user}/out/u/{victim.user}/early", "x", 1)
    refused = target.raw(connect(attacker.user, "wrong", "early") + message)

    assert (0x20, b"\x00\x05") == refused.next()
    assert refused.is_cut()
    assert [] == victim.exchange()
