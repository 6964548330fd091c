"""Whether the hot path runs compiled (hatch_build.py), and from the sources that stand beside it."""

from __future__ import annotations

import json
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from mesimqtt.domain.errors import MesimqttError

HOME = Path(__file__).resolve().parents[2]
RECORD = "mesimqtt/compiled.json"  # source -> SHA-256 of what was compiled
_SHARED = "compiled__mypyc"  # holds the code of all of them
_SUFFIX = EXTENSION_SUFFIXES[0]


def is_compiled(home: Path = HOME) -> bool:
    """Tell whether the hot path runs compiled.

    Raises:
        MesimqttError: a source has changed since, and Python would not use it; or only some modules are compiled.

    """
    found = {_source_of(path, home) for path in (home / "mesimqtt").rglob(f"*{_SUFFIX}")} - {f"mesimqtt/{_SHARED}.py"}
    if not found:
        return False
    record = home / RECORD
    compiled = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    changed = sorted(
        name for name in found | compiled.keys() if name not in found or compiled.get(name) != _digest(home / name)
    )
    if changed:
        raise MesimqttError(
            f"compiled, but not from the sources as they are now: {', '.join(changed)}; "
            "run `make compile`, or `make uncompile` for plain Python"
        )
    return True


def _source_of(path: Path, home: Path) -> str:
    return path.relative_to(home).as_posix().removesuffix(_SUFFIX) + ".py"


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
