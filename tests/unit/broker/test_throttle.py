"""The throttle at the door: failed logins by name and address, connections by user and address."""

from __future__ import annotations

import base64
import logging
from dataclasses import replace

import pytest

from mesimqtt.broker.gate import Gate
from mesimqtt.broker.sessions import Sessions
from mesimqtt.broker.throttle import PAIRS_MAX, Throttle, Throttled
from mesimqtt.hooks import ConnectRequest, Identity, Refusal
from mesimqtt.settings import Rates


class Tokens:
    """An auth plugin that knows one password, and counts how often it had to look at one."""

    def __init__(self):
        self.asked = 0
        self.is_broken = False

    def check_connect(self, request):
        self.asked += 1
        if self.is_broken:
            raise OSError("no disk")
        return Identity(user=request.username) if request.password == b"right" else Refusal(5, "wrong")


class Rows:
    """Keeps failed logins as a store would."""

    def __init__(self):
        self.kept = {}
        self.pruned = 0

    def load(self, limit):
        return ((user, address, list(free_at)) for (user, address), free_at in list(self.kept.items())[:limit])

    def save(self, user, address, free_at):
        self.kept[user, address] = list(free_at)

    def forget(self, user, address):
        self.kept.pop((user, address), None)

    def prune(self):
        self.pruned += 1


class Door:
    """A gate with a throttle before it."""

    def __init__(self, rows=None, **rates):
        self.now = 1000.0
        self.tokens = Tokens()
        self.rows = rows or Rows()
        self.throttle = Throttle(replace(Rates(), **rates), self.rows, self.now)
        self.gate = Gate(
            [self.tokens], [], root="m", sessions=Sessions(), notify_denied=lambda *_: None,
            clock=lambda: self.now, wake=lambda: None, throttle=self.throttle,
        )  # fmt: skip

    def enter(self, user="alice", password=b"wrong", address="192.0.2.1", client_id="x"):
        request = ConnectRequest(client_id, user, password, True, 4, address, "default")
        verdict = self.gate.authenticate(None, request)
        return 0 if isinstance(verdict, Identity) else (verdict.code, verdict.reason_code)


THROTTLED, WRONG, BUSY = (5, 0x9F), (5, 0), (3, 0x9F)


def test_after_ten_failed_logins_no_password_is_looked_at():
    """The eleventh is refused unseen, whatever it brings; a slot comes back after a tenth of the quarter hour."""
    door = Door()
    first = [door.enter(client_id=f"c{number}") for number in range(10)]
    flood = {door.enter(client_id=f"d{number}", password=b"right") for number in range(1_000)}

    assert [WRONG] * 10 == first
    assert {THROTTLED} == flood
    assert 10 == door.tokens.asked
    door.now += 90
    assert [WRONG, THROTTLED] == [door.enter(), door.enter()]
    door.now += 90
    assert 0 == door.enter(password=b"right")


def test_the_victim_gets_in_from_elsewhere():
    """The throttle is of a name from an address: neither other addresses nor other names are locked out."""
    door = Door()
    for _ in range(20):
        door.enter()

    assert 0 == door.enter(password=b"right", address="192.0.2.2")
    assert 0 == door.enter("bob", b"right")
    assert THROTTLED == door.enter(password=b"right")


def test_a_name_that_does_not_exist_is_throttled_alike():
    """What an attacker sees says nothing about users: names, made up or not, get the same answers in the same order."""
    door = Door()
    answers = {tuple(door.enter(name) for _ in range(12)) for name in ("alice", "nobody", "", "x" * 5_000)}

    assert {(WRONG,) * 10 + (THROTTLED,) * 2} == answers
    assert THROTTLED == door.enter(None)  # no name and an empty one are the same


@pytest.mark.parametrize("segment", ["bm8ganNvbg", "W10", "eyJzdWIiOiA3fQ", "!", "", "W" * 4_000])
def test_without_a_name_the_one_that_the_token_claims_counts(segment):
    """Bad tokens of one nameless client lock out neither other nameless ones nor, if they claim nobody, named ones."""
    door = Door()
    mallory, bob = (b"h.%b.s" % base64.urlsafe_b64encode(b'{"sub":"%b"}' % name) for name in (b"mallory", b"bob"))
    for _ in range(20):
        door.enter(None, mallory)
        door.enter(None, b"h.%b.s" % segment.encode())

    assert THROTTLED == door.enter("mallory") == door.enter(None, mallory) == door.enter("")
    assert WRONG == door.enter(None, bob) == door.enter("bob")


def test_one_household_of_ipv6_is_one_address():
    """A /64 is what one customer has: its addresses are counted together; an IPv4 address is itself however told."""
    door = Door()
    for number in range(10):
        door.enter(address=f"2001:db8::{number:x}")
        door.enter("bob", address="::ffff:192.0.2.9")

    assert THROTTLED == door.enter(address="2001:db8::ffff")
    assert WRONG == door.enter(address="2001:db8:0:1::1")
    assert THROTTLED == door.enter("bob", address="192.0.2.9")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.9.9.9", "unix"])
