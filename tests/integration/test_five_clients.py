"""Clients of MQTT 5.0 that we did not write, over real sockets: Debian's mosquitto_pub and mosquitto_sub, and paho."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from integration.server import Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEADLINE_S = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """One server with alice and bob; each test has devices of its own."""
    with Server(tmp_path_factory.mktemp("five") / "data") as server:
        server.tokens = server.add_users("alice", "bob")
        yield server


def properties(kind: int, **values: Any) -> Properties:
    made = Properties(kind)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Paho5:
    """A paho client of 5.0; what it is told is kept."""

    def __init__(self, server: Server, user: str, device: str, *, expiry: int = 0) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self.answers: dict[int, tuple[int, str]] = {}
        self.granted: list[int] = []
        self.is_connected = threading.Event()
        client = self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=device, protocol=paho.MQTTv5)
        client.username_pw_set(user, server.tokens[user])
        client.on_connect = lambda *_: self.is_connected.set()
        client.on_message = lambda _client, _data, message: self.messages.append(message)
        client.on_subscribe = lambda _client, _data, _mid, codes, _properties: self.granted.extend(
            code.value for code in codes
        )
        client.on_publish = lambda _client, _data, mid, code, found: self.answers.__setitem__(
            mid, (code.value, getattr(found, "ReasonString", ""))
        )
        told = properties(PacketTypes.CONNECT, SessionExpiryInterval=expiry)
        client.connect(server.host, server.port, clean_start=not expiry, properties=told)

    def __enter__(self) -> Self:
        self.client.loop_start()
        assert self.is_connected.wait(_DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, topic_filter: str, identifier: int) -> list[int]:
        self.granted.clear()
        told = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=identifier)
        self.client.subscribe(topic_filter, options=SubscribeOptions(qos=1), properties=told)
        wait_until(lambda: self.granted, deadline_s=_DEADLINE_S, what="SUBACK")
        return list(self.granted)

    def publish(self, topic: str, payload: str, *, qos: int = 1, **values: Any) -> tuple[int, str]:
        info = self.client.publish(topic, payload, qos, properties=properties(PacketTypes.PUBLISH, **values))
        wait_until(lambda: info.mid in self.answers, deadline_s=_DEADLINE_S, what="the answer to a PUBLISH")
        return self.answers[info.mid]

    def received(self, part: str, count: int = 1) -> list[paho.MQTTMessage]:
        def found() -> list[paho.MQTTMessage]:
            return [message for message in self.messages if f"/in/{part}" in message.topic]

        wait_until(lambda: len(found()) >= count, deadline_s=_DEADLINE_S, what=f"{count} messages on in/{part}")
        return found()


def test_paho_sends_and_receives_properties(server: Server) -> None:
    """User properties, native ones, identifiers and reason codes, from one paho client to another and back."""
    with Paho5(server, "alice", "p1") as alice, Paho5(server, "bob", "p2") as bob:
        assert [1] == alice.subscribe("m/alice/in/status/#", 9)
        assert [1] == bob.subscribe("m/bob/in/#", 268_435_455)
        assert [0x87] == bob.subscribe("m/alice/in/#", 1)
        answer = alice.publish(
            "m/alice/out/u/bob/paho-1", "hello", UserProperty=[("type", "7"), ("ü", "a&b")], MessageExpiryInterval=600,
            ContentType="text/plain", CorrelationData=b"\0\1", ResponseTopic="free/answers", PayloadFormatIndicator=1,
        )  # fmt: skip
        (message,) = bob.received("u/alice/")
        steps = [json.loads(status.payload)["status"] for status in alice.received("status/paho-1", 2)]

        assert (0, "") == answer
        assert b"hello" == message.payload
        assert [("seq", "1"), ("type", "7"), ("ü", "a&b"), ("expiry", "600")] == message.properties.UserProperty
        assert 600 - 60 <= message.properties.MessageExpiryInterval <= 600  # what is left of it
        assert ("text/plain", b"\0\1", "free/answers", 1) == (
            message.properties.ContentType, message.properties.CorrelationData, message.properties.ResponseTopic,
            message.properties.PayloadFormatIndicator,
        )  # fmt: skip
        assert [268_435_455] == message.properties.SubscriptionIdentifier
        assert [1, 2] == steps
        assert (0x83, "0x85 cid-reused") == alice.publish("m/alice/out/u/bob/paho-1", "other")
        assert (0x90, "0x83 invalid-destination") == alice.publish("m/alice/out/u/nobody/1", "x")
        assert (0x87, "0x8D own-folder") == alice.publish("m/bob/out/u/alice/1", "x")


def test_mosquitto_sends_and_receives_properties(server: Server) -> None:
    """The user properties of mosquitto_pub reach mosquitto_sub, as the README shows it."""
    login = ["-h", server.host, "-p", str(server.port), "-V", "5"]
    with Paho5(server, "bob", "m1", expiry=3600) as bob:
        assert [1] == bob.subscribe("m/bob/in/u/#", 1)
    began = time.monotonic()
    sent = subprocess.run(
        ["mosquitto_pub", *login, "-u", "alice", "-P", server.tokens["alice"], "-q", "1", "-t", "m/alice/out/u/bob/m-1",
         "-m", "hi bob", "-D", "publish", "user-property", "type", "7", "-D", "publish", "user-property", "colour",
         "sky blue", "-D", "publish", "content-type", "text/plain", "-D", "publish", "message-expiry-interval", "60"],
        capture_output=True, text=True, check=False, timeout=_DEADLINE_S,
    )  # fmt: skip
    got = subprocess.run(
        ["mosquitto_sub", *login, "-u", "bob", "-P", server.tokens["bob"], "-i", "m2", "-q", "1", "-C", "1", "-W", "30",
         "-t", "m/bob/in/u/alice/#", "-F", "%t|%p|%P|%C|%E"],
        capture_output=True, text=True, check=False, timeout=_DEADLINE_S,
    )  # fmt: skip
    took_s = time.monotonic() - began
    topic, payload, user, content_type, expiry = got.stdout.strip().split("|")

    assert (0, "") == (sent.returncode, sent.stderr)
    assert topic.rpartition("/")[0] == "m/bob/in/u/alice"
    assert "hi bob" == payload
    assert ["type:7", "colour:sky", "blue"] == user.split()[1:4]
    assert user.startswith("seq:")
    assert "text/plain" == content_type
    assert 60 - took_s - 1 <= int(expiry) <= 60


def test_mosquitto_pub_shows_a_refusal(server: Server) -> None:
    """Its reason in words, where 3.1.1 says nothing."""
    sent = subprocess.run(
        ["mosquitto_pub", "-h", server.host, "-p", str(server.port), "-V", "5", "-u", "alice", "-P",
         server.tokens["alice"], "-q", "1", "-t", "m/alice/out/u/nobody/1", "-m", "x"],
        capture_output=True, text=True, check=False, timeout=_DEADLINE_S,
    )  # fmt: skip

    assert "0x83 invalid-destination" in sent.stdout + sent.stderr
