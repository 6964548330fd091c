"""`$SYS`: mosquitto's names with true values, for scope admin, beside amqtt's own plugin if somebody wants that."""

from __future__ import annotations

import contextlib
import math
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest
from amqtt.plugins.base import BaseAuthPlugin

from integration.raw_client import RawClient, play, serving, settings_of, until
from integration.server import wait_until
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.engine.counters import Counters
from mesimqtt.hooks import Identity
from mesimqtt.testing.ports import KeptPort
from mesimqtt_plugins.sys_topics import ROOT, Averages, SysTopics

ADMIN = {"sys_admin.Admin": {}}
PLUGINS = {**ADMIN, "mesimqtt_plugins.acl.FolderAccess": {"rules": [{"allow": "all", "topic": "#"}]}}
SYS = "mesimqtt_plugins.sys_topics.SysTopics"
NOT_COUNTED = {f"{ROOT}publish/bytes/{way}" for way in ("received", "sent")}  # the engine does not add up payloads


class Admin(BaseAuthPlugin):
    """Believes the user name; `admin` has scope admin."""

    def check_connect(self, request):
        user = request.username or "nobody"
        return Identity(user=user, jti=user, scope="admin" if user == "admin" else "user")

    async def authenticate(self, *, session):
        return True

    @dataclass
    class Config:
        """No options."""


@pytest.fixture(autouse=True)
def admin_plugin(monkeypatch):
    """Make the plugin importable by a dotted path, as amqtt's configuration wants it."""
    module = ModuleType("sys_admin")
    module.Admin = Admin
    monkeypatch.setitem(sys.modules, "sys_admin", module)


async def collect(client, count):
    """Return the next messages by topic."""
    found = {}
    while len(found) < count:
        message = await client.message()
        found[message.topic] = message.payload.decode()
    return found


async def everything(client):
    """Return what has arrived until now, by topic; the newest of each."""
    await client.ping()
    found = {}
    while client._messages:
        message = await client.message()
        found[message.topic] = message.payload.decode()
    return found


@contextlib.contextmanager
def mosquitto(tmp_path):
    """Run Debian's mosquitto on a free port, with figures every second."""
    kept = KeptPort("127.0.0.1")
    port = kept.number
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nsys_interval 1\n")
    process = subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), what="mosquitto")
        yield port
    finally:
        process.terminate()
        process.wait()
        kept.release()


def _answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def test_every_figure_has_mosquittos_name_and_shape(tmp_path):
    """What dashboards read of mosquitto they read of us: the same topics, and values of the same form."""
    theirs, ours = {}, {}

    async def their_story(port):
        client = await RawClient.connect(port, "reader")
        await client.subscribe("$SYS/#")
        theirs.update(await collect(client, 40))
        await client.publish("x", b"y", qos=1)
        deadline = time.monotonic() + 20
        while ROOT + "clients/maximum" not in theirs and time.monotonic() < deadline:
            message = await client.message()
            theirs[message.topic] = message.payload.decode()
        await client.close()

    async def our_story():
        async with serving(settings_of({**PLUGINS, SYS: {"interval": 0.05}})) as broker:
            client = await RawClient.connect(broker.bound[0][2], "reader", "admin", "x")
            await client.subscribe("$SYS/#")
            while ROOT + "publish/messages/sent" not in ours or int(ours[ROOT + "publish/messages/sent"]) < 2:
                message = await client.message()
                ours[message.topic] = message.payload.decode()
            await client.close()

    with mosquitto(tmp_path) as port:
        play(lambda: their_story(port))
    play(our_story)
    missing = {topic for topic in theirs if topic not in ours}

    assert missing <= NOT_COUNTED
    assert {} == {
        topic: (shape(value), shape(ours[topic]))
        for topic, value in theirs.items()
        if topic in ours and shape(value) != shape(ours[topic])
    }


def shape(value):
    """Return the form of a value: digits are all alike."""
    value = re.sub(r"\d+", "9", value)
    return re.sub(r"^\w+ version 9\.9\.9$", "NAME version 9.9.9", value)


