"""A client of a transcript that is our own Python client, spoken to in its own verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mesimqtt_client import Client, Message, MessageFailed, SentMessage
from scenarios.actors import Actor, ActorError, Received
from scenarios.language import DEADLINE_S

if TYPE_CHECKING:
    import threading

    from scenarios.actors import Login
    from scenarios.language import ClientSpec

_WAITS = ("sent", "delivered", "read")
# A transcript kills servers: the client is not to wait a minute before it tries again.
_RECONNECT_MAX_S = 1.0


class App(Actor):
    """`mesimqtt_client.Client`: it comes back by itself and drops repeats."""

    comes_back = True

    def __init__(self, spec: ClientSpec, login: Login, board: threading.Condition) -> None:
        super().__init__(spec, login, board)
        self._client: Client | None = None
        self._sent: dict[str, SentMessage] = {}
        self._got: dict[str, Message] = {}
        self._messages: list[tuple[Message, Received]] = []

    def connect(self, filters: list[tuple[str, int]]) -> None:
        if filters:
            raise ActorError("our client subscribes by itself")
        client = Client(
            f"mqtt://{self.login.host}:{self.login.port}",
            token=self.login.token,
            device=self.spec.client_id,
            reconnect_max_s=_RECONNECT_MAX_S,
        )
        client.on_message(self._on_message)
        client.on_state(self._on_state)
        self.connection += 1
        self._client = client
        client.start()
        client.wait_online(DEADLINE_S)

    def disconnect(self) -> None:
        if not self._online().close(DEADLINE_S):
            raise ActorError("it closed with messages in its outbox")
        self._client = None

    def server_gone(self) -> None:
        self.lost_links += 1
        self.wait(lambda: not self.is_open, "the client noticed that the server is gone")

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close(0.1)

    def send(self, name: str, to: str, payload: bytes, *, is_group: bool, options: dict[str, str]) -> None:
        """Send a message that the transcript calls `name`."""
        client = self._online()
        arguments: dict[str, Any] = {key: int(value) if value.isdigit() else value for key, value in options.items()}
        self._sent[name] = (
            client.send_group(to, payload, **arguments) if is_group else client.send(to, payload, **arguments)
        )

    def see(self, name: str, status: str, member: str | None) -> None:
        """Wait until the message object says that it (a group: `member`'s copy) is so far, or failed in this way."""
        message = self._sent[name]
        try:
            message.wait(status if status in _WAITS else "delivered", timeout=DEADLINE_S, member=member)
        except TimeoutError as error:
            raise ActorError(str(error)) from None
        except MessageFailed as failure:
            if status in _WAITS:
                raise ActorError(f"it failed: {failure}") from None
        if status not in _WAITS and (message.status is None or message.status.title != status):
            raise ActorError(f"its status is {message.status}")

    def get(self, name: str, payload: bytes, sender: str, group: str | None) -> str:
        """Wait for a message, call it `name` and return its mid."""

        def find() -> tuple[Message, Received] | None:
            for message, one in self._messages:
                if not one.is_listed and (message.payload, message.sender, message.group) == (payload, sender, group):
                    return message, one
            return None

        self.wait(find, "not received")
        found = find()
        if found is None:
            raise ActorError("not received")
        found[1].is_listed = True
        self._got[name] = found[0]
        return found[0].mid

    def mark_read(self, name: str) -> None:
        """Mark a message as read in the client's own way."""
        self._got[name].mark_read()

    def _online(self) -> Client:
        if self._client is None:
            raise ActorError("it is not connected")
        return self._client

    def _on_message(self, message: Message) -> None:
        # Written as the topic that it came on, so that the laws of all clients hold for it as well.
        peer = quote(message.sender, safe="@")
        place = f"u/{peer}" if message.group is None else f"g/{quote(message.group, safe='@')}/{peer}"
        parameters = "/expiry=0" if message.seq is None else f"/seq={message.seq}"
        topic = f"m/{quote(self._online().user, safe='@')}/in/{place}/{message.mid}{parameters}"
        # One connection for all: our client drops repeats, whatever the link did.
        received = Received(topic, message.payload, 1, retain=False, dup=False, connection=1)
        with self.board:
            self._messages.append((message, received))
        self.arrived(received)

    def _on_state(self, state: object, _reason: str) -> None:
        self.changed(is_open=str(state) == "online")
