"""Build hook: with MESIMQTT_COMPILE=1 the modules on the hot path are compiled by mypyc; without it, nothing happens.

A wheel gets the compiled modules beside their sources, and is then one for this platform and version of Python.
An editable install (`make compile`) gets them into the tree. Either way `compiled.json` says what was compiled from
which source, so that `mesimqtt.broker.compiled` finds a source that has changed since.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

RECORD = "mesimqtt/compiled.json"
# The sources are checked by `make check`; here mypy only has to know their types, without the dependencies.
MYPY_OPTIONS = ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports"]


class CompileHook(BuildHookInterface[Any]):
    """Compile the modules that pyproject.toml lists under `[tool.hatch.build.hooks.custom]`."""

    def dependencies(self) -> list[str]:
        """Return what compiling needs beside a C compiler; a plain build needs nothing."""
        return ["mypy>=2.3", "setuptools>=77"] if _is_wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile: into the tree for an editable install, into the wheel for any other."""
        if not _is_wanted() or self.target_name != "wheel":
            return
        folder = Path(self.root)
        if version != "editable":
            self._made = tempfile.TemporaryDirectory(prefix="mesimqtt-build-")  # until the wheel is packed
            folder = Path(self._made.name)
        sources = self.config["modules"]
        record = json.dumps(_digests(sources), indent=1) + "\n"  # before: what changes meanwhile counts as changed
        made = [*compile_modules(sources, folder), RECORD]
        (folder / RECORD).write_text(record, encoding="utf-8")
        if version != "editable":
            build_data["force_include"].update({str(folder / name): name for name in made})
            build_data.update(pure_python=False, infer_tag=True)


def compile_modules(sources: list[str], folder: Path) -> list[str]:
    """Compile sources, paths from the root of the tree, and return what was made in `folder`."""
    from mypyc.build import mypycify  # noqa: PLC0415 - there only where something is compiled
    from setuptools import Distribution  # noqa: PLC0415 - likewise

    with tempfile.TemporaryDirectory(prefix="mesimqtt-build-") as scratch:
        options = [*MYPY_OPTIONS, f"--cache-dir={scratch}/cache"]
        extensions = mypycify([*options, *sources], target_dir=scratch, group_name="mesimqtt.compiled")
        command = Distribution({"name": "mesimqtt", "ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib = str(folder)
        command.build_temp = f"{scratch}/objects"
        command.ensure_finalized()
        command.run()
        return [str(Path(path).relative_to(folder)) for path in command.get_outputs()]


def _is_wanted() -> bool:
    return os.environ.get("MESIMQTT_COMPILE", "") not in ("", "0")


def _digests(sources: list[str]) -> dict[str, str]:
    return {name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in sources}
