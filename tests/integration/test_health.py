"""Health and figures of a server that really listens: the round trips are real ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from integration.certificates import Authority
from mesimqtt.app import running
from mesimqtt.settings import Settings


def settings(tmp_path):
    """Return settings with a listener of each kind."""
    authority = Authority(tmp_path)
    certificate = authority.issue("server", "localhost")
    broker = Settings().broker
    listeners = {
        "default": {"type": "tcp", "bind": "127.0.0.1:0"},
        "ws": {"type": "ws", "bind": "127.0.0.1:0"},
        "tls": {
            "type": "tcp", "bind": "127.0.0.1:0", "ssl": True,
            "certfile": str(certificate.with_suffix(".pem")), "keyfile": str(certificate.with_suffix(".key")),
        },
        "unix": {"type": "tcp", "bind": f"unix:{tmp_path}/mqtt.sock"},
    }  # fmt: skip
    return replace(Settings(), broker={**broker, "listeners": listeners})


def test_each_listener_is_tried(tmp_path, caplog):
    """TCP, WebSocket, TLS and a Unix socket answer a CONNECT, and the store commits; a dead listener is named."""

    async def ask():
        async with running(settings(tmp_path), tmp_path / "data") as app:
            first = await app.perform("health", {})
            app.bound.append(("mqtt", "127.0.0.1", 1))
            await asyncio.sleep(1.1)  # an answer serves for a second: time itself is the matter
            return first, await app.perform("health", {})

    good, bad = asyncio.run(ask())

    assert "ok" == good["status"], good
    assert {"mqtt", "ws", "mqtts"} == {each["kind"] for each in good["listeners"]}
    assert 4 == len(good["listeners"])
    assert all(each["ms"] < 5000 for each in good["listeners"])
    assert good["store"]["commit_ms"] > 0
    assert [] == [record for record in caplog.records if record.name == "mesimqtt.audit"]
    assert ("failing", 1) == (bad["status"], sum(not each["ok"] for each in bad["listeners"]))


def test_the_figures_are_prometheus(tmp_path):
    """The text is parsed by Prometheus' own parser; a message sent shows in it, and no address does."""

    async def ask():
        async with running(replace(Settings(), broker=settings(tmp_path).broker), tmp_path / "data") as app:
            await app.perform("user_add", {"addresses": ["alice", "bob"]})
            await app.perform("send", {"sender": "alice", "to": "bob", "text": "hi"})
            return (await app.perform("metrics", {}))["text"]

    text = asyncio.run(ask())
    figures = {
        sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples
    }

    assert 1.0 == figures["mesimqtt_messages_accepted_total"]
    assert (2.0, 1.0) == (figures["mesimqtt_users"], figures["mesimqtt_messages"])
    assert figures["mesimqtt_commit_seconds_count"] >= 2
    assert {"mqtt_connections", "mesimqtt_loop_lag_seconds", "process_resident_memory_bytes"} <= set(figures)
    assert "alice" not in text
