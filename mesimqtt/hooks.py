"""All that a plugin or a module may rely on: who is connecting, what may be decided, what became of a message."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from mesimqtt.domain.status import TITLES, Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

_REASON_MAX = 128


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


class ConnectRequest(NamedTuple):
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


# ---- modules: Python that judges every message before it is committed (docs/modules.md) ------------------------------


class Word(Enum):
    """What a module may say of a message in one word."""

    PASS = 0
    CONSUMED = 1


PASS = Word.PASS  # the next module is asked; after the last one the message is accepted
CONSUMED = Word.CONSUMED  # the module took it: nobody else gets it


@dataclass(frozen=True, slots=True)
class FAIL:
    """A module refuses a message: `code` is a failing status of the contract, `reason` a word for the sender.

    Raises:
        ValueError: there is no such failing status.

    """

    code: int = Status.FAILED
    reason: str = ""

    def __post_init__(self) -> None:
        if self.code < Status.FAILED or self.code not in TITLES:
            known = ", ".join(f"0x{status:02X} {status.title}" for status in Status if status >= Status.FAILED)
            raise ValueError(f"FAIL({self.code!r}): a failing status is one of {known}")
        if len(self.reason) > _REASON_MAX or not self.reason.isprintable():
            raise ValueError(f"FAIL: a reason is a text of at most {_REASON_MAX} printable characters")


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message that is about to be accepted. One of `peer` and `group` is given.

    `params` are the sender's parameters as he wrote them (contract section 2), each value a text: what is no UTF-8
    (Correlation Data alone) has surrogates. `device` is the client id it came from, '' where it came from no client;
    `cid` None where the sender gave none.
    """

    sender: str
    peer: str | None
    group: str | None
    payload: bytes
    params: Mapping[str, str]
    device: str = ""
    cid: str | None = None

    @property
    def type(self) -> int:
        """Return the application's message type."""
        return int(self.params.get("type", "0"))

    @property
    def text(self) -> str:
        """Return the payload as text; what is no UTF-8 is replaced."""
        return self.payload.decode("utf-8", "replace")

    def changed(self, *, payload: bytes | str | None = None, **params: str | int | None) -> SentMessage:
        """Return this message with another payload or other parameters; None takes a parameter away."""
        merged = {**self.params, **{key: str(value) for key, value in params.items() if value is not None}}
        kept = {key: value for key, value in merged.items() if key not in params or params[key] is not None}
        body = self.payload if payload is None else payload.encode() if isinstance(payload, str) else payload
        return replace(self, payload=body, params=kept)


Judgement: TypeAlias = Word | FAIL | SentMessage
Judge: TypeAlias = "Callable[[SentMessage], Judgement | Awaitable[Judgement]]"


@dataclass(frozen=True, slots=True)
class StatusTold:
    """One status as its sender is told it (contract section 4): for modules, after the fact. `ts` in milliseconds."""

    sender: str
    cid: str
    mid: str
    status: int
    name: str
    ts: int
    peer: str | None = None
    group: str | None = None
    device: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """A device of a user came or went. `devices` is how many of his are connected now."""

    user: str
    device: str
    is_online: bool
    devices: int


@dataclass(frozen=True, slots=True)
class GroupChanged:
    """A group or its members changed; `event` is what its members receive on `in/event/g/{group}`."""

    group: str
    event: Mapping[str, Any]


class Server(Protocol):
    """What a module is given at start, if it has a method `started(server)`."""

    async def perform(self, op: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Do one operation with the power of the operator; what it sends is judged by no module.

        Raises:
            OperationError: it was refused.

        """

    def bot(self, address: str, device: str = "bot") -> Any:  # noqa: ANN401 - messaging.bot.Bot; nothing here imports it
        """Return a bot (docs/bots.md); its user is made if there is none."""
