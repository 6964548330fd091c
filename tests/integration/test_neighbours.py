"""The neighbours of a trial: what they notice of a real server, and that they do notice."""

from __future__ import annotations

import asyncio
import signal
import time

from mesimqtt.proof.processes.neighbours import FLOOR_MS, Neighbours, Noticed, RunQueue, allowed_ms
from mesimqtt.proof.processes.standstill import is_still
from mesimqtt.proof.processes.wards import until
from mesimqtt.testing.nursery import shared
from mesimqtt.testing.process import Server

STILL_S = 1.0  # far more than twice of what a slow disk takes for a commit


class Stage:
    """What neighbours need of a trial."""

    def __init__(self, server):
        self.server = server
        self.complaints = []
        self.figures = {}

    def complain(self, what):
        self.complaints.append(what)

    def worst(self, name, value):
        self.figures[name] = value

    count = worst


async def stood_still(server):
    """Return what neighbours said of a server that stood still for a while."""
    stage = Stage(server)
    async with Neighbours.of(stage) as neighbours:
        await neighbours.begin()
        server.send_signal(signal.SIGSTOP)
        await until(lambda: is_still(server.pid))
        end = time.monotonic() + STILL_S
        await until(lambda: time.monotonic() > end)
        server.send_signal(signal.SIGCONT)
        await neighbours.judge(is_timed=True)
    return stage


def test_neighbours_notice_a_server_that_is_slow(tmp_path):
    """All of theirs comes, in order; that it came late is complained of, and nothing else."""
    with Server(tmp_path, nursery=shared()) as server:
        stage = asyncio.run(stood_still(server))

    assert [True] == ["with this beside them" in each for each in stage.complaints]
    assert FLOOR_MS < stage.figures["neighbours_p99_ms"] <= stage.figures["neighbours_wall_p99_ms"]
    assert STILL_S * 1000 * 0.9 < stage.figures["neighbours_wall_p99_ms"]
    assert stage.figures["neighbours_messages"] > 0


def test_what_is_allowed_is_twice_of_before_and_never_less_than_can_be_measured():
    """The promise's bound, with the floor that docs/proof.md explains."""
    idle = [Noticed(900.0, p99_ms, 100) for p99_ms in (0.1, FLOOR_MS / 2, FLOOR_MS, 200.0)]

    assert [FLOOR_MS, FLOOR_MS, 2 * FLOOR_MS, 400.0] == [allowed_ms(each) for each in idle]


def test_of_nobody_no_waiting_is_known():
    """Where the kernel does not say how long threads waited for a core, all time is the server's."""
    queue = RunQueue(0)
    queue.look_again()

    assert 0.0 == queue.waited_s() == queue.waited_s()
