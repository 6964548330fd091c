"""A real MQTT client of any kind, in the few verbs that the tests need; what it received is a list."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from interop.house import House, Person

DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Properties:
    """Properties of a PUBLISH of MQTT 5.0 that every client library can show."""

    content_type: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None
    user: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Received:
    """A PUBLISH that came."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties = field(default=Properties(), compare=False)


@dataclass(frozen=True, slots=True)
class Will:
    """What the server publishes when a client is gone without a word."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """Which client, in which version of MQTT (4 is 3.1.1), over what."""

    name: str
    version: int
    transport: str = "tcp"
    tools: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}-{self.transport}-{self.version}"


class Guest(ABC):
    """One client. It may come and go several times; each time with the same user and client id."""

    def __init__(self, kind: Kind, house: House, who: Person, client_id: str) -> None:
        self.kind = kind
        self.house = house
        self.who = who
        self.client_id = client_id
        self.received: list[Received] = []
        self.board = threading.Condition()

    @abstractmethod
    def come(
        self, filters: Sequence[tuple[str, int]] = (), *, keeps: bool = False, will: Will | None = None
    ) -> bool | None:
        """Connect and subscribe, until the SUBACK is here. `keeps`: a persistent session.

        Returns Session Present; None where the client does not show it.
        """

    @abstractmethod
    def publish(
        self, topic: str, payload: bytes, qos: int = 0, *, retain: bool = False, properties: Properties | None = None
    ) -> None:
        """Publish, until it is acknowledged as its QoS wants."""

    @abstractmethod
    def leave(self) -> None:
        """Send DISCONNECT and close."""

    @abstractmethod
    def vanish(self) -> None:
        """Close without a word."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing behind, whatever state it is in."""

    def took(self, received: Received) -> None:
        """Note what came."""
        with self.board:
            self.received.append(received)
            self.board.notify_all()

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until something holds, and return it."""
        with self.board:
            if not self.board.wait_for(condition, DEADLINE_S):
                raise AssertionError(
                    f"{self.kind} {self.client_id}: {what}: not within {DEADLINE_S:g} s; {self.received}"
                )
            return condition()

    def expect(self, count: int, prefix: str = "") -> list[Received]:
        """Wait for so many messages on topics with this prefix, and return them."""

        def found() -> list[Received]:
            return [one for one in self.received if one.topic.startswith(prefix)]

        self.wait(lambda: len(found()) >= count, f"{count} messages under {prefix or 'any topic'}")
        return found()
