"""The trial `replays`: a random load, recorded and replayed; and what it says where a replay differs."""

from __future__ import annotations

from mesimqtt.proof.replays import trial
from mesimqtt.proof.replays.trial import Replays


def test_a_small_load_is_had_again(tmp_path):
    """A real server, a few clients that do anything, and a replay in another process."""
    told = []
    outcome = Replays(starts=1, clients=3, actions=12).run(1, seed=3, folder=tmp_path, progress=told.append)

    assert (1, "3..3", (), 0, [1]) == (outcome.tried, outcome.seeds, outcome.failures, outcome.failed, told)
    assert outcome.figures["recordings"] == 1
    assert outcome.figures["connections"] >= 3
    assert outcome.figures["bytes_out"] > 0
    assert [] == list(tmp_path.iterdir())


def test_what_cannot_be_replayed_is_a_failure(tmp_path):
    """Whatever the command says instead of an answer stands in it."""
    (tmp_path / "none.rec").write_text("no recording")

    assert "exit code 2: mesimqtt: " in trial.replay(tmp_path / "none.rec")["difference"]
