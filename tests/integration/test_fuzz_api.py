"""schemathesis on a real server: what the OpenAPI document allows is taken, all else is refused, nothing breaks.

Goal: the document and the server say the same, for an admin and for a user, with good data and with bad.
Method: the world of the documentation's examples; the document is the server's own, with the ids of this world in its
examples. The suite takes the systematic cases of sending, in a user's name, the same each time; `make fuzz-api` those
of all operations, then random data and sequences, two minutes in all (FUZZ_SECONDS, FUZZ_SEED).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from integration.server import Server
from integration.test_http import ask, port_of
from mesimqtt.api.forms import EXAMPLE_IDS

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
SUITE = ("--phases", "examples,coverage", "--include-tag", "messages", "--include-tag", "send")
LONG = ("--phases", "examples,coverage,fuzzing,stateful", "--max-time", str(max(1, SECONDS // 2)))


class World:
    """A server with alice, bob, carol, shop (backend), root (admin), group team, and messages of alice's."""

    def __init__(self, server: Server, user: str) -> None:
        self.server = server
        self.user = user
        server.run("user", "add", "root")
        self.tokens = {"root": server.run("token", "issue", "root", "--scope", "admin").strip()}
        self.port = port_of(server)
        self.told("root", "POST", "/v1/users", {"addresses": ["alice", "bob", "carol", "shop"]})
        issued = self.told("root", "POST", "/v1/tokens", {"addresses": ["alice", "bob"]})["tokens"]
        self.tokens |= {each["address"]: each["token"] for each in issued}
        self.told("alice", "POST", "/v1/groups", {"address": "team"})
        self.told("root", "POST", "/v1/groups/team/members", {"users": ["bob", "carol"]})
        sent = [
            self.told("alice", "POST", "/v1/messages", each)["mid"]
            for each in (
                {"to": "bob", "text": "hello", "cid": "42"},
                {"group": "team", "text": "hi all", "cid": "43"},
                {"to": "bob", "text": "later", "cid": "44", "when": 3600},
            )
        ]
        self.document = json.dumps(self.told("root", "GET", "/openapi.json"))
        for shown, real in zip(EXAMPLE_IDS.values(), [*sent, self.tokens["bob"]], strict=True):
            self.document = self.document.replace(shown, real)

    def told(self, user: str, method: str, path: str, body: object = None) -> Any:
        """Ask in a user's name."""
        status, answer = ask(self.port, method, path, body, token=self.tokens[user])
        assert status < 300, answer
        return answer


@pytest.fixture(params=["root", "alice"] if SECONDS else ["alice"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world for one who asks: what an admin does to it is not in the user's way."""
    with Server(tmp_path / "data", options=("--http", "127.0.0.1:0")) as server:
        yield World(server, request.param)


def test_schemathesis_finds_nothing(world: World, tmp_path: Path) -> None:
    """No 500, no answer that the document does not have, no good request refused, no bad one taken."""
    document = tmp_path / "openapi.json"
    document.write_text(world.document)
    command = [
        Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "fuzz_api.toml", "run", document,
        "--url", f"http://127.0.0.1:{world.port}", "--header", f"Authorization: Bearer {world.tokens[world.user]}",
        "--checks", "all", "--exclude-checks", "positive_data_acceptance", "--seed", str(SEED), "--no-color",
        "--warnings", "off", "--generation-database", "none", *(LONG if SECONDS else SUITE),
    ]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "fuzz_hooks.py")}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300 + SECONDS, check=False
    )

    assert 0 == ended.returncode, f"FUZZ_SEED={SEED}\n{ended.stdout[-20_000:]}{ended.stderr[-2_000:]}"
    assert "Traceback" not in world.server.printed
