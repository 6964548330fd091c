"""The server that real clients meet: TCP and WebSocket, users made at once, free topics under `home/`."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import yaml

from integration.server import Server, ServerError, wait_until

if TYPE_CHECKING:
    from pathlib import Path

_WS = re.compile(r"ready ws \S+?:(\d+)")
_RULES = [{"allow": "all", "topic": "home/#"}]


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the house."""

    address: str
    token: str


class House(Server):
    """`mesimqtt serve` with both listeners."""

    def __init__(self, folder: Path) -> None:
        config = folder / "mesimqtt.yaml"
        plugins = {
            "mesimqtt_plugins.auth.TokenAuth": {},
            "mesimqtt_plugins.acl.FolderAccess": {"rules": _RULES},
            "mesimqtt_plugins.routing.MessageRouting": {},
        }
        config.write_text(yaml.safe_dump({"broker": {"plugins": plugins}}), encoding="utf-8")
        super().__init__(folder / "data", config=config, options=("--ws", "127.0.0.1:0"))
        self.ws_port = 0
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        self.start()
        wait_until(lambda: _WS.search(self.printed), what="`ready ws`")
        found = _WS.search(self.printed)
        self.ws_port = int(found[1]) if found else 0
        return self

    def people(self, *names: str) -> list[Person]:
        """Make users that nobody else has: `alice` becomes `alice-7`."""
        number = next(self._numbers)
        addresses = [f"{name}-{number}" for name in names]
        self.ask("user_add", addresses=addresses)
        tokens = self.ask("token_issue", addresses=addresses)["tokens"]
        return [Person(one["address"], one["token"]) for one in tokens]

    def ask(self, operation: str, **arguments: object) -> dict:
        """Do an operation over the control socket: quicker than a command."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(60)
            control.connect(os.path.relpath(self.data / "control.sock"))
            control.sendall(json.dumps({"op": operation, "args": arguments}).encode() + b"\n")
            answer = json.loads(control.makefile("rb").readline())
        if not answer["ok"]:
            raise ServerError(f"{operation}: {answer}")
        return answer["result"]
