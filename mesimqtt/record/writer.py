"""Writes a recording: a thread of its own, bounded, and whatever happens to it, the server goes on."""

from __future__ import annotations

import logging
import os
import queue
import threading
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.record.tape import MAGIC, Kind, encode, frame, to_json

if TYPE_CHECKING:
    from pathlib import Path

WAITING_BYTES_MAX = 64 * 1024 * 1024  # for a disk that is slower than the clients
END_S = 2.0  # for the disk, at the end

log = logging.getLogger(__name__)


def check_new(path: Path, data: Path) -> None:
    """Raise MesimqttError if there is something at a path already, be it a link that leads nowhere, or it is in `data`.

    A recording begins with a copy of the data folder, and is a secret of its own; what lies there is the server's.
    """
    if path.resolve().is_relative_to(data.resolve()):
        raise MesimqttError(f"{path} lies in the data folder, where no recording belongs: choose another --record")
    if os.path.lexists(path):
        raise MesimqttError(f"{path} exists; a recording is never written over: choose another --record")


class Writer:
    """A recording that is written. `add` takes records, `flush` makes a chunk of them; `is_over`: no more is taken."""

    def __init__(self, path: Path, header: dict[str, Any], *, size_max: int) -> None:
        """Begin a file of mode 0600. Raises MesimqttError if there is one, or it cannot be made."""
        self._path = path
        self._size_max = size_max
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except FileExistsError:
            raise MesimqttError(f"{path} exists; a recording is never written over: choose another --record") from None
        except OSError as error:
            raise MesimqttError(f"cannot record to {path}: {error.strerror}; choose another --record") from None
        self.is_over = False
        self._records: list[bytes] = []
        self._given = self._written = 0
        self._failed = ""
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mesimqtt-recorder", daemon=True)
        self._put(MAGIC + frame(to_json(header)))
        self._thread.start()

    def add(self, kind: Kind, *fields: Any) -> None:  # noqa: ANN401 - what the kind says
        """Take one record."""
        if not self.is_over:
            self._records.append(encode(kind, *fields))

    def flush(self) -> None:
        """Write what came since the last call, as one chunk; end where there is no room for more."""
        if not self._records or self.is_over:
            return
        chunk, self._records = frame(b"".join(self._records)), []
        if self._failed:
            self._stop(f"it cannot be written: {self._failed}")
        elif self._given + len(chunk) > self._size_max:
            self._stop(f"it has reached record.size_max, {self._size_max} bytes")
        elif self._given - self._written > WAITING_BYTES_MAX:
            self._stop("the disk is slower than the clients")
        else:
            self._put(chunk)

    def end(self, reason: str) -> None:
        """End in order: what came is written, and why it ends here."""
        if not self.is_over:
            self._records.append(encode(Kind.ENDED, 0, reason))
            self.flush()
            self._close()

    def _stop(self, reason: str) -> None:
        log.warning("the recording %s ends here, the server goes on: %s", self._path, reason)
        if not self._failed:
            self._put(frame(encode(Kind.ENDED, 0, reason)))
        self._close()

    def _close(self) -> None:
        self.is_over = True
        self._records.clear()
        self._queue.put(None)

    def join(self) -> None:
        """Wait a little until it is on its way to the disk."""
        if not self.is_over:
            self.end("the server was stopped")
        self._thread.join(END_S)

    def _put(self, chunk: bytes) -> None:
        self._given += len(chunk)
        self._queue.put(chunk)

    def _work(self) -> None:
        while (chunk := self._queue.get()) is not None:
            view = memoryview(chunk)
            try:
                while view and not self._failed:
                    view = view[os.write(self._descriptor, view) :]
            except OSError as error:
                self._failed = error.strerror or str(error)
            self._written += len(chunk)
        os.close(self._descriptor)
