"""The schema of the migrations is that of the models, and a file is migrated in whole steps or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import sqlite3
from pathlib import Path

import pytest
from peewee import SqliteDatabase

from mesimqtt.domain.errors import StoreError
from mesimqtt.store import integrity, migrations, model_base, models
from mesimqtt.store.migrations import MIGRATIONS, VERSION
from unit.store.rows import memory

STATEMENTS = [statement for statements in MIGRATIONS for statement in statements]
# What each version does to data of the one before. Such data exists: what else the schema needs is a new version.
DONE = (
    "29cb9ea89a9295ede0b3ad96f033bad3",
    "f8e4b32a193ce5fcd31e4715d4415678",
    "74c11dff48bd17b4f748dfb5f5da979b",
    "b53f874b0da2193febe82bfa25d87c5c",
)
ONLY_SQL = {  # models know no WHERE
    "user_expires_at": "few users have an end of their own",
    "message_deadline": "the sweep's index holds the few rows that have a deadline",
    "group_expires_at": "holds the few groups that end at a time",
    "lane_ended": "holds the few lanes of which something is still to be withdrawn",
    "message_edits": "holds the few that are edits",
    "message_age": "holds the few that disappear",
    "message_priority": "holds the few with a priority",
    "scheduled_due": "holds what still waits",
    "message_aside": "holds the few that are nothing to be read: events, edits, recalls, and what is recalled",
}


def columns_of(connection):
    """Return name, type, NOT NULL and place in the key of every column of every table."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {
        table: sorted(
            (name, kind, needed or bool(key), key)
            for _, name, kind, needed, _, key in connection.execute(f'PRAGMA table_info("{table}")')
        )
        for (table,) in tables
    }


def indexes_of(connection):
    """Return table, uniqueness, partiality and columns of every index, and what kind of table it stands on."""
    found = {}
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for _, name, unique, origin, partial in connection.execute(f'PRAGMA index_list("{table}")').fetchall():
            columns = [row[2] for row in connection.execute(f'PRAGMA index_info("{name}")')]
            found[name if origin == "c" else (table, origin)] = (table, unique, partial, columns)
    return found


def tables_without_rowid(connection):
    return {row[1] for row in connection.execute("PRAGMA table_list") if row[4]}


@pytest.fixture
def modelled():
    """A database made from the models alone."""
    database = SqliteDatabase(":memory:")
    with database.bind_ctx(models.TABLES):
        database.create_tables(models.TABLES)
        yield database.connection()
    database.close()


def test_every_table_is_listed():
    """Each model of the package is in TABLES, so that the comparison below leaves none out."""
    for path in Path(models.__file__).parent.glob("models*.py"):
        importlib.import_module(f"mesimqtt.store.{path.stem}")

    assert set(model_base.Table.__subclasses__()) == set(models.TABLES)


def test_models_and_migrations_have_the_same_tables(modelled):
    """Tables, columns, types, NOT NULL, keys and WITHOUT ROWID are the same on both ways."""
    migrated = memory()

    assert columns_of(modelled) == columns_of(migrated)
    assert tables_without_rowid(modelled) == tables_without_rowid(migrated)


def test_models_and_migrations_have_the_same_indexes(modelled):
    """Indexes are the same, but for those that only SQL can say."""
    migrated = indexes_of(memory())

    assert indexes_of(modelled) == {name: index for name, index in migrated.items() if name not in ONLY_SQL}
    assert set(ONLY_SQL) <= set(migrated)


def test_what_was_done_to_data_is_not_changed_afterwards():
    """The statements of every version are those that data of it was made by; new ones are a new version."""
    made = tuple(hashlib.sha256("\n".join(statements).encode()).hexdigest()[:32] for statements in MIGRATIONS)

    assert DONE == made


def test_nothing_becomes_the_newest_version():
    """An empty file gets all tables and the version."""
    connection = memory()

    assert (VERSION,) == connection.execute("PRAGMA user_version").fetchone()
    assert {model._meta.table_name for model in models.TABLES} == set(columns_of(connection))


def test_migrating_again_changes_nothing(tmp_path):
    """A file of the newest version is left as it is."""
    connection = sqlite3.connect(tmp_path / "x", isolation_level=None)
    migrations.migrate(connection, tmp_path)
    before = connection.execute("SELECT sql FROM sqlite_master").fetchall()
    changes = connection.total_changes
    migrations.migrate(connection, tmp_path)

    assert (before, changes) == (
        connection.execute("SELECT sql FROM sqlite_master").fetchall(),
        connection.total_changes,
    )
    connection.close()


class Interrupted:
    """A connection that fails before its n-th statement; `way` says how."""

    def __init__(self, connection, at, way):
        self._connection = connection
        self._left = at
        self._way = way

    def create_function(self, *function, **options):
        self._connection.create_function(*function, **options)

    def execute(self, sql, *values):
        if self._left == 0:
            self._left = -1
            if self._way == "crash":
                self._connection.close()  # what a dying process leaves: no ROLLBACK, no COMMIT
            raise KeyboardInterrupt
        self._left -= 1
        return self._connection.execute(sql, *values)


def columns_at(version):
    """Return the columns of a file of an older version."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    integrity.prepare(connection)
    for statement in (each for statements in MIGRATIONS[:version] for each in statements):
        connection.execute(statement)
    return columns_of(connection)


@pytest.mark.parametrize("way", ["raise", "crash"])
def test_an_interrupted_migration_leaves_old_or_new(tmp_path, way):
    """Stopped before any statement, the file is of one version or of the next, and the next start completes it."""
    wanted = columns_of(memory())
    legal = [(version, columns_at(version)) for version in range(VERSION + 1)]
    for number in range(len(STATEMENTS) + 3 * VERSION + 1):
        path = tmp_path / f"{number}.db"
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        with contextlib.suppress(KeyboardInterrupt):
            migrations.migrate(Interrupted(connection, number, way), path)
        connection.close()
        again = sqlite3.connect(path, isolation_level=None)
        again.execute("PRAGMA synchronous = OFF")
        version, found = again.execute("PRAGMA user_version").fetchone()[0], columns_of(again)

        assert (version, found) in legal, f"stopped before statement {number}"
        migrations.migrate(again, path)

        assert wanted == columns_of(again)
        again.close()


def test_the_log_says_that_data_is_brought_up_to_date(caplog):
    """Who starts a newer program reads which version his data was of; data that is new says nothing."""
    caplog.set_level("INFO")
    connection = sqlite3.connect(":memory:", isolation_level=None)
    integrity.prepare(connection)
    for statement in MIGRATIONS[0]:
        connection.execute(statement)
    connection.execute("PRAGMA user_version = 1")
    migrations.migrate(connection, Path("file.db"))
    migrations.migrate(connection, Path("file.db"))
    memory()

    assert [f"store: the data is of version 1 and is brought to {VERSION}"] == caplog.messages


def test_newer_data_is_refused():
    """A file of a later version is not touched, and the text says what to do."""
    connection = memory()
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StoreError, match="install a newer mesimqtt"):
        migrations.migrate(connection, Path("file.db"))

    assert (VERSION + 1,) == connection.execute("PRAGMA user_version").fetchone()
