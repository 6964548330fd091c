"""A topic plugin that takes its time, one question after another, as those that ask a database or a directory."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
from amqtt.plugins.base import BaseTopicPlugin

from integration.raw_client import RawClient, play, serving, settings_of
from mesimqtt.testing import stream as wire

ANONYMOUS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
ANSWER_S = 0.008
COUNT = 80  # together they take longer than an answer of a quick plugin is good for


class Clerk(BaseTopicPlugin):
    """Works off one question after another."""

    def __init__(self, context):
        super().__init__(context)
        self._lock = asyncio.Lock()

    async def topic_filtering(self, *, session=None, topic=None, action=None):
        async with self._lock:
            await asyncio.sleep(ANSWER_S)
        return topic != "secret"

    @dataclass
    class Config:
        """No options."""


@pytest.fixture(autouse=True)
def clerk(monkeypatch):
    """Make the plugin importable by a dotted path, as amqtt's configuration wants it."""
    module = ModuleType("clerk")
    module.Clerk = Clerk
    monkeypatch.setitem(sys.modules, "clerk", module)


def serve():
    return serving(settings_of({**ANONYMOUS, "clerk.Clerk": {}}))


def test_a_message_reaches_all_of_many_receivers():
    """Each receiver is asked about, all at once: the publisher gets its PUBACK, and each of them the message."""

    async def story():
        async with serve() as broker:
            port = broker.bound[0][2]
            clients = [await RawClient.connect(port, f"c{number}") for number in range(COUNT)]
            assert [0] * COUNT == await asyncio.gather(*(client.subscribe("news") for client in clients))
            await clients[0].publish("news", b"x", qos=1)

            assert [b"x"] * COUNT == [(await client.message()).payload for client in clients]
            for client in clients:
                await client.close()

    play(story)


def test_many_filters_and_many_retained_messages():
    """A SUBSCRIBE of many filters is answered, and one that selects many retained messages, without the secret."""

    async def story():
        async with serve() as broker:
            for topic in ("secret", *(f"t/{number:02}" for number in range(COUNT))):
                broker.retain_figure(topic, topic)
            client = await RawClient.connect(broker.bound[0][2], "c")
            client.writer.write(wire.subscribe(1, [(f"f/{number}", 0) for number in range(COUNT)]))
            assert COUNT == len(wire.suback_codes(await client.expect(wire.SUBACK)))
            assert 0 == await client.subscribe("#")
            found = [(await client.message()).topic for _ in range(COUNT)]
            await client.ping()

            assert [f"t/{number:02}" for number in range(COUNT)] == sorted(found)
            assert [] == list(client._messages)
            await client.close()

    play(story)
