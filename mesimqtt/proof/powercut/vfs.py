"""A disk of ours below the real SQLite: its VFS, by apsw, which is imported in this folder alone."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import apsw

from mesimqtt.proof.powercut.connection import ApswConnection
from mesimqtt.proof.powercut.disk import PowerCut
from mesimqtt.store.database import Database

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.proof.powercut.disk import Disk, File

_numbers = itertools.count(1)
_LOGS = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


class _Quietly:
    """Lets the power go without an exception inside of SQLite: who called it asks the disk afterwards (connection.py).

    From then on nothing is written and nothing is read, whatever SQLite still tries.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is PowerCut


_QUIETLY = _Quietly()


class Vfs(apsw.VFS):
    """SQLite's files on a Disk.

    `fault(what, name, number)` is asked before each operation. It raises what goes wrong (`failure`), or returns
    another number: how many bytes are read, or where they are written.
    """

    def __init__(self, disk: Disk, name: str) -> None:
        self.disk = disk
        self.vfs_name = name
        self.fault: Callable[[str, str, int], int | None] | None = None
        super().__init__(name, "", iVersion=1)

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: ANN401, N802 - apsw's
        """Open or make a file."""
        given = name.filename() if isinstance(name, apsw.URIFilename) else name
        path = self._path(given or f"{self.disk.powered}:temp-{next(_numbers)}")
        if self.fault is not None:
            self.fault("open", path, 0)
        is_log = bool(flags[0] & _LOGS)
        if not path:
            raise apsw.CantOpenError("no power")
        file = self._open(path, create=bool(flags[0] & apsw.SQLITE_OPEN_CREATE), is_log=is_log)
        if file is None:
            raise apsw.CantOpenError(f"no file {path}")
        flags[1] = flags[0]
        return _Handle(self, path, file, is_temporary=bool(flags[0] & apsw.SQLITE_OPEN_DELETEONCLOSE))

    def _open(self, path: str, *, create: bool, is_log: bool) -> File | None:
        with _QUIETLY:
            return self.disk.open(path, create=create, is_log=is_log)
        return None

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - apsw's
        """Remove a file."""
        if self.fault is not None:
            self.fault("delete", filename, 0)
        path = self._path(filename)
        with _QUIETLY:
            if path and not self.disk.delete(path, sync=syncdir):
                raise failure(apsw.SQLITE_IOERR_DELETE_NOENT)

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: ARG002, N802 - apsw's
        """Tell whether there is such a file."""
        return self._path(pathname) in self.disk.files

    def _path(self, name: str) -> str:
        """Return the file that SQLite means; '' if the power is gone, or was since that connection was made.

        Its names begin with the time of power in which they were opened.
        """
        powered, _, path = name.partition(":")
        return "" if self.disk.is_dead or int(powered) != self.disk.powered else path

    def xFullPathname(self, name: str) -> str:  # noqa: N802 - apsw's
        """Return a name as it is."""
        return name


class _Handle:
    """An open file. One that was open when the power went does nothing any more."""

    def __init__(self, vfs: Vfs, name: str, file: File, *, is_temporary: bool) -> None:
        self._vfs, self._disk, self._name, self._file = vfs, vfs.disk, name, file
        self._powered = vfs.disk.powered
        self._is_temporary = is_temporary

    def _is_gone(self) -> bool:
        return self._disk.is_dead or self._powered != self._disk.powered

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - apsw's
        """Return bytes, fewer at the end of the file."""
        if self._is_gone():
            return b""
        if self._vfs.fault is not None:
            shorter = self._vfs.fault("read", self._name, amount)
            amount = amount if shorter is None else shorter
        return bytes(self._file.data[offset : offset + amount])

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: ANN401, N802 - apsw's
        """Write bytes."""
        if self._is_gone():
            return
        if self._vfs.fault is not None:
            moved = self._vfs.fault("write", self._name, offset)
            offset = offset if moved is None else moved
        with _QUIETLY:
            self._disk.write(self._file, bytes(data), offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - apsw's
        """Cut the file off."""
        if self._is_gone():
            return
        if self._vfs.fault is not None:
            self._vfs.fault("truncate", self._name, newsize)
        with _QUIETLY:
            self._disk.truncate(self._file, newsize)

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802 - apsw's
        """Make the file durable."""
        if self._is_gone():
            return
        if self._vfs.fault is not None:
            try:
                self._vfs.fault("sync", self._name, 0)
            except apsw.Error:
                self._file.fail_sync()
                raise
        with _QUIETLY:
            self._disk.sync(self._file)

    def xFileSize(self) -> int:  # noqa: N802 - apsw's
        """Return the size in bytes."""
        return len(self._file.data)

    def xSectorSize(self) -> int:  # noqa: N802 - apsw's
        """Return what SQLite assumes of a file on Linux."""
        return 4096

    def xDeviceCharacteristics(self) -> int:  # noqa: N802 - apsw's
        """Promise what SQLite assumes of a file on Linux: a write harms no bytes beside it, and no more."""
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: ARG002, N802 - apsw's
        """Know of no control."""
        return False

    def xLock(self, level: int) -> None:  # noqa: N802 - apsw's
        """Lock nothing: the data folder has a lock of its own, and there is one connection."""

    def xUnlock(self, level: int) -> None:  # noqa: N802 - apsw's
        """Unlock nothing."""

    def xCheckReservedLock(self) -> bool:  # noqa: N802 - apsw's
        """Know of no other process."""
        return False

    def xClose(self) -> None:  # noqa: N802 - apsw's
        """Close; a temporary file goes."""
        if self._is_temporary and not self._is_gone():
            self._disk.files.pop(self._name, None)


class PowerCutDisk:
    """A data folder's database on a disk that loses power. `close` it when it is not needed any more.

    Give `database(folder)` to the server's Store as its `database`; what else the server keeps in the folder is on the
    real disk. At a cut PowerCut is raised through whatever the server was doing; `cut()` then decides from the seed
    what is left, and the next `database` is opened on it.
    """

    def __init__(self, disk: Disk, chance: random.Random) -> None:
        self.disk = disk
        self._chance = chance
        self.vfs = Vfs(disk, f"powercut-{next(_numbers)}")
        self._connections: list[ApswConnection] = []

    def connect(self, path: Path) -> Any:  # noqa: ANN401 - stands for sqlite3.Connection
        """Open a connection, as `mesimqtt.store.database.connect` does."""
        self.disk.check()
        connection = ApswConnection(f"{self.disk.powered}:{path}", self.vfs.vfs_name, self.disk.check)
        self._connections.append(connection)
        return connection

    def database(self, folder: Path) -> Database:
        """Return the database of a data folder on this disk, not opened yet."""
        return Database(folder, self.connect)

    def cut(self) -> None:
        """Lose the power now; then there is power again, and whatever was open is closed."""
        self._close()
        self.disk.cut(self._chance)

    def close(self) -> None:
        """Give back what SQLite holds of it."""
        self._close()
        with contextlib.suppress(apsw.Error):
            self.vfs.unregister()

    def _close(self) -> None:
        self.disk.is_dead = True  # SQLite would still write, and remove its log
        for connection in self._connections:
            connection.close()
        self._connections.clear()


def failure(code: int) -> Exception:
    """Return an error that SQLite is to be told, by its extended code."""
    error: Any = apsw.exception_for(code & 0xFF)
    error.extendedresult = code
    return error  # type: ignore[no-any-return] # apsw does not type its errors' codes
