"""A whole run, from options to exit code, on our real server, with the pipe in the place of the peer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from mesimqtt.bench import BenchOptions, run
from mesimqtt.bench.figures import Periods

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SHORT = Periods(warm_up_s=0.05, measure_s=0.15, stall_s=60.0)


def test_messages_are_counted_at_both_ends(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Users, tokens and server are made and gone again; SENT, DELIVERED and messages agree; exit code 0."""
    options = BenchOptions(
        against=f"127.0.0.1:{port}",
        scenarios=["messaging-w20"],
        rounds=1,
        json=True,
        tmpfs=True,
        folder=tmp_path,
        periods=SHORT,
    )
    code = run(options)
    found = json.loads(capsys.readouterr().out)

    assert [] == found["faults"]
    assert 0 == code
    messaging, reference = found["scenarios"]
    counts = {messaging["ours"]["extra"][name] for name in ("sent", "acknowledged", "SENT", "DELIVERED", "received")}
    assert 1 == len(counts)
    assert min(counts) > 0
    assert "relay-q1-50" == reference["name"]
    assert reference["ours"] is None
    assert reference["peer"]["rate"] > 0
    assert [] == list(tmp_path.iterdir())


def test_what_a_webhook_costs_is_measured_on_one_server(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without, with and without a webhook in turn; every message is told exactly once."""
    options = BenchOptions(
        against=f"127.0.0.1:{port}",
        scenarios=["webhooks-each-step"],
        rounds=1,
        json=True,
        tmpfs=True,
        folder=tmp_path,
        periods=replace(SHORT, warm_up_s=0.3),
    )
    code = run(options)
    found = json.loads(capsys.readouterr().out)
    extra = found["scenarios"][0]["ours"]["extra"]

    assert (0, []) == (code, found["faults"])
    assert 2 * extra["sent"] == extra["events told"] > 0
    assert {"rate without", "slower by %", "requests"} <= extra.keys()
