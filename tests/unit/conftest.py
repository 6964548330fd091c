"""What unit tests of several folders begin with."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from mesimqtt.cli.main import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def _stopped_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped") / "data"
    assert 0 == run(["user", "add", "alice", "--data", str(folder)])
    return folder


@pytest.fixture
def stopped_data(_stopped_data: Path, tmp_path: Path) -> Path:
    """A data folder of a user alice's, as a command left it that stopped in good order."""
    return shutil.copytree(_stopped_data, tmp_path / "data", ignore=shutil.ignore_patterns("ballast", "control.sock"))
