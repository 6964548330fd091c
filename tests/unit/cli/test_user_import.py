"""Reading `mesimqtt user import` files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mesimqtt.cli.user import read_users
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_line_is_an_address_and_perhaps_a_name(tmp_path: Path) -> None:
    """Comma or tab divide; spaces around are cut; empty lines and # are passed over; a byte order mark is no letter."""
    file = tmp_path / "people"
    file.write_bytes("\ufeffalice,Alice Liddell\r\n\n# staff\nbob\ndoor/7\tThe door, north\n carol , \n".encode())
    found = read_users(str(file))

    assert {"alice": "Alice Liddell", "bob": "", "door/7": "The door, north", "carol": ""} == found


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"alice\n..\n", "line 2: an address must not be"),
        (b"alice\nx\x01y\n", "line 2: an address must not contain control"),
        (b"alice," + b"n" * 129, "line 1: a name has at most 128"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    """The error names the line, and nothing is imported."""
    file = tmp_path / "people"
    file.write_bytes(content)
    with pytest.raises(MesimqttError, match=told):
        read_users(str(file))

    with pytest.raises(MesimqttError, match=r"cannot read .*nowhere: No such file"):
        read_users(str(tmp_path / "nowhere"))
