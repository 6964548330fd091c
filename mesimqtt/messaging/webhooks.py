"""Webhooks as messaging knows them: endpoints, what is recorded for whom; a service above does the sending."""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.domain.events import OFFLINE, ONLINE, Subscriber, chosen_events, full_event
from mesimqtt.domain.hosts import is_address, is_public
from mesimqtt.messaging.arrivals import Arrivals
from mesimqtt.messaging.fetch import FetchError, check_url
from mesimqtt.store import outbox
from mesimqtt.store.recorder import Recorder

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from mesimqtt.domain.events import Event
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.settings import WebhookEndpoint
    from mesimqtt.store.batch import Batch
    from mesimqtt.store.outbox import WebhookRow
    from mesimqtt.tokens import TokenSigner

log = logging.getLogger(__name__)
PREFIX = "whsec_"
REMOVED = "it is no longer in the settings"
SALT_BYTES = 16
_SECRETS_MAX = 4
_PURPOSE = b"webhook"
_PORTS = frozenset({80, 443})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as it is in force. `secrets`: what signs, and until when (milliseconds since 1970, 0: for good)."""

    id: int
    name: str
    url: str
    events: frozenset[str]
    payload: bool
    format: str
    batch_max: int
    batch_age_ms: int
    secrets: tuple[tuple[str, int], ...]
    is_private: bool
    is_active: bool

    def subscriber(self) -> Subscriber:
        """Return what the outbox must know of it."""
        return Subscriber(self.id, self.events, self.payload, self.format, self.batch_max)


class Sender(Protocol):
    """What sends; a command on a stopped server has none."""

    def recorded(self, found: Sequence[tuple[int, int, int]]) -> None:
        """Take note of what was written for whom: (endpoint, events, bytes)."""

    def changed(self) -> None:
        """Take note that the endpoints are others."""

    def tick(self) -> None:
        """Do what time has made due."""

    def test(self, endpoint: Endpoint) -> Coroutine[Any, Any, dict[str, Any]]:
        """Send one event `webhook.test` now; return what was answered."""

    def waiting(self, number: int) -> tuple[int, int] | None:
        """Return (events, bytes) that wait for an endpoint; None if it is not known."""

    def retried(self, endpoint: Endpoint) -> None:
        """Try again now."""


class Webhooks:
    """The endpoints, and what is told them. Nothing is recorded, and nothing costs, while there is no active one."""

    def __init__(self, hub: Hub, signer: TokenSigner) -> None:
        self.hub = self._hub = hub
        self._signer = signer
        self._inner: Callable[[Batch], None] = hub.committer.on_committed
        self._own: dict[str, WebhookEndpoint] = {}
        self._own_secrets: dict[str, Sequence[str]] = {}
        self._recorder = Recorder(now_ms=hub.now_ms, last_id=outbox.last_id(hub.store.read))
        self._arrivals = Arrivals(hub, self.tell)
        self._wanted: frozenset[str] = frozenset()
        self.sender: Sender | None = None
        self.endpoints: dict[str, Endpoint] = {}
        self.refresh()
        hub.mended["webhook"] = lambda _: self.refresh()

    # ---- endpoints -----------------------------------------------------------------------------------------------

    def serve(self, sender: Sender) -> None:
        """Take the endpoints of the settings, and who sends. Raises MesimqttError, which names what cannot be used."""
        settings = self._hub.settings.webhooks
        rows = {row.name: row for row in outbox.webhooks(self._hub.store.read)}
        if len(settings.endpoints) > settings.endpoints_max:
            raise MesimqttError(f"webhooks.endpoints: at most webhooks.endpoints_max, {settings.endpoints_max}")
        self._own = {each.name: each for each in settings.endpoints}
        if len(self._own) < len(settings.endpoints):
            raise MesimqttError("webhooks.endpoints: two of them have the same name")
        if not all(value > 0 for value in settings.retries_s):
            raise MesimqttError("webhooks.retries_s: seconds above 0")
        for each in settings.endpoints:
            self._settle(each, rows.get(each.name))
        for row in rows.values():
            if row.is_fixed and row.name not in self._own and row.active:
                self._hub.store.read.execute(outbox.SET_ACTIVE, (0, REMOVED, row.id))
        self.sender = sender
        self.refresh()

    def _settle(self, own: WebhookEndpoint, row: WebhookRow | None) -> None:
        """Keep what the outbox must know of an endpoint of the settings also while no server runs."""
        where, write = f"webhooks.endpoints: {own.name}", self._hub.store.read
        if row is not None and not row.is_fixed:
            raise MesimqttError(
                f"{where}: webhook_add made one of this name; first: mesimqtt webhook delete {own.name}"
            )
        try:
            check_name(own.name)
            self.check_target(own.url, is_private=own.private)
            chosen_events(own.events)
        except ValueError as error:
            raise MesimqttError(f"{where}: {error}") from None
        self._own_secrets[own.name] = _secrets_of(own)
        if row is None:
            outbox.add(write, own.name, self._hub.now_ms(), is_fixed=True)
            row = outbox.find(write, own.name)
        assert row is not None  # noqa: S101 - made above, on this connection
        values: dict[str, object] = {
            "url": own.url,
            "events": " ".join(own.events),
            "payload": int(own.payload),
            "format": own.format,
            "batch_max": own.batch_max or 0,
            "batch_age_ms": -1 if own.batch_age_s is None else round(own.batch_age_s * 1000),
        }
        if row.error in {REMOVED, outbox.DAMAGED}:
            values |= {"active": 1, "error": ""}
        outbox.change(write, row.id, values)
        if row.error == outbox.DAMAGED:
            outbox.renew(write, row.id)

    def reload(self) -> None:
        """Read the files of secrets again; those from before stay in force where one cannot be used."""
        for own in self._own.values():
            try:
                self._own_secrets[own.name] = _secrets_of(own)
            except MesimqttError as error:
                log.warning("%s; the secrets from before stay in force", error)
        self.refresh()

    def check_target(self, url: str, *, is_private: bool = False) -> None:
        """Raise ValueError if nothing may be sent there, as far as one can tell before its host is resolved."""
        try:
            host = check_url(url, private_hosts=self._hub.settings.webhooks.private_hosts, is_private=is_private)
        except FetchError as error:
            raise ValueError(f"url: {error}") from None
        if self.is_private(host.hostname or "", is_private=is_private):
            return
        if is_address(host.hostname or "") and not is_public(host.hostname or ""):
            raise ValueError(f"url: {host.hostname} is a private address; list it in webhooks.private_hosts if meant")
        if host.port is not None and host.port < 1024 and host.port not in _PORTS:
            raise ValueError("url: the port is 80, 443 or one from 1024 up, unless webhooks.private_hosts has the host")

    def is_private(self, host: str, *, is_private: bool = False) -> bool:
        """Tell whether a host may have a private address."""
        return is_private or host in self._hub.settings.webhooks.private_hosts

    def is_of_settings(self, name: str) -> bool:
        """Tell whether the configuration in force has an endpoint of this name."""
        return name in self._own

    def is_private_url(self, endpoint: Endpoint) -> bool:
        """Tell whether the host of an endpoint may have a private address."""
        return self.is_private(urlsplit(endpoint.url).hostname or "", is_private=endpoint.is_private)

    def refresh(self) -> None:
        """Read the endpoints again; record for those that are active, or not at all."""
        hub = self._hub
        rows = outbox.webhooks(hub.store.read)
        self.endpoints = {row.name: self._endpoint(row) for row in rows}
        active = [each.subscriber() for each in self.endpoints.values() if each.is_active]
        self._recorder.subscribers = active
        self._wanted = frozenset(name for each in active for name in each.events)
        hub.committer.tell(self._recorder if active else None)
        hub.committer.on_committed = self._committed if active else self._inner
        hub.on_full = self._full if active else None
        self._arrivals.follow(is_on=not self._wanted.isdisjoint((ONLINE, OFFLINE)))
        if self.sender is not None:
            self.sender.changed()

    def _endpoint(self, row: WebhookRow) -> Endpoint:
        settings, own = self._hub.settings.webhooks, self._own.get(row.name)
        if own is not None:
            keys = tuple((secret, 0) for secret in self._own_secrets[row.name])
        else:
            keys = ((self.secret(row.salt), 0),) if row.salt else ()
            if row.former_salt:
                keys = (*keys, (self.secret(row.former_salt), row.former_until))
        age_ms = row.batch_age_ms if row.batch_age_ms >= 0 else round(settings.batch_age_s * 1000)
        return Endpoint(
            id=row.id,
            name=row.name,
            url=row.url,
            events=chosen_events(row.events.split()),
            payload=bool(row.payload),
            format=row.format,
            batch_max=row.batch_max or settings.batch_max,
            batch_age_ms=age_ms,
            secrets=keys,
            is_private=own is not None and own.private,
            is_active=bool(row.active),
        )

    def secret(self, salt: bytes) -> str:
        """Return the secret that belongs to a salt, as Standard Webhooks writes it; it is kept nowhere."""
        return PREFIX + base64.b64encode(self._signer.derive(_PURPOSE, salt)).decode()

    def draw_salt(self) -> bytes:
        """Return the salt of a new secret."""
        return self._hub.chance.draw(SALT_BYTES)

    def revive(self, connection: sqlite3.Connection, number: int, wanted: Sequence[int], limit: int) -> list[Any]:
        """Put dead letters behind what waits; in the committer's thread."""
        return outbox.revive(connection, number, wanted, self._recorder.draw, limit)

    # ---- what happens ----------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Record an event with the next commit, if anybody wants it."""
        if event.type in self._wanted:
            self._hub.committer.batch.events.append(event)
            self._hub.committer.lazily(self._hub.now())

    def tick(self, now: float) -> None:
        """Do what time has made due."""
        self._arrivals.tick(now)
        if self.sender is not None:
            self.sender.tick()

    def close(self) -> None:
        """Tell who went away as the server stopped."""
        self._arrivals.close()

    def _full(self, user: User) -> None:
        self.tell(full_event(self._hub.now_ms(), user.address, user.inbox_messages, user.inbox_bytes))

    def _committed(self, batch: Batch) -> None:
        self._inner(batch)
        if batch.recorded and self.sender is not None:
            self.sender.recorded(batch.recorded)


