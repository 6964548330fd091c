"""Debian's mosquitto as a bridge to us, with a token of ours as its password: both directions, both versions."""

from __future__ import annotations

import getpass
import json
import subprocess
from typing import TYPE_CHECKING, Self

import pytest

from integration.server import wait_until
from interop.guest import Kind, Received
from interop.house import Person
from mesimqtt.testing.ports import KeptPort

if TYPE_CHECKING:
    from pathlib import Path

    from interop.guest import Guest
    from interop.guests import Guests
    from interop.house import House

PAHO = Kind("paho", 4)
DEADLINE_S = 60.0
pytestmark = [pytest.mark.tools("mosquitto"), pytest.mark.parametrize("version", ["mqttv311", "mqttv50"])]


class Bridge:
    """A mosquitto of our own that is open to everybody, and a user of the house on its other side."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, house: House, who: Person, version: str, *topics: str) -> None:
        self._kept = KeptPort(self.host)  # mosquitto has no port 0
        self.port = self._kept.number
        self._log = folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} {self.host}",
            "allow_anonymous true",
            f"user {getpass.getuser()}",  # started by root it would become somebody who may not write here
            f"persistence_location {folder}/",
            f"log_dest file {self._log}",
            "log_type all",
            "connection house",
            f"address {house.host}:{house.port}",
            f"bridge_protocol_version {version}",
            f"remote_clientid bridge-{self.port}",
            f"remote_username {who.address}",
            f"remote_password {who.token}",
            "restart_timeout 1",
            "notifications false",
            *(f"topic {topic}" for topic in topics),
        ]
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(["mosquitto", "-c", str(self._config)], stderr=subprocess.DEVNULL)
        try:
            wait_until(self._is_linked, deadline_s=DEADLINE_S, what="the bridge is subscribed")
        except AssertionError as error:
            self._end()
            raise AssertionError(f"{error}\n{self.log}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._log.unlink()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE_S)

    @property
    def log(self) -> str:
        """What mosquitto wrote."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _is_linked(self) -> bool:
        assert self._process.poll() is None, "mosquitto ended"
        return "Received SUBACK" in self.log


def listener_of(guests: Guests, place: House | Bridge, who: Person, topic: str) -> Guest:
    """Return a client of one side that hears a topic."""
    guest = guests.guest(PAHO, who, "ear")
    guest.house = place  # type: ignore[assignment] # a host and a port are all that paho needs
    guest.come([(topic, 1)])
    return guest


ANYBODY = Person("anybody", "nothing")


def test_what_is_said_on_one_side_is_heard_on_the_other(
    version: str, house: House, guests: Guests, tmp_path: Path
) -> None:
    """Each message reaches the other side, retained ones as such, and goes round no loop."""
    alice, bob = house.people("alice", "bob")
    topic = f"home/{alice.address}"
    # Only 5.0 has No Local: with 3.1.1 `both` would bring each message back to its own side.
    ways = ["# both"] if version == "mqttv50" else ["door out", "lamp in", "last in"]
    with Bridge(tmp_path, house, alice, version, *(f"{topic}/{way} 1" for way in ways)) as bridge:
        here, there = (
            listener_of(guests, place, who, f"{topic}/#") for place, who in ((house, bob), (bridge, ANYBODY))
        )
        here.publish(f"{topic}/lamp", b"from here", 1, retain=True)
        there.expect(1)
        there.publish(f"{topic}/door", b"from there", 1, retain=True)
        here.expect(2)
        here.publish(f"{topic}/last", b"the end", 1)
        there.expect(1, f"{topic}/last")
        late = listener_of(guests, house, bob, f"{topic}/door")
        late.expect(1)

    both = [(f"{topic}/lamp", b"from here"), (f"{topic}/door", b"from there"), (f"{topic}/last", b"the end")]
    assert both == [(one.topic, one.payload) for one in here.received]
    assert both == [(one.topic, one.payload) for one in there.received]
    assert [Received(f"{topic}/door", b"from there", 1, retain=True)] == late.received


def test_a_bridge_that_was_away_gets_what_it_missed(version: str, house: House, guests: Guests, tmp_path: Path) -> None:
    """Its session is kept as it asks: with 3.1.1 until it is back; with 5.0 mosquitto 2.0 asks for no time at all."""
    alice, bob = house.people("alice", "bob")
    topic = f"home/{alice.address}/bell"
    speaker = listener_of(guests, house, bob, f"home/{alice.address}/nothing")
    bridge = Bridge(tmp_path, house, alice, version, f"{topic} in 1")
    with bridge:
        pass
    for number in range(5):
        speaker.publish(topic, f"ring {number}".encode(), 1)
    with bridge:
        ear = listener_of(guests, bridge, ANYBODY, topic)
        speaker.publish(topic, b"live", 1)
        ear.wait(lambda: ear.received and ear.received[-1].payload == b"live", "the live one")
        came = bridge.log.count("Received PUBLISH")

    assert (6 if version == "mqttv311" else 1) == came


def test_devices_behind_a_bridge_write_messages(version: str, house: House, guests: Guests, tmp_path: Path) -> None:
    """With alice's two folders mapped, whoever is behind the bridge sends as alice and sees what became of it."""
    alice, bob = house.people("alice", "bob")
    phone = listener_of(guests, house, bob, f"m/{bob.address}/in/#")
    folders = f"# in 1 chat/in/ m/{alice.address}/in/", f"# out 1 chat/out/ m/{alice.address}/out/"
    with Bridge(tmp_path, house, alice, version, *folders) as bridge:
        device = listener_of(guests, bridge, ANYBODY, "chat/in/#")
        device.publish(f"chat/out/u/{bob.address}/c1", b"hi from behind", 1)
        phone.expect(1)
        statuses = [json.loads(one.payload)["name"] for one in device.expect(2, "chat/in/status/c1")]
        phone.publish(f"m/{bob.address}/out/u/{alice.address}/c2", b"hi yourself", 1)
        (answer,) = device.expect(1, f"chat/in/u/{bob.address}/")

    assert [b"hi from behind"] == [one.payload for one in phone.received if "/in/u/" in one.topic]
    assert ["sent", "delivered"] == statuses
    assert b"hi yourself" == answer.payload
