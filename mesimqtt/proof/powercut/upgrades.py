"""The trial `upgrades`: the power goes after every change of the disk while data of an older version is opened."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import StoreError
from mesimqtt.proof.powercut import jobs
from mesimqtt.proof.powercut.disk import Disk, PowerCut
from mesimqtt.proof.powercut.jobs import Done
from mesimqtt.store import integrity, mending
from mesimqtt.store.database import APPLICATION_ID
from mesimqtt.store.migrations import MIGRATIONS, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.proof.powercut.vfs import PowerCutDisk
    from mesimqtt.proof.trial import Outcome

_PER_JOB = 50  # cuts
_MESSAGES = 60
_LETTERS = {
    "queued": """SELECT 1 FROM queued WHERE released = 0
        AND checksum <> letter_checksum(topic, payload, properties, qos, expires_at, session_id, n)""",
    "retained": """SELECT 1 FROM retained
        WHERE checksum <> letter_checksum(topic, payload, properties, qos, expires_at, 0, 0)""",
}
_TABLES = ("user", "conversation", "lane", "message", "cid", "step", "device", "cursor")


class Upgrades:
    """Opens data of every older version, and of none, with a cut one change later each time."""

    name = "upgrades"
    title = "the power goes at any moment of an upgrade: the data is of the old version or the new one, and all there"
    promises = ("P17",)
    unit = "power cuts"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Cut `count` upgrades, beginning with number `seed`; then look that newer data is refused."""
        return jobs.run(self.name, work, count, _PER_JOB, seed=seed, folder=folder, progress=progress)


def work(seed: int, tries: int, folder: Path) -> Done:
    """Cut so many upgrades in turn, the first of which is number `seed` of all."""
    found = refuses_newer(folder)
    figures = dict.fromkeys(("left_as_old", "left_as_new"), 0.0)
    for number in range(seed, seed + tries):
        version, change = place_of(number, folder)
        failures, left = cut_upgrade(version, change, number, folder)
        found += [f"from version {version}, after change {change}: {each}" for each in failures]
        figures["left_as_new" if left == VERSION else "left_as_old"] += 1
    return Done(seed, tries, found, figures)


def place_of(number: int, folder: Path) -> tuple[int, int]:
    """Return from which version, and after which change, number `number` is; after the last one they begin anew."""
    lengths = [length_of(version, folder) for version in range(VERSION)]
    number = (number - 1) % sum(lengths)
    for version, length in enumerate(lengths):
        if number < length:
            return version, number + 1
        number -= length
    raise AssertionError(number)


@lru_cache(maxsize=2 * VERSION)
def length_of(version: int, folder: Path) -> int:
    """Return at how many changes of the disk an upgrade from a version is over."""
    power = _power(old_data(version, folder).fork(), 0)
    before = power.disk.changes
    database = power.database(folder)
    database.open()
    length = power.disk.changes - before
    database.close()
    power.close()
    return length


def cut_upgrade(version: int, change: int, seed: int, folder: Path) -> tuple[list[str], int]:
    """Cut one upgrade; return what is not as promised afterwards, and the version that the cut left."""
    power = _power(old_data(version, folder).fork(), seed)
    power.disk.cut_at = power.disk.changes + change
    database = power.database(folder)
    try:
        database.open()
    except PowerCut:
        power.cut()
    database.close()
    left, found = _look(power, version, folder)
    found = found or _completed(power, version, folder)
    power.close()
    return found, left


def _completed(power: PowerCutDisk, version: int, folder: Path) -> list[str]:
    """Open what a cut has left; return what is wrong with it once the upgrade is complete."""
    database = power.database(folder)
    database.open()
    connection = database.connection()
    found = []
    if (schema := schema_of(connection)) != legal(VERSION, folder):
        found.append(f"completed it is another schema: {sorted(schema ^ legal(VERSION, folder))[:1]!r:.150}")
    if version and rows_of(connection) != rows_of_version(version, folder):
        found.append("rows are missing or changed")
    found += [f"message {mid:016x} does not hold" for mid, _ in integrity.damaged_messages(connection)]
    found += [f"a row of {table} does not hold" for table, _ in mending.survey(connection)]
    found += [f"{table}: one does not hold" for table, sql in _LETTERS.items() if connection.execute(sql).fetchall()]
    found += [row for (row,) in connection.execute("PRAGMA integrity_check").fetchall() if row != "ok"]
    database.close()
    return found


def _look(power: PowerCutDisk, version: int, folder: Path) -> tuple[int, list[str]]:
    """Look at what a cut has left, on a copy: its version, and whether it is wholly of that one."""
    copy = _power(power.disk.fork(), 0)
    connection = copy.connect(folder / "mesimqtt.db")
    left = int(connection.execute("PRAGMA user_version").fetchone()[0])
    schema = schema_of(connection)
    connection.close()
    copy.close()
    if left < version:
        return left, [f"left as version {left}"]
    return left, [] if schema == legal(left, folder) else [f"left between versions: {left}"]


