"""Packets as a client may send them, drawn from a seed: every field, and every value at which something changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.proof.grammar.drafts import Draft
from mesimqtt.testing import wire, wire5

if TYPE_CHECKING:
    from random import Random

LEVELS = ("a", "b", "a/b", "a//b", "b/", "A", "é", "a b", "a/b/c", "$x", "a/" + "x" * 120, "\ufeff")
FILTERS = ("#", "a", "+", "a/+", "+/b", "a/#", "+/#", "a/b/#", "A", "b/+", "é", "/", "a//+", "$x")
IDS = (1, 2, 255, 256, 65_534, 65_535)
EXPIRIES = (0, 60, 3_600, 0xFFFFFFFE, 0xFFFFFFFF)
UNKNOWN_IDS = (40_001, 65_535)
DISCONNECTS = (0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99)


class Drawing:
    """Draws packets of one client. All that it does stays under the topic `prefix`, apart from all other sequences."""

    def __init__(self, chance: Random, version: int, prefix: str) -> None:
        self.chance = chance
        self.is_five = version == 5
        self.version = version
        self.prefix = prefix
        self.client_id = f"{prefix}-a"
        self.aliases: dict[int, str] = {}
        self._number = 0

    # ---- fields -------------------------------------------------------------------------------------------------

    def topic(self) -> str:
        """Return a topic name under the prefix."""
        return f"{self.prefix}/{self.chance.choice(LEVELS)}"

    def topic_filter(self) -> str:
        """Return a topic filter under the prefix, shared or not."""
        name = f"{self.prefix}/{self.chance.choice(FILTERS)}"
        return f"$share/g/{name}" if self.chance.random() < 0.08 else name

    def payload(self, *, is_small: bool = False) -> bytes:
        """Return a payload that no other of the sequence is."""
        self._number += 1
        size = (
            self.chance.choice((0, 0, 1, 120, 127, 128, 300)) if is_small else self.chance.choice((0, 1, 300, 16_400))
        )
        return b"%s:%d:" % (self.prefix.encode(), self._number) + b"x" * size

    def properties(self, **some: Any) -> bytes:  # noqa: ANN401 - one of each property's types
        """Return a property block with some of these properties; nothing on 3.1.1."""
        if not self.is_five:
            return b""
        return wire5.properties(**{name: value for name, value in some.items() if self.chance.random() < 0.25})

    def _pairs(self) -> list[tuple[str, str]]:
        return [
            self.chance.choice((("k", "v"), ("k", ""), ("", "v"), ("é", "世")))
            for _ in range(self.chance.randint(1, 3))
        ]

    def _with_block(self, **fields: bytes) -> dict[str, bytes]:
        return {name: raw for name, raw in fields.items() if name != "properties" or self.is_five}

    # ---- packets ------------------------------------------------------------------------------------------------

    def connect(self, *, plain: bool = False) -> Draft:
        """Return a CONNECT; a plain one has no will and nothing unusual."""
        chance = self.chance
        flags = 0 if chance.random() < 0.5 else 2
        tail: dict[str, bytes] = {"client_id": wire.text(self.client_id)}
        if not plain and chance.random() < 0.4:
            qos, keeps = chance.randrange(3), chance.random() < 0.3
            flags |= 4 | qos << 3 | (0x20 if keeps else 0)
            if self.is_five:
                tail["will_properties"] = self.properties(
                    payload_format_indicator=0, content_type="t", user_property=self._pairs(), response_topic="r",
                    correlation_data=b"\0\xff", message_expiry_interval=600,
                )  # fmt: skip
            tail |= {"will_topic": wire.text(self.topic()), "will_payload": wire.text(self.payload(is_small=True))}
        if not plain and chance.random() < 0.3:
            flags |= 0x80
            tail["user_name"] = wire.text(chance.choice(("u", "é", "user name")))
            if chance.random() < 0.5:
                flags |= 0x40
                tail["password"] = wire.text(chance.choice((b"p", b"\0\xff", b"")))
        block = self.properties(
            session_expiry_interval=chance.choice(EXPIRIES), receive_maximum=chance.choice((1, 2, 20, 65_535)),
            topic_alias_maximum=chance.choice((0, 1, 5)), request_problem_information=chance.choice((0, 1)),
            request_response_information=0, user_property=self._pairs(), maximum_packet_size=100_000,
        )  # fmt: skip
        head = {"protocol": wire.text("MQTT"), "level": bytes((self.version,)), "flags": bytes((flags,))}
        keep_alive = chance.choice((60, 600, 1_200)).to_bytes(2)
        self.aliases.clear()
        return Draft("CONNECT", self._with_block(**head, keep_alive=keep_alive, properties=block, **tail))

    def publish(self, *, qos: int | None = None) -> Draft:
        """Return a PUBLISH."""
        chance = self.chance
        level = chance.randrange(3) if qos is None else qos
        first = 0x30 | level << 1 | (chance.random() < 0.25) | (8 if level and chance.random() < 0.1 else 0)
        topic, alias = self.topic(), b""
        if self.is_five and chance.random() < 0.2:
            number = chance.randint(1, 10)
            alias = wire5.one("topic_alias", number)
            if number in self.aliases and chance.random() < 0.6:
                topic = ""
            else:
                self.aliases[number] = topic
        block = self.properties(
            payload_format_indicator=1, message_expiry_interval=chance.choice((1_000, 0xFFFFFFFF)), content_type="text",
            response_topic=f"{self.prefix}/answers", correlation_data=b"\0\x01", user_property=self._pairs(),
        )  # fmt: skip
        if alias:
            content = block[1:] + alias  # what is drawn here stays below 128 bytes
            block = wire5.variable(len(content)) + content
        payload = b"" if chance.random() < 0.05 else self.payload()
        number_ = {"packet_id": chance.choice(IDS).to_bytes(2)} if level else {}
        return Draft(
            "PUBLISH", self._with_block(topic=wire.text(topic), **number_, properties=block, payload=payload), first
        )

    def subscribe(self) -> Draft:
        """Return a SUBSCRIBE of one to three filters."""
        chance = self.chance
        filters: dict[str, bytes] = {}
        for number in range(chance.choice((1, 1, 1, 2, 3))):
            name, options = self.topic_filter(), chance.randrange(3)
            if self.is_five:
                options |= chance.choice((0, 0, 8, 0x10, 0x20))
                options |= 4 if chance.random() < 0.15 and not name.startswith("$share") else 0
            filters |= {f"filter_{number}": wire.text(name), f"options_{number}": bytes((options,))}
        block = self.properties(
            subscription_identifier=chance.choice((1, 127, 128, 268_435_455)), user_property=self._pairs()
        )
        return Draft(
            "SUBSCRIBE", self._with_block(packet_id=chance.choice(IDS).to_bytes(2), properties=block, **filters)
        )

    def unsubscribe(self) -> Draft:
        """Return an UNSUBSCRIBE."""
        filters = {
            f"filter_{number}": wire.text(self.topic_filter()) for number in range(self.chance.choice((1, 1, 2)))
        }
        block = self.properties(user_property=self._pairs())
        packet_id = self.chance.choice(IDS).to_bytes(2)
        return Draft("UNSUBSCRIBE", self._with_block(packet_id=packet_id, properties=block, **filters))

    def ack(self, kind: str, packet_id: int) -> Draft:
        """Return an acknowledgement; on 5.0 sometimes in one of its longer forms."""
        fields = {"packet_id": packet_id.to_bytes(2)}
        if self.is_five and self.chance.random() < 0.4:
            fields["code"] = bytes((0,))
            if self.chance.random() < 0.5:
                fields["properties"] = self.properties(reason_string="why", user_property=self._pairs())
        return Draft(kind, fields)

    def unknown_ack(self) -> Draft:
        """Return an acknowledgement of nothing."""
        kind = self.chance.choice(("PUBACK", "PUBREC", "PUBREL", "PUBCOMP"))
        return self.ack(kind, self.chance.choice(UNKNOWN_IDS)).having("of nothing")

    def ping(self) -> Draft:
        """Return a PINGREQ."""
        return Draft("PINGREQ")

    def disconnect(self) -> Draft:
        """Return a DISCONNECT; on 5.0 with a reason."""
        fields: dict[str, bytes] = {}
        if self.is_five and self.chance.random() < 0.6:
            fields["code"] = bytes((self.chance.choice(DISCONNECTS),))
            if self.chance.random() < 0.4:
                fields["properties"] = self.properties(reason_string="why", user_property=self._pairs())
        return Draft("DISCONNECT", fields)
