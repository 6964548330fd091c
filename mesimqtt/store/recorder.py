"""What webhooks are to be told, written in the transaction of what it tells (runs in the committer's thread)."""

from __future__ import annotations

import json
import logging
from itertools import chain
from typing import TYPE_CHECKING

from mesimqtt.domain.events import (
    ACCEPTED,
    MESIBO,
    Event,
    accepted_head,
    event_of,
    group_event,
    payload_member,
    quoted,
    status_head,
)
from mesimqtt.domain.messages import GROUP, Conversation, MessageKind, Outcome
from mesimqtt.store import groups, users
from mesimqtt.store.conversations import peer_of
from mesimqtt.store.messages import name_of
from mesimqtt.store.outbox import INSERT_ROW
from mesimqtt.topics import split_params

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mesimqtt.domain.events import Subscriber
    from mesimqtt.domain.messages import Message, Step
    from mesimqtt.store.batch import Batch

log = logging.getLogger(__name__)
ROW_BYTES_MAX = 1024 * 1024
_NAMES_MAX = 50_000
_STORED = Outcome.STORED
_EVENT = MessageKind.EVENT
_OF_MESSAGE = "SELECT id, seq FROM message WHERE conversation_id = ? AND seq BETWEEN ? AND ? AND sender_id = ?"


class Recorder:
    """Writes one row per commit and endpoint: a page of events. `subscribers` is replaced as a whole, by the loop.

    `last_id` is the highest number that a row ever had; numbers are never given twice.
    """

    def __init__(self, *, now_ms: Callable[[], int], last_id: int) -> None:
        self.subscribers: Sequence[Subscriber] = ()
        self._now_ms = now_ms
        self._last_id = last_id
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def record(self, connection: sqlite3.Connection, batch: Batch) -> None:
        """Write what the batch tells; `batch.recorded` says for whom. Raises sqlite3.Error."""
        batch.recorded = []
        try:
            told = self._told(connection, batch)
            pages = {each: _pages(told, each) for each in {one._replace(webhook_id=0) for one in self.subscribers}}
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
            log.exception("webhooks: events of a commit are lost; the messages are not")
            return
        rows: list[tuple[int, int, str, int, int, bytes]] = []
        now_ms = self._now_ms()
        for subscriber in self.subscribers:
            for count, body in pages[subscriber._replace(webhook_id=0)]:
                self._last_id = max(self._last_id + 1, now_ms << 10)
                rows.append((self._last_id, subscriber.webhook_id, "", now_ms, count, body))
                batch.recorded.append((subscriber.webhook_id, count, len(body)))
        if rows:
            connection.executemany(INSERT_ROW, rows)

    def draw(self) -> int:
        """Return a fresh number, for a row that comes from elsewhere; in the committer's thread alone."""
        self._last_id = max(self._last_id + 1, self._now_ms() << 10)
        return self._last_id

    def _told(self, connection: sqlite3.Connection, batch: Batch) -> list[tuple[Event, Message | None]]:
        if len(self._users) > _NAMES_MAX or len(self._groups) > _NAMES_MAX:
            self._users.clear()
            self._groups.clear()
        wanted = frozenset(chain.from_iterable(each.events for each in self.subscribers))
        told: list[tuple[Event, Message | None]] = []
        told += [(event, None) for event in batch.events if event.type in wanted]
        if batch.accepts:
            told += self._accepted(connection, batch.accepts, is_wanted=ACCEPTED in wanted)
        for step in _steps(batch):
            if step.conversation.id and event_of(step.status) in wanted:  # a scheduled message is in none yet
                told += self._step(connection, step)
        return told

    def _accepted(
        self, connection: sqlite3.Connection, accepts: list[Message], *, is_wanted: bool
    ) -> Iterator[tuple[Event, Message | None]]:
        heads: dict[tuple[int, int, str, int], str] = {}
        for message in accepts:
            if message.outcome is not _STORED:
                continue
            conversation, mid = message.conversation, message.mid
            if message.kind == _EVENT:
                yield self._group_changed(connection, message), None
                continue
            if not is_wanted:
                continue
            key = (message.sender_id, conversation.id, message.device, message.ts)
            head = heads.get(key)
            if head is None:
                head = heads[key] = accepted_head(
                    message.ts, *self._parties(connection, conversation, message.sender_id), message.device
                )
            params = f',"params":{_params(message.params)}' if message.params else ""
            text = (
                f'{head},"mid":"{mid:016x}","cid":"{message.cid}","seq":{message.seq}'
                f',"bytes":{len(message.payload)}{params}}}'
            )
            yield Event(ACCEPTED, text), message

    def _group_changed(self, connection: sqlite3.Connection, message: Message) -> Event:
        change = json.dumps(json.loads(message.payload), ensure_ascii=False, separators=(",", ":"))
        group = self._group(connection, message.conversation.a)
        return group_event(message.ts, group, change, mid=f"{message.mid:016x}", seq=message.seq)

    def _step(self, connection: sqlite3.Connection, step: Step) -> Iterator[tuple[Event, Message | None]]:
        kind, sender = event_of(step.status), step.sender_id
        recipient = self._user(connection, step.recipient_id) if step.recipient_id else ""
        group = self._group(connection, step.conversation.a) if step.conversation.kind == GROUP else ""
        name = self._user(connection, sender)
        head = status_head(step.status, step.ts, name, recipient, group, step.device, step.reason)
        found: Sequence[tuple[int, str, int]] = [(each.mid, each.cid, each.seq) for each in step.messages]
        if not found:
            place = (step.conversation.id, step.first_seq, step.last_seq, sender)
            rows = connection.execute(_OF_MESSAGE, place).fetchall()
            named = [(mid, name_of(connection, sender, mid, seq), seq) for mid, seq in rows]
            found = [each for each in named if each[1]]  # of what is damaged nobody can say whose it is
        for mid, cid, seq in found:
            yield Event(kind, f'{head},"mid":"{mid:016x}","cid":"{cid}","seq":{seq}}}'), None

    def _parties(self, connection: sqlite3.Connection, conversation: Conversation, sender: int) -> tuple[str, str, str]:
        name = self._user(connection, sender)
        if conversation.kind == GROUP:
            return name, "", self._group(connection, conversation.a)
        return name, self._user(connection, peer_of(conversation, sender)), ""

    def _user(self, connection: sqlite3.Connection, number: int) -> str:
        name = self._users.get(number)
        if name is None:
            row = users.by_id(connection, number) or users.former(connection, number)
            name = self._users[number] = quoted(row.address if row else "")
        return name

    def _group(self, connection: sqlite3.Connection, number: int) -> str:
        name = self._groups.get(number)
        if name is None:
            row = groups.by_id(connection, number) or groups.former(connection, number)
            name = self._groups[number] = quoted(row.address if row else "")
        return name


