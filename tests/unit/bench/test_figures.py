"""Medians, percentiles and shares of CPU."""

from __future__ import annotations

from mesimqtt.bench.figures import Figures, costs, median_of, percentile_ms
from mesimqtt.bench.machine import Reading


def test_each_figure_has_its_own_median() -> None:
    """The median is taken figure by figure; what a round does not have is left out."""
    rounds = [
        Figures(rate=30.0, broker_us=1.0, p50_ms=9.0, extra={"filled per s": 5.0}),
        Figures(rate=10.0, broker_us=3.0),
        Figures(rate=20.0, broker_us=2.0, p50_ms=7.0, extra={"filled per s": 7.0}),
    ]
    found = median_of(rounds)

    assert (20.0, 2.0, 8.0, None) == (found.rate, found.broker_us, found.p50_ms, found.p99_ms)
    assert {"filled per s": 6.0} == found.extra


def test_faults_are_added_up() -> None:
    """One lost message in one of three rounds stays a lost message."""
    found = median_of([Figures(rate=1.0), Figures(rate=1.0, lost=1, duplicates=2), Figures(rate=1.0)])

    assert (1, 2) == (found.lost, found.duplicates)
    assert not found.is_whole


def test_percentiles_weigh_bursts() -> None:
    """A burst of many messages counts as many."""
    samples = [(0.001, 98), (0.009, 2)]

    assert 1.0 == percentile_ms(samples, 0.5)
    assert 9.0 == percentile_ms(samples, 0.99)
    assert percentile_ms([], 0.5) is None


def test_costs_are_shared_out() -> None:
    """CPU time is told per message for the broker, and what neither used is somebody else's."""
    found = costs(Reading(1.0, 2.0, 10.0), Reading(1.5, 3.0, 12.0), seconds=2.0, messages=100_000)

    assert 5.0 == found.broker_us
    assert 0.5 == found.generator_share
    assert 0.25 == found.foreign_cores


def test_costs_of_an_unknown_process() -> None:
    """Where the broker's process is not known, its CPU is not guessed."""
    found = costs(Reading(None, 0.0, 0.0), Reading(None, 1.0, 2.0), seconds=2.0, messages=10)

    assert (None, 0.5, None) == (found.broker_us, found.generator_share, found.foreign_cores)
