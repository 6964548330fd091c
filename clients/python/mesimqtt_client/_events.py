"""What the server tells a client, as values: messages, statuses, read marks, presence, group events, session news."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mesimqtt_client._errors import RpcError
from mesimqtt_client._status import FLAGS_DEFAULT, Status, parse_status
from mesimqtt_client._topics import TopicError, is_a, own_params

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mesimqtt_client._topics import InTopic


_STATUS_TEXTS = ("mid", "peer", "group", "device", "reason", "rule")


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message of somebody else, or the copy of one that another device of this user sent (`to` or `group`).

    `seq` is its place in the conversation (None with expiry 0); gaps are legal. `mid` is the server's id, unique.
    """

    sender: str
    group: str | None
    to: str | None = None
    mid: str
    seq: int | None
    payload: bytes
    type: int = 0
    expiry: int | None = None
    flags: int = int(FLAGS_DEFAULT)
    ref: str | None = None
    edit: str | None = None
    recall: str | None = None
    age: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The payload as UTF-8 text."""
        return self.payload.decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusUpdate:
    """One step of one message for one recipient, as the server tells it (contract section 4)."""

    cid: str
    status: Status
    code: int
    mid: str | None = None
    peer: str | None = None
    group: str | None = None
    ts: int = 0
    device: str | None = None
    reason: str | None = None
    limit: int | None = None
    rule: str | None = None
    retry_after: float | None = None
    counts: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class ReadMark:
    """Another device of this user has read `mid`, or with `is_upto` all of the conversation up to it."""

    peer: str | None
    group: str | None
    mid: str
    is_upto: bool


@dataclass(frozen=True, slots=True)
class Presence:
    """A signal of the moment (typing, online, a position) from `sender`, in a group or to this user alone."""

    sender: str
    group: str | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class GroupEvent:
    """A change of a group: its members, its settings. `data` is the server's JSON."""

    group: str
    mid: str
    seq: int | None
    data: Any


@dataclass(frozen=True, slots=True)
class SessionNews:
    """News of this session: token about to expire, device dropped, inbox full, a denied topic, a server that stops."""

    event: str
    data: Mapping[str, Any]


Event = Received | StatusUpdate | ReadMark | Presence | GroupEvent | SessionNews


def received(topic: InTopic, payload: bytes, me: str) -> Received:
    """Return the message that a PUBLISH under `in/u`, `in/g` or `in/sent` carries."""
    params = topic.params
    is_own = topic.cls == "sent"
    return Received(
        sender=me if is_own else topic.peer or "",
        group=topic.group,
        to=topic.peer if is_own else None,
        mid=topic.id,
        seq=_number(params, "seq"),
        payload=payload,
        type=_number(params, "type") or 0,
        expiry=_number(params, "expiry"),
        flags=int(FLAGS_DEFAULT) if "flags" not in params else _number(params, "flags") or 0,
        ref=params.get("ref"),
        edit=params.get("edit"),
        recall=params.get("recall"),
        age=_number(params, "age"),
        params=own_params(params),
    )


def status_update(cid: str, payload: bytes) -> StatusUpdate:
    """Return the status that a PUBLISH under `in/status/{cid}` carries."""
    data = _json(payload)
    code = _typed(data, "status", int) if isinstance(data, dict) else None
    if code is None:
        raise TopicError(f"a status without a code: {payload[:200]!r}")
    counts = data.get("counts")
    return StatusUpdate(
        cid=cid,
        status=parse_status(code),
        code=code,
        ts=_typed(data, "ts", int) or 0,
        limit=_typed(data, "limit", int),
        retry_after=_typed(data, "retry_after", int, float),
        counts={key: _typed(counts, key, int) or 0 for key in counts} if isinstance(counts, dict) else None,
        **{key: _typed(data, key, str) for key in _STATUS_TEXTS},
    )


def read_mark(topic: InTopic, payload: bytes) -> ReadMark:
    """Return the read mark that a PUBLISH under `in/read/` carries."""
    text = payload.decode("ascii", "replace")
    return ReadMark(topic.peer, topic.group, text.removeprefix("<="), text.startswith("<="))


def group_event(topic: InTopic, payload: bytes) -> GroupEvent:
    """Return the change that a PUBLISH under `in/event/g/` carries."""
    return GroupEvent(topic.group or "", topic.id, _number(topic.params, "seq"), _json(payload))


def retry_after(news: SessionNews) -> float:
    """Return in how many seconds a server that stops (event `closing`) wants its client back; 0: it does not stop."""
    asked: object = news.data.get("retry_after") if news.event == "closing" else None
    return float(asked) if isinstance(asked, (int, float)) and 0 < asked < math.inf else 0.0


def session_news(payload: bytes) -> SessionNews:
    """Return the news that a PUBLISH on `in/session` carries."""
    data = _json(payload)
    if not isinstance(data, dict):
        raise TopicError(f"session news that are no object: {payload[:200]!r}")
    return SessionNews(str(data.get("event", "")), data)


def parse_answer(payload: bytes) -> tuple[Any, RpcError | None]:
    """Return the result of an rpc, or the error that it answers."""
    answer = _json(payload)
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        raise TopicError(f"an rpc answer that says neither ok nor not: {payload[:200]!r}")
    if answer["ok"]:
        return answer.get("result"), None
    return None, RpcError(str(answer.get("code", "failed")), str(answer.get("message", "")))


def _typed(data: dict[str, Any], key: str, *types: type) -> Any:  # noqa: ANN401 - one of `types`
    """Return a value that is what the contract says it is, else None: no server may break its client."""
    value = data.get(key)
    return value if is_a(value, *types) else None


def _json(payload: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise TopicError(f"not JSON: {payload[:200]!r}") from None


def _number(params: Mapping[str, str], key: str) -> int | None:
    text = params.get(key, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None
