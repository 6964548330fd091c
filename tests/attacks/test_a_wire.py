"""Section A: packets that no client should send, by hand on a socket."""

from __future__ import annotations

import random
import socket
import time

import pytest

from attacks.attacker import (
    DEADLINE_S,
    PINGREQ,
    Attacker,
    connect,
    length,
    packet,
    publish,
    subscribe,
    text,
    unsubscribe,
)
from stopwatch import Stopwatch

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def mallory(target):
    """Connect again and again as one and the same user."""
    name = target.somebody().user
    return lambda client_id="raw", **options: target.client(name, client_id, **options)


@pytest.mark.parametrize("data", [publish("a"), subscribe("a"), PINGREQ, b"\xe0\x00", b"\x20\x02\x00\x00", b"\xc0"])
def test_the_first_packet_is_connect(target, data):
    """Row 1: any other first packet is closed at once, by its first byte."""
    attacker = target.raw(data)

    assert attacker.next() is None
    assert attacker.is_closed


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-x\r\n", random.Random(1).randbytes(4096)],
)
def test_other_protocols_are_closed(target, data):
    """Row 2: HTTP, TLS, SSH and noise on the MQTT port are closed within a second."""
    assert target.raw(data).is_cut(1.0)


def test_a_huge_first_packet_is_not_kept(target):
    """Row 3: five CONNECTs that announce 256 MB and send 4 MB each are closed, and nothing of them is kept."""
    before = target.rss_mb
    attackers = [target.raw(b"\x10" + length(256 * MEGABYTE - 1)).send(b"x" * 4 * MEGABYTE) for _ in range(5)]

    assert all(attacker.is_cut() for attacker in attackers)
    assert target.rss_mb - before < 2


def test_a_length_of_five_bytes_is_closed(target, mallory):
    """Row 4: a remaining length of five bytes is closed before and after CONNECT."""
    assert target.raw(b"\x10\xff\xff\xff\xff\x7f").is_cut()
    assert mallory().send(b"\x30\xff\xff\xff\xff\x7f").is_cut()
    assert mallory().send(b"\x30\x80\x80\x80\x80").is_cut()


@pytest.mark.parametrize(
    "first",
    [kind << 4 | flags for kind, legal in {4: 0, 5: 0, 6: 2, 7: 0}.items() for flags in (0, 1, 2, 8) if flags != legal]
    + [0x80, 0x83, 0x8A, 0xA0, 0xA3, 0xC1, 0xE1, 0x00, 0x0F, 0xF0, 0xFF, 0x20, 0x90, 0xB0, 0xD0],
)
def test_wrong_flags_and_types_are_closed(mallory, first):
    """Row 5, row 6: wrong flags, the reserved types and packets of the server are closed without an answer."""
    attacker = mallory().send(packet(first, b"\x00\x01") + PINGREQ)

    assert attacker.next() is None
    assert attacker.is_closed


def test_nothing_is_smuggled(target, mallory):
    """Row 7, row 8: a body where none belongs and lengths that lie are closed; the PUBLISH inside is not seen."""
    victim = target.somebody()
    topic = f"m/{mallory().user}/out/u/{victim.user}/smuggled"
    inner = publish(topic, "smuggled")
    for data in (
        packet(0xC0, inner), packet(0xE0, inner), packet(0x40, b"\0"), packet(0x40, b"\0\1\0"),
        packet(0x40, b"\0\1" + inner), packet(0x62, b"\0\1" + inner),
        b"\x30\x04\x00\xffab" + inner, b"\x32\x06\x00\x04m/ma" + inner, b"\x82\x06\x00\x01\x00\xffab" + inner,
    ):  # fmt: skip
        assert mallory().send(data).is_cut()
    mallory().send(publish(topic, "honest"))

    assert b"honest" == victim.message()[1]


def test_a_second_connect_is_closed(target, mallory):
    """Row 9: a second CONNECT ends its connection; the session that it names is unharmed."""
    victim, attacker = target.somebody("victim"), mallory()
    attacker.send(connect(victim.user, target.tokens[victim.user], "victim"))

    assert attacker.is_cut()
    assert [] == victim.exchange()


@pytest.mark.parametrize(
    "options", [{"name": "MQTQ"}, {"name": ""}, {"name": "MQIsdp", "level": 3}, *({"level": n} for n in (3, 9, 0x84))]
)
def test_unknown_protocols_are_refused(target, options):
    """Row 10: a wrong protocol name or level is closed, with CONNACK 1 where it is MQTT at all."""
    attacker = target.raw(connect("a", "b", **options))
    answer = attacker.next()

    assert answer in (None, (0x20, b"\x00\x01"))
    assert attacker.is_cut()


