"""What every MQTT client in the world finds here: QoS, retained messages, wills, kept sessions, and messaging."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from interop.guest import Kind, Received, Will
from interop.guests import KINDS

if TYPE_CHECKING:
    from interop.guests import Guests
    from interop.house import House

PAYLOADS = (b"", b"plain", "Grüße, 世界".encode(), b'{"a": [1, 2]}', b"x" * 20_000)

every_kind = pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=str(kind), marks=pytest.mark.tools(*kind.tools)) for kind in KINDS]
)


@every_kind
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_arrive_as_they_were_sent(kind: Kind, qos: int, house: House, guests: Guests) -> None:
    """Each payload arrives once, in order, at the QoS of both ends."""
    alice, bob = house.people("alice", "bob")
    topic = f"home/{alice.address}/door"
    listener, sender = guests.guest(kind, bob), guests.guest(kind, alice)
    listener.come([(f"home/{alice.address}/+", qos)])
    if kind.name != "mosquitto":
        sender.come()
    for payload in PAYLOADS:
        sender.publish(topic, payload, qos)
    listener.expect(len(PAYLOADS))

    assert [Received(topic, payload, qos, retain=False) for payload in PAYLOADS] == listener.received


@every_kind
def test_a_retained_message_waits_for_who_comes_later(kind: Kind, house: House, guests: Guests) -> None:
    """The newest is given at subscription with RETAIN set; an empty payload takes it away."""
    alice, bob = house.people("alice", "bob")
    topic = f"home/{alice.address}/lamp"
    sender = guests.guest(kind, alice)
    if kind.name != "mosquitto":
        sender.come()
    for payload in (b"on", b"off"):
        sender.publish(topic, payload, 1, retain=True)
    early, late = guests.guest(kind, bob, "early"), guests.guest(kind, bob, "late")
    early.come([(f"home/{alice.address}/#", 1)])
    early.expect(1)
    sender.publish(topic, b"", 1, retain=True)
    early.expect(2)
    late.come([(f"home/{alice.address}/#", 1)])
    sender.publish(topic, b"live", 1)
    late.expect(1)

    assert [Received(topic, b"off", 1, retain=True), Received(topic, b"", 1, retain=False)] == early.received[:2]
    assert [Received(topic, b"live", 1, retain=False)] == late.received


@every_kind
def test_a_will_is_published_for_who_vanishes(kind: Kind, house: House, guests: Guests) -> None:
    """A connection that is cut fires the will; one that says DISCONNECT does not."""
    alice, bob = house.people("alice", "bob")
    topic = f"home/{alice.address}/state"
    watcher = guests.guest(kind, bob)
    watcher.come([(topic, 1)])
    for name in ("polite", "lost"):
        guest = guests.guest(kind, alice, name)
        guest.come([(f"home/{alice.address}/nothing", 1)], will=Will(topic, f"{name} is gone".encode()))
        if name == "polite":
            guest.leave()
        else:
            guest.vanish()
    # On SIGTERM mosquitto_sub of 5.0 asks for its will: DISCONNECT with reason code 0x04 [MQTT-3.14.4-3].
    names = ["polite", "lost"] if (kind.name, kind.version) == ("mosquitto", 5) else ["lost"]
    watcher.expect(len(names))

    assert [Received(topic, f"{name} is gone".encode(), 1, retain=False) for name in names] == watcher.received


@every_kind
def test_a_kept_session_gets_what_it_missed(kind: Kind, house: House, guests: Guests) -> None:
    """Without a new subscription, all that came while the client was away arrives in order, and the session is told."""
    alice, bob = house.people("alice", "bob")
    filters = [(f"home/{alice.address}/#", 1)]
    topic = f"home/{alice.address}/bell"
    sleeper, sender = guests.guest(kind, bob), guests.guest(kind, alice)
    first = sleeper.come(filters, keeps=True)
    sleeper.leave()
    if kind.name != "mosquitto":
        sender.come()
    sent = [f"ring {number}".encode() for number in range(5)]
    for payload in sent:
        sender.publish(topic, payload, 1)
    # mosquitto_sub cannot but subscribe again.
    second = sleeper.come(filters if kind.name == "mosquitto" else (), keeps=True)
    sleeper.expect(len(sent))

    assert [Received(topic, payload, 1, retain=False) for payload in sent] == sleeper.received
    assert (first, second) in ((False, True), (None, None))


@every_kind
def test_a_message_to_bob_is_sent_and_delivered(kind: Kind, house: House, guests: Guests) -> None:
    """bob has never connected; alice sees `sent`, and when his client has the message, `delivered`."""
    alice, bob = house.people("alice", "bob")
    phone = guests.guest(kind, alice)
    phone.come([(f"m/{alice.address}/in/#", 1)])
    phone.publish(f"m/{alice.address}/out/u/{bob.address}/c1", "schön".encode(), 1)
    phone.expect(1, f"m/{alice.address}/in/status/c1")
    laptop = guests.guest(kind, bob, "laptop")
    laptop.come([(f"m/{bob.address}/in/#", 1)])
    (message,) = laptop.expect(1, f"m/{bob.address}/in/u/{alice.address}/")
    statuses = [json.loads(one.payload) for one in phone.expect(2, f"m/{alice.address}/in/status/c1")]

    assert "schön".encode() == message.payload
    assert [("sent", None), ("delivered", laptop.client_id)] == [(one["name"], one.get("device")) for one in statuses]
    assert statuses[0]["mid"] in message.topic
    assert message.topic.endswith("/seq=1" if kind.version == 4 else statuses[0]["mid"])


@every_kind
def test_a_refusal_is_told_to_any_client(kind: Kind, house: House, guests: Guests) -> None:
    """A message to nobody is answered by its status, and the connection goes on."""
    (alice,) = house.people("alice")
    phone = guests.guest(kind, alice)
    phone.come([(f"m/{alice.address}/in/#", 1)])
    phone.publish(f"m/{alice.address}/out/u/nobody/c2", b"hello?", 0)
    (refused,) = phone.expect(1)
    phone.publish(f"m/{alice.address}/out/u/{alice.address}/c3", b"note to self", 1)
    phone.expect(1, f"m/{alice.address}/in/status/c3")

    assert (131, "invalid-destination") == tuple(json.loads(refused.payload)[key] for key in ("status", "name"))


def test_the_readme_lists_every_client() -> None:
    """Its table has a row for each kind, with the versions of MQTT, the transports, and MQTT.js as it is pinned."""
    home = Path(__file__).resolve().parents[2]
    readme = (home / "README.md").read_text(encoding="utf-8")
    pinned = json.loads((home / "tests/interop/js/package.json").read_text())["dependencies"]["mqtt"]
    names = {
        "mosquitto": "| `mosquitto_pub` and",
        "node": f"| MQTT.js in Node | {pinned},",
        "chromium": f"| MQTT.js in a browser | {pinned},",
    }
    words = {4: "3.1.1", 5: "5.0", "tcp": "TCP", "ws": "WebSocket"}
    rows = {
        kind: [line for line in readme.splitlines() if line.startswith(names.get(kind.name, f"| {kind.name}"))]
        for kind in KINDS
    }

    assert [] == [str(kind) for kind, lines in rows.items() if len(lines) != 1]
    assert [] == [
        str(kind) for kind, (row,) in rows.items() if words[kind.version] not in row or words[kind.transport] not in row
    ]
