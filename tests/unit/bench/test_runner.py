"""Rounds, and what a run refuses to begin with."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mesimqtt.bench import runner
from mesimqtt.bench.figures import Figures, Periods
from mesimqtt.bench.loop import BenchError
from mesimqtt.bench.machine import Process
from mesimqtt.bench.scenarios import Scenario
from mesimqtt.bench.servers import Foreign, Ours, Server, Target
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class FakeOurs(Ours):
    """Our server, never really started; notes that it was, and what it was given."""

    log: list[str] = field(default_factory=list)

    @contextmanager
    def started(self, environment: Mapping[str, str] | None = None) -> Iterator[Target]:
        self.log.append(f"{self.name} up {dict(environment or {})}")
        yield Target(self.name, ("127.0.0.1", 1), Process(None))
        self.log.append(f"{self.name} down")


@dataclass(frozen=True, slots=True)
class FakePeer(Foreign):
    """Another server, likewise."""

    log: list[str] = field(default_factory=list)

    @contextmanager
    def started(self, environment: Mapping[str, str] | None = None) -> Iterator[Target]:
        self.log.append(f"{self.name} up {dict(environment or {})}")
        yield Target(self.name, self.address, Process(None))
        self.log.append(f"{self.name} down")


def sides(log: list[str]) -> list[Server]:
    ours = FakeOurs(Path("unused"), 0, Path("unused"), {}, log=log)
    return [ours, FakePeer(("127.0.0.1", 2), "peer", log=log)]


def test_rounds_alternate_between_fresh_servers() -> None:
    """Each round starts ours, stops it, starts the peer, stops it; the row has both medians."""
    log: list[str] = []
    rates = iter([10.0, 1.0, 30.0, 3.0, 20.0, 2.0])
    scenario = Scenario(
        name="x", title="X", measure=lambda target, periods: Figures(rate=next(rates)), environment={"K": "v"}
    )
    found = runner.measure(scenario, sides(log), 3, Periods(), [])

    assert ["mesimqtt up {'K': 'v'}", "mesimqtt down", "peer up {'K': 'v'}", "peer down"] * 3 == log
    assert (20.0, 2.0) == (found.ours.rate if found.ours else None, found.peer.rate if found.peer else None)


def test_a_failing_round_is_told_and_the_rest_goes_on() -> None:
    """A measurement that cannot be made is named in the failures; the other side still has its figures."""

    def measure(target: Target, periods: Periods) -> Figures:
        if target.name == "mesimqtt":
            raise BenchError("refused")
        return Figures(rate=5.0)

    failures: list[str] = []
    found = runner.measure(Scenario(name="x", title="X", measure=measure), sides([]), 1, Periods(), failures)

    assert ["x on mesimqtt, round 1: refused"] == failures
    assert found.ours is None
    assert 5.0 == (found.peer.rate if found.peer else None)


def test_memory_is_no_disk(tmp_path: Path) -> None:
    """A data folder in memory is refused, unless the user insists."""
    mounts = f"/dev/vda / ext4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\n"

    with pytest.raises(MesimqttError, match=r"lies on tmpfs.*--tmpfs"):
        runner.check_file_system(tmp_path, is_tmpfs_allowed=False, mounts=mounts)
    assert f"tmpfs, mounted on {tmp_path}" == runner.check_file_system(tmp_path, is_tmpfs_allowed=True, mounts=mounts)


def test_limits_are_told() -> None:
    """The limits in force stand in the report."""
    assert "rate off, connections per address off, in flight 64" in runner.limits_in_force(Settings())
