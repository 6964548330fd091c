"""A granted subscription as one number: QoS, the options of 5.0 and the Subscription Identifier [MQTT 5.0, 3.8.3.1]."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from mesimqtt.engine.packets import encode_length

if TYPE_CHECKING:
    from mesimqtt.engine.session import Session

NO_LOCAL: Final = 0x04
RETAIN_AS_PUBLISHED: Final = 0x08
RETAIN_HANDLING: Final = 0x30  # 0: send retained messages, 0x10: only if the subscription is new, 0x20: never
RETAIN_IF_NEW: Final = 0x10
RETAIN_NEVER: Final = 0x20
RESERVED: Final = 0xC0
IDENTIFIER_SHIFT: Final = 8


class Receiver(NamedTuple):
    """Who gets the messages of one topic, and how. `identifiers` are encoded properties.

    `no_local`: at least one of its subscriptions is not for what the client published itself; `own` is how it
    gets that by its other subscriptions, if at all.
    """

    session: Session
    qos: int
    no_local: bool
    keeps_retain: bool
    identifiers: bytes
    own: Receiver | None = None

    @property
    def is_plain(self) -> bool:
        """Tell whether a packet without properties and with RETAIN 0 can go to it as it came."""
        return not self.no_local and not self.identifiers


def receiver(session: Session, grant: int | tuple[int, ...]) -> Receiver:
    """Join the grants of one session: one copy, the highest QoS, all identifiers [MQTT-3.3.4-2], [MQTT-3.3.4-3]."""
    if isinstance(grant, int):
        return Receiver(session, grant & 3, bool(grant & NO_LOCAL), bool(grant & RETAIN_AS_PUBLISHED), _property(grant))
    local = tuple(one for one in grant if not one & NO_LOCAL)
    return Receiver(
        session,
        max(one & 3 for one in grant),
        len(local) < len(grant),
        any(one & RETAIN_AS_PUBLISHED for one in grant),
        b"".join(_property(one) for one in grant),
        receiver(session, local) if local and len(local) < len(grant) else None,
    )


@lru_cache(maxsize=1024)
def _encoded(identifier: int) -> bytes:
    return b"\x0b" + encode_length(identifier)


def _property(grant: int) -> bytes:
    return _encoded(grant >> IDENTIFIER_SHIFT) if grant >> IDENTIFIER_SHIFT else b""
