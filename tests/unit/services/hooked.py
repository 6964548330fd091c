"""A server in virtual time whose webhooks go to receivers in memory."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

from standardwebhooks import Webhook

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.services.webhooks.dispatcher import Dispatcher
from mesimqtt.services.webhooks.ports import Reply
from mesimqtt.settings import WebhookEndpoint
from unit.messaging.world import World

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
URL = "https://crm.example.org/hook"


class Receivers:
    """All endpoints at once: what each was sent, and what it answers (a Reply, or a future that becomes one)."""

    def __init__(self):
        self.sent = []
        self.answers = {}
        self.closed = 0

    async def post(self, url, body, headers, *, is_private):
        self.sent.append((url, dict(headers), body, is_private))
        answers = self.answers.get(url)
        answer = answers.pop(0) if answers else Reply(200)
        return await answer if isinstance(answer, asyncio.Future) else answer

    async def close(self):
        self.closed += 1

    def take(self, url=URL):
        """Return the bodies that an endpoint was sent since the last look."""
        found = [json.loads(body) for to, _, body, _ in self.sent if to == url]
        self.sent = [each for each in self.sent if each[0] != url]
        return found

    def events(self, url=URL):
        """Return the events that an endpoint was sent since the last look."""
        return [event for body in self.take(url) for event in body["data"]["events"]]

    def keys(self):
        """Return the webhook-ids of all requests so far."""
        return [headers["webhook-id"] for _, headers, _, _ in self.sent]


class Hooked(World):
    """A world with a dispatcher. `endpoints` are those of its settings; `webhooks` other settings of that section."""

    def __init__(self, folder, *endpoints, webhooks=(), **sections):
        self.receivers = Receivers()
        self.jitter = 0.5
        made = tuple(WebhookEndpoint(**{"name": "crm", "url": URL, "secret": SECRET, **each}) for each in endpoints)
        settings = {"batch_age_s": 0, **dict(webhooks), "endpoints": made}
        try:
            super().__init__(folder, webhooks=settings, **sections)
        except MesimqttError:
            self.close()
            raise

    def open(self):
        super().open()
        self.dispatcher = Dispatcher(
            self.messaging.webhooks, make_poster=lambda: self.receivers, chance=lambda: self.jitter
        )
        self.messaging.webhooks.serve(self.dispatcher)
        self.turn()

    def later(self):
        """Return an answer that is given later."""
        return self._asyncio.create_future()


def signers(sent, *secrets):
    """Return those of some secrets that signed a request (the library's own `verify` looks at today's clock)."""
    _, headers, body, _ = sent
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    found = headers["webhook-signature"].split()
    return [secret for secret in secrets if Webhook(secret).sign(headers["webhook-id"], at, body.decode()) in found]


def sender_of(world):
    """Return alice, who writes to bob."""
    world.user("alice", "bob")
    return world.connect("alice")


def cids(bodies):
    """Return the cids of each request."""
    return [[event["cid"] for event in body["data"]["events"]] for body in bodies]
