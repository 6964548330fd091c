"""Section A in MQTT 5.0: properties that lie, aliases, quotas, AUTH out of turn; closed with the code that says why."""

from __future__ import annotations

import time

import pytest

from attacks.attacker import PINGREQ, Attacker, length
from mesimqtt.testing.parse5 import parse_from_server
from mesimqtt.testing.wire5 import (
    auth,
    connect,
    disconnect,
    one,
    packet,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    subscribe,
    text,
    unsubscribe,
    variable,
    will,
)
from stopwatch import Stopwatch

MALFORMED, PROTOCOL, ALIAS, TOO_LARGE, NOT_AUTHORIZED, RECEIVE = 0x81, 0x82, 0x94, 0x95, 0x87, 0x93
BAD_CREDENTIALS, BAD_METHOD, RATE = 0x86, 0x8C, 0x96


@pytest.fixture(scope="module")
def five(target):
    """Connect again and again as one user, with 5.0; `data` is sent behind CONNECT."""
    name = target.somebody().user
    token = target.tokens[name]

    def enter(data=b"", client_id="five", **options):
        attacker = target.raw(connect(client_id, user=name, password=token, **options))
        attacker.user = name
        greeting = parse(attacker)
        assert ("CONNACK", 0) == (greeting.kind, greeting.code)
        return attacker.send(data)

    enter.user, enter.token = name, token
    return enter


def parse(attacker):
    """Return the next packet of the server, read strictly; None at the end."""
    found = attacker.next()
    return None if found is None else parse_from_server(bytes(found[:1]) + length(len(found[1])) + found[1])


def ended(attacker):
    """Return the code of the DISCONNECT or CONNACK with which the server closed, and nothing else before it."""
    last = parse(attacker)
    assert last is not None, "closed without a word"
    assert last.kind in ("DISCONNECT", "CONNACK"), last
    assert attacker.is_cut()
    return last.code


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\x7f\x00", MALFORMED),  # no such property
        (b"\x00", MALFORMED),
        (b"\x11\x00\x00", MALFORMED),  # cut short
        (b"\x1f\xff\xffx", MALFORMED),  # a string that reaches beyond
        (b"\x26\x00\x01k\x00\xffv", MALFORMED),
        (b"\x26\x00\x01\x00\x00\x01v", MALFORMED),  # NUL
        (b"\x26\x00\x02\xc0\xaf\x00\x01v", MALFORMED),  # overlong UTF-8
        (b"\x23\x00\x01", MALFORMED),  # a property of another packet
        (one("session_expiry_interval", 1) * 2, PROTOCOL),
        (one("receive_maximum", 1) * 2, PROTOCOL),
        (b"\x21\x00\x00", PROTOCOL),  # Receive Maximum 0
        (b"\x27\x00\x00\x00\x00", PROTOCOL),  # Maximum Packet Size 0
        (b"\x17\x02", PROTOCOL),  # a flag that is neither 0 nor 1
        (b"\x19\xff", PROTOCOL),
        (b"\x16\x00\x01x", PROTOCOL),  # Authentication Data without a method
    ],
)
def test_properties_of_connect_that_lie(target, five, raw, code):
    """Rows 8, 11, 14 in 5.0: what a CONNECT's properties may not be is refused with its code."""
    assert code == ended(target.raw(connect("lies", user=five.user, password=five.token, raw=raw)))


