"""Connections end when their identity does, by a clock that never jumps."""

from __future__ import annotations

from dataclasses import replace

from mesimqtt.broker.endings import Endings
from mesimqtt.hooks import Identity


class Connection:
    """What is looked at of a connection."""

    def __init__(self, expires_at):
        self.identity = Identity("alice", expires_at=expires_at)
        self.closed = None

    def close(self, reason, code):
        self.closed = (reason, code)


class Clocks:
    """A clock that counts and one on the wall."""

    def __init__(self):
        self.monotonic, self.wall = 100.0, 1_000_000.0
        self.endings = Endings(lambda: self.monotonic, lambda: self.wall)

    def enter(self, *expires_in):
        made = [Connection(self.wall + seconds if seconds else 0.0) for seconds in expires_in]
        for connection in made:
            self.endings.connected(connection)
        return made

    def turn(self, seconds):
        self.monotonic += seconds
        self.wall += seconds
        self.endings.tick(self.monotonic)


def test_each_ends_at_its_time():
    """Not before, and who has no end stays."""
    clocks = Clocks()
    soon, late, never = clocks.enter(10, 20, 0)
    clocks.turn(9.9)
    assert [None] * 3 == [each.closed for each in (soon, late, never)]
    clocks.turn(0.2)
    assert [("token expired", 0x87), None, None] == [each.closed for each in (soon, late, never)]
    clocks.turn(100)
    assert [("token expired", 0x87), None] == [late.closed, never.closed]


def test_a_wall_clock_that_jumps_ends_nobody():
    """A day more or less on the wall changes nothing for who is connected."""
    clocks = Clocks()
    (connection,) = clocks.enter(60)
    clocks.wall += 86_400
    clocks.turn(59)

    assert connection.closed is None


def test_who_was_authenticated_anew_has_another_end():
    """A fresh token moves the end, to later or sooner; one without an end takes it away, the first with one sets it."""
    clocks = Clocks()
    renewed, freed, shortened, bound = everyone = clocks.enter(10, 10, 60, 0)
    for connection, seconds in ((renewed, 30), (freed, None), (shortened, 5), (bound, 5)):
        expires_at = 0.0 if seconds is None else clocks.wall + seconds
        connection.identity = replace(connection.identity, expires_at=expires_at)
        clocks.endings.connected(connection)
    over = ("token expired", 0x87)
    clocks.turn(4)
    assert [None] * 4 == [each.closed for each in everyone]
    clocks.turn(7)
    assert [None, None, over, over] == [each.closed for each in everyone]
    clocks.turn(20)
    assert [over, None, over, over] == [each.closed for each in everyone]


def test_who_is_gone_is_forgotten():
    """Nothing is kept of a connection that has ended."""
    clocks = Clocks()
    (connection,) = clocks.enter(10)
    clocks.endings.disconnected(connection)
    clocks.turn(11)

    assert connection.closed is None
    assert {} == clocks.endings._ends
