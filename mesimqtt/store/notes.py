"""What the last server of a data folder has noted there: which configuration it had."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.domain.strict_json import read_json
from mesimqtt.files import read_regular
from mesimqtt.store.layout import CONFIG_NOTE

if TYPE_CHECKING:
    from typing import Any

_NOTE_MAX = 64 * 1024


class NoteError(MesimqttError):
    """The note cannot be read; the text says what to do."""


def configuration_of(folder: Path) -> Path | None:
    """Return the configuration file that the last server of a folder had; None: it had none, or there was no server.

    Raises:
        NoteError: what is noted cannot be read.

    """
    note = folder / CONFIG_NOTE
    try:
        found: Any = read_json(read_regular(note, size_max=_NOTE_MAX))["config"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(note, getattr(error, "strerror", None) or "it is no note of ours") from None
    if found is not None and not (isinstance(found, str) and _is_path(found)):
        raise _unreadable(note, "what it names is no path")
    return Path(found) if found else None


def _is_path(text: str) -> bool:
    return not any(each == "\0" or "\ud800" <= each <= "\udfff" for each in text)


def _unreadable(note: Path, why: str) -> NoteError:
    return NoteError(f"cannot read {note} ({why}); remove it, or start the server once with its --config")