def test_this_machine_is_left_out_unless_configured(address):
    """By default a first try on one's own machine cannot lock anybody out; a Unix socket never has addresses."""
    lenient, strict = Door(), Door(loopback=True)
    for _ in range(30):
        lenient.enter(address=address)
        strict.enter(address=address)

    assert 0 == lenient.enter(password=b"right", address=address)
    assert (0 if address == "unix" else THROTTLED) == strict.enter(password=b"right", address=address)


def test_a_success_wipes_the_slate():
    """Who gets in has ten tries again."""
    door = Door()
    for _ in range(5):
        assert [WRONG] * 9 == [door.enter() for _ in range(9)]
        assert 0 == door.enter(password=b"right")


def test_a_broken_plugin_is_not_the_clients_fault():
    """What a plugin could not decide counts as no failed login."""
    door = Door()
    door.tokens.is_broken = True
    for _ in range(50):
        door.enter()
    door.tokens.is_broken = False

    assert 0 == door.enter(password=b"right")


def test_off_is_off():
    """`failed_logins: ""` lets everybody try for ever."""
    door = Door(failed_logins="")

    assert {WRONG} == {door.enter() for _ in range(500)}
    assert 0 == door.enter(password=b"right")


def test_memory_and_rows_are_bounded():
    """A hundred thousand made-up names leave a bounded number of pairs, and rows at a bounded pace."""
    door = Door()
    for number in range(30_000):
        door.enter(f"name{number}")
    door.gate.tick(door.now)

    assert len(door.throttle._failed) == PAIRS_MAX
    assert len(door.throttle._unsaved) <= PAIRS_MAX
    assert len(door.rows.kept) <= 50


def test_a_restart_forgets_nothing():
    """What was counted before counts after, also where the names hold a space; a success deletes its row."""
    door = Door()
    for _ in range(10):
        door.enter("eve l", address="2001:db8::1")
        door.enter("bob")
    door.throttle.save()
    again = Door(door.rows)

    assert (THROTTLED, THROTTLED) == (again.enter("eve l", address="2001:db8::2"), again.enter("bob", b"right"))
    again.now += 90
    assert 0 == again.enter("bob", b"right")
    again.gate.tick(again.now)
    assert [("eve l", "2001:db8::/64")] == list(again.rows.kept)


def test_old_rows_are_pruned_only_where_there_are_some():
    """A server on which nobody fails writes nothing."""
    door = Door()
    for _ in range(10):
        door.now += 100
        door.gate.tick(door.now)
    assert 0 == door.rows.pruned
    door.enter()
    for _ in range(10):
        door.now += 100
        door.gate.tick(door.now)

    assert 1 == door.rows.pruned


def test_one_line_a_minute(caplog):
    """A flood at the door is one line a minute in the log, without the password."""
    door = Door()
    with caplog.at_level(logging.WARNING, "mesimqtt.audit"):
        for _ in range(10):
            door.enter()
            door.now += 1
        caplog.clear()
        for _ in range(100):
            door.enter(password=b"secret-guess")
        door.now += 61
        door.enter(password=b"secret-guess")

    assert 2 == len(caplog.records)
    assert all("too many failed logins" in record.getMessage() for record in caplog.records)
    assert "secret-guess" not in caplog.text


def test_connections_of_an_address_are_counted_before_anything_else():
    """Too many CONNECTs of one address are refused unseen, for whatever user."""
    door = Door(connects_per_address="1:3")
    verdicts = [door.enter(f"user{number}", b"right") for number in range(5)]

    assert [0, 0, 0, BUSY, BUSY] == verdicts
    assert 3 == door.tokens.asked
    assert 0 == door.enter("bob", b"right", "192.0.2.2")


def test_connections_of_a_user_are_counted_after_the_token():
    """A user who connects too often waits, from wherever he comes; nobody else can use up what is his."""
    door = Door(connects="10:2")
    for _ in range(5):
        door.enter(password=b"wrong", address="192.0.2.66")
    verdicts = [door.enter(password=b"right", address=f"192.0.2.{number}") for number in range(3)]

    assert [0, 0, BUSY] == verdicts
    door.now += 5
    assert 0 == door.enter(password=b"right")


def test_a_throttled_connect_says_what_a_client_may_know():
    """The refusal carries 5 for 3.1.1 and 0x9F for 5.0; the reason goes to the log alone."""
    door = Door()
    for _ in range(10):
        door.enter()
    request = ConnectRequest("x", "alice", b"right", True, 5, "192.0.2.1", "default")
    refusal = door.gate.authenticate(None, request)

    assert isinstance(refusal, Throttled)
    assert (5, 0x9F) == (refusal.code, refusal.reason_code)
