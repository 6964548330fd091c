"""A gate with its surroundings, and plugins that answer as a test wants."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from mesimqtt.broker.gate import Gate
from mesimqtt.broker.sessions import Sessions


class Fast:
    """An auth and topic plugin of ours that gives a fixed answer and counts."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = 0

    def check_connect(self, request):
        self.asked += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def check_access(self, identity, client_id, action, topic):
        self.asked += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Slow:
    """A plugin that knows only amqtt's coroutines."""

    def __init__(self, answer, change=None):
        self.answer = answer
        self.asked = []
        self.change = change

    async def authenticate(self, *, session):
        self.asked.append(session)
        await asyncio.sleep(0)
        if self.change:
            self.change(session)
        return await self._give()

    async def topic_filtering(self, *, session=None, topic=None, action=None):
        self.asked.append((session, topic, action))
        await asyncio.sleep(0)
        return await self._give()

    async def _give(self):
        if isinstance(self.answer, BaseException):
            raise self.answer
        if self.answer == "never":
            await asyncio.Event().wait()
        return self.answer


class Connection:
    """The engine's connection, as far as the gate knows it."""

    def __init__(self, identity=None, client_id="phone"):
        self.identity = identity
        self.user = identity.user if identity else ""
        self.client_id = client_id
        self.closing = False
        self.verdicts = []
        self.told = asyncio.Event()
        self.resumed = 0
        self.session = SimpleNamespace(incoming=None, inflight=(), queue=())
        self.clean, self.remote_address, self.keep_alive_s = True, "::1", 60
        self.session_present, self.will = False, None

    def authenticated(self, verdict, now):
        self.verdicts.append(verdict)
        self.told.set()

    def resume(self, now):
        self.resumed += 1


class World:
    """A gate with its surroundings."""

    def __init__(self, auth=(), access=(), **options):
        self.now = 100.0
        self.denied = []
        self.woken = 0
        self.sessions = Sessions()
        self.gate = Gate(
            list(auth),
            list(access),
            root="m",
            sessions=self.sessions,
            notify_denied=lambda connection, topic, rule: self.denied.append((connection, topic, rule)),
            clock=lambda: self.now,
            wake=self.wake,
            **options,
        )

    def wake(self):
        self.woken += 1
