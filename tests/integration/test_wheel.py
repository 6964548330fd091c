"""The wheel built from the tree installs in a clean environment, carries its types, and works there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HOME = Path(__file__).resolve().parent.parent.parent


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command to its end and return what it printed; its error output is the failure's text."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, from what the container file copies and nothing else: an image needs no more, and no less."""
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for line in (HOME / "config" / "Containerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            *names, to = line.split()[1:]
            for name in names:
                _copy(HOME / name, source / name if to == "./" else source / to)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
    return next(folder.glob("*.whl"))


def _copy(path: Path, to: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__", "*.so", "compiled.json"))
    else:
        shutil.copy(path, to)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new environment that has what it requires, and no more; return that one's bin folder."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=False)  # this environment's pip fills it: quicker than a pip of its own
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    (packages,) = folder.glob("lib/python*/site-packages")
    run(*pip, "install", "--quiet", "--no-compile", "--no-deps", wheel)
    (own,) = distributions(name="mesimqtt", path=[str(packages)])
    for each in required(own):
        for name in {file.parts[0] for file in each.files or ()} - {"..", "__pycache__"}:
            if not (packages / name).exists():  # two may share a folder
                (packages / name).symlink_to(each.locate_file(name))
    run(*pip, "check")
    return folder / "bin"


def required(of: Distribution, extras: Iterable[str] = ("",)) -> Iterator[Distribution]:
    """Yield what a distribution requires, as it is installed here, and what that requires."""
    for line in of.requires or ():
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            found = distribution(needed.name)
            yield found
            yield from required(found, ("", *needed.extras))


def test_the_wheel_holds_the_packages_and_their_types(wheel: Path) -> None:
    """Three packages with their py.typed, the licence, and nothing else; nothing compiled unless it was asked for."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    packages = {"mesimqtt", "mesimqtt_plugins", "mesimqtt_client"}
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    assert packages == {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert [] == [name for name in names if name.endswith((".so", "compiled.json"))]


def test_the_installed_program_explains_itself(installed: Path, tmp_path: Path) -> None:
    """`mesimqtt --help` works in an environment that has only the runtime dependencies."""
    shown = run(installed / "mesimqtt", "--help", cwd=tmp_path)

    assert "serve" in shown
    assert "demo" in shown


def test_the_installed_program_shows_its_demo(installed: Path, tmp_path: Path) -> None:
    """`mesimqtt demo` from the wheel tells the whole story, plugins and client included."""
    shown = run(installed / "mesimqtt", "demo", cwd=tmp_path)

    assert "delivered" in shown
    assert "read" in shown
