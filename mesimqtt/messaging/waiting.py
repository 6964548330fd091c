"""What waits until a device has room: PUBLISH packets, bounded in number and in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from mesimqtt.messaging.devices import Device, Extra

OUTBOX_MAX = 256  # handed over but waiting for the window; beyond it the store is read again
LOW_WATER = OUTBOX_MAX // 2  # at which it is
OUTBOX_BYTES_MAX = 512 * 1024  # likewise, of payloads, and of what is read at once; the last may reach beyond it
PAGE_BYTES_MIN = 64 * 1024  # of payloads that are read at first: whoever takes them gets twice as much each time
STILL_S = 5.0  # after which more is read for who has acknowledged less than half of that,
STILL_BYTES_MAX = 128 * 1024  # unless more is in flight and not on his machine: with one more the system takes no more
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


def next_page_bytes(device: Device) -> int:
    """Return how many bytes of payloads the next page may have, if the last one was taken: twice as many as that."""
    device.page_bytes = min(max(2 * device.page_bytes, PAGE_BYTES_MIN), OUTBOX_BYTES_MAX)
    return device.page_bytes


class Room:
    """Says when a page may be read from the store for a device.

    It reads, half of what may wait is free, and it has acknowledged half of what the last page may have been: of one
    that takes nothing, no more than the first is in memory. `page` is called for one that held that back for STILL_S:
    who works on one message for long gets others meanwhile, though slowly as long as none is acknowledged, and no large
    ones while those before are not on his own machine: whoever reads nothing would have them in our memory.
    """

    def __init__(self, page: Callable[[Device], None], now: Callable[[], float]) -> None:
        self._page = page
        self._now = now
        self._still: dict[Device, float] = {}  # until when each is waited for, the first one first

    def has(self, device: Device) -> bool:
        """Tell whether there is room now."""
        outbox = device.outbox
        if device.connection.congested or len(outbox) > LOW_WATER or payload_bytes(outbox) > OUTBOX_BYTES_MAX // 2:
            return False
        in_flight = _in_flight(device)
        device.held_bytes = min(device.held_bytes, in_flight)
        if 2 * (in_flight - device.held_bytes) <= max(device.page_bytes, PAGE_BYTES_MIN):
            self._still.pop(device, None)
            return True
        self._still.setdefault(device, self._now() + STILL_S)
        return False

    def tick(self, now: float) -> None:
        """Leave out of account, from now on, what has been in flight for long; to be called about once a second."""
        while self._still and self._still[device := next(iter(self._still))] <= now:
            del self._still[device]
            if device not in device.user.devices:
                continue
            in_flight, connection = _in_flight(device), device.connection
            if in_flight > STILL_BYTES_MAX and connection.engine.untaken(connection):
                self._still[device] = now + STILL_S
            else:
                device.held_bytes, device.page_bytes = in_flight, 0
                self._page(device)


def _in_flight(device: Device) -> int:
    # Not what was just committed: a conversation that goes on would hold up those that wait.
    return sum(token[1].shed for token in device.connection.claimed.values() if type(token) is tuple)
