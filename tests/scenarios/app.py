"""A client of a transcript that is our own Python client, spoken to in its own verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt_client import Client

from scenarios.actors import Actor, ActorError, Received
from scenarios.language import DEADLINE_S
from scenarios.matching import Names

if TYPE_CHECKING:
    import threading

    from scenarios.actors import Login
    from scenarios.language import ClientSpec


class App(Actor):
    """`mesimqtt_client.Client`: it comes back by itself and drops repeats."""

    comes_back = True

    def __init__(self, spec: ClientSpec, login: Login, board: threading.Condition) -> None:
        super().__init__(spec, login, board)
        self.names = Names(frozenset())
        self._client: Client | None = None