@pytest.mark.parametrize(
    "data",
    [
        connect("a", "b", flags=0xC3),
        connect("a", "b", will=("t", "x", 3, False)),
        connect("a", "b", flags=0xCA),
        connect("a", "b", flags=0xE2),
        connect(None, "b"),
        packet(0x10, connect("a", "b")[2:] + b"z"),
        *(packet(0x10, connect("a", "b", will=("t", "x", 0, False))[2 : 2 + cut]) for cut in (0, 1, 7, 9, 11, 13, 20)),
    ],
)
def test_malformed_connects_are_closed(target, data):
    """Row 11, row 14: wrong flags, a CONNECT cut short and one with trailing bytes are closed without an answer."""
    attacker = target.raw(data)

    assert attacker.next() is None
    assert attacker.is_closed


def test_an_empty_client_id_cannot_be_kept(target):
    """Row 12: an empty client id with clean session 0 gets CONNACK 2."""
    attacker = target.raw(connect("a", "b", "", clean=False))

    assert (0x20, b"\x00\x02") == attacker.next()
    assert attacker.is_cut()


def test_bad_strings_cut_nobody_else(target, mallory):
    """Row 13: NUL, control characters and ill-formed UTF-8 anywhere are closed; subscribers stay."""
    observer = target.somebody()
    folder = f"m/{mallory().user}/out/u/{observer.user}/".encode()
    for bad in (b"a\0b", b"a\x01", b"\x7f", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xc2\x85"):
        assert target.raw(connect("a", "b", bad)).is_cut()
        assert target.raw(connect(bad, "b")).is_cut()
        assert target.raw(connect("a", "b", will=(b"t/" + bad, "x", 0, False))).is_cut()
        for data in (publish(folder + bad), publish(b"free/" + bad, qos=1), subscribe(b"free/" + bad)):
            assert mallory().send(data).is_cut()

    assert [] == observer.exchange()


def test_long_names_and_passwords_are_refused(target):
    """Row 15: 64 KiB of user name or password and a length that lies are closed or refused, at once."""
    watch = Stopwatch()
    for data in (connect("u" * 65_535, "t"), connect("u", "p" * 65_535), packet(0x10, connect("u", "t")[2:-1])):
        assert target.raw(data).is_cut()
    assert target.raw().enter("u", "p" * 4097).code in (4, 5)
    assert watch.elapsed_s < 1


@pytest.mark.parametrize(
    "data",
    [
        packet(0x82), packet(0x82, b"\0\1"), subscribe("a", qos=3), subscribe("a", qos=0x81), subscribe("a",
        packet_id=0),
        subscribe(""), packet(0x82, b"\0\1\0\xffab"), packet(0x82, b"\0\1\0\1a"), packet(0xA2), packet(0xA2, b"\0\1"),
        unsubscribe("a", packet_id=0), packet(0xA2, b"\0\1\0\xffa"),
    ],
)  # fmt: skip
def test_malformed_subscribes_are_closed(mallory, data):
    """Row 16: empty, truncated and reserved SUBSCRIBE and UNSUBSCRIBE are closed without an answer."""
    attacker = mallory().send(data)

    assert attacker.next() is None
    assert attacker.is_closed


def test_filters_that_are_none_are_refused(mallory):
    """Row 17: wildcards in wrong places and half shared subscriptions get 0x80, never a plain subscription."""
    filters = ["a/#/b", "a#", "a+/b", "$share//x", "$share/g", "$share/#", "$share/g/", "#", "+/#"]

    assert [0x80] * len(filters) == mallory().granted(*filters)


def test_many_levels_cost_little(mallory):
    """Row 18: 65,400 slashes are refused or closed, 40 hostile filters are answered, within a second."""
    watch = Stopwatch()
    attacker = mallory()
    assert [0x80] == attacker.granted("/" * 65_400)
    assert 40 == len(attacker.granted(*(f"m/{attacker.user}/in/u/" + "+/" * depth + "#" for depth in range(40))))
    attacker.exchange(publish("/" * 65_400))
    assert watch.elapsed_s < 1


def test_filters_have_a_bound(target, mallory):
    """Row 19: 200 of 10,000 filters are granted; a storm of SUBSCRIBE and UNSUBSCRIBE leaves no memory behind."""
    before = target.rss_mb
    attacker = mallory()
    filters = [f"m/{attacker.user}/in/u/peer{number}/#" for number in range(10_000)]
    codes = [code for at in range(0, 10_000, 500) for code in attacker.granted(*filters[at : at + 500])]
    storm = subscribe(filters[0]) + unsubscribe(filters[0])
    answers = []
    for _ in range(5):
        attacker.send(storm * 1_000)
        answers += [attacker.next()[0] for _ in range(2_000)]

    assert (200, 9_800) == (codes.count(1), codes.count(0x80))
    assert (5_000, 5_000) == (answers.count(0x90), answers.count(0xB0))
    assert target.rss_mb - before < 16


def test_a_subscribe_of_a_mebibyte_is_closed(mallory):
    """Row 19: a packet with 200,000 filters would hold everybody up: it is closed, not answered one by one."""
    attacker = mallory().send(packet(0x82, b"\0\1" + b"\0\1a\0" * 200_000))

    assert attacker.next() is None
    assert attacker.is_closed


@pytest.mark.parametrize(
    "data",
    [
        packet(0x36, text("a") + b"\0\1x"), publish("a", qos=1, packet_id=0), publish("a", qos=2, packet_id=0),
        publish(""),
        publish("", qos=1), b"\x30\x00", b"\x32\x00", packet(0x38, text("a")), packet(0x32, text("a")),
        packet(0x32, text("a") + b"\0"), publish("#"), publish("a/+/b"), publish("m/+/out/u/x/1"),
    ],
)  # fmt: skip
def test_malformed_publishes_are_closed(mallory, data):
    """Row 20, row 21: QoS 3, id 0 or none, an empty topic, DUP with QoS 0 and wildcards are closed."""
    attacker = mallory().send(data)

    assert attacker.next() is None
    assert attacker.is_closed


def test_large_messages_are_discarded(target, mallory):
    """Row 22: over 256 KiB is answered 0x85 `limit`, over 1 MiB closed by its length; neither is kept."""
    victim, attacker = target.somebody(), mallory().listen()
    topic = f"m/{attacker.user}/out/u/{victim.user}/"
    before = target.rss_mb
    assert [(0x85, "limit")] == attacker.refusals(publish(topic + "large", b"x" * (262_144 + 1), 1))
    attacker.send(publish(topic + "fits", b"x" * 262_144, 1, 2))
    assert 262_144 == len(victim.message()[1])
    stalling = [mallory(f"s{number}") for number in range(8)]
    for each in stalling:
        each.send(b"\x30" + length(200 * MEGABYTE) + text(topic + "s") + b"x" * 10_000)

    assert all(each.is_cut() for each in stalling)
    assert attacker.send(b"\x30" + length(MEGABYTE + 1)).is_cut()
    assert target.rss_mb - before < 8


def test_qos_2_without_release_is_bounded(target, mallory):
    """Row 23, row 24: one id is one message however often it comes; the 33rd open exchange ends the connection."""
    victim, attacker = target.somebody(), mallory().listen()
    topic = f"m/{attacker.user}/out/u/{victim.user}/"
    before = target.rss_mb
    attacker.exchange(publish(topic + "one", "once", 2, 5) * 3_000)
    attacker.exchange(publish("nowhere", "x") * 20_000)
    attacker.send(b"".join(publish(f"nowhere/{number}", "x", 2, 100 + number) for number in range(5_000)))
    answers = [found[1] for found in iter(attacker.next, None) if found[0] == 0x50]

    assert [number.to_bytes(2, "big") for number in range(100, 131)] == answers
    assert attacker.is_closed
    assert b"once" == victim.message()[1]
    assert victim.message(deadline_s=0.2) is None
    assert target.rss_mb - before < 8


@pytest.mark.parametrize("kind", [0x40, 0x50, 0x62, 0x70])
def test_acknowledgements_of_nothing_are_harmless(target, mallory, kind):
    """Row 25: 65,535 acknowledgements of ids that are not in flight are ignored or answered, and leave nothing."""
    before = target.rss_mb
    attacker = mallory()
    for first in range(0, 65_536, 4_096):
        ids = range(max(1, first), first + 4_096)
        attacker.exchange(b"".join(bytes((kind, 2)) + number.to_bytes(2, "big") for number in ids))

    assert [] == attacker.exchange()
    assert target.rss_mb - before < 4


def test_a_packet_id_in_use_is_a_new_message(target, mallory):
    """Row 26: at QoS 1 a reused packet id with another message is a new one; at QoS 2 it is delivered once."""
    victim, attacker = target.somebody(), mallory().listen()
    topic = f"m/{attacker.user}/out/u/{victim.user}/"
    attacker.send(publish(topic + "p1", "one", 1, 5) + publish(topic + "p2", "two", 1, 5))
    attacker.send(publish(topic + "p3", "three", 2, 6) + publish(topic + "p4", "lost", 2, 6))
    attacker.send(publish(topic + "p5", "end", 1, 7))

    assert [b"one", b"two", b"three", b"end"] == [victim.message()[1] for _ in range(4)]


def test_slow_clients_are_cut(target, mallory):
    """Row 27, row 31: idle, half a CONNECT, one byte now and then, half a packet, silence: each ends in its time."""
    began, watch = time.monotonic(), Stopwatch()
    whole = connect("a", "b" * 100)
    idle, half, dribbling = target.raw(), target.raw(whole[:20]), target.raw()
    halfway = mallory("half", keep=1).send(publish("free", b"x" * 100)[:20])
    silent = mallory("silent", keep=1)
    for byte in whole[:30]:
        dribbling.send(bytes((byte,)))
        time.sleep(0.1)

    assert all(each.is_cut(1.0) for each in (idle, half, dribbling, halfway, silent))
    assert time.monotonic() - began > 1.4
    assert watch.elapsed_s < 4


def test_connections_of_one_address_are_bounded(target):
    """Row 28: the 101st connection of an address is closed at once; others get in as before."""
    target.users("many")
    attackers = [Attacker(target.port, source="127.0.0.99") for _ in range(130)]
    codes = [each.enter("many", target.tokens["many"], f"m{n}").code for n, each in enumerate(attackers[:100])]
    watch = Stopwatch()
    newcomer = target.somebody()

    assert watch.elapsed_s < 1
    assert [0] * 100 == codes  # who is in, stays
    assert all(attacker.is_cut() for attacker in attackers[100:])
    assert not any(attacker.is_cut(0) for attacker in attackers[:100])
    assert [] == newcomer.exchange()
    for attacker in attackers:
        attacker.reset()


def test_who_never_acknowledges_gets_a_window(target, mallory):
    """Row 30: a subscriber that acknowledges nothing gets at most 64 messages; the others wait in the store."""
    victim, attacker = target.somebody(), mallory().listen()
    topic = f"m/{attacker.user}/out/u/{victim.user}/w"
    before = target.rss_mb
    attacker.send(b"".join(publish(f"{topic}{number}", "x" * 20_000, 1, number + 1) for number in range(100)))
    taken, found = 0, 0
    while taken < 100 and (one := attacker.next()) is not None:
        taken += one[0] == 0x40
        attacker._acknowledge(one)
    while (one := victim.next(0.5 if found >= 32 else DEADLINE_S)) is not None:
        found += one[0] & 0xF0 == 0x30

    assert 100 == taken
    assert 32 <= found <= 64
    assert target.rss_mb - before < 16
    assert 100 == target.ask("inbox", address=victim.user)["result"]["messages"]


def test_resets_leave_nothing_open(target, mallory):
    """Row 32: 100 RST in mid-packet, 500 after accept, 50 half-closed sockets leave neither open file nor memory."""
    mallory().close()
    files, memory = target.open_files, target.rss_mb
    for _ in range(500):
        target.raw().reset()
    for _ in range(100):
        mallory("reset").send(publish("free", b"x" * 5_000)[:3_000]).reset()
    half = [mallory(f"half{number}") for number in range(50)]
    for each in half:
        each.socket.shutdown(socket.SHUT_WR)

    assert all(each.is_cut() for each in half)
    assert target.files_left(files) <= files
    assert target.rss_mb - memory < 4


def test_a_flood_is_everybodys_least_trouble(target, mallory):
    """Row 33: megabytes of small packets from one client; a round trip of another stays short (see `innocents`)."""
    victim, attacker = target.somebody(), mallory().listen()
    attacker.socket.settimeout(0.2)
    flood = b"".join(publish(f"m/{attacker.user}/out/u/{victim.user}/f{number}", "x") for number in range(2_000))
    slowest, end = 0.0, time.monotonic() + 1.0
    while time.monotonic() < end and not attacker.is_closed:
        attacker.send(flood)
        watch = Stopwatch()
        victim.exchange()
        slowest = max(slowest, watch.elapsed_s)
    attacker.reset()

    assert slowest < 0.5


def test_what_was_closed_is_told_once_and_without_secrets(target):
    """Rows 1 to 33: the log says who was closed and why, in one line, without what he sent."""
    end, lines = time.monotonic() + 30, []
    while not lines and time.monotonic() < end:  # a log that others have filled for this second stays silent
        attacker = target.somebody("noisy")
        assert attacker.send(packet(0xC0, b"private")).is_cut()
        lines = target.logged(f"user='{attacker.user}'", wait_s=3)

    assert 1 == len(lines)
    assert lines[0].endswith(f"client='noisy' user='{attacker.user}' reason='PINGREQ with a body'")
    assert "private" not in target.log
