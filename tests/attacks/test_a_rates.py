"""Section A and B: who sends, asks, connects or guesses too often; on a server with limits that a test can reach."""

from __future__ import annotations

import contextlib
import time

import pytest

from attacks.attacker import PINGREQ, Attacker, connect, publish, subscribe, unsubscribe
from attacks.target import Target
from stopwatch import Stopwatch, threads_of

WRONG = "wrong"
LIMITS = [
    ("limits:\n", "limits:\n  stalled_s: 1.0\n"),
    ('publishes: "10:30000"', 'publishes: "1:5000"'),
    ('requests: "10:25000"', 'requests: "10:5000"'),
    ('connects: "30:600"', 'connects: "10:50"'),
]


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A server like the target's, with narrower windows."""
    server = Target(tmp_path_factory.mktemp("strict"), *LIMITS)
    yield server
    assert 0 == server.stop()
    assert "Traceback" not in server.log


def guess(server, user, token=WRONG, source="127.0.0.50", client_id="x"):
    """Try to log in from one address; return the CONNACK's code."""
    return Attacker(server.port, source=source).enter(user, token, client_id).code


def counters(server):
    return server.ask("stats")["result"]["counters"]


def cpu_s(server):
    spent = 0
    for each in threads_of(server.process.pid):
        with contextlib.suppress(OSError):  # it has ended
            spent += int((each / "schedstat").read_text().split()[0])
    return spent / 1e9


def test_a_fast_publisher_is_read_more_slowly(strict):
    """Row 33: 10,000 tiny PUBLISH at once take as long as their window says; none is lost, nobody else waits."""
    attacker, other = strict.somebody(), strict.somebody()
    began, watch = time.monotonic(), Stopwatch()
    attacker.send(publish("free/x", "x", 1, 7) * 10_000)
    assert [] == other.exchange()
    assert watch.elapsed_s < 0.5
    acknowledged = 0
    while acknowledged < 10_000 and (found := attacker.next()) is not None:
        acknowledged += found[0] == 0x40

    assert 10_000 == acknowledged
    assert time.monotonic() - began > 0.5  # a second, less what is taken at once
    assert counters(strict)["publishes.held"] >= 1


@pytest.mark.parametrize("storm", [PINGREQ, subscribe("m/x/in/#") + unsubscribe("m/x/in/#")])
def test_a_storm_of_requests_is_closed(strict, storm):
    """Row 33, row 19: 50,000 PINGREQ or SUBSCRIBE whose answers nobody reads: closed, told once, nothing kept."""
    attacker, other = strict.somebody("stormy"), strict.somebody()
    before = strict.rss_mb
    attacker.socket.settimeout(5)
    attacker.send(storm * 50_000)

    assert attacker.is_cut()
    assert [] == other.exchange()
    assert strict.rss_mb - before < 8
    assert 1 == len(strict.logged(f"client='stormy' user='{attacker.user}' reason='too many requests'"))


def test_messages_beyond_the_rate_are_refused(strict):
    """Contract section 7: 200 messages at once; the next ones get 0x8C and the seconds to wait, and are not stored."""
    attacker, victim = strict.somebody(), strict.somebody()
    topic = f"m/{attacker.user}/out/u/{victim.user}/r"
    answers, began = [], time.monotonic()
    attacker.send(b"".join(publish(f"{topic}{number}", "x", 1, number + 1) for number in range(300)))
    while len(answers) < 300:
        status = attacker.status()
        answers += [status["status"]] if status["status"] != 2 else []
        assert status["status"] != 0x8C or status["retry_after"] == 1

    took_s = time.monotonic() - began
    assert 200 <= answers.count(1) <= max(230, 200 + 60 * took_s)  # 60 a second come on top
    assert 300 == answers.count(1) + answers.count(0x8C)
    assert all(victim.message() is not None for _ in range(answers.count(1)))
    assert victim.message(deadline_s=0.2) is None


def test_a_take_over_flood_is_slowed(strict):
    """Row 58: one client id again and again: the last one stays; beyond the rate nobody gets in."""
    name = strict.somebody("one").user
    files = strict.open_files
    began = time.monotonic()
    flood = []
    while len(flood) < 80 or (not any(each.code for each in flood) and len(flood) < 500):
        flood.append(strict.raw().enter(name, strict.tokens[name], "one", clean=False))
    took_s = time.monotonic() - began
    codes = [each.code for each in flood]
    last = flood[max(number for number, code in enumerate(codes) if not code)]

    assert {0, 3} == set(codes)
    assert 49 <= codes.count(0) <= max(60, 50 + 5 * took_s)
    assert [] == last.exchange()
    assert all(each.is_cut() for each in flood if each is not last)
    assert strict.files_left(files + 1) <= files + 1
    assert [] == strict.somebody().exchange()


