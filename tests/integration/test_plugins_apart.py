"""Plugins that block, wait for ever or end in odd ways: everybody else's messages go on, and the log has the name."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import sys
import threading
import time
from dataclasses import dataclass, replace
from types import ModuleType
from typing import ClassVar

import pytest
from amqtt.plugins.base import BaseAuthPlugin, BasePlugin, BaseTopicPlugin
from pwdlib.hashers.argon2 import Argon2Hasher

from integration.raw_client import RawClient, play, serving, settings_of, until
from integration.server import Server, wait_until
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.settings import Plugins
from mesimqtt.testing import stream as wire
from stopwatch import Stopwatch

ANONYMOUS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
TABOO = {"amqtt.plugins.topic_checking.TopicTabooPlugin": {}}
SLOW_S = 0.3


class Sleeper(BaseAuthPlugin):
    """Lets in whoever calls itself slow, after a sleep that gives way to nobody."""

    async def authenticate(self, *, session):
        if session.username == "slow":
            time.sleep(self.config.seconds)  # noqa: ASYNC251 - it is what such a plugin does
        return True

    @dataclass
    class Config:
        seconds: float = SLOW_S


class Silent(BasePlugin):
    """Never comes to an end, in any event."""

    cancelled = 0

    async def on_broker_client_connected(self, *, client_id, client_session):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            Silent.cancelled += 1
            raise

    async def close(self):
        await asyncio.Event().wait()


class Quitter(BaseAuthPlugin):
    """Wants to end the program."""

    async def authenticate(self, *, session):
        sys.exit(3)

    async def close(self):
        raise RuntimeError("not even close works")


class Worker(BasePlugin):
    """Uses everything of its context, and notes in which thread."""

    seen: ClassVar[list] = []

    async def on_broker_client_connected(self, *, client_id, client_session):
        context = self.context
        await context.add_subscription(client_id, "news/#", 1)
        await context.broadcast_message("news/today", b"dry", 1)
        await context.retain_message("news/map", b"here", 1)
        names = [session.client_id for session in context.sessions]
        found = (
            context.get_session(client_id).client_id,
            sorted(context.retained_messages),
            sorted(context.subscriptions),
        )
        try:
            context.engine  # noqa: B018 - what is not there says so
        except AttributeError as error:
            reason = str(error)
        own = context.loop is asyncio.get_running_loop()
        Worker.seen.append((threading.current_thread().name, names, found, own, reason))


class Taboo(BaseTopicPlugin):
    """Forbids one topic, after a pause that gives way to nobody."""

    async def topic_filtering(self, *, session=None, topic=None, action=None):
        time.sleep(0.05)  # noqa: ASYNC251 - likewise
        return topic != "forbidden"


@pytest.fixture(autouse=True)
def plugin_module():
    """Make the plugins of this file importable by a dotted path, as amqtt's configuration wants them."""
    module = sys.modules["apart"] = ModuleType("apart")
    for plugin in (Sleeper, Silent, Quitter, Worker, Taboo):
        setattr(module, plugin.__name__, plugin)
    Worker.seen, Silent.cancelled = [], 0
    yield
    del sys.modules["apart"]


async def lateness_of(client, task):
    """Return how late each ping of a client was answered while a task ran, sorted."""
    late = []
    while not task.done():
        watch = Stopwatch()
        await client.ping()
        late.append(watch.elapsed_s)
        await asyncio.sleep(0.01)
    return sorted(late) or [0.0]


def test_an_isolated_plugin_that_blocks_holds_up_nobody():
    """While it sleeps for each of three clients, another's round trips stay under 100 ms (p99); all three get in."""

    async def story():
        async with serving(settings_of({"apart.Sleeper": {"isolate": True, "seconds": SLOW_S}, **TABOO})) as broker:
            port = broker.bound[0][2]
            other = await RawClient.connect(port, "warm", "fast", "x")
            slow = asyncio.gather(*(RawClient.connect(port, f"s{n}", "slow", "x") for n in range(3)))
            late = await lateness_of(other, slow)

            assert late[int(len(late) * 0.99)] < 0.1
            assert [0, 0, 0] == [client.code for client in await slow]
            for client in (*await slow, other):
                await client.close()

    play(story)


