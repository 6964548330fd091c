"""The committer, woken while a commit runs: what is sealed only at its next start must not wait for somebody else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from mesimqtt.store.committer import Committer
from mesimqtt.store.migrations import migrate

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.store.batch import Batch

NOTE = "INSERT INTO retained (topic, payload, qos) VALUES (?, x'', 0)"


class SlowRunner:
    """Holds each commit until the test lets it end."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], None], Callable[[], None]]] = []

    def submit(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        self.jobs.append((work, done))

    def close(self, last: Callable[[], None]) -> None:
        last()

    def end_commit(self) -> None:
        work, done = self.jobs.pop(0)
        work()
        done()


class OneConnection:
    """Stands for the database: a single connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def connection(self) -> sqlite3.Connection:
        return self._connection

    def topics(self) -> list[str]:
        return [row[0] for row in self._connection.execute("SELECT topic FROM retained ORDER BY topic")]


@pytest.fixture
def database(tmp_path: Path) -> OneConnection:
    import sqlite3

    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, tmp_path)
    return OneConnection(connection)


def test_a_wake_during_a_commit_is_not_forgotten(database: OneConnection) -> None:
    """What came while a commit ran, and stands in no batch before it is sealed, goes into the next one at once."""
    runner, unsealed = SlowRunner(), []
    committer = Committer(
        database,
        runner,
        schedule=lambda call: call(),
        on_fatal=pytest.fail,
        batch_max=10,
        now=time.monotonic,
    )

    def seal(batch: Batch) -> None:
        batch.rows += [(NOTE, (topic,)) for topic in unsealed]
        unsealed.clear()

    committer.on_seal = seal
    committer.row(NOTE, "first")
    committer.wake()
    unsealed.append("acknowledged meanwhile")
    committer.wake()
    assert not committer.is_idle
    runner.end_commit()
    assert 1 == len(runner.jobs)
    runner.end_commit()

    assert ["acknowledged meanwhile", "first"] == database.topics()
    assert committer.is_idle
