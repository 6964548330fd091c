"""Where log lines go: standard error, or a file that rolls. A thread writes them: a slow disk holds up nobody."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from collections.abc import Callable

END_S = 2.0  # at the end, for what is not written yet


class Sink(Protocol):
    """Takes whole lines."""

    def write(self, line: str) -> None:
        """Write one line, which ends with a newline. Raises OSError or ValueError: it is not written."""

    def reopen(self) -> None:
        """Open it again under its name, which may be another file's now."""


class Stream:
    """Standard error, or what stands for it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Write one line."""
        self._stream.write(line)
        self._stream.flush()

    def reopen(self) -> None:
        """Do nothing: whoever reads it has it open."""


class RollingFile:
    """A file of mode 0600. Before it would exceed `size_max` bytes it becomes FILE.1, that one FILE.2, and so on.

    `files` is how many there are at most, the one that is written among them.
    """

    def __init__(self, path: Path, *, size_max: int, files: int) -> None:
        """Open it. Raises MesimqttError, whose text says what to do."""
        self._path = path
        self._size_max = size_max
        self._files = max(files, 1)
        self._descriptor = -1
        self._size = 0
        self._rolls = True
        self._is_torn = False  # the last line is not whole: the disk was full
        try:
            self._open()
        except OSError as error:
            raise MesimqttError(f"log.file: cannot write {path}: {error.strerror}; choose another") from None

    def write(self, line: str) -> None:
        """Write one line; a full disk may leave half of it, after which the next begins a line of its own."""
        data = line.encode("utf-8", "backslashreplace")
        if self._descriptor < 0:
            self._open()
        if self._rolls and self._size and self._size + len(data) > self._size_max:
            self._roll()
        if self._is_torn:
            data = b"\n" + data
        written = os.write(self._descriptor, data)
        self._size += written
        self._is_torn = written < len(data)
        if self._is_torn:
            raise OSError(28, "No space left on device")

    def reopen(self) -> None:
        """Open the file again: logrotate has given it another name."""
        self._close()
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe would be waited for
        try:
            self._descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            raise OSError(errno.ENXIO, "nobody reads this pipe") from None
        os.set_blocking(self._descriptor, True)
        found = os.fstat(self._descriptor)
        self._size = found.st_size
        self._rolls = stat.S_ISREG(found.st_mode)  # a pipe or /dev/null keeps its name

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _roll(self) -> None:
        self._close()
        for number in range(self._files - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._named(number - 1).replace(self._named(number))
        if self._files == 1:
            self._path.unlink(missing_ok=True)
        self._is_torn = False
        self._open()

    def _named(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


class WritingHandler(logging.Handler):
    """Hands formatted lines to a thread. At most `waiting_max` wait for it; what comes above is dropped, and counted.

    A line that cannot be written goes to `spare`, standard error; once lines can be written again, the log tells how
    many are missing in it.
    """

    def __init__(self, sink: Sink, *, waiting_max: int, spare: Sink | None = None) -> None:
        super().__init__()
        self._sink = sink
        self._spare = spare
        self._waiting_max = waiting_max
        self._waiting: deque[str] = deque()
        self._news = threading.Condition()
        self._dropped = 0
        self._is_busy = self._is_over = self._is_reopened = False
        self._failure = ""
        self._missing = 0  # lines that only `spare` was given, since the sink could last be written
        self._thread = threading.Thread(target=self._work, name="mesimqtt-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record: it is formatted here and now, for what it tells of may change."""
        try:
            line = self.format(record) + "\n"
        except Exception:  # noqa: BLE001 - logging's own way with a record that cannot be formatted
            self.handleError(record)
            return
        with self._news:
            if len(self._waiting) >= self._waiting_max:
                self._dropped += 1
                return
            self._waiting.append(line)
            self._news.notify()

    def reopen(self) -> None:
        """Open the file again before the next line is written. From any thread."""
        with self._news:
            self._is_reopened = True
            self._news.notify()

    def flush(self) -> None:
        """Wait until all that was given is written, or END_S have passed."""
        with self._news:
            self._news.wait_for(lambda: not self._waiting and not self._is_busy, END_S)

    def close(self) -> None:
        """Write what waits, as far as that takes no longer than END_S, and end the thread."""
        with self._news:
            self._is_over = True
            self._news.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(END_S)
        super().close()

    def _work(self) -> None:
        while True:
            with self._news:
                self._is_busy = False
                self._news.notify_all()
                self._news.wait_for(lambda: self._waiting or self._is_over or self._is_reopened)
                lines, dropped = list(self._waiting), self._dropped
                is_reopened, self._is_reopened = self._is_reopened, False
                self._waiting.clear()
                self._dropped = 0
                self._is_busy = True
                if self._is_over and not lines:
                    return
            if is_reopened:
                self._try(self._sink.reopen)
            for line in lines:
                self._write(line)
            if dropped:
                self._tell(f"{dropped} lines are missing here: more came than could be written")

    def _write(self, line: str) -> None:
        if self._try(lambda: self._sink.write(line)):
            if self._missing:
                missing, self._missing = self._missing, 0
                self._failure = ""
                self._tell(f"{missing} lines are missing here, they went to standard error: it could not be written")
            return
        self._missing += 1
        if self._spare is not None:
            with contextlib.suppress(OSError, ValueError):
                self._spare.write(line)

    def _try(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except (OSError, ValueError) as error:  # ValueError: a stream that is closed
            reason = getattr(error, "strerror", None) or str(error)
            if reason != self._failure and self._spare is not None:
                self._failure = reason
                with contextlib.suppress(OSError, ValueError):
                    self._spare.write(f"the log cannot be written ({reason}); until it can, its lines come here\n")
            return False
        return True

    def _tell(self, text: str) -> None:
        record = logging.LogRecord("mesimqtt.log", logging.WARNING, __file__, 0, text, None, None)
        self._write(self.format(record) + "\n")
