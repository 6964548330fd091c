"""The house, its people and every kind of guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from interop.guests import Guests
from interop.house import House

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One server for all tests; each test has people and topics of its own."""
    with House(tmp_path_factory.mktemp("house")) as opened:
        yield opened


@pytest.fixture(scope="session")
def all_guests(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    guests = Guests(house, tmp_path_factory.mktemp("guests"))
    yield guests
    guests.shut()


@pytest.fixture
def guests(all_guests: Guests) -> Iterator[Guests]:
    """Give guests of any kind; those of this test leave at its end."""
    yield all_guests
    all_guests.go_home()
