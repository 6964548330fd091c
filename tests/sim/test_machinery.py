"""What the simulation is made of: its loop, its links and its disk do what they say."""

from __future__ import annotations

import asyncio
from contextlib import closing
from random import Random

import pytest

from mesimqtt.proof.sim.disk import Disk, DiskRunner
from mesimqtt.proof.sim.link import Link, Weather
from mesimqtt.proof.sim.loop import VirtualLoop
from mesimqtt.proof.sim.run import run_in
from mesimqtt.proof.sim.world import DAY_S, START_S, SimWorld, Wall


class Heard:
    """A client, or a server's protocol, that writes down what it is told."""

    def __init__(self):
        self.data = b""
        self.is_over = False
        self.transport = None
        self.paused = []

    def received(self, data, written_ms):
        self.data += data
        self.written_ms = written_ms

    def ended(self, link):
        self.is_over = True

    def protocol(self):
        return self

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(high=1_000, low=250)

    def data_received(self, data):
        self.data += data

    def connection_lost(self, _reason):
        self.is_over = True

    def pause_writing(self):
        self.paused.append(True)

    def resume_writing(self):
        self.paused.append(False)


@pytest.fixture
def loop():
    """A loop that is closed afterwards."""
    with closing(VirtualLoop(Random(1))) as one:
        yield one


def linked(loop):
    """Return a link, its client and its server."""
    client, server = Heard(), Heard()
    link = Link(loop, Random(1), Weather(), 1, client)
    link.open(server, "192.0.2.1")
    return link, client, server


def wait(loop, seconds):
    """Let virtual time pass."""
    loop.run_until_complete(asyncio.sleep(seconds))


def test_time_jumps_and_is_exact(loop):
    """An hour passes at once, timers come in their order, and at the millisecond that they asked for."""
    found = []
    for delay_s in (3_600.0, 0.25, 0.0301):
        loop.call_later(delay_s, lambda: found.append(loop.ms))
    wait(loop, 3_700)

    assert [31, 250, 3_600_000] == found


def test_what_is_due_at_once_runs_in_the_order_of_the_seed():
    """Ten things of one millisecond: another order for another seed, the same for the same."""

    def order(seed):
        found = []
        with closing(VirtualLoop(Random(seed))) as loop:
            for number in range(10):
                loop.post(5, lambda number=number: found.append(number))
            wait(loop, 1)
        return found

    assert list(range(10)) == sorted(order(1))
    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_loop_with_nothing_to_come_says_so(loop):
    """A deadlock is an error, not a run that never ends."""
    task = loop.create_task(asyncio.Event().wait())
    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        loop.run_until_complete(task)
    task.cancel()
    wait(loop, 1)

    assert task.cancelled()


def test_a_callback_that_fails_is_kept(loop):
    """An exception in what came from outside ends nothing, and is found afterwards."""
    loop.post(1, lambda: 1 / 0)
    wait(loop, 1)

    assert 1 == len(loop.errors)
    assert "ZeroDivisionError" in loop.errors[0]


def test_bytes_arrive_in_order_and_later(loop):
    """Both ways, whole, after a latency, however they were cut into reads."""
    link, client, server = linked(loop)
    for number in range(50):
        link.send(b"%d " % number)
        server.transport.write(b"%d " % number)
    assert (b"", b"") == (client.data, server.data)
    wait(loop, 1)

    assert client.data == server.data == b"".join(b"%d " % number for number in range(50))


def test_a_cut_loses_what_is_in_flight(loop):
    """Nothing more arrives; who is to notice notices, and the other does not."""
    for told, expected in (("both", (True, True)), ("client", (True, False)), ("server", (False, True))):
        link, client, server = linked(loop)
        link.send(b"lost")
        server.transport.write(b"lost")
        link.cut(told=told)
        wait(loop, 10)

        assert (b"", b"", expected) == (client.data, server.data, (client.is_over, server.is_over))


def test_a_stalled_link_tells_nobody_and_heals(loop):
    """Nothing moves and nobody hears of it; what waited comes when it is over."""
    link, client, server = linked(loop)
    link.stall()
    link.send(b"up")
    server.transport.write(b"down")
    wait(loop, 100)
    assert (b"", b"", False, False) == (client.data, server.data, client.is_over, server.is_over)
    link.heal()
    wait(loop, 1)

    assert (b"down", b"up") == (client.data, server.data)


def test_who_does_not_read_makes_the_server_wait(loop):
    """A socket takes 16 KiB, then the transport holds, and says when it is too much and when it is little again."""
    link, client, server = linked(loop)
    link.read(on=False)
    for _ in range(20):
        server.transport.write(b"x" * 1_000)
    wait(loop, 1)
    assert (b"", [True]) == (client.data, server.paused)
    assert server.transport.get_write_buffer_size() > 1_000
    link.read(on=True)
    wait(loop, 1)

    assert (20_000, [True, False], 0) == (len(client.data), server.paused, server.transport.get_write_buffer_size())


def test_last_words_are_read(loop):
    """What the server wrote before it closed is read before the end."""
    _, client, server = linked(loop)
    server.transport.write(b"bye")
    server.transport.close()
    wait(loop, 1)

    assert (b"bye", True, True) == (client.data, client.is_over, server.is_over)


def test_a_dead_disk_answers_nothing(loop):
    """Jobs are done one after the other; after a kill none is begun, and none is answered."""
    done = []
    runner = DiskRunner(loop, Random(1), Disk(hiccup=0.0))
    for number in range(3):
        runner.submit(lambda number=number: done.append(f"work {number}"), lambda number=number: done.append(number))
    wait(loop, 1)
    assert [0, 1, 2] == [each for each in done if isinstance(each, int)]
    assert ["work 0", "work 1", "work 2"] == [each for each in done if isinstance(each, str)]
    runner.submit(lambda: done.append("late"), lambda: done.append("late"))
    runner.kill()
    wait(loop, 1)

    assert "late" not in done


def test_the_wall_clock_jumps_and_stands_still(loop):
    """A day ahead, frozen, and right again: the loop's time goes on."""
    wall = Wall(loop)
    wall.jump(DAY_S)
    assert START_S + DAY_S == wall.now_s()
    wall.jump(0.0)
    wall.freeze(on=True)
    wait(loop, 10)
    assert START_S == wall.now_s()
    wall.freeze(on=False)

    assert START_S + 10 == wall.now_s()


def test_a_file_that_a_server_leaves_open_is_named(tmp_path):
    """What else the process has open meanwhile is not the server's."""
    world = SimWorld(1, tmp_path / "data")
    opened = []

    async def story():
        world.start()
        opened.append((world.server.folder / "forgotten").open("w"))
        opened.append((tmp_path / "other").open("w"))

    complaints = run_in(world, story())
    for file in opened:
        file.close()

    assert ["left over: forgotten is left open"] == complaints
