"""Presence that users tell themselves: typing and the like, to who is online now; what says "typing" ends by itself."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from mesimqtt.domain.groups import MemberFlag
from mesimqtt.domain.policies import Block
from mesimqtt.domain.strict_json import read_json

if TYPE_CHECKING:
    from mesimqtt.messaging.devices import Device
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Target
    from mesimqtt.messaging.people import People

# Mesibo's codes: NONE 0, ONLINE 1, ONLINERESP 2, TYPING 3, TYPINGCLEARED 4, JOINED 10, LEFT 11.
TYPING, TYPING_CLEARED = 3, 4
CLEARED = b'{"presence":4}'
RESERVED = ("state", "version")  # of a JSON object: what the server says itself on that topic
OPEN_MAX = 16  # conversations in which one device is typing at once
_BLANK = b" \t\r\n\xef\xbb\xbf"


class PresenceError(ValueError):
    """A payload that could be taken for the server's own word; the text says why."""


class Typing:
    """Hands on what users tell of themselves, and ends what they leave open."""

    def __init__(self, hub: Hub, people: People) -> None:
        self._hub = hub
        self._people = people
        self._open: dict[Device, OrderedDict[bytes, tuple[float, Target]]] = {}

    def publish(self, device: Device, key: bytes, target: Target, payload: bytes) -> None:
        """Hand one payload on; `key` is the place after `out/presence/`.

        Raises:
            PresenceError: it begins like JSON and is none, or says what only the server says.

        """
        code, interval_s = _read(payload)
        self._settle(device, key)
        if code == TYPING:
            longest_s = self._hub.settings.presence.typing_s
            until = self._hub.now() + (min(interval_s, longest_s) if interval_s > 0 else longest_s)
            places = self._open.setdefault(device, OrderedDict())
            if len(places) >= OPEN_MAX:
                self._end(device, *next(iter(places.items())))
            places[key] = (until, target)
        self._hand_on(device, target, payload)

    def disconnected(self, device: Device) -> None:
        """End what a connection left open."""
        if device in self._open:
            for key, entry in list(self._open[device].items()):
                self._end(device, key, entry)

    def tick(self, now: float) -> None:
        """End what has lasted long enough."""
        for device, places in list(self._open.items()):
            for key, entry in [found for found in places.items() if found[1][0] <= now]:
                self._end(device, key, entry)

    def _settle(self, device: Device, key: bytes) -> None:
        places = self._open.get(device)
        if places is not None:
            places.pop(key, None)
            if not places:
                del self._open[device]

    def _end(self, device: Device, key: bytes, entry: tuple[float, Target]) -> None:
        self._settle(device, key)
        _until, old = entry
        kind, name = ("u", old.names.peer) if old.group is None else ("g", old.names.group)
        target = self._hub.directory.target(device.user, key, kind, name or "")  # as things are now
        if target is not None:
            self._hand_on(device, target, CLEARED)

    def _hand_on(self, device: Device, target: Target, payload: bytes) -> None:
        if target.verdict is not None:
            return  # to whom nothing of his goes; he is told of it when he sends a message
        user, group, directory = device.user, target.group, self._hub.directory
        if group is not None:
            hearing = [number for number, rights in group.members.items() if rights & MemberFlag.SUBS]
            numbers = [number for number in hearing if number != user.id and number not in target.held]
            recipients = [directory.known_user(number) for number in numbers]
            place = f"presence/g/{group.level}/{user.level}"
        else:
            recipients = [target.peer]
            place = f"presence/u/{user.level}"
        for recipient in recipients:
            if recipient is None or not recipient.devices:
                continue
            if recipient.is_discreet and self._people.is_blocked(recipient, user, Block.PRESENCE):
                continue
            for other in recipient.devices:
                if other is not device:
                    self._hub.tell(other, place, payload)


def _read(payload: bytes) -> tuple[int, float]:
    """Return the code and the interval of a payload; (0, 0) for one that is no JSON object."""
    text = payload.lstrip(_BLANK)
    if not text.startswith(b"{"):
        return 0, 0.0
    try:
        said = read_json(text)
    except ValueError as error:
        raise PresenceError(f"a payload that begins with {{ is JSON: {error}") from None
    if any(word in said for word in RESERVED):
        raise PresenceError(f"{' and '.join(RESERVED)} are the server's own words")
    code, interval_s = said.get("presence"), said.get("interval", 0)
    is_number = type(interval_s) in (int, float)
    return (code if type(code) is int else 0), (float(interval_s) if is_number else 0.0)