def test_an_isolated_password_file(tmp_path):
    """amqtt's own FileAuthPlugin with a hash that takes its time: those who are in notice nothing of logins."""
    hashed = Argon2Hasher(time_cost=2, memory_cost=65_536, parallelism=1).hash("right")
    (tmp_path / "passwords").write_text("".join(f"{name}:{hashed}\n" for name in ("alice", "bob")))
    plugin = {"password_file": str(tmp_path / "passwords"), "isolate": True}

    async def story():
        async with serving(settings_of({"amqtt.plugins.authentication.FileAuthPlugin": plugin, **TABOO})) as broker:
            port = broker.bound[0][2]
            alice = await RawClient.connect(port, "a", "alice", "right")
            others = asyncio.gather(
                *(RawClient.connect(port, f"b{n}", "bob", f"{'right' if n else 'wrong'}") for n in range(4))
            )
            late = await lateness_of(alice, others)

            assert late[int(len(late) * 0.99)] < 0.1
            assert [5, 0, 0, 0] == [client.code for client in await others]
            for client in (alice, *await others):
                await client.close()

    play(story)


def test_an_isolated_plugin_has_its_context():
    """Publish, retain, subscribe, sessions: done by the server's loop, answered in the plugin's thread."""

    async def story():
        async with serving(settings_of({**ANONYMOUS, **TABOO, "apart.Worker": {"isolate": True}})) as broker:
            client = await RawClient.connect(broker.bound[0][2], "phone")
            await until(lambda: Worker.seen)
            messages = [(await client.message()).payload for _ in range(2)]

            assert [b"dry", b"here"] == messages
            ((thread, names, found, own, reason),) = Worker.seen
            assert ("mesimqtt-Worker", ["phone"], True) == (thread, names, own)
            assert ("phone", ["news/map"], ["news/#"]) == found
            assert "take `isolate` out" in reason
            await client.close()

    play(story)


def test_an_isolated_topic_plugin_decides():
    """Its opinion counts as ever: what it forbids is not delivered."""

    async def story():
        async with serving(settings_of({**ANONYMOUS, "apart.Taboo": {"isolate": True}})) as broker:
            client = await RawClient.connect(broker.bound[0][2], "phone")
            codes = [await client.subscribe(name) for name in ("forbidden", "open")]
            await client.publish("forbidden", b"1", qos=1)
            await client.publish("open", b"2", qos=1)

            assert [0x80, 0] == codes
            assert b"2" == (await client.message()).payload
            await client.close()

    play(story)


def test_an_isolated_plugin_that_wants_to_end_the_program(caplog):
    """`sys.exit` in a plugin is a refusal, isolated or not; a failing `close` does not keep the server alive."""

    async def story(options):
        async with serving(settings_of({"apart.Quitter": options, **TABOO})) as broker:
            for _ in range(2):
                client = await RawClient.connect(broker.bound[0][2], "phone")
                assert 5 == client.code
                await client.close()

    for options in ({}, {"isolate": True}):
        caplog.clear()
        play(lambda options=options: story(options))

        assert "plugin Quitter failed in authenticate" in caplog.text
        assert "failed in close" in caplog.text


@pytest.mark.parametrize(
    ("plugins", "reason"),
    [
        ({"mesimqtt_plugins.auth.TokenAuth": {"isolate": True}}, "TokenAuth answers at once"),
        ({"apart.Sleeper": {"isolate": "yes"}}, "isolate is true or false"),
        ({"apart.Sleeper": {"isolated": True}}, "isolated"),
    ],
)
def test_what_cannot_be_isolated_is_told_at_start(plugins, reason):
    """A plugin of ours, a value that is neither, and a misspelling end the start with a sentence."""

    async def story():
        with pytest.raises(MesimqttError, match=reason):
            async with serving(settings_of({**TABOO, **plugins})):
                pass

    play(story)


def test_isolate_false_is_no_option_of_the_plugin():
    """It is taken out of the options before amqtt looks at them, also where it is false."""

    async def story():
        async with serving(settings_of({"apart.Sleeper": {"isolate": False, "seconds": 0}, **TABOO})) as broker:
            client = await RawClient.connect(broker.bound[0][2], "phone", "slow", "x")

            assert 0 == client.code
            assert "Sleeper" == type(broker.plugins_manager.plugins[0]).__name__
            await client.close()

    play(story)


