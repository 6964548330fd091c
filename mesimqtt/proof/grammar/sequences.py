"""A sequence: what two clients say, step by step, drawn from a seed. Client A may say anything, B what is right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from mesimqtt.proof.grammar.drafts import Draft
from mesimqtt.proof.grammar.spoil import spoil, stranger
from mesimqtt.proof.grammar.valid import IDS, Drawing
from mesimqtt.testing import wire, wire5

STEPS_MAX = 10
OPEN = (
    b"open:"  # a payload of QoS 2 whose PUBREL comes later: when it is handed on is the server's choice (section 4.3.3)
)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done. `who`: `a` says `data`; `new` opens a connection for A and says it; `b` publishes; `cut`.

    `name` is the packet's kind and what is wrong with it; `answer` the kind that it is answered by if it is right.
    """

    who: str
    name: str
    data: bytes = b""
    answer: str = ""

    def __str__(self) -> str:
        return f"{self.who}: {self.name} {self.data.hex() if len(self.data) < 200 else self.data[:100].hex() + '…'}"


@dataclass(frozen=True, slots=True)
class Sequence:
    """What two clients say. `connect` is how A comes back whenever it was closed."""

    seed: int
    version: int
    prefix: str
    connect: bytes
    witness: tuple[int, bytes, bytes]  # version of B, its CONNECT and SUBSCRIBE
    steps: tuple[Step, ...]


def make_sequence(seed: int) -> Sequence:
    """Return the sequence of a seed."""
    chance = Random(seed)
    version, witness, prefix = chance.choice((4, 5)), chance.choice((4, 5)), f"s{seed}"
    drawing = Drawing(chance, version, prefix)
    connect = drawing.connect(plain=True)
    steps = [_step("new", drawing.connect())]
    for _ in range(chance.randint(2, STEPS_MAX)):
        steps += _next(drawing, chance, witness)
    return Sequence(seed, version, prefix, connect.encode(), _witness(chance, witness, prefix), tuple(steps))


def _witness(chance: Random, version: int, prefix: str) -> tuple[int, bytes, bytes]:
    qos = chance.randrange(3)
    if version == 4:
        return 4, wire.connect(f"{prefix}-b", keep_alive=600), wire.subscribe((f"{prefix}/#", qos))
    options = wire5.option(qos, as_published=chance.random() < 0.5)
    return 5, wire5.connect(f"{prefix}-b", keep_alive=600), wire5.subscribe((f"{prefix}/#", options))


def _step(who: str, *drafts: Draft) -> Step:
    first = drafts[0]
    data = b"".join(draft.encode() for draft in drafts)
    return Step(who, first.name, data, "" if first.label else drafts[-1].answer)


def _next(drawing: Drawing, chance: Random, witness: int) -> list[Step]:
    """Return the next step, now and then with what belongs to it."""
    what = chance.random()
    if what < 0.08:
        return [_step("new", drawing.connect())]
    if what < 0.14:
        return [_step("new", spoil(drawing.connect(), chance, drawing.version))]
    if what < 0.18:
        return [
            Step("cut", "the connection is cut"),
            *([_step("b", _of_b(drawing, chance, witness))] if chance.random() < 0.5 else []),
        ]
    if what < 0.28:
        return [_step("b", _of_b(drawing, chance, witness))]
    if what < 0.31:
        return [_step("a", stranger(chance))]
    if chance.random() < 0.35:
        return [_step("a", spoil(_packet(drawing, chance, qos=chance.randrange(2)), chance, drawing.version))]
    draft = _packet(drawing, chance)
    if draft.kind == "PUBLISH" and draft.qos == 2:
        return _exactly_once(drawing, draft, chance)
    return [_step("a", draft)]


def _packet(drawing: Drawing, chance: Random, *, qos: int | None = None) -> Draft:
    """Return a good packet; a PUBLISH at this QoS, if one is given."""
    others = (drawing.subscribe, drawing.unsubscribe, drawing.unknown_ack, drawing.ping, drawing.disconnect)
    return chance.choices((lambda: drawing.publish(qos=qos), *others), (45, 22, 8, 12, 3, 6))[0]()


def _exactly_once(drawing: Drawing, draft: Draft, chance: Random) -> list[Step]:
    """Return a PUBLISH at QoS 2 and its PUBREL, in one segment or two; twice with DUP now and then."""
    number = int.from_bytes(draft.fields["packet_id"])
    release = drawing.ack("PUBREL", number)
    again = [replace(draft, first=draft.first_byte | 8)] if chance.random() < 0.2 else []
    if chance.random() < 0.6:
        return [_step("a", draft, *again, release)]
    opened = draft.having("", payload=OPEN + draft.fields["payload"])
    return [
        _step("a", opened),
        *[_step("a", replace(opened, first=opened.first_byte | 8)) for _ in again],
        _step("a", release),
    ]


def _of_b(drawing: Drawing, chance: Random, version: int) -> Draft:
    """Return a PUBLISH of the witness, a good one at QoS 0 or 1."""
    qos = chance.randrange(2)
    fields = {"topic": wire.text(drawing.topic())}
    if qos:
        fields["packet_id"] = chance.choice(IDS).to_bytes(2)
    if version == 5:
        fields["properties"] = b"\0"
    return Draft("PUBLISH", {**fields, "payload": drawing.payload()}, 0x30 | qos << 1 | (chance.random() < 0.25))
