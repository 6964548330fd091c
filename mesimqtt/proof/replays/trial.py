"""The trial `replays`: a real server under a random load is recorded and replayed: every byte must be the same."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.replays.load import GROUP, USERS, Load
from mesimqtt.proof.trial import FAILURES_KEPT_MAX, Failure, Outcome, keeping
from mesimqtt.testing.process import Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STARTS = 2  # of a server in one try, each recorded, the second on the data of the first
CLIENTS = 8
ACTIONS = 40  # of each
REPLAY_S = 120.0
_COMMAND = (sys.executable, "-m", "mesimqtt", "replay", "--json")
_CONFIG = """
record: {output: true}
broker:
  plugins:
    mesimqtt_plugins.auth.TokenAuth: {}
    mesimqtt_plugins.acl.FolderAccess: {rules: [{allow: all, topic: "free/#"}]}
    mesimqtt_plugins.routing.MessageRouting: {}
    mesimqtt_plugins.sys_topics.SysTopics: {interval: 1}
"""


class Replays:
    """Random loads of 3.1.1 and 5.0, WebSocket and HTTP, with cuts, slow readers, and a restart in between."""

    name = "replays"
    title = "a random load is recorded and replayed: the same input gives every byte of output again"
    promises = ("N12",)
    unit = "loads"

    def __init__(self, *, starts: int = STARTS, clients: int = CLIENTS, actions: int = ACTIONS) -> None:
        self._starts = starts
        self._clients = clients
        self._actions = actions

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Record and replay `count` times."""
        failures: list[Failure] = []
        figures = {"recordings": 0.0, "connections": 0.0, "bytes_in": 0.0, "bytes_out": 0.0, "recorded_seconds": 0.0}
        tried = 0

        def outcome() -> Outcome:
            seeds = f"{seed}..{seed + max(tried, 1) - 1}"
            return Outcome(tried, seeds, tuple(failures[:FAILURES_KEPT_MAX]), len(failures), figures)

        with keeping(outcome):
            for number in range(seed, seed + count):
                place = folder / f"{number}"
                place.mkdir()
                for path in self._record(number, place):
                    found = replay(path)
                    figures["recordings"] += 1
                    for name in ("connections", "bytes_in", "bytes_out"):
                        figures[name] += found.get(name, 0)
                    figures["recorded_seconds"] += found.get("seconds", 0)
                    if not found.get("identical"):
                        repeat, what = f"python -m mesimqtt.proof {self.name} --seed {number}", found.get("difference")
                        failures.append(Failure(f"seed {number}: {path.name}: {what or found}", repeat))
                shutil.rmtree(place)
                tried += 1
                progress(tried)
        return outcome()

    def _record(self, seed: int, folder: Path) -> Iterator[Path]:
        """Have a server recorded under a random load, start after start on the same data; yield each recording."""
        config, data = folder / "mesimqtt.yaml", folder / "data"
        config.write_text(_CONFIG, encoding="utf-8")
        tokens: dict[str, str] = {}
        for start in range(1, self._starts + 1):
            path = folder / f"{start}.rec"
            options = ("--ws", "127.0.0.1:0", "--http", "127.0.0.1:0", "--record", str(path))
            with Server(data, config=config, options=options) as server:
                if not tokens:
                    tokens = server.add_users(*USERS)
                    server.add_group(GROUP, *USERS)
                    tokens["admin"] = server.run("token", "issue", USERS[0], "--scope", "admin").strip()
                ports = {kind: _port(server, kind) for kind in ("mqtt", "ws", "http")}
                asyncio.run(Load(seed * 100 + start, ports, tokens).run(self._clients, self._actions))
                server.stop()
            yield path


def replay(path: Path) -> dict[str, Any]:
    """Replay a recording in a process of its own; return what it says."""
    ended = subprocess.run([*_COMMAND, str(path)], capture_output=True, text=True, check=False, timeout=REPLAY_S)
    try:
        found: dict[str, Any] = json.loads(ended.stdout)
    except ValueError:
        return {"difference": f"exit code {ended.returncode}: {(ended.stderr or ended.stdout).strip()[-500:]}"}
    return found


def _port(server: Server, kind: str) -> int:
    """Return the port of a listener, as the last start has told it."""
    found: list[str] = []

    def is_told() -> bool:
        found[:] = re.findall(rf"ready {kind} \S+:(\d+)", server.printed)
        return bool(found)

    wait_until(is_told, what=f"the line that tells of {kind}")
    return int(found[-1])
