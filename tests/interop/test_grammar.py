"""The grammar against mosquitto: the trial, short; and every difference that it calls known, shown once by itself."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from mesimqtt.proof.grammar.known import DIFFERENCES
from mesimqtt.proof.grammar.play import play
from mesimqtt.proof.grammar.sequences import Sequence, Step
from mesimqtt.proof.grammar.servers import both
from mesimqtt.proof.grammar.trial import Grammar
from mesimqtt.testing import wire, wire5

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.proof.grammar.play import Address

pytestmark = pytest.mark.tools("mosquitto")

CONNECTS = {4: wire.connect("x-a", keep_alive=600), 5: wire5.connect("x-a", keep_alive=600)}
KEPT = wire.connect("x-a", clean=False, keep_alive=600)
SECOND = Step("a", "STRANGER a second CONNECT", wire.connect("other"))
PING = Step("a", "PINGREQ", wire.PINGREQ, "PINGRESP")


def said(name: str, data: bytes, answer: str = "") -> Step:
    return Step("a", name, data, answer)


def opened(name: str, data: bytes) -> Step:
    return Step("new", name, data)


def published(raw: bytes) -> bytes:
    return wire5.publish("x/a", b"x:1:", raw=raw)


def with_will(version: int) -> bytes:
    if version == 4:
        return wire.connect("x-a", keep_alive=600, will=("x/w", b"x:will:", 0, False))
    return wire5.connect("x-a", keep_alive=600, will=wire5.will("x/w", b"x:will:"))


HALF = wire.packet(0x82, b"\0\1" + wire.text("x/a") + b"\0" + wire.text("x/b"))
# name of the difference -> version and what A does until it shows
EXAMPLES: dict[str, tuple[int, list[Step]]] = {
    "flags": (4, [said("PUBACK with other flags", b"\x41\2\0\7")]),
    "servers' packets": (4, [said("STRANGER SUBACK", b"\x90\3\0\1\0")]),
    "lengths": (4, [said("PUBACK with more bytes", b"\x40\3\0\7\0")]),
    "what follows": (4, [said("PUBLISH a byte longer than it says", wire.publish("x/a", b"x:1:") + b"x")]),
    "long spelling": (5, [said("PUBACK with a longer spelling of its length", b"\x40\x82\0\0\7")]),
    "reason codes": (5, [said("PUBACK with code 0x7f", wire5.puback(7, 0x7F))]),
    "DUP": (4, [said("PUBLISH with DUP and QoS 0", wire.publish("x/a", b"x:1:", dup=True))]),
    "subscription identifier": (
        5,
        [said("PUBLISH with a subscription identifier from a client", published(b"\x0b\1"))],
    ),
    "payload format": (5, [said("PUBLISH with payload format 2", published(b"\1\2"))]),
    "response topic": (5, [said("PUBLISH with a wildcard in the response topic", published(b"\x08\0\1#"))]),
    "authentication data": (
        5,
        [opened("CONNECT with authentication data alone", wire5.connect("x-a", authentication_data=b"x"))],
    ),
    "no local": (5, [said("SUBSCRIBE with no local on a share", wire5.subscribe(("$share/g/x/a", 4)))]),
    "3.1": (
        4,
        [opened("CONNECT with the protocol name of 3.1", b"\x10\x11\0\6MQIsdp\3\2\2\x58\0\3x-a")],
    ),
    "shares": (4, [said("SUBSCRIBE with a share that is none", wire.subscribe(("$share//x", 1)), "SUBACK")]),
    "wildcards": (5, [said("SUBSCRIBE with a wildcard where none may be", wire5.subscribe(("x/a+", 1)))]),
    "$ topics": (4, [said("PUBLISH with $SYS as its topic", wire.publish("$SYS/x", b"x"))]),
    "long topics": (4, [said("PUBLISH with a topic of 40 levels", wire.publish("x" + "/x" * 40, b"x:1:"))]),
    "unknown packet id": (5, [said("PUBREL of nothing", wire5.pubrel(9)), PING]),
    "unacknowledged": (
        4,
        [
            opened("CONNECT", KEPT),
            said("SUBSCRIBE", wire.subscribe(("x/#", 1)), "SUBACK"),
            said("PUBLISH", wire.publish("x/a", b"x:1:", qos=1) + b"\0\0"),
        ],
    ),
    "overlapping": (
        4,
        [
            said("SUBSCRIBE", wire.subscribe(("x/+", 2), ("x/+/#", 0)), "SUBACK"),
            said("PUBLISH", wire.publish("x/a", b"x:1:", qos=1), "PUBACK"),
        ],
    ),
    "no local, changed": (
        5,
        [
            said("SUBSCRIBE", wire5.subscribe(("x/#", 4)), "SUBACK"),
            said("SUBSCRIBE", wire5.subscribe(("x/#", 0)), "SUBACK"),
            said("PUBLISH", wire5.publish("x/a", b"x:1:", qos=1), "PUBACK"),
        ],
    ),
    "retained for a share": (
        4,
        [
            said("PUBLISH", wire.publish("x/a", b"x:1:", retain=True)),
            said("SUBSCRIBE", wire.subscribe(("$share/g/x/a", 0)), "SUBACK"),
        ],
    ),
    "will on $SYS": (
        4,
        [opened("CONNECT with a will on $SYS", wire.connect("x-a", will=("$SYS/x", b"x", 0, False)))],
    ),
    "half done": (
        4,
        [
            opened("CONNECT", KEPT),
            said("SUBSCRIBE without its options", HALF),
            opened("CONNECT", KEPT),
            said("PUBLISH", wire.publish("x/a", b"x:1:")),
        ],
    ),
    "session": (4, [opened("CONNECT", KEPT), SECOND, opened("CONNECT", KEPT)]),
    "will at a second CONNECT": (4, [opened("CONNECT", with_will(4)), SECOND]),
    "will at an error": (5, [opened("CONNECT", with_will(5)), said("DISCONNECT", wire5.disconnect(0x80))]),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Address, Address]]:
    with both(tmp_path_factory.mktemp("grammar")) as addresses:
        yield addresses


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_known_difference_shows(name: str, servers: tuple[Address, Address]) -> None:
    """What the table explains is really there, and is explained by that line of it."""
    version, steps = EXAMPLES[name]
    witness = (4, wire.connect(f"b-{name}", keep_alive=600), wire.subscribe(("x/#", 1)))
    used: Counter[str] = Counter()
    _, difference = play(Sequence(0, version, "x", CONNECTS[version], witness, tuple(steps)), *servers, used)

    assert difference is None
    assert {name: 1} == used


def test_every_known_difference_has_an_example() -> None:
    """None is left in the table that nobody has seen."""
    assert [known.name for known in DIFFERENCES] == list(dict.fromkeys(known.name for known in DIFFERENCES))
    assert {known.name for known in DIFFERENCES} == EXAMPLES.keys()


def test_both_servers_understand_each_packet_alike(tmp_path) -> None:
    """The trial, short: after every step both have answered, closed and delivered alike, or it is explained."""
    outcome = Grammar().run(12, seed=1, folder=tmp_path, progress=lambda _: None)

    assert () == outcome.failures
    assert (12, 0) == (outcome.tried, outcome.failed)
    assert outcome.figures["steps"] > 30
