"""Section B: names that look or sort alike, wills on foreign ground, refusals that must not say who exists."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from attacks.attacker import as_message, connect, publish, subscribe
from attacks.target import Target

UNKNOWN = 0x83
MID_DIGITS = 16
MEMBERS, ROUNDS = 50, 200


def told(client, data, *names):
    """Return every byte that `data` is answered with, with the names of the moment made equal."""
    heard = []
    for first, body in client.exchange(data):
        text = body
        if b"/in/status/" in body:
            status = json.loads(body[body.index(b"{") :])
            drawn = {"ts", "mid"} | ({"cid"} if len(status["cid"]) == MID_DIGITS else set())  # a mid stands in for it
            text = json.dumps({key: value for key, value in status.items() if key not in drawn}).encode()
        for name in names:
            text = text.replace(name.encode(), b"NAME")
        heard.append((first, text))
    return heard


@pytest.mark.parametrize(
    "name",
    ["al\u200bice", "al\u200dice", "alice\u200d", "a\u202eb", "a\u2066b", "a\ufeffb", "a\u00adb", "a\ufe0fb",
     "a\u3164b", "a\u2028b", "a\u0301", "\u212bngstrom", "x\u3000", "e\u0301" * 3],
)  # fmt: skip
def test_names_that_look_like_others_are_none(target, name):
    """Row 39: zero-width, bidi and blank characters, NFD and compatibility spellings are refused, not folded."""
    assert "bad-argument" == target.ask("user_add", addresses=[name]).get("code")
    assert target.raw().enter(name, "token").code in (None, 5)


def test_the_case_of_a_name_is_the_name(target):
    """Row 39: `Case` and `case` are two; each has its folder, and the other's is closed to it."""
    target.users("case", "Case")
    lower, upper = target.client("case"), target.client("Case")
    assert [1, 0x80] == lower.granted("m/case/in/#", "m/Case/in/#")
    assert [1, 0x80] == upper.granted("m/Case/in/#", "m/case/in/#")
    lower.user, upper.user = "case", "Case"
    lower.send(publish("m/case/out/u/Case/1", "to the other", 1))

    assert b"to the other" == upper.message()[1]
    assert lower.message(deadline_s=0.2) is None
    assert 5 == target.raw().enter("CASE", target.tokens["case"]).code
    assert 5 == target.raw().enter("Case", target.tokens["case"]).code


@pytest.mark.parametrize(
    "level",
    ["%2b", "%2B%2b", "%61lice", "al%69ce", "alice%00", "alice%", "alice%2", "%E9", "%C3%A9%", "a b", "%ED%A0%80"],
)
def test_other_spellings_of_a_name_are_none(target, level):
    """Row 39: a name has one spelling in a topic; any other is refused in a PUBLISH and in a SUBACK."""
    attacker = target.somebody()
    ((status, _),) = attacker.refusals(publish(f"m/{attacker.user}/out/u/{level}/1", "x", 1))

    assert status == 0x85
    assert [0x80] == attacker.granted(f"m/{attacker.user}/in/u/{level}/#")


@pytest.mark.parametrize("topic", ["$SYS/broker/uptime", "$CONTROL/x", "free/x", "m/VICTIM/in/u/ME/1", "m/+/in/x", "#"])
@pytest.mark.parametrize("qos", [0, 2])
def test_a_retained_will_leaves_nothing(target, topic, qos):
    """Row 40: a retained will where one may not publish refuses the CONNECT; nothing of it is kept or sent."""
    attacker, victim = target.somebody(), target.somebody()
    topic = topic.replace("VICTIM", victim.user).replace("ME", attacker.user)
    refused = target.raw().enter(attacker.user, target.tokens[attacker.user], "will", will=(topic, "forged", qos, True))
    refused.reset()
    token = target.ask("token_issue", addresses=[victim.user], scope="admin")["result"]["tokens"][0]["token"]
    admin = target.raw().enter(victim.user, token, "admin")
    admin.send(subscribe("$SYS/#", f"m/{victim.user}/in/#"))

    assert refused.code in (None, 5)
    assert not any(b"forged" in body for _, body in admin.exchange())


def test_refusals_do_not_say_who_exists(target):
    """Row 49, row 103: strangers, deleted users and groups, foreign groups and made-up names get the same bytes."""
    attacker, friend = target.somebody(), target.somebody()
    target.users("was-here")
    target.ask("group_add", address="theirs")
    target.ask("group_join", address="theirs", users=[friend.user])
    target.ask("group_add", address="was-too")
    target.ask("group_delete", addresses=["was-too"])
    target.ask("user_delete", addresses=["was-here"])
    for parts, names in (
        (("u/{}/c1", "read/u/{}", "presence/u/{}"), ("was-here", "made-up")),
        (("g/{}/c1", "read/g/{}", "presence/g/{}", "g/{}/c1/expiry=0"), ("theirs", "was-too", "made-up")),
    ):
        for part in parts:
            packets = {name: publish(f"m/{attacker.user}/out/{part.format(name)}", "0" * 16, 1) for name in names}
            answers = [told(attacker, packet, name) for name, packet in packets.items()]
            assert [answers[0]] * len(answers) == answers
            assert b'"status": 131' in answers[0][-1][1] + answers[0][0][1]
    for names in ((f"m/{friend.user}/in/#", "m/made-up/in/#"), (f"m/{friend.user}/out/#", "m/made-up/out/#")):
        assert [0x80, 0x80] == attacker.granted(*names)
    denied = [
        told(attacker, publish(f"m/{name}/out/u/{attacker.user}/c1", "x", 1), name) for name in (friend.user, "made-up")
    ]
    assert denied[0] == denied[1]


