"""Fixtures of the store's tests."""

from __future__ import annotations

import pytest

from unit.store.desk import Desk
from unit.store.real_keeper import RealKeeper


@pytest.fixture
def desk(tmp_path):
    """A committer on an empty data folder."""
    desk = Desk(tmp_path / "data")
    yield desk
    desk.close()


@pytest.fixture
def keeper(tmp_path):
    """The keeper of sessions on an empty data folder."""
    keeper = RealKeeper(tmp_path / "data")
    yield keeper
    keeper.close()
