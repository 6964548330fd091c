"""What a health check sees: a commit that works or not, listeners that answer as MQTT does or not."""

from __future__ import annotations

import asyncio

import pytest

from mesimqtt.api.health import Health, round_trip
from mesimqtt.domain.errors import StoreError


class FakeStore:
    """Commits in no time, or not at all."""

    def __init__(self, error=None):
        self.health = "ok" if error is None else "disk-full"
        self.beats = 0
        self._error = error

    def now(self):
        return 1000.0

    async def beat(self):
        self.beats += 1
        if self._error is not None:
            raise self._error
        return 0.25


def checked(store, bound=(), times=1):
    """Return the answers of so many checks at once."""

    async def ask():
        health = Health(store, lambda: bound, password=b"x", lag_ms=lambda: 1.5)
        return await asyncio.gather(*(health.check() for _ in range(times)))

    return asyncio.run(ask())


def test_a_good_server_is_ok():
    """The commit's time, no listener to try, and how late the loop is."""
    (answer,) = checked(FakeStore())

    assert {
        "status": "ok",
        "store": {"ok": True, "health": "ok", "commit_ms": 0.25},
        "listeners": [],
        "loop_lag_ms": 1.5,
    } == answer


def test_a_store_that_cannot_commit_is_failing():
    """With the reason, in the store's own words."""
    (answer,) = checked(FakeStore(StoreError("the store cannot write now (disk-full)")))

    assert "failing" == answer["status"]
    assert {"ok": False, "why": "the store cannot write now (disk-full)"} == answer["store"]


def test_a_thousand_who_ask_are_one_look():
    """Health checks are no load: one commit for all who ask within the same second."""
    store = FakeStore()
    answers = checked(store, times=1000)

    assert 1 == store.beats
    assert 1 == len({str(answer) for answer in answers})


async def _served(talk, kind="mqtt"):
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        return await round_trip((kind, "127.0.0.1", server.sockets[0].getsockname()[1]), trip_s=0.3)
    finally:
        server.close()


async def _silent(reader, writer):
    await reader.read()
    writer.close()


async def _other(reader, writer):
    await reader.read(1)
    writer.write(b"SSH-2.0-x\r\n" * 3)
    await writer.drain()
    writer.close()


async def _closing(_reader, writer):
    writer.close()


@pytest.mark.parametrize("kind", ["mqtt", "ws"])
@pytest.mark.parametrize(
    ("talk", "why"),
    [(_silent, "no answer within 0.3 s"), (_other, "it does not answer as MQTT does"), (_closing, "")],
)
def test_a_listener_that_does_not_answer_as_it_should(kind, talk, why):
    """Silence, another protocol, a closed door: each is not ok, and says so."""
    answer = asyncio.run(_served(talk, kind))

    assert not answer["ok"]
    assert why in answer["why"]
    assert answer["why"]


def test_a_port_where_nobody_listens():
    """The system's own word."""

    async def ask():
        server = await asyncio.start_server(_silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return await round_trip(("mqtt", "127.0.0.1", port))

    answer = asyncio.run(ask())

    assert (False, True) == (answer["ok"], "refused" in answer["why"].lower() or "connect" in answer["why"].lower())
