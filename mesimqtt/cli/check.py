"""`mesimqtt check`: whether the data is what it promises to be, on a running server and on a stopped folder alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesimqtt.cli.options import NOT_GIVEN, Data, Json
from mesimqtt.cli.output import emit, line, table
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mesimqtt.domain.findings import Finding, Findings
    from mesimqtt.settings import Settings

MARKS = {"ok": "ok", "warning": "?", "failure": "!"}
_SECRET_BYTES = 32


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command(
        "check",
        short_help="Look whether the data is whole and consistent.",
        epilog="Example: mesimqtt check --data /srv/chat",
    )(check)


def check(
    quick: Annotated[
        bool, typer.Option("--quick", help="Only what costs little: pages, schema, sequences, files.")
    ] = False,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Look at the database file, what belongs together, sequences, cursors, statuses, checksums, secret and files.

    It reads beside a running server, which it does not hold up. Exit code 1: something is broken.
    """
    from mesimqtt.cli.gently import gently
    from mesimqtt.domain.findings import Level

    found = gently(lambda: list(_all(data, quick=quick)))
    if json:
        emit({"findings": [as_dict(each) for each in found]})
    else:
        show(found)
    if any(each.level is Level.FAILURE for each in found):
        raise typer.Exit(1)


def show(found: Iterable[Finding]) -> None:
    """Print findings for a person: what was looked at, then what each that matters means and what mends it."""
    from mesimqtt.domain.findings import Level

    found = list(found)
    table(["", "check", "finding"], [[MARKS[each.level], each.check, each.what] for each in found])
    for each in found:
        if each.means and each.level is not Level.OK:
            line(f"{each.check}: that means: {each.means}")
        if each.mend:
            line(f"to mend {each.check}: {each.mend}")


def as_dict(finding: Finding) -> dict[str, Any]:
    """Return a finding for JSON."""
    return {
        "check": finding.check, "level": str(finding.level), "what": finding.what, "means": finding.means,
        "mend": finding.mend,
    }  # fmt: skip


def _all(data: Path, *, quick: bool) -> Findings:
    from mesimqtt.cli.link import no_data
    from mesimqtt.domain.findings import Finding
    from mesimqtt.store.damage import look_at_sum
    from mesimqtt.store.database import FILE_NAME
    from mesimqtt.store.layout import APPS_NAME

    if not (data / FILE_NAME).exists():
        if look_at_sum(data / FILE_NAME) is None:
            raise no_data(data)
        yield from _last_stop(data)
        return
    folders = [data, *sorted(path for path in (data / APPS_NAME).glob("*") if (path / FILE_NAME).exists())]
    for folder in folders:
        name = "" if folder is data else f"{folder.name}: "
        for each in _folder(folder, quick=quick):
            yield Finding(f"{name}{each.check}", each.level, each.what, each.mend, each.means)


def _folder(data: Path, *, quick: bool) -> Findings:
    from mesimqtt.bench.machine import file_system
    from mesimqtt.cli import checks
    from mesimqtt.cli.link import remembered_settings
    from mesimqtt.domain.findings import Finding, Level
    from mesimqtt.settings import Settings

    yield from checks.folder(data)
    yield from _secret(data)
    settings = Settings()
    try:
        settings = remembered_settings(data)
    except MesimqttError as error:
        yield Finding("configuration", Level.WARNING, str(error), "put it back", "the defaults are taken here")
    short = checks.room(data, file_system(data.absolute())[1], settings.store.ballast_bytes)
    yield from short or [Finding("room", Level.OK, f"{checks.free_bytes(data) // 2**20} MiB are free")]
    yield from _last_stop(data)
    yield from _database(data, settings, quick=quick)


def _last_stop(data: Path) -> Findings:
    """Compare the database with what the last stop left, where no server has it and that is known."""
    from mesimqtt.domain.findings import Finding, Level
    from mesimqtt.files import kind_of
    from mesimqtt.store.damage import CHANGED, look_at_sum
    from mesimqtt.store.database import FILE_NAME, is_locked
    from mesimqtt.store.inspection_base import RESTORE

    if kind_of(data / FILE_NAME):  # said already: there is no database to compare
        return
    try:
        became = None if is_locked(data) else look_at_sum(data / FILE_NAME)
        if is_locked(data):  # a server has begun meanwhile
            return
    except OSError as error:
        yield Finding(
            "stop", Level.FAILURE, f"{data / FILE_NAME}: {error.strerror}", "look at the disk", "unknown bytes"
        )
        return
    if became is None:
        return
    if not became:
        yield Finding("stop", Level.OK, "the database is what the last stop left, byte for byte")
        return
    mend = f"look at the disk; {RESTORE}; or, if somebody did that on purpose, start the server once, and check again"
    means = "what was acknowledged may not be in it as it was" if became == CHANGED else "a start begins with no data"
    yield Finding("stop", Level.FAILURE, f"{FILE_NAME} {became}", mend, means)


def _secret(data: Path) -> Findings:
    from mesimqtt.domain.findings import Finding, Level
    from mesimqtt.store.layout import SECRET_NAME

    means = "no token of before lets anybody in"
    mend = f"put {SECRET_NAME} back from a backup, before the next start of the server makes a new one"
    try:
        size = (data / SECRET_NAME).stat().st_size
    except OSError as error:
        yield Finding("secret", Level.FAILURE, f"{data / SECRET_NAME}: {error.strerror}", mend, means)
        return
    if size < _SECRET_BYTES:
        yield Finding("secret", Level.FAILURE, f"{data / SECRET_NAME} has {size} bytes of 32", mend, means)
    else:
        yield Finding("secret", Level.OK, "the secret that signs tokens is there")


def _database(data: Path, settings: Settings, *, quick: bool) -> Findings:
    import contextlib
    import sqlite3
    import time

    from mesimqtt.domain.findings import Finding, Level
    from mesimqtt.store import inspection
    from mesimqtt.store.database import FILE_NAME, is_locked, open_reader
    from mesimqtt.store.inspection_base import RESTORE, View
    from mesimqtt.store.layout import DATABASE_FILES, MOVE_AWAY, irregular_files

    view = View(
        now_ms=int(time.time() * 1000),
        expiry_default_s=settings.messaging.expiry_default_s,
        is_live=is_locked(data),
    )
    try:
        with contextlib.closing(open_reader(data / FILE_NAME)) as connection:
            yield from inspection.inspect(connection, view, quick=quick)
    except sqlite3.Error as error:
        is_irregular = any(path.name in DATABASE_FILES for path, _ in irregular_files(data))
        mend = MOVE_AWAY if is_irregular else RESTORE
        yield Finding("file", Level.FAILURE, f"cannot read {data / FILE_NAME}: {error}", mend, "no server can start")
