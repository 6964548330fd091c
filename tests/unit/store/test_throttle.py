"""Failed logins' rows: at most one a pair, in the clock's time, gone when they mean nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mesimqtt.store.throttle import FailedLogins
from unit.store.desk import NOW_MS


class Rows:
    """The part of a store that is asked, on a committer that a test drives; its two clocks move together."""

    def __init__(self, desk):
        self.desk = desk
        self.seconds = 50.0
        self.committer = desk.committer
        self.read = desk.database.connection()

    def now(self):
        return self.seconds

    def now_ms(self):
        return NOW_MS + round((self.seconds - 50) * 1000)

    def count(self):
        self.desk.commit()
        return self.read.execute("SELECT COUNT(*) FROM failed_login").fetchone()[0]


@pytest.fixture
def rows(desk):
    return Rows(desk)


def test_what_is_kept_is_read_in_another_life(rows):
    """Each window's time comes back relative to the new life's clock, the name with its spaces."""
    FailedLogins(rows).save("eve l", "2001:db8::/64", [140.0, 95.5])
    assert 1 == rows.count()
    rows.seconds += 10
    later = SimpleNamespace(read=rows.read, now=lambda: 7.0, now_ms=rows.now_ms)

    assert [("eve l", "2001:db8::/64", [87.0, 42.5])] == list(FailedLogins(later).load(10))


def test_a_pair_has_one_row(rows):
    """The newest counts; forgetting deletes it."""
    logins = FailedLogins(rows)
    for free_at in (60.0, 70.0, 80.0):
        logins.save("alice", "192.0.2.1", [free_at])
    logins.save("alice", "192.0.2.2", [60.0])
    assert 2 == rows.count()
    assert ("alice", "192.0.2.1", [80.0]) in list(logins.load(10))
    logins.forget("alice", "192.0.2.1")

    assert 1 == rows.count()


def test_what_is_over_is_neither_read_nor_kept(rows):
    """After its last window is free a row is not read; pruning deletes it, and no other."""
    logins = FailedLogins(rows)
    logins.save("alice", "192.0.2.1", [55.0])
    logins.save("bob", "192.0.2.1", [65.0])
    rows.count()
    rows.seconds = 60.0
    assert ["bob"] == [user for user, _, _ in logins.load(10)]
    logins.prune()

    assert 1 == rows.count()
    assert [] == list(logins.load(0))


@pytest.mark.parametrize("text", [b"\xff", "6d,,", "-"])
def test_times_that_damage_has_made_unreadable(rows, text):
    """The others are read: no row keeps a server from its start."""
    logins = FailedLogins(rows)
    logins.save("alice", "192.0.2.1", [60.0])
    logins.save("bob", "192.0.2.1", [65.0])
    rows.count()
    rows.read.execute("UPDATE failed_login SET free_at = ? WHERE user = 'alice'", (text,))

    assert ["bob"] == [user for user, _, _ in logins.load(10)]
