"""Small parsers of the command line: durations, KEY=VALUE, ADDR:PORT."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import pytest
import typer

from mesimqtt.cli.options import bound_address, data_folder, duration_s, pairs
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45m", 2_700), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600), ("7", 7), (" 1h ", 3_600)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    """s, m, h, d and w are understood; a bare number is seconds."""
    found = duration_s(text)

    assert seconds == found


@pytest.mark.parametrize("text", ["", "h", "-5s", "1.5h", "0", "0d", "1 h", "1y", "1h30m", "٣d", "99999999999s"])
def test_anything_else_is_no_duration(text: str) -> None:
    """What cannot be read is refused with an example, and zero is no time to live."""
    with pytest.raises(typer.BadParameter, match="no duration; write for example 90s, 45m, 12h or 30d"):
        duration_s(text)


def test_a_pair_is_divided_at_its_first_equals_sign() -> None:
    """A value may hold `=` and may be empty; the last one of a key counts."""
    found = pairs(["name=A=B", "team=", "x=1", "x=2"])

    assert {"name": "A=B", "team": "", "x": "2"} == found


@pytest.mark.parametrize("text", ["name", "=value", ""])
def test_a_pair_needs_a_key_and_a_sign(text: str) -> None:
    """What is not KEY=VALUE is refused by name."""
    with pytest.raises(typer.BadParameter, match="is not KEY=VALUE"):
        pairs([text])


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("127.0.0.1:1883", ("127.0.0.1", 1883)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:65535", ("localhost", 65_535)),
    ],
)
def test_where_to_listen(text: str, bound: tuple[str, int]) -> None:
    """ADDR:PORT, an IPv6 address in brackets."""
    found = bound_address(text)

    assert bound == found


@pytest.mark.parametrize(
    "text", ["1883", "localhost", "::1:1883", "localhost:65536", "localhost:", "localhost:x", "a:٣"]
)
def test_where_nobody_can_listen(text: str) -> None:
    """A port is missing, too high or no number, or IPv6 stands without brackets."""
    with pytest.raises(typer.BadParameter, match=r"ADDR:PORT|in brackets"):
        bound_address(text)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Let the test run as somebody who owns nothing, where it could do anything."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    yield
    os.seteuid(was)


@pytest.mark.usefixtures("nobody")
def test_a_folder_of_somebody_else_is_named_with_its_owner() -> None:
    """Whoever may not write in a folder is told whose it is, and what to do."""
    with pytest.raises(MesimqttError) as refused:
        data_folder("/")

    assert "/ belongs to root; run this as its owner or choose another --data" == str(refused.value)


def test_a_folder_is_taken_as_it_is_written(tmp_path: Path) -> None:
    """There or not yet there; a file is none, and neither is nothing."""
    (tmp_path / "file").touch()
    found = [data_folder(str(tmp_path / name)) for name in ("", "new")]

    assert [tmp_path, tmp_path / "new"] == found
    with pytest.raises(typer.BadParameter, match="is a file; --data names a folder"):
        data_folder(str(tmp_path / "file"))
    with pytest.raises(typer.BadParameter, match="--data is empty"):
        data_folder("")
