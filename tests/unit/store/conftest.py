"""Fixtures of the store's tests."""

from __future__ import annotations

import pytest

from unit.store.desk import Desk


@pytest.fixture
def desk(tmp_path):
    """A committer on an empty data folder."""
    desk = Desk(tmp_path / "data")
    yield desk
    desk.close()
