"""All that a plugin may rely on: who is connecting, what may be decided, who may claim topics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Action(StrEnum):
    """What a client wants to do with a topic."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    RECEIVE = "receive"
    WILL = "will"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of an access check and the name of the rule that gave it."""

    allow: bool
    rule: str


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated client. `user` is the address that every access decision rests on.

    `jti` names the token, `expires_at` is seconds since 1970 (0: never), `acl` the token's own
    rules for free topics as (action, filter) pairs, `packet_max` the largest packet in bytes that
    the device takes (0: no such limit).
    """

    user: str
    jti: str = ""
    scope: str = "user"
    device: str | None = None
    expires_at: float = 0.0
    acl: tuple[tuple[str, str], ...] = ()
    packet_max: int = 0


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """What a CONNECT says of its sender. `username` is None where the flag is clear.

    `certificate_user` is what a listener read from a verified client certificate.
    """

    client_id: str
    username: str | None
    password: bytes | None
    clean_start: bool
    version: int
    remote_address: str
    listener: str
    certificate_user: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a CONNECT was refused. `code` is the MQTT 3.1.1 return code (4 or 5); `reason` goes to the log only.

    `reason_code` is what a client of MQTT 5.0 is told instead; 0: what corresponds to `code`.
    """

    code: int
    reason: str
    reason_code: int = 0


@runtime_checkable
class Authenticator(Protocol):
    """Fast path of an auth plugin: no coroutine, no amqtt Session."""

    def check_connect(self, request: ConnectRequest) -> Identity | Refusal | None:
        """Return an Identity, a Refusal, or None where this plugin has no opinion."""


@runtime_checkable
class AccessPolicy(Protocol):
    """Fast path of a topic plugin: no coroutine."""

    def check_access(self, identity: Identity, client_id: str, action: Action, topic: str) -> Decision | None:
        """Return a Decision, or None where this plugin has no opinion."""
