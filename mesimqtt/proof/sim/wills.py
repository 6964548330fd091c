"""The trial `wills`: things that come, go, are lost or say goodbye, under a server that is killed and stopped."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mesimqtt.proof.trial import FAILURES_KEPT_MAX, Failure, Outcome, quiet
from mesimqtt.testing import wire, wire5
from mesimqtt.testing.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.engine.connection import Connection
    from mesimqtt.testing.peer import Peer

EACH = 50  # wills of one server's life
_THINGS = ("lamp", "door", "pump")
_DELAYS_S, _EXPIRIES_S = (0, 0, 4, 15), (0, 8, 60)
_ABSENCES_S = (0, 0, 2, 12)  # of the server
_SOON_MS = 600  # so near to its time a will may be sent, or not yet: nobody does anything then
_LAZY_S = 1.5  # after which what may wait for a commit is committed
_NEVER_S = 90 * 86_400


@dataclass(slots=True)
class Left:
    """A will, as the thing left it: what becomes of it follows from this alone."""

    text: str
    delay_s: int
    expiry_s: int

    @property
    def waits_s(self) -> int:
        """How long after the end of its connection it is due [MQTT-3.1.3-9]."""
        return min(self.delay_s, self.expiry_s)


@dataclass(slots=True)
class Thing:
    """A device of alice's: connected with a will, or away, perhaps with one that waits."""

    name: str
    connection: Connection | None = None
    will: Left | None = None
    waiting: tuple[int, Left] | None = None  # due in virtual milliseconds


class Life:
    """One server, its things, and bob, to whom every will comes: as a message, or by a free topic."""

    world_type: ClassVar[type[World]] = World

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.world = self.world_type(folder)
        self.world.user("alice", "bob")
        self.things = [Thing(name) for name in _THINGS]
        self.left = self.kills = self.stops = 0
        self._due: dict[str, int] = {}  # text -> from when on it must have come
        self.heard: Counter[str] = Counter()
        self._ears: list[Peer] = []
        self._listen()

    def go_on(self) -> None:
        """Do one thing."""
        self._past_the_edge()
        thing = self.random.choice(self.things)
        act = self.random.choice((self._come, self._come, self._come, self._lose, self._lose, self._leave, self._wait))
        if self.random.random() < 0.15:
            self._restart()
        else:
            act(thing)
        self._hear()

    def end(self) -> None:
        """Let everything that waits fall due."""
        self._restart()
        self._pass(max(_DELAYS_S) + 1)
        self._hear()

    def complaints(self) -> list[str]:
        """Say what is not as it must be until now."""
        now, found = self.world.ms, []
        for text, due in self._due.items():
            if due <= now - _SOON_MS and not self.heard[text]:
                found.append(f"{text} was due and never came")
        for text, count in self.heard.items():
            if count > 1:
                found.append(f"{text} came {count} times")
            if text not in self._due or self._due[text] > now + _SOON_MS:
                found.append(f"{text} came, and was not to be sent")
        return found

    # ---- what things do ----------------------------------------------------------------------------------------------

    def _come(self, thing: Thing) -> None:
        """Connect, perhaps in the place of an older connection, and leave another will."""
        draw, world = self.random, self.world
        is_new, is_five = draw.random() < 0.3, draw.random() < 0.8
        delay_s, expiry_s = (draw.choice(_DELAYS_S), draw.choice(_EXPIRIES_S)) if is_five else (0, _NEVER_S)
        if thing.connection is not None:  # a take-over
            self._ended(thing)
        if thing.waiting is not None and is_new:  # its session ends
            self._due[thing.waiting[1].text] = world.ms
        thing.waiting = None
        self.left += 1
        thing.will = Left(f"{thing.name} {self.left}", delay_s, expiry_s)
        place = draw.choice(("m/alice/out/u/bob/will", f"free/{thing.name}"))
        body, token = thing.will.text.encode(), world.tokens["alice"].encode()
        if is_five:
            will = wire5.will(place, body, qos=1, will_delay_interval=delay_s)
            values: dict[str, Any] = {"session_expiry_interval": expiry_s} if expiry_s else {}
            hello = wire5.connect(thing.name, clean=is_new, user="alice", password=token, will=will, **values)
        else:
            thing.will.expiry_s = 0 if is_new else _NEVER_S
            hello = wire.connect(thing.name, clean=is_new, user="alice", password=token, will=(place, body, 1, False))
        thing.connection = world.engine.open("192.0.2.1", "default", world.now())
        thing.connection.receive(hello, world.now())
        self._settle()

    def _lose(self, thing: Thing) -> None:
        if thing.connection is not None:
            thing.connection.lost(self.world.now())
            self._ended(thing)
            self._settle()

    def _leave(self, thing: Thing) -> None:
        if thing.connection is not None:
            thing.connection.receive(wire.DISCONNECT, self.world.now())
            thing.connection = thing.will = None
            self._settle()

    def _wait(self, _thing: Thing) -> None:
        self._pass(self.random.choice((1, 3, 9)))

    def _ended(self, thing: Thing) -> None:
        """Take note that a connection ended without DISCONNECT."""
        will, thing.connection, thing.will = thing.will, None, None
        if will is None:
            return
        if will.waits_s:
            thing.waiting = (self.world.ms + will.waits_s * 1000, will)
        else:
            self._due[will.text] = self.world.ms

    # ---- what the server does ----------------------------------------------------------------------------------------

    def _restart(self) -> None:
        """Kill the server or stop it, and start it again, perhaps after a while."""
        world, is_kill = self.world, self.random.random() < 0.6
        self._commit()
        if is_kill:
            self.kills += 1
        else:
            self.stops += 1
            for thing in self.things:
                if thing.connection is not None:
                    thing.connection.close("the server is stopping")
                    self._ended(thing)
            self._settle()
            self._commit()
        self._hear()
        world.ms += self.random.choice(_ABSENCES_S) * 1000
        world.restart(kill=is_kill)
        for thing in self.things:  # whose connections nobody has closed
            if thing.connection is not None:
                self._ended(thing)
        self._fall_due()
        self._listen()

    def _listen(self) -> None:
        phone, watcher = self.world.listener("bob"), self.world.connect("bob", "watcher")
        watcher.subscribe("free/#")
        self._ears = [phone, watcher]

    def _hear(self) -> None:
        for peer in self._ears:
            for message in peer.inbox:
                if "/in/u/" in message.topic or message.topic.startswith("free/"):
                    self.heard[message.payload.decode()] += 1
            peer.inbox.clear()

    # ---- time --------------------------------------------------------------------------------------------------------

    def _pass(self, seconds: float) -> None:
        self.world.advance(seconds)
        self._settle()
        self._fall_due()

    def _past_the_edge(self, ahead_ms: int = _SOON_MS) -> None:
        """Let the moments pass in which a will is due just now, or so soon."""
        while any(thing.waiting[0] - self.world.ms <= ahead_ms for thing in self.things if thing.waiting):
            self._pass(1)

    def _commit(self) -> None:
        """Let be committed what may wait: who went away, and what bob acknowledged. Nothing is sent meanwhile."""
        self._past_the_edge(_SOON_MS + int(_LAZY_S * 1000))
        self._pass(_LAZY_S)

    def _fall_due(self) -> None:
        for thing in self.things:
            if thing.waiting is not None and thing.waiting[0] <= self.world.ms:
                self._due[thing.waiting[1].text] = thing.waiting[0]
                thing.waiting = None

    def _settle(self) -> None:
        """Let the server do all that it can do now; what it writes to things nobody reads."""
        self.world.turn()
        for thing in self.things:
            if thing.connection is not None:
                thing.connection.out.clear()
        ears = {peer.connection for peer in self._ears}
        self.world.engine.dirty[:] = [each for each in self.world.engine.dirty if each in ears]


