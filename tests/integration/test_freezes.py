"""A server that stood still wrongs nobody: the trial of that, once, because nothing else notices if it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.trials import trial

if TYPE_CHECKING:
    from pathlib import Path


def test_nobody_is_wronged_by_a_server_that_stood_still(tmp_path: Path) -> None:
    """Stopped amid a turn: who had written, said who he is or read meanwhile stays; what had expired is not given out.

    It takes some seconds, most of them in the freeze: a keep alive cannot be shorter.
    """
    outcome = trial("freezes").run(1, seed=1, folder=tmp_path, progress=lambda _: None)

    assert [] == [failure.what for failure in outcome.failures]
    if not outcome.skipped:
        assert 1 == outcome.figures["frozen_within"]
