"""What only MQTT 5.0 has, shared subscriptions for both versions, and all clients in one room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from integration.server import wait_until
from interop.guest import Kind, Properties
from interop.guests import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _pytest.mark import ParameterSet

    from interop.guest import Received
    from interop.guests import Guests
    from interop.house import House

SAID = Properties(
    content_type="application/json",
    response_topic="home/answers",
    correlation=b"42",
    expiry_s=600,
    user=(("colour", "grün"), ("a", "b"), ("empty", "")),
)
PAHO4, PAHO5 = Kind("paho", 4), Kind("paho", 5)


def cases(kinds: Iterable[Kind]) -> list[ParameterSet]:
    return [pytest.param(kind, id=str(kind), marks=pytest.mark.tools(*kind.tools)) for kind in kinds]


@pytest.mark.parametrize("kind", cases(kind for kind in KINDS if kind.version == 5))
def test_properties_arrive(kind: Kind, house: House, guests: Guests) -> None:
    """Content type, response topic, correlation data, user properties in their order, an expiry that counts down."""
    alice, bob = house.people("alice", "bob")
    listener, sender = guests.guest(kind, bob), guests.guest(kind, alice)
    listener.come([(f"home/{alice.address}/#", 1)])
    if kind.name != "mosquitto":
        sender.come()
    sender.publish(f"home/{alice.address}/lamp", b"{}", 1, properties=SAID)
    (came,) = listener.expect(1)
    shown = came.properties

    assert (SAID.content_type, SAID.response_topic, SAID.correlation, SAID.user) == (
        shown.content_type,
        shown.response_topic,
        shown.correlation,
        shown.user,
    )
    assert shown.expiry_s is not None
    assert 590 <= shown.expiry_s <= 600


@pytest.mark.parametrize("kind", cases(KINDS))
def test_a_shared_subscription_gives_each_message_to_one(kind: Kind, house: House, guests: Guests) -> None:
    """Of two members each gets some, nobody gets what the other got; 3.1.1 clients may share, too."""
    alice, bob = house.people("alice", "bob")
    topic = f"home/{alice.address}/work"
    members = [guests.guest(kind, bob, f"worker{number}") for number in range(2)]
    for member in members:
        member.come([(f"$share/team/{topic}", 1)])
    sender = guests.guest(PAHO4, alice)
    sender.come()
    sent = [f"{number}".encode() for number in range(20)]
    for payload in sent:
        sender.publish(topic, payload, 1)
    wait_until(lambda: sum(len(member.received) for member in members) >= len(sent), what="all are shared out")
    shares = [[one.payload for one in member.received] for member in members]

    assert sorted(sent) == sorted(shares[0] + shares[1])
    assert all(shares)
    assert [sorted(share, key=int) for share in shares] == shares


@pytest.mark.parametrize("kind", cases(kind for kind in KINDS if kind.version == 5))
def test_parameters_are_user_properties(kind: Kind, house: House, guests: Guests) -> None:
    """A 5.0 client writes and reads parameters as user properties; for a 3.1.1 client they stand in the topic."""
    alice, bob, carol = house.people("alice", "bob", "carol")
    sender = guests.guest(kind, alice)
    sender.come([(f"m/{alice.address}/in/#", 1)])
    listeners = {bob: guests.guest(kind, bob), carol: guests.guest(PAHO4, carol)}
    for person, guest in listeners.items():
        guest.come([(f"m/{person.address}/in/#", 1)])
        given = Properties(content_type="text/plain", user=(("type", "7"), ("where", "hall")))
        sender.publish(f"m/{alice.address}/out/u/{person.address}/c1{person.address}", b"hi", 1, properties=given)
    (to_bob,), (to_carol,) = (guest.expect(1) for guest in listeners.values())

    assert (("seq", "1"), ("type", "7"), ("where", "hall")) == to_bob.properties.user
    assert "text/plain" == to_bob.properties.content_type
    assert mid_of(to_bob) == to_bob.topic.rpartition("/")[2]
    assert to_carol.topic.endswith(f"{mid_of(to_carol)}/seq=1&type=7&where=hall&content-type=text%2Fplain")


def test_3_1_1_and_5_0_write_to_each_other(house: House, guests: Guests) -> None:
    """What a 3.1.1 client puts into the topic, a 5.0 client finds in user properties."""
    alice, bob = house.people("alice", "bob")
    sender, listener = guests.guest(PAHO4, alice), guests.guest(PAHO5, bob)
    listener.come([(f"m/{bob.address}/in/u/#", 1)])
    sender.come()
    sender.publish(f"m/{alice.address}/out/u/{bob.address}/c1/type=7&where=in%20the%20hall", b"hi", 1)
    (came,) = listener.expect(1)

    assert (("seq", "1"), ("type", "7"), ("where", "in the hall")) == came.properties.user
    assert mid_of(came) == came.topic.rpartition("/")[2]


@pytest.mark.tools("mosquitto_pub", "node", "mqtt.js", "chromium")
def test_all_of_them_in_one_room(house: House, guests: Guests) -> None:
    """Every kind of client publishes once, and every one receives all, whoever speaks what over which transport."""
    (host,) = house.people("host")
    room = [guests.guest(kind, host, kind.name) for kind in KINDS]
    for guest in room:
        guest.come([("home/room/#", 1)])
    for guest in room:
        guest.publish(f"home/room/{guest.kind}", f"{guest.kind} was here".encode(), 1)
    wanted = [(f"home/room/{kind}", f"{kind} was here".encode()) for kind in KINDS]

    assert {str(guest.kind): wanted for guest in room} == {
        str(guest.kind): [(one.topic, one.payload) for one in guest.expect(len(room))] for guest in room
    }


def mid_of(message: Received) -> str:
    return message.topic.split("/")[5]
