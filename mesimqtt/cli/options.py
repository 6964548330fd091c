"""Options and small parsers that several commands share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from mesimqtt import listening
from mesimqtt.domain.errors import MesimqttError

DATA_DEFAULT = Path("mesimqtt-data")
_DURATION = re.compile(r"([0-9]{1,10})([smhdw]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class UsageError(typer.BadParameter):
    """Wrong usage, found after parsing: exit code 2."""

    def format_message(self) -> str:
        """Return the sentence as it was written."""
        return self.message


def data_folder(text: str) -> Path:
    """Return the folder that a `--data` names; refuse what cannot be one, or is somebody else's, in one sentence."""
    if not text:
        raise UsageError("--data is empty; name a folder, or leave the option out")
    folder = Path(text)
    place = folder.absolute()
    try:
        status = place.stat()
    except PermissionError:
        raise MesimqttError(_not_ours(place)) from None
    except (OSError, ValueError):
        return folder  # not there yet, or never: whoever makes it tells
    if not place.is_dir():
        raise UsageError(f"{folder} is a file; --data names a folder")
    is_effective = os.access in os.supports_effective_ids
    if status.st_uid != os.geteuid() and not os.access(place, os.R_OK | os.W_OK | os.X_OK, effective_ids=is_effective):
        raise MesimqttError(_not_ours(place))
    return folder


def _not_ours(place: Path) -> str:
    """Return whose folder it is: that of `place`, or of the first one above it that can be looked at."""
    import pwd

    for each in (place, *place.parents):
        try:
            owner = each.stat().st_uid
        except OSError:
            continue
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"user {owner}"
        return f"{each} belongs to {name}; run this as its owner or choose another --data"
    return f"cannot look into {place}: Permission denied; choose another --data"


def _data(ctx: typer.Context, value: Path | None) -> Path:
    """Return the data folder: the command's own `--data`, else the one before the command, else the default."""
    if value is not None:
        return value
    before = ctx.find_root().obj
    return before if isinstance(before, Path) else data_folder(str(DATA_DEFAULT))


# None stands for "not given": typer calls `_data` for it too, so that a command always gets a folder.
NOT_GIVEN: Path = None  # type: ignore[assignment] # as said
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        help=f"The data folder; ./{DATA_DEFAULT} by default.",
        show_default=False,
        callback=_data,
        parser=data_folder,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def duration_s(text: str) -> int:
    """Return the seconds of a duration such as 90s, 45m, 12h, 30d or 2w; a bare number is seconds."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise UsageError(f"{text!r} is no duration; write for example 90s, 45m, 12h or 30d")
    return int(found[1]) * _UNITS[found[2]]


def pairs(values: list[str]) -> dict[str, str]:
    """Return KEY=VALUE arguments as a dict; the last one of a key counts."""
    found = {}
    for each in values:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise UsageError(f"{each!r} is not KEY=VALUE")
        found[key] = value
    return found


def bound_address(text: str) -> tuple[str, int]:
    """Return (host, port) of ADDR:PORT; an IPv6 address stands in brackets."""
    try:
        return listening.bound_address(text)
    except MesimqttError as error:
        raise UsageError(str(error)) from None
