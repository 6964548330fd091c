"""A recording whose checksums are good and that no server has made: it is said, and never identical."""

from __future__ import annotations

import os
from dataclasses import asdict

import pytest

from mesimqtt import __version__
from mesimqtt.record.tape import MAGIC, Kind, TapeError, encode, frame, to_json
from mesimqtt.replay.player import Player
from mesimqtt.settings import Settings

HEADER = {
    "version": __version__, "now_us": 1, "anchor_us": 1, "settings": asdict(Settings()), "files": {}, "start": {},
}  # fmt: skip


def play(folder, header, *records):
    """Play a recording of these records."""
    path = folder / "one.rec"
    path.write_bytes(MAGIC + frame(to_json(header)) + b"".join(frame(encode(*each)) for each in records))
    place = folder / "replayed"
    place.mkdir()
    return Player(path, place).play()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ((Kind.DATA, 0, 99, b"x"), r"what came in then \(DATA\) cannot be taken now: KeyError: 99"),
        ((Kind.LOST, 0, 99), r"what came in then \(LOST\) cannot be taken now: KeyError: 99"),
        ((Kind.OPENED, 0, 1, []), r"what came in then \(OPENED\) cannot be taken now: ValueError"),
        ((Kind.CALLED, 0, ["dance"]), "called by a name that there is not: 'dance'"),
        ((Kind.CALLED, 0, 7), r"what came in then \(CALLED\) cannot be taken now: TypeError"),
    ],
)
def test_what_cannot_come_in(tmp_path, record, said):
    """It is a difference, and the replay ends there."""
    played = play(tmp_path, HEADER, record, (Kind.ENDED, 0, "the server was stopped"))

    assert played.difference is not None
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(played.difference.what)


@pytest.mark.parametrize(
    "change",
    [
        {"now_us": "x"}, {"anchor_us": None}, {"settings": []}, {"settings": {}}, {"start": []}, {"files": {"a": 1}},
        {"start": {"../../elsewhere": "0"}},
    ],
)  # fmt: skip
def test_headers_that_no_server_writes(tmp_path, change):
    """One sentence, and nothing is written anywhere else."""
    with pytest.raises(TapeError, match="its header says what no server writes"):
        play(tmp_path, HEADER | change)

    assert {"one.rec", "replayed"} == {each.name for each in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("section", "value", "what"),
    [
        ("modules", {"load": [{"call": "os:getcwd"}]}, "modules of your own"),
        ("tokens", {"jwks_url": "https://127.0.0.1:9/keys"}, "keys from an address"),
        ("broker", {"plugins": {"elsewhere.Plugin": {}}}, "plugin elsewhere.Plugin"),
        ("broker", {"plugins": {"mesimqtt_plugins.audit.AuditPlugin": {"isolate": True}}}, "plugin mesimqtt_plugins"),
    ],
)
def test_settings_that_no_server_records(tmp_path, section, value, what):
    """What would run somebody else's code, or ask somebody, is refused before any of it is."""
    settings = asdict(Settings())
    settings[section] |= value
    with pytest.raises(TapeError, match=f"its header names {what}.*, which no recording holds"):
        play(tmp_path, HEADER | {"settings": settings})


def test_files_of_this_machine_are_not_read(tmp_path):
    """A file that settings name and that is not in the recording is none, whatever stands there here."""
    os.mkfifo(tmp_path / "pipe")
    settings = asdict(Settings())
    settings["tokens"]["jwks_file"] = str(tmp_path / "pipe")
    header = HEADER | {"settings": settings}
    played = play(tmp_path, header, (Kind.CALLED, 0, ["wait"]), (Kind.ENDED, 0, "the server was stopped"))

    assert "the server was stopped" == played.end


def test_what_is_no_file_beside_it(tmp_path):
    """A pipe in place of the data that it began with is not waited for."""
    (tmp_path / "one.rec.start").mkdir()
    os.mkfifo(tmp_path / "one.rec.start" / "mesimqtt.db")
    with pytest.raises(TapeError, match=r"cannot read .*mesimqtt\.db: mesimqtt\.db is no regular file"):
        play(tmp_path, HEADER | {"start": {"mesimqtt.db": "0" * 64}})


def test_a_header_that_says_nothing(tmp_path):
    """Not even of which version it is."""
    with pytest.raises(TapeError, match="its header says what no server writes"):
        play(tmp_path, {})