def _steps(batch: Batch) -> Iterator[Step]:
    """Give every status of a commit: of acknowledgements and verdicts, of recalls, of messages that disappear."""
    yield from batch.steps
    for rider in batch.riders:
        yield from rider.steps
    for function in batch.functions:
        if function.error is None:
            yield from _steps_of(function.result)


def _steps_of(result: object) -> Iterable[Step]:
    found: Iterable[Step] | None = getattr(result, "steps", None)
    if found is not None:
        return found
    if isinstance(result, list) and result and isinstance(result[0], tuple):
        return [step for each in result for part in each for step in getattr(part, "steps", ())]
    return ()


def _params(raw: str) -> str:
    pairs = {key: value.decode(errors="replace") for key, value in split_params(raw).items()}
    return json.dumps(pairs, ensure_ascii=False, separators=(",", ":"))


def _pages(told: list[tuple[Event, Message | None]], subscriber: Subscriber) -> list[tuple[int, bytes]]:
    """Return the events of one endpoint in pages of (count, JSON objects with commas between)."""
    wanted = subscriber.events
    if subscriber.format == MESIBO:
        texts = [event.mesibo for event, _ in told if event.mesibo and event.type in wanted]
    elif subscriber.payload:
        texts = [
            event.text if message is None else f"{event.text[:-1]},{payload_member(message.payload)}}}"
            for event, message in told
            if event.type in wanted
        ]
    else:
        texts = [event.text for event, _ in told if event.type in wanted]
    pages: list[tuple[int, bytes]] = []
    most = max(1, subscriber.batch_max)
    for start in range(0, len(texts), most):
        _page(texts[start : start + most], pages)
    return pages


def _page(texts: list[str], pages: list[tuple[int, bytes]]) -> None:
    body = ",".join(texts).encode()
    if len(body) > ROW_BYTES_MAX and len(texts) > 1:
        middle = len(texts) // 2
        _page(texts[:middle], pages)
        _page(texts[middle:], pages)
    else:
        pages.append((len(texts), body))
