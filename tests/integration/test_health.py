"""Health and figures of a server that really listens: the round trips are real ones."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from integration.certificates import Authority
from mesimqtt.app import running
from mesimqtt.settings import ListenerOptions, Settings


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
    http = replace(Settings().http, bind="127.0.0.1:0")
    return replace(Settings(), broker={**broker, "listeners": listeners}, http=http)


def test_what_a_listener_demands_is_no_fault_of_it(tmp_path):
    """A PROXY header (before TLS, too), a client certificate, other paths: the server knows of them, and is well."""
    plain = settings(tmp_path)
    listeners = plain.broker["listeners"]
    proxied = ListenerOptions(proxy_from=("127.0.0.0/8",))
    options = {
        "default": proxied,
        "behind": proxied,
        "http": proxied,
        "ws": ListenerOptions(paths=("/chat",)),
        "tls": ListenerOptions(client_certificate="required"),
    }
    listeners["behind"] = dict(listeners["tls"])
    listeners["tls"]["cafile"] = str(tmp_path / "ca.pem")

    async def ask():
        async with running(replace(plain, listeners=options), tmp_path / "data") as app:
            return await app.perform("health", {})

    answer = asyncio.run(ask())

    assert ("ok", 6) == (answer["status"], len(answer["listeners"])), answer


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
    assert {"mqtt", "ws", "mqtts", "http"} == {each["kind"] for each in good["listeners"]}
    assert 5 == len(good["listeners"])
    assert all(each["ms"] < 5000 for each in good["listeners"])
    assert good["store"]["commit_ms"] > 0
    assert [] == [record for record in caplog.records if record.name == "mesimqtt.audit"]
    assert ("failing", 1) == (bad["status"], sum(not each["ok"] for each in bad["listeners"]))


def test_the_figures_are_prometheus(tmp_path):
    """The text is parsed by Prometheus' own parser; a message sent shows in it, and no address does."""

    async def ask():
        async with running(settings(tmp_path), tmp_path / "data") as app:
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


async def get(port, path, token=""):
    """Return status, content type and body of one GET."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{bearer}\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    lines = head.decode().lower().split("\r\n")
    kind = next(line.partition(": ")[2] for line in lines if line.startswith("content-type"))
    return int(lines[0].split()[1]), kind, body.decode()


def test_the_pages_of_the_http_port(tmp_path):
    """Health is one word for everybody and the whole for an admin; figures are text, for an admin alone."""

    async def ask():
        async with running(settings(tmp_path), tmp_path / "data") as app:
            port = next(port for kind, _, port in app.bound if kind == "http")
            await app.perform("user_add", {"addresses": ["root", "alice"]})
            admin, user = [
                (await app.perform("token_issue", {"addresses": [who], "scope": scope}))["tokens"][0]["token"]
                for who, scope in (("root", "admin"), ("alice", "user"))
            ]
            wanted = [("/healthz", ""), ("/livez", ""), ("/v1/health", admin), ("/metrics", admin)]
            refused = [("/v1/health", user), ("/metrics", user), ("/metrics", "")]
            good = [await get(port, *each) for each in wanted]
            return good, [(await get(port, *each))[0] for each in refused]

    (health, live, details, figures), refused = asyncio.run(ask())

    assert (200, "application/json", '{"status": "ok"}') == health
    assert 200 == live[0]
    assert {"store", "listeners"} < json.loads(details[2]).keys()
    assert (200, "text/plain; version=0.0.4; charset=utf-8") == figures[:2]
    assert "mesimqtt_uptime_seconds" in figures[2]
    assert [403, 403, 401] == refused