def test_guessing_ends_after_ten(target):
    """Row 57, row 104: 600 failed logins with fresh ids: ten are looked at, nothing grows; elsewhere he gets in."""
    victim = target.somebody()
    name, token = victim.user, target.tokens[victim.user]
    files, memory, lines = target.open_files, target.rss_mb, target.log.count("\n")
    codes = {guess(target, name, f"wrong{number}", client_id=f"fresh{number}") for number in range(600)}

    assert {5} == codes
    assert 5 == guess(target, name, token)
    assert 0 == guess(target, name, token, source="127.0.0.51")
    assert target.files_left(files + 2) <= files + 2
    assert target.rss_mb - memory < 4
    assert target.log.count("\n") - lines <= 30  # DEBUG lines of the operator's own questions among them
    assert 1 == len(target.logged("throttled: ", f"user='{name}'"))


def test_a_refusal_does_not_say_who_exists(target):
    """Row 103, at the door: twelve tries for a user, a disabled one and a made-up name get the same bytes."""
    known, disabled = target.somebody().user, target.somebody().user
    target.ask("user_disable", addresses=[disabled])
    answers = set()
    for name in (known, disabled, "made-up", "#", "x" * 63):
        heard = []
        for number in range(12):
            attacker = Attacker(target.port, source="127.0.0.60").send(connect(name, "wrong", f"c{number}"))
            heard.append((attacker.next(), attacker.is_cut()))
        answers.add(tuple(heard))

    assert {(((0x20, b"\x00\x05"), True),) * 12} == answers


def test_a_restart_does_not_help_the_guesser(tmp_path):
    """Row 57: who was throttled before a restart is throttled after it; elsewhere a good token lets in."""
    before = Target(tmp_path)
    before.users("alice")
    assert {5} == {guess(before, "alice", client_id=f"c{number}") for number in range(12)}
    assert 0 == before.stop()
    after = Target(tmp_path)
    after.tokens = before.tokens
    try:
        assert 5 == guess(after, "alice", after.tokens["alice"])
        assert 0 == guess(after, "alice", after.tokens["alice"], source="127.0.0.51")
        assert after.logged("throttled: ")
    finally:
        assert 0 == after.stop()


def test_throttled_guesses_cost_little(target):
    """Row 67: 2,000 guesses beyond the tenth cost less than the connections as such; no token is parsed."""
    user = target.somebody().user
    token = "eyJhbGciOiJIUzI1NiJ9." + "a" * 3_900 + ".c"
    for _ in range(12):
        guess(target, user, token, "127.0.0.52")
    guessed, closed = connect(user, token, "guess"), b"\xe0\x00"  # the second is closed by its first byte
    spent = {guessed: 0.0, closed: 0.0}
    for data in (guessed, closed) * 20:  # in turn: the innocents cost something meanwhile, on a busy machine for longer
        began = cpu_s(target)
        for _ in range(50):
            attacker = Attacker(target.port, source="127.0.0.52").send(data)
            while attacker.next() is not None:
                pass
        spent[data] += cpu_s(target) - began

    assert spent[guessed] < 2 * spent[closed] + 0.1


def test_silence_is_bounded_whatever_is_asked_for(tmp_path):
    """Row 31: keep alive 0 and 65,535 are treated as the server's own longest; who pings stays."""
    server = Target(tmp_path, ("limits:\n", "limits:\n  keep_alive_max_s: 1\n"))
    try:
        silent = [server.somebody("never", keep=0), server.somebody("late", keep=65_535)]
        alive = server.somebody("alive", keep=0)
        began, watch = time.monotonic(), Stopwatch()
        while watch.elapsed_s < 4 and not all(each.is_cut(0) for each in silent):
            assert [] == alive.exchange()
            time.sleep(0.2)

        assert all(each.is_closed for each in silent)
        assert time.monotonic() - began > 1.4
        assert [] == alive.exchange()
        assert not alive.is_closed
    finally:
        assert 0 == server.stop()


def test_who_does_not_read_is_cut(strict):
    """Row 29: 20 MB for a subscriber that never reads: bounded, cut in time; others have their messages in order."""
    silent, other, friend = strict.somebody("silent"), strict.somebody("other"), strict.somebody("friend")
    memory = strict.rss_mb
    large, peers, got = b"x" * 200_000, (silent, other), []
    for number in range(100):
        topics = [f"m/{friend.user}/out/u/{peer.user}/{peer.user}-{number}" for peer in peers]
        friend.send(publish(topics[0], large, 1, number + 1) + publish(topics[1], b"%d" % number, 1, number + 200))
        got.append(other.message()[1])
    grown = strict.rss_mb - memory

    assert [b"%d" % number for number in range(100)] == got
    assert grown < 64
    assert 1 == len(strict.logged(f"client='silent' user='{silent.user}' reason='does not read'"))
    assert 100 == strict.ask("inbox", address=silent.user)["result"]["messages"]
