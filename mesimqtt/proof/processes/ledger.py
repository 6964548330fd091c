"""What the clients of one run saw, and whether it is what was promised."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mesimqtt.proof import checker
from mesimqtt.proof.checker import Accepted, Delivery, StatusStep
from mesimqtt.proof.steps import READ

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.proof.processes.link import Device


@dataclass(slots=True)
class Aside:
    """A message for who is online now (expiry 0) as one device got it."""

    device: Device
    connection: int
    cid: str
    mid: str


@dataclass(slots=True)
class Ledger:
    """Everything that anybody was told, in the order of its coming.

    A message's `receiver` is a user or a group; `groups` names who is in each.
    """

    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    accepted: dict[tuple[str, str], Accepted] = field(default_factory=dict)  # (sender, cid)
    deliveries: dict[Device, list[Delivery]] = field(default_factory=lambda: defaultdict(list))
    steps: list[StatusStep] = field(default_factory=list)
    asides: list[Aside] = field(default_factory=list)
    marked: dict[tuple[str, str], str] = field(default_factory=dict)  # (reader, mid) -> sender: PUBACK of a read mark
    excused: str = ""  # the reason for which messages may be refused at the moment
    is_final: bool = False  # whoever was refused is to have nothing accepted any more
    ended: set[str] = field(default_factory=set)  # users who were refused since `is_final`
    refused: set[tuple[str, str]] = field(default_factory=set)  # (sender, cid), and not accepted since
    complaints: list[str] = field(default_factory=list)  # what no checker sees: a refusal, a topic that cannot be

    def accept(self, sender: str, receiver: str, cid: str, by: str) -> None:
        """Write down that the server took a message; the first to say so counts."""
        if by == "PUBACK" and sender in self.ended:  # SENT may wait for its turn behind others
            self.complaints.append(f"accepted after a failed sync: {cid} of {sender}")
        self.accepted.setdefault((sender, cid), Accepted(sender, receiver, cid, by))
        self.refused.discard((sender, cid))

    def refuse(self, sender: str, cid: str) -> None:
        """Write down a refusal that is excused."""
        self.refused.add((sender, cid))
        if self.is_final:
            self.ended.add(sender)

    def recipients(self, one: Accepted) -> tuple[str, ...]:
        """Return the users for whom a message is."""
        return tuple(user for user in self.groups.get(one.receiver, (one.receiver,)) if user != one.sender)

    def owed(self, device: Device) -> list[Accepted]:
        """Return what must have come to a device in the end."""
        return [one for one in self.accepted.values() if device.user in self.recipients(one)]

    def check(self) -> list[str]:
        """Return a sentence for everything that is not as promised; an empty list is a pass."""
        everything = [one for each in self.deliveries.values() for one in each]
        found = list(self.complaints)
        for device, deliveries in self.deliveries.items():
            found += (f"{device}: {each}" for each in self._of_device(device, deliveries))
        found += checker.backward(self.steps)
        found += checker.unmatched(everything, self.steps)
        found += (
            f"refused and delivered: {one.cid} of {one.sender}"
            for one in everything
            if (one.sender, one.cid) in self.refused
        )
        found += self._one_mid_for_all(everything)
        found += self._without_verdict()
        found += self._unread()
        found += self._bad_asides()
        return found

    def _of_device(self, device: Device, deliveries: list[Delivery]) -> Iterator[str]:
        yield from checker.lost(self.owed(device), deliveries)
        yield from checker.doubled(deliveries)
        # The order of a conversation is that of its seq, whoever of a group wrote.
        ordered = [replace(one, sender=one.receiver) if one.receiver in self.groups else one for one in deliveries]
        yield from checker.out_of_order(ordered)
        yield from checker.gaps(self._from_the_first(device, ordered))

    def _from_the_first(self, device: Device, ordered: list[Delivery]) -> list[Delivery]:
        """Count a group's seq from the member's first one, and leave out who writes there himself: gaps he has."""
        first: dict[str, int] = {}
        for one in ordered:
            first[one.receiver] = min(one.seq, first.get(one.receiver, one.seq))
        return [
            replace(one, seq=one.seq - first[one.receiver] + 1) if one.receiver in self.groups else one
            for one in ordered
            if one.receiver not in self.groups or not self._writes(device.user, one.receiver)
        ]

    def _writes(self, user: str, group: str) -> bool:
        return any(one.sender == user and one.receiver == group for one in self.accepted.values())

    def _one_mid_for_all(self, deliveries: list[Delivery]) -> Iterator[str]:
        mids: dict[tuple[str, str], str] = {}
        for one in deliveries:
            if mids.setdefault((one.sender, one.cid), one.mid) != one.mid:
                yield f"devices differ: {one.cid} of {one.sender} is {mids[one.sender, one.cid]} and {one.mid}"

    def _without_verdict(self) -> Iterator[str]:
        told = {(step.sender, step.cid, step.peer) for step in self.steps if step.code in (2, 3)}
        for one in self.accepted.values():
            for user in self.recipients(one):
                if (one.sender, one.cid, user) not in told:
                    yield f"no verdict: {one.cid} of {one.sender} was accepted and never told as delivered to {user}"

    def _unread(self) -> Iterator[str]:
        told = {(step.peer, step.mid) for step in self.steps if step.code == READ}
        for reader, mid in self.marked.keys() - told:
            yield f"unread: {self.marked[reader, mid]} was never told that {reader} read {mid}"

    def _bad_asides(self) -> Iterator[str]:
        seen: set[tuple[str, int, str]] = set()
        for one in self.asides:
            key = (str(one.device), one.connection, one.cid)
            if key in seen:
                yield f"doubled: {one.cid}, for who is online only, came twice to {one.device}"
            seen.add(key)
