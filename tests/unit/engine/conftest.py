"""Fixtures of the engine's tests: a network with an open gate, and one with a store."""

from __future__ import annotations

import pytest

from unit.engine.both_ends import FakeClaim, Network
from unit.engine.fake_keeper import FakeKeeper


@pytest.fixture
def network():
    """An engine without claim and store."""
    return Network()


@pytest.fixture
def stored():
    """An engine with a store that commits when told to."""
    return Network(keeper=FakeKeeper())


@pytest.fixture
def claimed():
    """An engine whose topics under `m/` are claimed."""
    return Network(claim=FakeClaim())
