"""Plays every transcript of this folder against a real server; see README.md for the language."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from integration.server import Server
from scenarios.language import Kind, TranscriptError, parse_file
from scenarios.matching import Names
from scenarios.stage import Stage, Venue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.mark import ParameterSet

    from scenarios.language import Transcript

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.chat"))


@pytest.fixture(scope="session")
def venues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Venue]]:
    """One server for all transcripts that do not need their own; each has its own users there."""
    transcripts = []
    for path in TRANSCRIPTS:
        try:
            transcripts.append(parse_file(path))
        except TranscriptError:
            continue  # its own test says so
    with Server(tmp_path_factory.mktemp("shared") / "data") as server:
        yield _furnish(server, [one for one in transcripts if not one.own_server])


def _furnish(server: Server, transcripts: list[Transcript]) -> dict[str, Venue]:
    venues = {}
    for number, transcript in enumerate(transcripts):
        names = Names(frozenset(transcript.users) | frozenset(transcript.groups), f"~{number}~")
        venues[transcript.name] = Venue(server, names)
    people = [(one, user, venues[one.name].names.there(user)) for one in transcripts for user in one.users]
    tokens = server.add_users(*(there for _, _, there in people))
    for transcript, user, there in people:
        venues[transcript.name].tokens[user] = tokens[there]
    return venues


def _case(path: Path) -> ParameterSet:
    is_mosquitto = Kind.SUB in path.read_text(encoding="utf-8") or Kind.PUB in path.read_text(encoding="utf-8")
    return pytest.param(path, id=path.stem, marks=[pytest.mark.tools("mosquitto_pub")] if is_mosquitto else [])


@pytest.mark.parametrize("path", [_case(path) for path in TRANSCRIPTS])
def test_transcript(path: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every line of the transcript comes true, and no client receives anything that it does not list."""
    transcript = parse_file(path)
    if not transcript.own_server:
        _play(transcript, request.getfixturevalue("venues")[transcript.name])
        return
    with Server(tmp_path / "data", config=_config(transcript, tmp_path)) as server:
        names = Names(frozenset(transcript.users) | frozenset(transcript.groups))
        _play(transcript, Venue(server, names, server.add_users(*transcript.users)))


def _play(transcript: Transcript, venue: Venue) -> None:
    for group, members in transcript.groups.items():
        venue.server.add_group(venue.names.there(group), *(venue.names.there(member) for member in members))
    stage = Stage(transcript, venue)
    stage.play()

    assert transcript.steps == tuple(stage.played)


def _config(transcript: Transcript, folder: Path) -> Path | None:
    """Write `messaging.inbox_messages_max = 3` as the YAML that the server reads."""
    if not transcript.settings:
        return None
    tree: dict[str, object] = {}
    for key, value in transcript.settings.items():
        place = tree
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = yaml.safe_load(value)
    path = folder / "mesimqtt.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path
