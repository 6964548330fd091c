"""How servers are started and understood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mesimqtt.bench.servers import mosquitto_configuration, nats_configuration, parse_address, parse_tokens, ready_port
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_port_is_read_from_a_whole_line() -> None:
    """Our server is ready when its line for MQTT stands there to the end."""
    assert ready_port("starting\nready mqtt 127.0.0.1:40") is None
    assert 40_123 == ready_port("starting\nready mqtt 127.0.0.1:40123\n")


def test_tokens_by_user() -> None:
    """A line of `token issue` is an address, a tab and the token; other lines are passed over."""
    assert {"a b": "x.y.z", "c": "d"} == parse_tokens("a b\tx.y.z\nnote\nc\td\n")


def test_mosquitto_keeps_nothing_and_bounds_nothing() -> None:
    """The peer runs without persistence, limits and Nagle's delay, on loopback."""
    lines = mosquitto_configuration(1234).splitlines()

    assert {
        "allow_anonymous true",
        "persistence false",
        "max_inflight_messages 0",
        "max_queued_messages 0",
        "set_tcp_nodelay true",
        "listener 1234 127.0.0.1",
    } == set(lines)


def test_nats_speaks_mqtt_on_loopback(tmp_path: Path) -> None:
    """The other peer has its MQTT gateway and, because that wants it, JetStream in a folder of its own."""
    lines = nats_configuration(1234, 5678, tmp_path / "js").splitlines()

    assert {
        "server_name: bench",
        "listen: 127.0.0.1:5678",
        f'jetstream {{ store_dir: "{tmp_path}/js" }}',
        "mqtt { listen: 127.0.0.1:1234, max_ack_pending: 65535 }",
    } == set(lines)


@pytest.mark.parametrize("text", ["1883", "host:", ":1883", "host:port", "127.0.0.1:70000"])
def test_against_must_be_host_and_port(text: str) -> None:
    """An address that is none is answered with an example."""
    with pytest.raises(MesimqttError, match="write HOST:PORT"):
        parse_address(text)


def test_against_is_resolved() -> None:
    """HOST:PORT becomes an address."""
    assert ("127.0.0.1", 1883) == parse_address("127.0.0.1:1883")