class Wills:
    """Every will comes once when it is due, and none that was called off, whatever becomes of the server."""

    name = "wills"
    title = "things come, go and are lost under a server that is killed and stopped: each will once, or not at all"
    promises = ("P1", "P18")
    unit = "wills"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Leave `count` wills, so many of each seed."""
        failures: list[Failure] = []
        figures: Counter[str] = Counter()
        done, number = 0, seed
        while done < count:
            most = min(EACH, count - done)
            with quiet(), tempfile.TemporaryDirectory(dir=folder, prefix=f"wills-{number}-") as place:
                life, found = live(number, most, Path(place) / "data")
            done += life.left
            figures.update(wills=life.left, kills=life.kills, stops=life.stops, sent=sum(life.heard.values()))
            again = f"python -m mesimqtt.proof wills --count {most} --seed {number}"
            failures += [Failure(f"seed {number}: {what}", again) for what in found]
            number += 1
            progress(done)
        shown = tuple(failures[:FAILURES_KEPT_MAX])
        return Outcome(done, f"{seed}..{number - 1}", shown, len(failures), dict(map(_float, figures.items())))


def live(seed: int, most: int, folder: Path, kind: type[Life] = Life) -> tuple[Life, list[str]]:
    """Live one server's life until `most` wills were left; return it, and what is not as it must be."""
    life = kind(seed, folder)
    try:
        while life.left < most and not life.complaints():
            life.go_on()
        if not life.complaints():
            life.end()
        return life, life.complaints()
    finally:
        life.world.close()


def _float(item: tuple[str, int]) -> tuple[str, float]:
    return item[0], float(item[1])
