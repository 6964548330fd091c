"""What waits until a device has room: PUBLISH packets, bounded in number and in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from mesimqtt.messaging.devices import Extra

OUTBOX_MAX = 256  # handed over but waiting for the window; beyond it the store is read again
LOW_WATER = OUTBOX_MAX // 2  # at which it is
OUTBOX_BYTES_MAX = 512 * 1024  # likewise, of payloads, and of what is read at once; the last may reach beyond it
OUTBOX_LARGE = OUTBOX_BYTES_MAX // OUTBOX_MAX  # so many smaller ones are never so much together


class Waiting(NamedTuple):
    """A PUBLISH that waits for room."""

    topic: bytes
    payload: bytes
    qos: int
    token: object
    extra: Extra


def payload_bytes(waiting: Collection[Waiting]) -> int:
    """Return how large the payloads are that wait."""
    return sum(len(each.payload) for each in waiting)


def has_space(outbox: Collection[Waiting]) -> bool:
    """Tell whether messages may be read from the store for a device: half of what may wait is free."""
    return len(outbox) <= LOW_WATER and payload_bytes(outbox) <= OUTBOX_BYTES_MAX // 2
