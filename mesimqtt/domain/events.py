"""Webhook events, pure: which there are, who wants which, and how each is written (docs/webhooks.md)."""

from __future__ import annotations

import base64
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, NamedTuple

from mesimqtt.domain.status import TITLES, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

ACCEPTED, DELIVERED, READ = "message.accepted", "message.delivered", "message.read"
FAILED, DELETED = "message.failed", "message.deleted"
ONLINE, OFFLINE = "user.online", "user.offline"
GROUP_CHANGED, INBOX_FULL = "group.changed", "inbox.full"
EVENTS = (ACCEPTED, DELIVERED, READ, FAILED, DELETED, ONLINE, OFFLINE, GROUP_CHANGED, INBOX_FULL)
TEST = "webhook.test"
STANDARD, MESIBO = "standard", "mesibo"
FORMATS = (STANDARD, MESIBO)
MESIBO_OK = b"MESIBO OK"


class Event(NamedTuple):
    """One event as it is written. `mesibo` is its form for a backend written for Mesibo, '' if it has none."""

    type: str
    text: str
    mesibo: str = ""


class Subscriber(NamedTuple):
    """What the outbox must know of an endpoint to write for it."""

    webhook_id: int
    events: frozenset[str]
    payload: bool
    format: str
    batch_max: int


def chosen_events(filters: Iterable[str]) -> frozenset[str]:
    """Return the events that filters such as `message.*` or `user.online` choose; none choose all.

    Raises:
        ValueError: a filter chooses nothing; the text says what there is.

    """
    found: set[str] = set()
    for each in filters:
        some = {name for name in EVENTS if name == each or (each.endswith(".*") and name.startswith(each[:-1]))}
        if not some:
            raise ValueError(
                f"no event {each[:64]!r}; there are {', '.join(EVENTS)}, and whole kinds such as message.*"
            )
        found |= some
    return frozenset(found or EVENTS)


def event_of(status: int) -> str:
    """Return the event of a status that a message takes for one recipient; '' if it raises none."""
    if status >= Status.FAILED:
        return FAILED
    return {Status.DELIVERED: DELIVERED, Status.READ: READ, Status.DELETED: DELETED, Status.WIPED: DELETED}.get(
        Status(status), ""
    )


def quoted(text: str) -> str:
    """Return a text as JSON."""
    return encode_basestring(text)


def accepted_head(ts: int, sender: str, recipient: str, group: str, device: str) -> str:
    """Return what the accepted messages of one sender, destination and time have in common; addresses are JSON."""
    to = f'"group":{group}' if group else f'"to":{recipient}'
    via = f',"device":{quoted(device)}' if device else ""
    return f'{{"type":"{ACCEPTED}","ts":{ts},"from":{sender},{to}{via}'


def status_head(status: int, ts: int, sender: str, recipient: str, group: str, device: str, reason: str) -> str:
    """Return what the messages of one step have in common; addresses are JSON, the recipient may be ''."""
    parts = [f'{{"type":"{event_of(status)}","ts":{ts},"from":{sender}']
    if recipient:
        parts.append(f'"to":{recipient}')
    if group:
        parts.append(f'"group":{group}')
    parts.append(f'"status":{int(status)},"name":"{TITLES.get(status, "unknown")}"')
    if device:
        parts.append(f'"device":{quoted(device)}')
    if reason:
        parts.append(f'"reason":{quoted(reason)}')
    return ",".join(parts)


def payload_member(payload: bytes) -> str:
    """Return a payload as a JSON member: `text` if it is UTF-8, else `base64`."""
    try:
        return f'"text":{quoted(payload.decode())}'
    except UnicodeDecodeError:
        return f'"base64":"{base64.b64encode(payload).decode()}"'


def user_event(kind: str, ts: int, address: str, number: int) -> Event:
    """Return `user.online` or `user.offline`."""
    name = quoted(address)
    mesibo = f'{{"type":"user","user":{{"uid":{number},"address":{name}}},"status":"{kind.rpartition(".")[2]}"}}'
    return Event(kind, f'{{"type":"{kind}","ts":{ts},"user":{name}}}', mesibo)


def full_event(ts: int, address: str, messages: int, size: int) -> Event:
    """Return `inbox.full`: the inbox of a user refuses messages."""
    return Event(
        INBOX_FULL,
        f'{{"type":"{INBOX_FULL}","ts":{ts},"user":{quoted(address)},"messages":{messages},"bytes":{size}}}',
    )


def group_event(ts: int, group: str, change: str, *, mid: str, seq: int) -> Event:
    """Return `group.changed`; `group` and `change` are JSON, `change` what the members got on `in/event`."""
    text = f'{{"type":"{GROUP_CHANGED}","ts":{ts},"group":{group},"mid":"{mid}","seq":{seq},"change":{change}}}'
    return Event(GROUP_CHANGED, text)


def envelope(format: str, ts: int, timestamp: str, number: int, events: bytes) -> bytes:  # noqa: A002 - the setting's word
    """Return a whole body: `events` are JSON objects with commas between; `timestamp` is `ts` in ISO 8601."""
    if format == MESIBO:
        return b'{"server":"mesibo","id":%d,"v":2,"aid":1,"ts":%d,"events":[%b]}' % (number, ts, events)
    return b'{"type":"events","timestamp":"%b","data":{"events":[%b]}}' % (timestamp.encode(), events)
