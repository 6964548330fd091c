"""A server on real sockets for one test: a free port, a folder that goes with the test, users made on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.embed import App

if TYPE_CHECKING:
    from pathlib import Path

    from mesimqtt.messaging.bot import Bot


class LiveServer:
    """`app` is the server (mesimqtt.App). It starts by itself when its port, a user or a token is first asked for.

    Modules are added before: `server.app.on_message(judge)`.
    """

    host = "127.0.0.1"

    def __init__(self, data: Path, **options: Any) -> None:
        self.app = App(data, **{"mqtt": "127.0.0.1:0", "ws": "off", "http": "127.0.0.1:0", **options})
        self._tokens: dict[str, str] = {}
        self._is_started = False

    def start(self) -> App:
        """Serve, if it does not yet."""
        if not self._is_started:
            self.app.start()
            self._is_started = True
        return self.app

    def stop(self) -> None:
        """End; all verbs start it again, on another port."""
        if self._is_started:
            self._is_started = False
            self.app.stop()

    @property
    def port(self) -> int:
        """The port of MQTT."""
        return self.start().port

    @property
    def http(self) -> str:
        """The address of the HTTP API (docs/http.md)."""
        return f"http://{self.host}:{self.start().port_of('http')}"

    @property
    def url(self) -> str:
        """The address as clients write it."""
        return f"mqtt://{self.host}:{self.port}"

    def token(self, user: str) -> str:
        """Return a token of a user, who is made if there is none; the same each time."""
        if user not in self._tokens:
            app = self.start()
            app.user(user)
            self._tokens[user] = app.token(user)
        return self._tokens[user]

    def group(self, address: str, *members: str) -> None:
        """Make a group of users, who are made if there are none."""
        app = self.start()
        if members:
            app.user(*members)
        app.group(address, *members)

    def bot(self, address: str) -> Bot:
        """Return a bot that is online."""
        return self.start().bot(address)

    def send(self, sender: str, to: str | None = None, text: str = "", **params: Any) -> dict[str, Any]:
        """Send in a user's name; who is named is made if he is not there."""
        app = self.start()
        app.user(*[name for name in (sender, to) if name])
        return app.send(sender, to, text, **params)

    def status(self, mid: str) -> list[tuple[str, str]]:
        """Return what became of a message, as (recipient, name of the status)."""
        return [(each["peer"], each["name"]) for each in self.start().status(mid)["status"]]
