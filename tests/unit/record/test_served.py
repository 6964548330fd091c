"""What is begun before a recording, and taken back where there can be none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.record.served import recorded
from mesimqtt.settings import Settings


def to_a_file(path):
    """Have something there."""
    path.write_text("mine")


def to_nowhere(path):
    """Have a link there that leads nowhere."""
    path.symlink_to(path.with_name("none"))


@pytest.mark.parametrize("name", ["one.rec", "deep/one.rec", "../data/one.rec", "../link/one.rec"])
def test_no_recording_in_the_data_folder(tmp_path, name):
    """Whatever way leads there: it is refused, and nothing is made."""
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "link").symlink_to(data)

    async def serve():
        async with recorded(data / name, Settings(), data, None):
            pass

    with pytest.raises(MesimqttError, match=r"lies in the data folder, where no recording belongs: choose another"):
        asyncio.run(serve())

    assert [] == list(data.iterdir())


@pytest.mark.parametrize("make", [to_a_file, to_nowhere, Path.mkdir])
def test_a_refused_recording_leaves_no_copy_of_the_data(tmp_path, make):
    """Neither of the database nor of what signs tokens."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "token.secret").write_bytes(bytes(32))
    make(tmp_path / "one.rec")

    async def serve():
        async with recorded(tmp_path / "one.rec", Settings(), data, None):
            pass

    with pytest.raises(MesimqttError, match=r"one\.rec exists; a recording is never written over"):
        asyncio.run(serve())

    assert {"data", "one.rec"} == {each.name for each in tmp_path.iterdir()}
    assert ["token.secret"] == [each.name for each in data.iterdir()]
