"""`mesimqtt backup` and `restore`: a copy of everything while the server runs, proved to be whole, and put back."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesimqtt.cli.check import as_dict, show
from mesimqtt.cli.options import NOT_GIVEN, Data, Json
from mesimqtt.cli.output import emit, line, tell

if TYPE_CHECKING:
    from mesimqtt.backup.take import Taken
    from mesimqtt.domain.findings import Finding


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command(
        "backup",
        short_help="Copy everything, also while the server runs.",
        epilog="Example: mesimqtt backup /mnt/backups --keep 14 --data /var/lib/mesimqtt",
    )(backup)
    root.command(
        "restore",
        short_help="Put a backup into an empty folder, or prove that it is whole.",
        epilog="Example: mesimqtt restore /mnt/backups --data /var/lib/mesimqtt",
    )(restore)


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where backups are kept; each gets a folder in it.")],
    keep: Annotated[
        int | None, typer.Option("--keep", metavar="N", min=1, help="Remove older backups of this server above N.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read it back and look at everything before it counts.")
    ] = False,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Make DIR/TIME, a copy of the data at this moment: database, token secret, keys, configuration, applications.

    It reads beside a running server, which goes on accepting and is not held up. Nothing is ever overwritten, and an
    interrupted backup leaves none. Whoever has it can read every message and sign tokens: keep it as you keep the data.
    Exit code 1 of --verify: it was made and is what the data is, but the data is damaged.
    """
    from mesimqtt.backup.take import take
    from mesimqtt.cli.gently import gently
    from mesimqtt.domain.findings import Level

    taken = gently(lambda: take(data, folder, keep=keep or 0, prove=_prove if verify else None))
    if json:
        emit(_as_dict(taken))
    else:
        _show(taken)
    if verify and any(each.level is Level.FAILURE for each in taken.already):
        raise typer.Exit(1)


def _show(taken: Taken) -> None:
    for note in taken.notes:
        tell(f"mesimqtt: {note}")
    _say_already(taken.already, "the data is in the backup as it is; look at it: mesimqtt check")
    for each in taken.removed:
        line(f"removed {each}")
    facts = taken.manifest.folders[0].facts
    size = sum(each.bytes for each in taken.manifest.files)
    line(f"{taken.path}  {facts.users} users, {facts.messages} messages, {size / 2**20:.1f} MiB")


def _as_dict(taken: Taken) -> dict[str, Any]:
    return {
        "path": str(taken.path),
        "time_ms": taken.manifest.time_ms,
        "bytes": sum(each.bytes for each in taken.manifest.files),
        "folders": [{"path": each.path, **each.facts._asdict()} for each in taken.manifest.folders],
        "notes": list(taken.notes),
        "already": [as_dict(each) for each in taken.already],
        "removed": [str(each) for each in taken.removed],
    }


def _say_already(found: tuple[Finding, ...], then: str) -> None:
    """Say what the content of a backup was like before it was copied."""
    for each in found:
        tell(f"mesimqtt: {each.check}: {each.what}: {each.means}")
    if found:
        tell(f"mesimqtt: {then}")


def _prove(made: Path) -> tuple[Finding, ...]:
    from mesimqtt.backup.verify import verify

    looked = verify(made)
    looked.check_written("what was copied is not whole, so it was not kept; look at the data: mesimqtt check")
    return looked.already


def restore(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A backup, or a folder of backups, of which the newest is taken.")
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Only prove that it is whole; nothing is restored or changed.")
    ] = False,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Put a backup into an empty data folder, after proving that it is whole; never over existing data.

    What was accepted after the backup was made is not in it, and what was acknowledged since comes once more with the
    same mid. What was damaged before the backup was made is put back as it was, and said. Exit code 1 of --verify: it
    is not whole.
    """
    from mesimqtt.backup import shelf

    found = shelf.find(folder)
    if verify:
        _verified(found, json=json)
        return
    _restore(found, data, json=json)


def _verified(found: Path, *, json: bool) -> None:
    from mesimqtt.backup.verify import verify
    from mesimqtt.cli.gently import gently
    from mesimqtt.domain.findings import Level

    looked = gently(lambda: verify(found))
    findings = [*looked.unlike, *looked.content]
    is_written = all(each.level is not Level.FAILURE for each in looked.unlike)
    if json:
        said = [as_dict(each) for each in findings]
        emit({"backup": str(found), "whole": looked.is_whole, "restorable": is_written, "findings": said})
    else:
        show(findings)
        line(
            f"{found} is whole"
            if looked.is_whole
            else f"{found} is what was written, but the data was damaged already: restore puts it back as it was"
            if is_written
            else f"{found} is NOT whole: do not rely on it"
        )
    if not looked.is_whole:
        raise typer.Exit(1)


def _restore(found: Path, data: Path, *, json: bool) -> None:
    import os
    import time

    from mesimqtt.backup.restore import restore as put_back

    before = os.umask(0o077)
    try:
        done = put_back(found, data, now_ms=int(time.time() * 1000))
    finally:
        os.umask(before)
    for note in done.notes:
        tell(f"mesimqtt: {note}")
    config = ["--config", shlex.quote(str(done.configuration))] if done.configuration else []
    start = " ".join(["mesimqtt serve --data", shlex.quote(str(data)), *config])
    if json:
        emit({
            "backup": str(found), "data": str(data.absolute()), "time_ms": done.manifest.time_ms, "start": start,
            "already": [as_dict(each) for each in done.already],
        })  # fmt: skip
        return
    _say_already(done.already, "that was so when the backup was made, and was put back; an older one may be whole")
    facts = done.manifest.folders[0].facts
    line(f"restored {found} into {data}: {facts.users} users, {facts.messages} messages, as of {done.manifest.time}")
    line("what was accepted, revoked, disabled or deleted after that is not in it (docs/backup.md)")
    line(f"start with: {start}")