@pytest.mark.parametrize("size", [variable(200), b"\xff\xff\xff\xff\x7f", b"\x80\x00", b"\xff"])
def test_lengths_of_properties_that_lie(target, five, size):
    """Row 8 in 5.0: a property length that reaches beyond its packet, of five bytes, or longer than need be is 0x81."""
    body = text("MQTT") + b"\x05\xc2\x00\x3c" + size + text("lies") + text(five.user) + text("x")

    assert ended(target.raw(packet(0x10, body))) == MALFORMED


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (packet(0x30, text("a") + variable(250)), MALFORMED),
        (packet(0x30, text("a") + b"\xff\xff\xff\xff\x01"), MALFORMED),
        (packet(0x30, text("a") + b"\x80\x00x"), MALFORMED),
        (publish("a", raw=b"\x7f\x00"), MALFORMED),
        (publish("a", raw=b"\x11\x00\x00\x00\x01"), MALFORMED),  # a property of CONNECT
        (publish("a", raw=one("content_type", "x") * 2), PROTOCOL),
        (publish("a", raw=one("message_expiry_interval", 1) * 2), PROTOCOL),
        (publish("a", raw=b"\x01\x02"), PROTOCOL),  # Payload Format Indicator 2
        (publish("a", raw=b"\x0b\x01"), PROTOCOL),  # Subscription Identifier from a client
        (publish("a", raw=b"\x23\x00\x00"), ALIAS),
        (publish("a", topic_alias=17), ALIAS),
        (publish("a", topic_alias=65_535), ALIAS),
        (publish("", topic_alias=3), PROTOCOL),
        (publish(""), PROTOCOL),
        (publish("a", response_topic="b/#"), PROTOCOL),
        (publish("a/#"), MALFORMED),
        (packet(0x36, text("a") + b"\0\1\0"), MALFORMED),
        (packet(0x38, text("a") + b"\0"), MALFORMED),
        (subscribe(("a", 0), raw=b"\x0b\x00"), PROTOCOL),
        (subscribe(("a", 0), raw=b"\x0b\xff\xff\xff\xff\x7f"), MALFORMED),
        (subscribe(("a", 0), raw=one("subscription_identifier", 1) * 2), PROTOCOL),
        (subscribe(("a", 0x03)), MALFORMED),
        (subscribe(("a", 0x30)), PROTOCOL),  # retain handling 3
        (subscribe(("a", 0x40)), MALFORMED),
        (subscribe(("$share/g/a", 0x04)), PROTOCOL),  # no local on a shared one
        (subscribe(), PROTOCOL),
        (packet(0x82, b"\0\1"), MALFORMED),
        (unsubscribe(), PROTOCOL),
        (packet(0xA2, b"\0\1\x03a"), MALFORMED),
        (puback(1, 0x03), PROTOCOL),
        (packet(0x40, b"\0\1\x10\x05"), MALFORMED),
        (pubrec(1, 0x92), PROTOCOL),
        (pubrel(1, 0x80), PROTOCOL),
        (pubcomp(1, 0x10), PROTOCOL),
        (packet(0x40, b"\0"), MALFORMED),
        (disconnect(0x01), PROTOCOL),
        (disconnect(0x8B), PROTOCOL),  # only a server shuts down
        (disconnect(0, raw=b"\x1c\x00\x01x"), MALFORMED),  # only a server refers to another
        (disconnect(0, session_expiry_interval=60), PROTOCOL),  # of a session that was to end
        (auth(0x19, authentication_method="OAUTH2-JWT"), PROTOCOL),  # without a method at CONNECT
        (auth(0x00), PROTOCOL),
        (auth(0x18), PROTOCOL),
        (auth(0x42), PROTOCOL),
        (connect("again"), PROTOCOL),
        (packet(0xF1), MALFORMED),
        (packet(0x20, b"\0\0\0"), PROTOCOL),  # only a server says CONNACK
        (packet(0xC0, b"x"), MALFORMED),
        (b"\x30\x80\x00", MALFORMED),  # a remaining length longer than it need be
        (b"\x30" + length(2**20 + 1), TOO_LARGE),
    ],
)
def test_packets_that_break_the_specification(five, data, code):
    """Rows 4 to 8, 16, 20, 21, 22 in 5.0: DISCONNECT with the right code, and nothing behind it is looked at."""
    assert ended(five(data + PINGREQ)) == code


@pytest.mark.parametrize(
    "name", ["$share//x", "$share/g", "$share/#", "$share/+/a", "$share/a+/b", "$share/g/", "a/#/b", "a+"]
)
def test_shared_filters_that_are_none(five, name):
    """Row 17: half shared subscriptions are refused or closed, never a plain subscription of that name."""
    attacker = five(subscribe((name, 0)))
    answer = parse(attacker)

    assert (answer.kind, answer.code >= 0x80 or min(answer.codes) >= 0x80) in (("SUBACK", True), ("DISCONNECT", True))


def test_shares_open_no_folder(target, five):
    """Rows 37, 54: a shared filter reaches no folder, not one's own either, and no `$SYS`; each gets its code."""
    victim = target.somebody()
    names = [
        f"$share/g/m/{victim.user}/in/#",
        f"$share/g/m/{five.user}/in/#",
        "$share/g/#",
        "$share/g/$SYS/#",
        "$share/g/+/+/in/#",
    ]
    answer = parse(five(subscribe(*((name, 1) for name in names))))

    assert {0x87} == set(answer.codes)
    assert [] == victim.exchange()


