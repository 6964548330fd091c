"""Plays a sequence on two servers at once and compares, after every step, what they did."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesimqtt.proof.grammar.differences import Moment, Seen, differs, is_open
from mesimqtt.proof.grammar.known import explain
from mesimqtt.proof.grammar.lines import DEADLINE_S, Event, Line
from mesimqtt.proof.grammar.sequences import OPEN
from mesimqtt.testing import wire

if TYPE_CHECKING:
    from collections import Counter

    from mesimqtt.proof.grammar.sequences import Sequence, Step

GRACE_S = 0.02  # in which an answer that waits for a commit follows that to a PINGREQ
STUCK_S = 0.3  # without an answer to a PINGREQ, whose bytes may be taken for the end of another packet
SURELY_STUCK_S = 2.0  # after so many of them: not only late, on a machine that is busy
_FILL = 200
PATIENCE_S = 1.0  # before two servers are said to differ

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first step after which two servers differ."""

    sequence: Sequence
    number: int
    step: Step
    ours: Seen
    theirs: Seen

    def __str__(self) -> str:
        version = "5.0" if self.sequence.version == 5 else "3.1.1"
        return f"MQTT {version}, step {self.number}, {self.step}\n    ours: {self.ours}\n    theirs: {self.theirs}"


class Stage:
    """One server with A and B connected to it."""

    def __init__(self, address: Address, sequence: Sequence) -> None:
        self._address = address
        self._sequence = sequence
        self._a: Line | None = None
        version, connect, subscribe = sequence.witness
        self._b = Line(address, version)
        self._b.send(connect + subscribe)
        self._b.ping()

    def begin(self, step: Step) -> None:
        """Do a step, without waiting for what comes of it."""
        self._answer = step.answer
        if step.who == "b":
            self._b.send(step.data)
            return
        if step.who == "cut":
            if self._a is not None:
                self._a.close()
            return
        if step.who == "new" or self._a is None or self._a.is_closed:
            if self._a is not None:
                self._a.close()
            self._a = Line(self._address, self._sequence.version)
            if step.who != "new":
                self._a.send(self._sequence.connect)
        self._a.send(step.data + wire.PINGREQ * 2)

    def finish(self, step: Step) -> None:
        """Take what comes of the step: all that comes before the answer to a PINGREQ, and what it is answered by."""
        a = self._a
        if a is not None and step.who != "b":
            self._take_from(a)
        if step.who == "b":
            deadline = time.monotonic() + GRACE_S
            while self._lacks(self._b) and self._b.pump(max(0.0, deadline - time.monotonic())):
                pass
        for _ in range(2 if step.who == "cut" or (a is not None and a.is_closed) else 1):
            self._b.ping()  # by the second one at the latest, what became of A was noticed before
        if a is not None and not a.is_closed:
            while a.pump(0.0):
                pass

    def _take_from(self, a: Line) -> None:
        deadline = time.monotonic() + DEADLINE_S
        a.pongs = 0
        while not a.is_closed and not a.pongs and time.monotonic() < deadline:
            if not a.pump(STUCK_S) and self._is_stuck(a):
                break
        deadline = time.monotonic() + GRACE_S
        while self._lacks(a) and a.pump(max(0.0, deadline - time.monotonic())):
            pass
        while a.is_receiving and a.pump(PATIENCE_S):
            pass

    def linger(self, seconds: float) -> None:
        """Take what comes late."""
        end = time.monotonic() + seconds
        for line in (self._a, self._b):
            while line is not None and not line.is_closed and (left := end - time.monotonic()) > 0:
                line.pump(left)
        self._b.ping()

    def take(self) -> Seen:
        """Return what was seen since the last look."""
        return Seen(_sorted(self._a), _sorted(self._b))

    def forget(self) -> None:
        """Begin the next step."""
        for line in (self._a, self._b):
            if line is not None:
                line.events.clear()

    def close(self) -> None:
        """Cut all connections."""
        for line in (self._a, self._b):
            if line is not None:
                line.close()

    def _lacks(self, line: Line) -> bool:
        return bool(self._answer) and not line.is_closed and all(event[0] != self._answer for event in line.events)

    def _is_stuck(self, line: Line) -> bool:
        """Tell whether the server still waits for the end of a packet, whatever follows it."""
        line.send(wire.PINGREQ * _FILL)
        end = time.monotonic() + SURELY_STUCK_S
        while not line.pongs and not line.is_closed and (left := end - time.monotonic()) > 0:
            line.pump(left)
        if not line.pongs and not line.is_closed:
            line.events.append(("waits",))
            line.close()
        return True


def _sorted(line: Line | None) -> tuple[Event, ...]:
    """Return events as they can be compared: answers sorted, messages in order; copies of one are one."""
    if line is None:
        return ()
    answers = sorted(event for event in line.events if event[0] != "message")
    messages: dict[bytes, Event] = {}
    for event in line.events:
        if event[0] != "message" or event[2].startswith(OPEN):
            continue
        before = messages.get(event[2])
        if before is None or event[3] > before[3]:
            messages[event[2]] = event
    kept = sorted(
        (event for event in messages.values() if event[4]), key=repr
    )  # retained: in no order (section 3.3.1.3)
    return (*answers, *kept, *(event for event in messages.values() if not event[4]))


def play(sequence: Sequence, ours: Address, theirs: Address, used: Counter[str]) -> tuple[int, Difference | None]:
    """Play a sequence; return how many steps it went alike, and the first difference that is not known.

    `used` counts those that are known, by their names. After one that leaves the servers in different states the
    sequence is over.
    """
    stages = [Stage(ours, sequence), Stage(theirs, sequence)]
    try:
        for number, step in enumerate(sequence.steps):
            for stage in stages:
                stage.begin(step)
            for stage in stages:
                stage.finish(step)
            seen = [stage.take() for stage in stages]
            if differs(*seen):
                known = (
                    None if is_open(*seen) else explain(Moment(sequence.version, sequence.steps[:number], step, *seen))
                )
                if known is None:
                    seen = _looked_again(stages)
                    known = explain(Moment(sequence.version, sequence.steps[:number], step, *seen))
                if known is None and differs(*seen):
                    return number, Difference(sequence, number, step, *seen)
                if known is not None and differs(*seen):
                    used.update([known.name])
                    if not known.goes_on:
                        return number, None
            for stage in stages:
                stage.forget()
    finally:
        for stage in stages:
            stage.close()
    return len(sequence.steps), None


def _looked_again(stages: list[Stage]) -> list[Seen]:
    """Return what was seen once there was time enough for all that may be late."""
    end = time.monotonic() + PATIENCE_S
    seen = [stage.take() for stage in stages]
    while differs(*seen) and time.monotonic() < end:
        for stage in stages:
            stage.linger(0.05)
        seen = [stage.take() for stage in stages]
    return seen