def test_the_figures_are_true():
    """Clients, subscriptions, retained messages and traffic, counted by hand; who comes later gets them retained."""

    async def story():
        async with serving(settings_of({**PLUGINS, SYS: {"interval": 0.05}})) as broker:
            port = broker.bound[0][2]
            admin = await RawClient.connect(port, "reader", "admin", "x")
            other = await RawClient.connect(port, "other", "bob", "x")
            away = await RawClient.connect(port, "away", "carol", "x", clean=False)
            await other.subscribe("a/#")
            await other.subscribe("$share/g/b")
            await away.close()
            await other.publish("a/1", b"12345", retain=True, qos=1)
            await other.message()
            await until(lambda: broker.engine.counters.connected == 2)
            await admin.subscribe("$SYS/#")
            values = {}
            while values.get(ROOT + "clients/connected") != "2":
                values.update(await everything(admin))

            assert {
                "clients/total": "3", "clients/connected": "2", "clients/disconnected": "1", "clients/maximum": "3",
                "subscriptions/count": "2", "shared_subscriptions/count": "1",
                "publish/messages/received": "1", "messages/stored": "1", "store/messages/bytes": "5",
            } == {name: values[ROOT + name] for name in (
                "clients/total", "clients/connected", "clients/disconnected", "clients/maximum",
                "subscriptions/count", "shared_subscriptions/count",
                "publish/messages/received", "messages/stored", "store/messages/bytes",
            )}  # fmt: skip
            assert int(values[ROOT + "heap/current"]) > 1_000_000
            late = await RawClient.connect(port, "late", "admin", "x")
            await late.subscribe(ROOT + "clients/total")
            assert (await late.message()).retain
            for client in (admin, other, late):
                await client.close()

    play(story)


def test_only_admins_read_them_and_nobody_writes():
    """`$SYS` is closed to scope user, whatever rules say, and a client cannot publish there."""

    async def story():
        async with serving(settings_of({**PLUGINS, SYS: {"interval": 0.05}})) as broker:
            port = broker.bound[0][2]
            bob = await RawClient.connect(port, "phone", "bob", "x")
            assert [0x80, 0x80, 0] == [await bob.subscribe(name) for name in ("$SYS/#", ROOT + "uptime", "#")]
            admin = await RawClient.connect(port, "reader", "admin", "x")
            await admin.publish(ROOT + "uptime", b"forged", qos=1, retain=True)
            await admin.subscribe(ROOT + "uptime")
            assert re.fullmatch(rb"\d+ seconds", (await admin.message()).payload)
            await bob.ping()
            assert [] == list(bob._messages)
            for client in (bob, admin):
                await client.close()

    play(story)


def test_while_nobody_listens_nothing_is_published():
    """Averages go on, but figures are brought up to date only for somebody, and then at once."""

    async def story():
        async with serving(settings_of({**PLUGINS, SYS: {"interval": 0.02}})) as broker:
            plugin = broker.plugins_manager.get_plugin("SysTopics")
            before = dict(plugin._told)
            other = await RawClient.connect(broker.bound[0][2], "other", "bob", "x")
            await until(lambda: plugin._clients_max == 1)
            assert before == plugin._told
            admin = await RawClient.connect(broker.bound[0][2], "reader", "admin", "x")
            await admin.subscribe(ROOT + "clients/connected")
            payload = b""
            while payload != b"2":
                payload = (await admin.message()).payload
            for client in (other, admin):
                await client.close()

    play(story)


def test_amqtts_own_plugin_runs_beside_it():
    """Who wants amqtt's names names its plugin; both publish."""
    plugins = {**PLUGINS, SYS: {}, "amqtt.plugins.sys.broker.BrokerSysPlugin": {"sys_interval": 1}}

    async def story():
        async with serving(settings_of(plugins)) as broker:
            admin = await RawClient.connect(broker.bound[0][2], "reader", "admin", "x")
            await admin.subscribe("$SYS/#")
            found = {}
            while not {"$SYS/broker/messages/subscriptions/count", "$SYS/broker/subscriptions/count"} <= found.keys():
                message = await admin.message()
                found[message.topic] = message.payload
            await admin.close()

    play(story)


def test_averages_are_computed_as_mosquitto_does():
    """value = rate + exp(-elapsed / span) * (value - rate), per minute, with two decimals."""
    counters, averages = Counters(), Averages()
    expected = dict.fromkeys((1, 5, 15), 0.0)
    for received in (30, 30, 90):
        gained = received - counters.messages_in
        counters.messages_in = received
        averages.update(counters, 10.0)
        for minutes in expected:
            weight = math.exp(-10.0 / (60.0 * minutes))
            expected[minutes] = gained * 6.0 + weight * (expected[minutes] - gained * 6.0)

    assert {f"load/publish/received/{minutes}min": f"{value:.2f}" for minutes, value in expected.items()} == {
        topic: value for topic, value in averages.shown().items() if "publish/received" in topic
    }


def test_an_interval_that_makes_no_sense_stops_the_start():
    """The line names the option."""
    with pytest.raises(MesimqttError, match="SysTopics: interval"):
        SysTopics(SimpleNamespace(config=SysTopics.Config(interval=0)))