def test_aliases_are_the_connections_own(target, five):
    """Aliases reach neither another connection nor the next one; they cannot carry a PUBLISH into a foreign folder."""
    victim = target.somebody()
    first = five(client_id="aliases")
    first.send(publish(f"m/{five.user}/out/u/{victim.user}/al1", b"mine", qos=1, topic_alias=1))
    assert b"mine" == victim.message()[1]
    for other in (five(client_id="another"), five(client_id="aliases")):
        assert ended(other.send(publish("", b"stolen", qos=1, topic_alias=1))) == PROTOCOL
    foreign = five(client_id="foreign")
    foreign.send(publish(f"m/{victim.user}/out/u/{five.user}/x", b"forged", qos=1, topic_alias=2))
    assert parse(foreign).code == NOT_AUTHORIZED
    foreign.send(publish("", b"forged", qos=1, packet_id=2, topic_alias=2))

    assert parse(foreign).code == NOT_AUTHORIZED
    assert victim.message(deadline_s=0.2) is None


def test_the_quota_is_kept(target, five):
    """Row 23 in 5.0: one PUBLISH more than the server's Receive Maximum is 0x93."""
    attacker = target.raw(connect("quota", user=five.user, password=five.token))
    most = dict(parse(attacker).properties)["receive_maximum"]
    topic = f"m/{five.user}/out/u/{target.somebody().user}/q"
    attacker.send(b"".join(publish(f"{topic}{number}", b"x", qos=2, packet_id=number) for number in range(1, most + 2)))
    answers = list(iter(lambda: parse(attacker), None))

    assert {"PUBREC"} >= {answer.kind for answer in answers[:-1]}
    assert ("DISCONNECT", RECEIVE) == (answers[-1].kind, answers[-1].code)
    assert attacker.is_closed


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"authentication_method": "SCRAM-SHA-1"}, BAD_METHOD),
        ({"authentication_method": "OAUTH2-JWT"}, None),
        ({"authentication_method": "OAUTH2-JWT", "authentication_data": b"a.b.c"}, None),
        ({"authentication_method": "OAUTH2-JWT", "authentication_data": b"x" * 5_000}, None),
    ],
)
def test_authentication_by_other_means(target, data, code):
    """Rows 60, 67 in 5.0: an unknown method, no token, a wrong or a huge one are refused, and nothing says why."""
    got = ended(target.raw(connect("auth", **data)))

    assert got in ({code} if code else {NOT_AUTHORIZED, BAD_CREDENTIALS})


def test_a_renewal_for_somebody_else_ends_the_connection(target, five):
    """Row 56 in 5.0: re-authentication with another user's token, or a bad one, closes; the other is unharmed."""
    victim = target.somebody()
    for token in (target.tokens[victim.user], "a.b.c", ""):
        method = {"authentication_method": "OAUTH2-JWT"}
        attacker = target.raw(connect("renew", authentication_data=five.token.encode(), **method))
        assert 0 == parse(attacker).code
        attacker.send(auth(0x19, authentication_data=token.encode(), **method))
        assert ended(attacker) == NOT_AUTHORIZED
    assert [] == victim.exchange()


@pytest.mark.parametrize("topic", ["$SYS/x", "m/VICTIM/in/u/ME/1", "free/x", "m/ME/in/status/1"])
def test_a_delayed_will_is_judged_at_once(target, five, topic):
    """Row 40 in 5.0: a delay does not hide a will where one may not publish: CONNECT is refused."""
    victim = target.somebody()
    topic = topic.replace("VICTIM", victim.user).replace("ME", five.user)
    last = will(topic, b"forged", qos=1, retain=True, will_delay_interval=1)
    refused = target.raw(connect("dying", user=five.user, password=five.token, will=last, session_expiry_interval=60))

    assert ended(refused) == NOT_AUTHORIZED
    assert [] == victim.exchange()


def test_delayed_wills_do_not_pile_up(target, five):
    """Beyond the rows: a hundred takeovers of a session with a delayed will leave one will at most, not a hundred."""
    victim = target.somebody()
    last = will(f"m/{five.user}/out/u/{victim.user}/w", b"bye", qos=1, will_delay_interval=1)
    for _ in range(100):
        client = five(client_id="piled", will=last, session_expiry_interval=60, clean=False)
    client.reset()
    time.sleep(1.2)

    assert b"bye" == victim.message()[1]
    assert victim.message(deadline_s=0.3) is None