def check_name(name: str) -> str:
    """Return the name of an endpoint; raise ValueError unless it is 1 to 64 of a…z, A…Z, 0…9, _ and -."""
    if not 1 <= len(name) <= 64 or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError("name: 1 to 64 letters, digits, _ and -")
    return name


def _secrets_of(own: WebhookEndpoint) -> Sequence[str]:
    """Return the secrets of an endpoint of the settings, the current one first. Raises MesimqttError."""
    where = f"webhooks.endpoints: {own.name}"
    if bool(own.secret) == bool(own.secret_file):
        raise MesimqttError(f"{where}: give it a secret or a secret_file (make one: openssl rand -base64 32)")
    text = own.secret
    if own.secret_file:
        try:
            text = Path(own.secret_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise MesimqttError(f"{where}: cannot read {own.secret_file}: {reason}") from None
    found = text.split()
    for each in found:
        try:
            size = len(base64.b64decode(each.removeprefix(PREFIX), validate=True))
        except ValueError:
            size = 0
        if not 24 <= size <= 64:
            raise MesimqttError(f"{where}: a secret is whsec_ and 24 to 64 bytes in base64 (openssl rand -base64 32)")
    if not 1 <= len(found) <= _SECRETS_MAX:
        raise MesimqttError(f"{where}: one secret, or two while it is rotated")
    return found


def shown(row: WebhookRow, *, waiting: tuple[int, int], dead: int) -> Mapping[str, Any]:
    """Return an endpoint for people and programs, without its secret."""
    return {
        "name": row.name,
        "url": row.url,
        "events": row.events.split(),
        "payload": bool(row.payload),
        "format": row.format,
        "batch_max": row.batch_max or None,
        "batch_age_ms": row.batch_age_ms if row.batch_age_ms >= 0 else None,
        "active": bool(row.active),
        "from_settings": bool(row.is_fixed),
        "sent": row.sent,
        "waiting": waiting[0],
        "waiting_bytes": waiting[1],
        "dead_letters": dead,
        "attempts": row.attempts,
        "next_at": row.next_at or None,
        "error": row.error or None,
        "succeeded_at": row.succeeded_at or None,
        "created_at": row.created_at,
    }