def refuses_newer(folder: Path) -> list[str]:
    """Return what is wrong with how data of a later version is met: it is refused and not touched."""
    power = _power(old_data(VERSION, folder).fork(), 0)
    connection = power.connect(folder / "mesimqtt.db")
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = {name: bytes(file.data) for name, file in power.disk.files.items()}
    database, found = power.database(folder), []
    try:
        database.open()
    except StoreError as error:
        found = [] if "install a newer mesimqtt" in str(error) else [f"newer data is refused with: {error}"]
    else:
        found = ["newer data is opened"]
    database.close()
    power.close()
    after = {name: bytes(file.data) for name, file in power.disk.files.items()}
    return found if before == after else [*found, "newer data was touched"]


# ---- data of older versions ------------------------------------------------------------------------------------------


@lru_cache(maxsize=2 * (VERSION + 1))
def old_data(version: int, folder: Path) -> Disk:
    """Return a disk with data as a server of that version left it; of version 0 there is none."""
    power = _power(Disk(), 0)
    if version:
        connection = power.connect(folder / "mesimqtt.db")
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        integrity.prepare(connection)
        for number, statements in enumerate(MIGRATIONS[:version], 1):
            for statement in statements:
                connection.execute(statement)
            if number == 1:
                _fill(connection)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.close()
    power.disk.settle()
    power.close()
    power.disk.is_dead = False
    return power.disk


def _fill(connection: Any) -> None:  # noqa: ANN401 - stands for sqlite3.Connection
    """Write what two people said, as version 1 kept it."""
    chance = random.Random(1)
    rows: dict[str, list[tuple[Any, ...]]] = {
        "user": [(number, name, 1, 0, "{}") for number, name in enumerate(("alice", "bob"), 1)],
        "conversation": [(1, 0, 1, 2, _MESSAGES)],
        "lane": [(1, user, 0, None, 10, "", 10, "", 5, "", "", "", 0) for user in (1, 2)],
        "device": [(1, 2, "phone", 0, 0, 0, 1, 0, "{}", 0, 0)],
        "cursor": [(1, 1, 10, "12-14")],
        "step": [(1, 1, 1, 2, 1, _MESSAGES, 1, 0, "", "")],
        "cid": [(1, f"c{seq}", seq, b"digest") for seq in range(1, _MESSAGES + 1)],
        "message": [
            (seq, 1, seq, 0, 1, "phone", f"c{seq}", 1000 + seq, 10**13, None, 3, "type=1" * (seq % 2),
             chance.randbytes(chance.choice((5, 300, 6000))))
            for seq in range(1, _MESSAGES + 1)
        ],
        "session": [(1, "bob", "lock", 3, 0)],
        "queued": [(1, n, b"free/door", chance.randbytes(50), 1, n % 2) for n in (1, 2)],
        "retained": [("free/state", b"open", 1)],
    }  # fmt: skip
    for table, values in rows.items():
        connection.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(values[0]))})", values)  # noqa: S608 - ours


def rows_of(connection: Any) -> dict[str, list[Any]]:  # noqa: ANN401 - stands for sqlite3.Connection
    """Return what an upgrade must not change: the columns of version 1."""
    found = {}
    for table in _TABLES:
        columns = ", ".join(f'"{name}"' for name in _columns_of_1(table))
        found[table] = connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3").fetchall()  # noqa: S608 - ours
    return found


@lru_cache(maxsize=2 * VERSION)
def rows_of_version(version: int, folder: Path) -> dict[str, list[Any]]:
    """Return what data of a version holds before its upgrade."""
    power = _power(old_data(version, folder).fork(), 0)
    found = rows_of(power.connect(folder / "mesimqtt.db"))
    power.close()
    return found


@lru_cache(maxsize=len(_TABLES))
def _columns_of_1(table: str) -> list[str]:
    statement = next(each for each in MIGRATIONS[0] if each.split("(")[0].split()[-1].strip('"') == table)
    names = [part.split()[0] for part in statement.partition("(")[2].split(",")]
    return [name for name in names if name.islower()]


def schema_of(connection: Any) -> set[tuple[str, ...]]:  # noqa: ANN401 - stands for sqlite3.Connection
    """Return the schema as SQLite keeps it."""
    return {tuple(map(str, row)) for row in connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()}


@lru_cache(maxsize=2 * (VERSION + 1))
def legal(version: int, folder: Path) -> set[tuple[str, ...]]:
    """Return the schema of a version."""
    power = _power(old_data(version, folder).fork(), 0)
    found = schema_of(power.connect(folder / "mesimqtt.db"))
    power.close()
    return found


def _power(disk: Disk, seed: int) -> PowerCutDisk:
    from mesimqtt.proof.powercut.vfs import PowerCutDisk  # noqa: PLC0415 - needs apsw

    return PowerCutDisk(disk, random.Random(seed))
