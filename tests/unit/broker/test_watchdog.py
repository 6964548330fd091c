"""The watchdog of the event loop, look by look: a loop that hangs is told of, a machine that stood still is not."""

from __future__ import annotations

import logging

import pytest

from mesimqtt.broker.watchdog import Watchdog

BEAT_S, BLOCKED_S = 0.25, 0.2
PAUSE_S = BLOCKED_S / 2


class Looks:
    """The clock of a watchdog, and the event that ends it: how much time passes before each of its looks."""

    def __init__(self, *passed):
        self.now = 1_000.0
        self._passed = list(passed)

    def wait(self, _pause_s):
        if not self._passed:
            return True
        self.now += self._passed.pop(0)
        return False


@pytest.mark.parametrize(
    ("passed", "told"),
    [
        ([PAUSE_S] * 4, 0),
        ([PAUSE_S] * 5, 2),
        ([2.0], 0),
        ([2.0, *[PAUSE_S] * 4], 0),
        ([2.0, *[PAUSE_S] * 5], 2),
        ([PAUSE_S, 2.0, PAUSE_S, 2.0, *[PAUSE_S] * 4], 0),
    ],
    ids=["late", "hangs", "asleep", "awake and late", "awake and hangs", "asleep again and again"],
)
def test_a_machine_that_stood_still_gives_the_loop_its_time_anew(caplog, passed, told):
    """After SIGSTOP the watchdog may run before the loop does: that is no reason to blame anybody."""
    looks = Looks(*passed)
    dog = Watchdog({}, beat_s=BEAT_S, blocked_s=BLOCKED_S, clock=lambda: looks.now)
    dog._is_over = looks
    with caplog.at_level(logging.WARNING):
        dog._watch()

    assert told == len(caplog.records)
