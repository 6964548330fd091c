"""The log's file: it rolls, it is opened again, and neither a slow nor a full disk holds up the server."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

import pytest

from mesimqtt.cli.log_file import RollingFile, WritingHandler
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from pathlib import Path


class FakeSink:
    """Keeps lines; writes nothing while `error` is set, and waits while `is_open` is not."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.reopened = 0
        self.error: OSError | None = None
        self.is_open = threading.Event()
        self.is_open.set()

    def write(self, line: str) -> None:
        self.is_open.wait(60)
        if self.error is not None:
            raise self.error
        self.lines.append(line.rstrip("\n"))

    def reopen(self) -> None:
        self.reopened += 1


def say(handler: WritingHandler, *texts: str) -> None:
    for text in texts:
        handler.emit(logging.LogRecord("x", logging.INFO, __file__, 0, text, None, None))


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_a_file_rolls_at_its_size(tmp_path):
    """The newest is FILE, then FILE.1; there are never more than `files`, and each is for its owner alone."""
    rolling = RollingFile(tmp_path / "log", size_max=20, files=3)
    for n in range(8):
        rolling.write(f"line {n:04}\n")

    assert {
        "log": "line 0006\nline 0007\n",
        "log.1": "line 0004\nline 0005\n",
        "log.2": "line 0002\nline 0003\n",
    } == texts(tmp_path)
    assert {0o600} == {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}


def test_a_line_larger_than_a_file_has_one_of_its_own(tmp_path):
    """It is not cut; and one file alone begins anew."""
    rolling = RollingFile(tmp_path / "log", size_max=10, files=1)
    for line in ("short\n", "a line that is longer than that\n", "short\n"):
        rolling.write(line)

    assert {"log": "short\n"} == texts(tmp_path)


def test_what_is_there_is_kept(tmp_path):
    """A restart goes on in the same file."""
    (tmp_path / "log").write_text("before\n")
    RollingFile(tmp_path / "log", size_max=1000, files=2).write("after\n")

    assert {"log": "before\nafter\n"} == texts(tmp_path)


def test_logrotate_takes_the_file_away(tmp_path):
    """After `reopen` lines go to a new file under the old name."""
    rolling = RollingFile(tmp_path / "log", size_max=1000, files=2)
    rolling.write("one\n")
    (tmp_path / "log").rename(tmp_path / "taken")
    rolling.write("two\n")
    rolling.reopen()
    rolling.write("three\n")

    assert {"log": "three\n", "taken": "one\ntwo\n"} == texts(tmp_path)


def test_a_file_that_cannot_be_made_is_told_at_the_start(tmp_path):
    """In one sentence, before anything listens."""
    with pytest.raises(MesimqttError, match=r"log\.file: cannot write .*No such file or directory; choose another"):
        RollingFile(tmp_path / "nowhere" / "log", size_max=1, files=1)


def test_a_full_disk_is_an_error_each_time_and_no_more(tmp_path):
    """The next line is tried as if nothing had happened."""
    rolling = RollingFile(tmp_path / "log", size_max=1000, files=2)
    full = RollingFile(type(tmp_path)("/dev/full"), size_max=10**9, files=1)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            full.write("line\n")
    rolling.write("line\n")

    assert {"log": "line\n"} == texts(tmp_path)


def test_lines_go_out_in_their_order_and_all_of_them_at_the_end():
    """`close` writes what waits."""
    sink = FakeSink()
    handler = WritingHandler(sink, waiting_max=1000)
    say(handler, *(f"{n}" for n in range(500)))
    handler.close()

    assert [f"{n}" for n in range(500)] == sink.lines


def test_who_logs_never_waits_for_the_disk():
    """Above the bound lines are dropped and counted, and the log says how many it lacks."""
    sink = FakeSink()
    sink.is_open.clear()
    handler = WritingHandler(sink, waiting_max=10)
    say(handler, "first")
    while handler._waiting:  # the thread has taken it, and hangs in it
        threading.Event().wait(0.001)
    say(handler, *(f"{n}" for n in range(25)))
    sink.is_open.set()
    handler.close()

    missing = "15 lines are missing here: more came than could be written"
    assert sorted(["first", *(f"{n}" for n in range(10)), missing]) == sorted(sink.lines)


def test_lines_that_cannot_be_written_go_to_standard_error():
    """Said once; and once the file takes lines again, it says what it lacks."""
    sink, spare = FakeSink(), FakeSink()
    handler = WritingHandler(sink, waiting_max=100, spare=spare)
    sink.error = OSError(28, "No space left on device")
    say(handler, "one", "two")
    handler.flush()
    sink.error = None
    say(handler, "three")
    handler.close()

    assert [
        "the log cannot be written (No space left on device); until it can, its lines come here", "one", "two",
    ] == spare.lines  # fmt: skip
    assert ["three", "2 lines are missing here, they went to standard error: it could not be written"] == sink.lines


def test_it_is_opened_again_by_its_own_thread():
    """SIGHUP's handler does not touch the disk."""
    sink = FakeSink()
    handler = WritingHandler(sink, waiting_max=100)
    handler.reopen()
    say(handler, "after")
    handler.close()

    assert (1, ["after"]) == (sink.reopened, sink.lines)


def test_a_pipe_in_place_of_the_file(tmp_path):
    """One that nobody reads is refused at once, and not waited for; one that is read has the lines."""
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    with pytest.raises(MesimqttError, match=r"log\.file: cannot write .*: nobody reads this pipe; choose another"):
        RollingFile(pipe, size_max=100, files=2)

    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    RollingFile(pipe, size_max=5, files=2).write("hello\n")
    file = RollingFile(pipe, size_max=5, files=2)
    file.write("again\n")
    file.write("once more\n")
    assert b"hello\nagain\nonce more\n" == os.read(reader, 100)
    assert [pipe] == list(tmp_path.iterdir())  # it is never given another name
    os.close(reader)
