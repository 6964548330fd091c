"""A packet as its fields, before it is bytes: what can be changed in it one at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mesimqtt.testing import wire

ANSWERS = {
    "CONNECT": "CONNACK",
    "PUBREL": "PUBCOMP",
    "SUBSCRIBE": "SUBACK",
    "UNSUBSCRIBE": "UNSUBACK",
    "PINGREQ": "PINGRESP",
}
FIRST = {
    "CONNECT": 0x10, "PUBLISH": 0x30, "PUBACK": 0x40, "PUBREC": 0x50, "PUBREL": 0x62, "PUBCOMP": 0x70,
    "SUBSCRIBE": 0x82, "UNSUBSCRIBE": 0xA2, "PINGREQ": 0xC0, "DISCONNECT": 0xE0, "AUTH": 0xF0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Draft:
    """One packet. `fields` are its parts in their order, each as its bytes; `label` says what was done to it.

    `length` is what is added to the Remaining Length that is true, `spelling` how many bytes it is written in
    beyond those needed, `tail` follows behind the packet.
    """

    kind: str
    fields: dict[str, bytes] = field(default_factory=dict)
    first: int = -1
    label: str = ""
    length: int = 0
    spelling: int = 0
    tail: bytes = b""

    @property
    def first_byte(self) -> int:
        """The packet's first byte."""
        return FIRST[self.kind] if self.first < 0 else self.first

    @property
    def qos(self) -> int:
        """The QoS that the first byte of a PUBLISH says."""
        return self.first_byte >> 1 & 3

    @property
    def answer(self) -> str:
        """The kind of packet that answers it, if it is a good one; '' for none."""
        if self.kind == "PUBLISH":
            return ("", "PUBACK", "PUBREC", "")[self.qos]
        return ANSWERS.get(self.kind, "")

    @property
    def name(self) -> str:
        """The kind, and what was done to it."""
        return f"{self.kind} {self.label}".strip()

    def having(self, label: str, **fields: bytes) -> Draft:
        """Return it with some fields changed."""
        return replace(self, label=label, fields={**self.fields, **fields})

    def lacking(self, label: str, name: str) -> Draft:
        """Return it without a field."""
        return replace(self, label=label, fields={key: raw for key, raw in self.fields.items() if key != name})

    def encode(self) -> bytes:
        """Return its bytes."""
        body = b"".join(self.fields.values())
        size = bytearray(wire.length(max(0, len(body) + self.length)))
        for _ in range(self.spelling):
            size[-1] |= 0x80
            size.append(0)
        return bytes((self.first_byte,)) + bytes(size) + body + self.tail