def test_an_isolated_plugin_that_never_answers_is_bounded():
    """After its time it has refused; the questions that it no longer needs are taken back."""
    settings = replace(
        settings_of({"apart.Sleeper": {"isolate": True, "seconds": 0.4}, **TABOO}), plugins=Plugins(answer_s=0.1)
    )

    async def story():
        async with serving(settings) as broker:
            port = broker.bound[0][2]
            clients = await asyncio.gather(*(RawClient.connect(port, f"s{n}", "slow", "x") for n in range(5)))
            thread = broker.plugins_manager.plugins[0]._thread
            await until(lambda: not thread._waiting)

            assert {5} == {client.code for client in clients}
            for client in clients:
                await client.close()

    play(story)


def test_an_isolated_plugin_that_blocks_does_not_keep_the_server_from_ending(caplog):
    """While it sleeps, the server ends in its time; the plugin is left behind, and the log says so."""

    async def story():
        async with serving(settings_of({"apart.Sleeper": {"isolate": True, "seconds": 1.5}, **TABOO})) as broker:
            entering = asyncio.ensure_future(RawClient.connect(broker.bound[0][2], "s", "slow", "x"))
            thread = broker.plugins_manager.plugins[0]._thread
            await until(lambda: thread._waiting)
            await asyncio.sleep(0)
            watch = Stopwatch()
        assert watch.elapsed_s < 3
        with pytest.raises((EOFError, OSError)):
            await entering
        await asyncio.wait_for(thread._is_over.wait(), 20)  # for this test's sake

    play(story)

    assert "plugin Sleeper does not end; it is left behind" in caplog.text


STUBBORN = """
import asyncio
from amqtt.plugins.base import BaseAuthPlugin

class Stubborn(BaseAuthPlugin):
    async def authenticate(self, *, session):
        self.context.logger.warning("it begins")
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
"""


def test_a_plugin_that_does_not_heed_its_end_does_not_keep_the_server_from_ending(tmp_path, monkeypatch):
    """Whoever catches what cancels him is left behind: SIGTERM ends the process in order, with exit code 0."""
    (tmp_path / "stubborn_plugin.py").write_text(STUBBORN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = tmp_path / "mesimqtt.yaml"
    config.write_text(json.dumps({"broker": {"plugins": {"stubborn_plugin.Stubborn": {}}}}))
    with Server(tmp_path / "data", config=config, nursery=None) as server, socket.socket() as client:
        client.connect((server.host, server.port))
        client.sendall(wire.connect("c", "alice", "x"))
        wait_until(lambda: "it begins" in server.printed, what="the plugin")

        assert 0 == server.stop()
        assert "stopped" in server.printed


def test_a_plugin_that_blocks_the_loop_is_named(caplog):
    """The watchdog writes the plugin's name and place while it lasts, and how long it took; once."""
    settings = replace(settings_of({"apart.Sleeper": {"seconds": 1.2}, **TABOO}), plugins=Plugins(blocked_s=0.2))

    async def story():
        async with serving(settings) as broker:
            for number in range(2):
                client = await RawClient.connect(broker.bound[0][2], f"s{number}", "slow", "x")
                await client.close()
            await until(lambda: "held up everybody for" in caplog.text)

    play(story)

    lines = [record.getMessage() for record in caplog.records if record.name.endswith("watchdog")]
    lines = [line for line in lines if "Sleeper" in line]  # a machine that stood still is another matter
    assert 2 == len(lines)
    assert lines[0].startswith("plugin Sleeper holds up everybody for more than 0.2 s: ")
    assert "in authenticate" in lines[0]
    assert re.fullmatch(r"plugin Sleeper held up everybody for \d+\.\d s", lines[1])


def test_an_event_that_never_ends_is_cancelled(caplog):
    """A hundred connections with a plugin that waits for ever in each event: it is cancelled in its time, and named."""
    settings = replace(settings_of({**ANONYMOUS, **TABOO, "apart.Silent": {}}), plugins=Plugins(answer_s=0.2))

    async def story():
        async with serving(settings) as broker:
            for number in range(100):
                client = await RawClient.connect(broker.bound[0][2], f"c{number}")
                await client.close()
            await until(lambda: Silent.cancelled == 100)
            watch = Stopwatch()
        assert watch.elapsed_s < 3

    with caplog.at_level(logging.WARNING):
        play(story)

    assert "plugin Silent did not end within 0.2 s in an event" in caplog.text
    assert "a plugin did not close" in caplog.text