def test_a_packet_that_a_client_does_not_take_is_not_sent(target, five):
    """Beyond the rows: Maximum Packet Size 20: SUBACK and PINGRESP come, nothing larger does, and nobody is cut."""
    friend = target.somebody()
    small = five(client_id="small", maximum_packet_size=20)
    small.send(subscribe((f"m/{five.user}/in/u/#", 1)))
    assert [1] == list(parse(small).codes)
    friend.send(
        b"\x30"
        + length(2 + len(f"m/{friend.user}/out/u/{five.user}/big") + 3)
        + text(f"m/{friend.user}/out/u/{five.user}/big")
        + b"xyz"
    )
    assert [] == [first for first, _ in small.exchange() if first >> 4 == 3]

    assert not small.is_closed


def test_reason_strings_and_user_properties_by_the_thousand(target, five):
    """Beyond the rows: 1,000 user properties in one packet cost little; more than a packet takes is refused."""
    before, watch = target.rss_mb, Stopwatch()
    attacker = five()
    crowd = [(f"k{number}", "v" * 20) for number in range(1_000)]
    attacker.send(publish("nowhere", b"x", qos=1, user_property=crowd))
    assert parse(attacker).kind in ("PUBACK", "DISCONNECT")
    flood = [("k", "v")] * 20_000
    other = target.raw(connect("flood", user=five.user, password=five.token, user_property=flood))

    assert other.is_cut()
    assert watch.elapsed_s < 2
    assert target.rss_mb - before < 8


def test_a_storm_is_closed_with_its_code(target, five):
    """Row 33 in 5.0: who storms with requests reads 0x96, Message rate too high."""
    attacker = five(client_id="storm")
    attacker.socket.settimeout(5)
    attacker.send(PINGREQ * 60_000)
    last = None
    while (found := attacker.next()) is not None:
        last = found

    assert attacker.is_closed
    assert (0xE0, RATE) == (last[0], last[1][0])


def test_a_guesser_is_told_the_same(target):
    """Rows 57, 103 in 5.0: after ten wrong tokens 0x9F, for a user and a made-up name alike."""
    known = target.somebody().user
    heard = []
    for name in (known, "made-up-5"):
        codes = []
        for number in range(12):
            attacker = Attacker(target.port, source="127.0.0.61")
            codes.append(ended(attacker.send(connect(f"c{number}", user=name, password="wrong"))))
        heard.append(codes)

    assert heard[0] == heard[1]
    assert [0x9F, 0x9F] == heard[0][10:]
    assert len(set(heard[0][:10])) == 1


def test_refusals_do_not_say_who_exists_in_5(target, five):
    """Row 49 in 5.0: a stranger's group, a deleted one and a made-up one, and users likewise, get the same PUBACK."""
    friend = target.somebody()
    target.ask("group_add", address="theirs5")
    target.ask("group_join", address="theirs5", users=[friend.user])
    target.users("was5")
    target.ask("user_delete", addresses=["was5"])
    heard = []
    for names in (("theirs5", "never5"), ("was5", "none5")):
        kind = "g" if names[0] == "theirs5" else "u"
        answers = []
        for name in names:
            for part in (f"{kind}/{name}/c1", f"read/{kind}/{name}", f"presence/{kind}/{name}"):
                attacker = five(publish(f"m/{five.user}/out/{part}", b"0" * 16, qos=1))
                answers.append(attacker.next())
        heard.append(answers)

    for answers in heard:
        assert answers[:3] == answers[3:]
        assert {0x40} == {first for first, _ in answers}
        assert {0x90} == {body[2] for _, body in answers}


def test_a_rate_is_told_in_the_acknowledgement(target, five):
    """Contract section 4: above the rate a PUBACK says 0x97 and the status 0x8C; below it nothing is refused."""
    sender, victim = target.somebody(), target.somebody()
    user, token = sender.user, target.tokens[sender.user]
    attacker = target.raw(connect("fast", user=user, password=token))
    assert 0 == parse(attacker).code
    topic = f"m/{user}/out/u/{victim.user}/f"
    codes, began = [], time.monotonic()
    while len(codes) < 250 or (0x97 not in codes and len(codes) < 5_000):
        numbers = range(len(codes), len(codes) + 25)  # the server takes 32 at once
        attacker.send(b"".join(publish(f"{topic}{n}", b"x", qos=1, packet_id=n + 1) for n in numbers))
        answers = [parse(attacker) for _ in numbers]
        assert {"PUBACK"} == {answer.kind for answer in answers}
        codes += [answer.code for answer in answers]
    took_s = time.monotonic() - began

    assert {0, 0x97} == set(codes)
    assert 200 <= codes.count(0) <= max(230, 200 + 60 * took_s)  # 60 a second come on top