def test_an_identity_swap_changes_nothing(target):
    """Row 56: same client id, other user or wrong token, while the first connection publishes: it goes on as itself."""
    first, victim = target.somebody("swap"), target.somebody()
    topic = f"m/{first.user}/out/u/{victim.user}/s"
    for number in range(40):
        first.send(publish(f"{topic}{number}", b"%d" % number, 1, number + 1))
        refused = target.raw().enter(victim.user, "wrong", "swap") if number % 2 else target.raw().enter("", "", "swap")
        assert 5 == refused.code
    got = [victim.message() for _ in range(40)]

    assert [b"%d" % number for number in range(40)] == [payload for _, payload in got]
    assert all(topic.startswith(f"m/{victim.user}/in/u/{first.user}/") for topic, _ in got)
    first.exchange()
    assert not first.is_closed


def test_who_is_refused_leaves_no_session(target):
    """Row 55: a CONNECT with another's client id and no valid token makes no session, whatever comes behind it."""
    victim = target.somebody("kept", clean=False)
    for user, token in ((victim.user, "wrong"), ("somebody-else", "wrong"), (victim.user, "")):
        behind = subscribe("m/x/in/#") + publish(f"m/{victim.user}/out/u/{victim.user}/c1", "forged", 1)
        refused = target.raw(connect(user, token, "kept", clean=True) + behind)
        assert (0x20, b"\x00\x05") == refused.next()
        assert refused.is_cut()
    again = target.raw().send(connect(victim.user, target.tokens[victim.user], "kept", clean=False))

    assert (0x20, b"\x01\x00") == again.next()  # the session is there, and it is the victim's
    assert victim.is_cut()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A server without a rate of messages and with small groups; fifty members who acknowledge nothing."""
    changes = [
        ('messages: "3.3333:200"', 'messages: ""'),
        ("rates:\n", "messaging:\n  group_members_max: 60\nrates:\n"),
    ]
    server = Target(tmp_path_factory.mktemp("crowd"), *changes)
    yield server
    assert 0 == server.stop()
    assert "Traceback" not in server.log


def test_removal_and_sending_race(crowd):
    """Row 50: 200 rounds with 50 members: what is sent after a removal reaches nobody; what races it, all or none."""
    names = [f"member{number}" for number in range(MEMBERS)]
    crowd.users("alice", *names)
    crowd.ask("group_add", address="race")
    crowd.ask("group_join", address="race", users=["alice"])
    alice = crowd.client("alice")
    assert [0] == alice.granted("m/alice/in/event/#", qos=0)
    members = [crowd.client(name) for name in names]
    assert [[0]] * MEMBERS == [each.granted(f"m/{each.user}/in/g/#", qos=0) for each in members]
    for number in range(ROUNDS):
        assert crowd.ask("group_join", address="race", users=names)["ok"]
        leaving = threading.Thread(target=crowd.ask, args=("group_leave",), kwargs={"address": "race", "users": names})
        if number % 2:
            leaving.start()
        alice.send(publish(f"m/alice/out/g/race/r{number}", f"race {number}", 1, 2 * number + 1))
        if not number % 2:
            leaving.start()
        leaving.join()
        alice.send(publish(f"m/alice/out/g/race/a{number}", f"after {number}", 1, 2 * number + 2))
    got = []
    for each in members:
        found = [as_message(one) for one in each.exchange()]
        got.append([one[1] for one in found if one is not None and "/in/g/race/" in one[0]])
        assert [] == [payload for payload in got[-1] if payload.startswith(b"after")]
        assert sorted(got[-1], key=lambda payload: int(payload.split()[1])) == got[-1]

    assert all(each == got[0] for each in got)
    assert 0 < len(got[0]) <= ROUNDS


def test_a_group_has_a_bound(crowd):
    """Row 52: two joins at once that fit one by one, but not together: one is refused, and the bound holds."""
    names = [f"many{number}" for number in range(100)]
    crowd.users(*names)
    for turn in range(5):
        group = f"full{turn}"
        crowd.ask("group_add", address=group)
        with ThreadPoolExecutor(2) as both:
            parts = (names[:50], names[50:])
            answers = list(
                both.map(lambda part, group=group: crowd.ask("group_join", address=group, users=part), parts)
            )

        assert ["group-full"] == [answer.get("code") for answer in answers if not answer["ok"]]
        assert 50 == len(crowd.ask("group_show", address=group)["result"]["members"])


def test_members_change_nothing_by_themselves(crowd):
    """Row 52: who is no member makes nobody one, not even himself; a closed group is not there for him."""
    crowd.users("ordinary")
    crowd.ask("group_add", address="closed")
    member = crowd.client("ordinary").listen()
    codes = []
    for operation, arguments in (
        ("group_join", {"address": "closed", "users": ["ordinary"]}),
        ("group_join", {"address": "closed", "users": ["ordinary"], "role": "owner"}),
        ("group_enter", {"address": "closed"}),
        ("group_set", {"address": "closed", "profile": {"name": "mine"}}),
        ("group_delete", {"addresses": ["closed"]}),
        ("group_show", {"address": "closed"}),
        ("user_set", {"address": "ordinary", "profile": {"role": "owner"}}),
    ):
        member.send(publish(f"m/ordinary/out/rpc/{operation}/r1", json.dumps(arguments), 1))
        codes.append(json.loads(member.message("/in/rpc/r1")[1]).get("code"))
    hidden = "no-such-group"
    assert [hidden, "bad-argument", hidden, hidden, hidden, hidden, "forbidden"] == codes
    assert [] == crowd.ask("group_show", address="closed")["result"]["members"]

    assert [(UNKNOWN, None)] == member.refusals(publish("m/ordinary/out/g/closed/1", "x", 1))
