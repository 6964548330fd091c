"""The trial of backups: it passes on a server that keeps its promises, and it would notice one that does not."""

from __future__ import annotations

import random
import shutil

from integration.server import Server
from mesimqtt.proof.backups.load import Load, people
from mesimqtt.proof.backups.trial import Backups, Life


def test_a_backup_of_a_busy_server_restores(tmp_path):
    """One backup under load: restored, checked, everything accepted before it is in it, and who was away gets it."""
    done = []
    outcome = Backups().run(1, seed=1, folder=tmp_path, progress=done.append)

    assert (1, 0, ()) == (outcome.tried, outcome.failed, outcome.failures)
    assert [1] == done
    counts = [outcome.figures[name] for name in ("restored", "served", "killed")]
    assert [1.0, 1.0, 0.0] == counts
    assert outcome.figures["messages"] > 0


def test_what_the_trial_would_notice(tmp_path):
    """Messages that are not in a backup, and a backup that is not whole."""
    server = Server(tmp_path / "data")
    tokens = server.add_users(*people())
    with server, Load((server.host, server.port), tokens) as load:
        life = Life(server, load, tokens, tmp_path, random.Random(1))
        made = life.back_up("a backup")
        life.restore(made, {"b0": 1_000_000}, is_served=False)
        (missing,) = life.wrong
        shutil.copytree(made, tmp_path / "damaged")
        with (tmp_path / "damaged" / "mesimqtt.db").open("r+b") as file:
            file.seek(5_000)
            file.write(b"damage")
        life.restore(tmp_path / "damaged", {}, is_served=False)

    assert missing.endswith("messages to b0 were accepted before it and are not in it")
    assert "is not whole, so nothing was restored" in life.wrong[-1]
