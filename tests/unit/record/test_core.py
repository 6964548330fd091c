"""The loop of a recorded server: turned from outside, in one order, at a time that is told."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import pytest

from mesimqtt.record.core import Core
from mesimqtt.record.line import Line
from mesimqtt.record.runners import COMMITTER, Pin


@pytest.fixture
def core():
    made = Core()
    yield made
    made.close()


def test_time_is_what_is_told(core):
    """Timers are due by it, in the order of their times, whatever the machine's clock says."""
    seen = []

    def begin():
        core.call_later(2.0, seen.append, "late")
        core.call_later(1.0, seen.append, "early")
        core.call_soon(seen.append, "soon")

    core.enter(5_000_000, begin)
    core.enter(5_000_000, core.turn)
    assert ["soon"] == seen
    assert 6.0 == core.due_s
    core.enter(7_000_001, core.turn)

    assert ["soon", "early", "late"] == seen
    assert (None, False, 7.000001) == (core.due_s, core.has_ready, core.time())


def test_a_turn_is_one_round(core):
    """What becomes ready within it waits for the next: whoever calls in has his turn between."""
    seen = []

    async def story():
        for n in range(3):
            seen.append(n)
            await asyncio.sleep(0)

    core.enter(0, lambda: core.create_task(story()))
    rounds = []
    while core.has_ready:
        core.enter(0, core.turn)
        rounds.append(list(seen))

    assert [[0], [0, 1], [0, 1, 2], [0, 1, 2]] == rounds[:4]


def test_it_is_the_running_loop_of_who_is_called_in(core):
    """Also where another loop runs; which is the running one again afterwards."""
    found = []

    async def outer():
        core.enter(0, lambda: found.append(asyncio.get_running_loop()))
        return asyncio.get_running_loop()

    other = asyncio.run(outer())

    assert [core] == found
    assert other is not core


def test_other_threads_are_kept_out(core):
    """Their moment could not be had again."""
    errors = []

    def call():
        try:
            core.call_soon_threadsafe(errors.append, None)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()

    assert ["a recorded server takes nothing from a thread that nobody writes down"] == errors


class FakeOutlet:
    """Keeps what a connection was given."""

    def __init__(self):
        self.told = []

    def write(self, number, data):
        self.told.append(data)

    def end_line(self, number, how):
        self.told.append(how)

    def unwritten(self, number):
        return 7

    def read(self, number, *, is_wanted):
        self.told.append(is_wanted)

    def bound(self, number, high, low):
        self.told.append((high, low))


class Echo(asyncio.Protocol):
    """Gives back what it is given; it fails at `fail`."""

    def __init__(self):
        self.lost = 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if data == b"fail":
            raise ValueError("as asked")
        self.transport.write(data)

    def connection_lost(self, exc):
        self.lost += 1


def opened():
    outlet = FakeOutlet()
    line = Line(1, {"peername": ["192.0.2.1", 5], "can_write_eof": True}, outlet, Echo)
    line.opened()
    return line, outlet


def test_a_line_is_a_transport_without_a_socket():
    """What a protocol asks is answered from what was known at the opening, and nothing of it from the socket."""
    line, outlet = opened()
    transport = line.transport
    transport.set_write_buffer_limits(high=10, low=5)
    line.data(b"one")
    transport.pause_reading()
    transport.pause_reading()
    transport.resume_reading()
    transport.write_eof()
    transport.write(b"too late")

    assert [(10, 5), b"one", False, True, "eof"] == outlet.told
    assert (("192.0.2.1", 5), -1, 7) == (
        transport.get_extra_info("peername"), transport.get_extra_info("socket").fileno(),
        transport.get_write_buffer_size(),
    )  # fmt: skip
    assert (False, True, line.protocol) == (transport.is_closing(), transport.can_write_eof(), transport.get_protocol())


def test_a_protocol_that_fails_ends_its_connection_only(caplog):
    """Then as now: it is cut, logged, and told of its end."""
    line, outlet = opened()
    line.data(b"fail")
    line.data(b"after")
    line.lost()

    assert ["abort"] == outlet.told
    assert 1 == line.protocol.lost
    assert "a connection failed" in caplog.text


def test_reads_beside_a_commit_see_what_was_there_before(tmp_path):
    """Until its answer is taken, whenever in between it became visible."""
    path = tmp_path / "db"
    own, other = (sqlite3.connect(path, isolation_level=None) for _ in range(2))
    own.execute("PRAGMA journal_mode = wal")
    own.execute("CREATE TABLE t (n)")
    pin = Pin()
    pin.connection = own
    seen = []
    for name in (COMMITTER, "mesimqtt-reader"):
        pin.hold(name)
        other.execute("INSERT INTO t VALUES (1)")
        seen.append(own.execute("SELECT count(*) FROM t").fetchone()[0])
        pin.release(name)
        seen.append(own.execute("SELECT count(*) FROM t").fetchone()[0])
    own.close()
    other.close()

    assert [0, 1, 2, 2] == seen
