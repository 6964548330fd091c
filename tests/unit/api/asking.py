"""A client of the HTTP application without sockets: one call is one request, in a world of virtual time."""

from __future__ import annotations

import json as json_text
from typing import Any, NamedTuple

from mesimqtt.api.application import Application
from mesimqtt.messaging import operations


class Reply(NamedTuple):
    """What came back. `json` is the body, read."""

    status: int
    headers: dict[str, str]
    json: Any

    @property
    def code(self) -> str:
        """The code of a refusal, '' for an answer."""
        return self.json.get("code", "") if self.status >= 400 else ""


class Asker:
    """Asks the application of a world, in a user's name."""

    def __init__(self, world, address: str = "192.0.2.9") -> None:
        self.world = world
        self.address = address

        self.open(self._perform)

    def open(self, perform) -> None:
        """Make the application; `perform` does its operations."""
        self.application = Application(self.world.messaging, perform, counted_as=str)

    async def _perform(self, name, arguments, caller):
        return await operations.perform(self.world.messaging, name, arguments, caller=caller)

    def token(self, user: str, scope: str = "user", **more: Any) -> str:
        """Return a new token of a user."""
        return self.world.do("token_issue", addresses=[user], scope=scope, **more)["tokens"][0]["token"]

    def __call__(
        self,
        method: str,
        target: str,
        json: Any = None,
        *,
        user: str = "",
        token: str = "",
        body: bytes = b"",
        **headers: str,
    ) -> Reply:
        """Ask; `json` is sent as such, `body` as it is. `user` asks with a token of the world."""
        return self.world.run(self.ask(method, target, json, user=user, token=token, body=body, **headers))

    async def ask(
        self,
        method: str,
        target: str,
        json: Any = None,
        *,
        user: str = "",
        token: str = "",
        body: bytes = b"",
        **headers: str,
    ) -> Reply:
        """Ask, within a coroutine."""
        path, _, query = target.partition("?")
        fields = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        if user or token:
            fields["authorization"] = f"Bearer {token or self.world.tokens[user]}"
        if json is not None:
            body = json_text.dumps(json).encode()
            fields.setdefault("content-type", "application/json")
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "client": (self.address, 0), "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        }  # fmt: skip
        sent: list[dict[str, Any]] = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        await self.application(scope, receive, send)
        start, rest = sent
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        is_json = "json" in found["content-type"] and rest["body"]
        return Reply(start["status"], found, json_text.loads(rest["body"]) if is_json else rest["body"].decode())
