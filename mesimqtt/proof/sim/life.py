"""What people do: write to one another and to groups, in bursts; change and take back, read, look, and try to cheat."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.history import Sent
from mesimqtt.proof.sim.core import CorePhone
from mesimqtt.proof.sim.phones import Letter

if TYPE_CHECKING:
    from mesimqtt.proof.sim.phones import Phone
    from mesimqtt.proof.sim.world import SimWorld

BURST = 4.0  # messages that are written at once, on average
_MIDS_KEPT = 400


class Life:
    """Writes about so many messages an hour, and does the rest besides."""

    def __init__(self, world: SimWorld, *, messages_per_hour: float) -> None:
        self._world = world
        self._random = world.random
        self._gap_ms = 3_600_000 * BURST / messages_per_hour
        self._bodies = 0
        self._mine: dict[str, list[tuple[str, str]]] = {}  # user -> (cid, to) of what he wrote lately

    def begin(self) -> None:
        """Let it begin; it ends when the world is ending."""
        self._next()

    def _next(self) -> None:
        world = self._world
        if world.is_ending:
            return
        world.loop.post(self._random.expovariate(1 / self._gap_ms), self._next)
        phones = [phone for phone in world.phones if not phone.is_gone]
        if not phones:
            return
        phone = self._random.choice(phones)
        for _ in range(self._random.choice((1, 1, 2, 2, 3, 4, 6, 13))):
            self._write(phone, self._place(phone))
        for _ in range(self._random.choice((0, 1, 1, 2))):
            self._read(self._random.choice(phones))
        draw = self._random.random()
        if draw < 0.1:
            phone.signal(self._place(phone), b"typing")
        elif draw < 0.2:
            self._ask(phone)
        elif draw < 0.3:
            self._forge(phone)

    def _place(self, phone: Phone) -> str:
        world, random = self._world, self._random
        draw = random.random()
        if draw < 0.12:
            groups = sorted(group for group, members in world.groups.items() if phone.user in members or draw < 0.01)
            if groups:
                return f"g/{random.choice(groups)}"
        if draw < 0.14:
            return f"u/{phone.user}"  # notes to oneself
        return f"u/{random.choice([user for user in world.people if user != phone.user] or ['nobody'])}"

    def _write(self, phone: Phone, to: str) -> None:
        """Write one message, plain or with something to it."""
        random = self._random
        options: dict[str, Any] = {}
        draw = random.random()
        amended = None
        if draw < 0.08:
            options["expiry"] = random.choice((1, 3, 10, 60, 300))
        elif draw < 0.11:
            options["expiry"] = 0
        elif draw < 0.14:
            options["when"] = random.choice((2, 15, 90))
        elif draw < 0.16:
            options["priority"] = random.randrange(16)
        elif draw < 0.18:
            options["flags"] = random.randrange(4)
        elif draw < 0.19:
            options["age"] = random.choice((5, 60))
        elif draw < 0.25:
            amended = self._amend(phone.user, options)
        self._bodies += 1
        to = amended or to
        body = "" if "recall" in options else f"{phone.user} {self._bodies} {'x' * random.choice((0, 5, 100, 900))}"
        self._send(phone, to, body, options)

    def _amend(self, user: str, options: dict[str, Any]) -> str | None:
        """Choose an own message to change or take back; return where it went."""
        told = self._world.history.told
        mids = {(one.user, one.cid): one.mid for one in told[-_MIDS_KEPT:] if one.code in (1, 2, 3)}
        known = [(mids[user, cid], to) for cid, to in self._mine.get(user, []) if (user, cid) in mids]
        if not known:
            return None
        mid, to = self._random.choice(known)
        options[self._random.choice(("edit", "recall"))] = mid
        return to

    def _send(self, phone: Phone, to: str, body: str, options: dict[str, Any]) -> None:
        world, random = self._world, self._random
        cid: str | None
        letter = None
        if isinstance(phone, CorePhone):
            given: Any = dict(options)
            if "priority" in given:
                given["params"] = {"priority": given.pop("priority")}
            cid = phone.write(to, body, given)
        else:
            cid = world.next_cid()
            letter = Letter(to, cid, body, "&".join(f"{key}={value}" for key, value in options.items()),
                            qos=0 if phone.habits.qos == 0 and random.random() < 0.5 else 1)  # fmt: skip
        if cid is None:
            return
        world.figures["messages"] += 1
        world.history.sent.append(
            Sent(
                world.loop.ms, phone.user, phone.device, cid, to, body or f"recall {cid}",
                options.get("expiry"), options.get("when", 0), options.get("age", 0),
                options.get("flags", 3), options.get("edit") or options.get("recall") or "", "recall" in options,
            )
        )  # fmt: skip
        if letter is not None:
            phone.send(letter)
            self._send_twice(phone, letter)
        if not {"edit", "recall", "expiry", "when"} & options.keys():
            self._mine.setdefault(phone.user, []).append((cid, to))
            del self._mine[phone.user][:-20]

    def _send_twice(self, phone: Phone, letter: Letter) -> None:
        """Now and then another device of the user sends the same, at the same time: it is one message."""
        if letter.qos and not letter.is_transient and self._random.random() < 0.05:
            for other in self._world.of(phone.user):
                if other is not phone and not isinstance(other, CorePhone):
                    self._world.loop.post(self._random.uniform(0, 60), partial(other.send, letter))

    def _read(self, phone: Phone) -> None:
        if phone.seen:
            mid = self._random.choice(phone.seen[-10:])
            phone.mark(phone.seen_in[mid], mid, is_upto=self._random.random() < 0.5)

    def _ask(self, phone: Phone) -> None:
        op = self._random.choice(("history", "inbox", "sync", "status"))
        arguments: dict[str, Any] = {"limit": 5}
        if op == "history":
            kind, _, name = self._place(phone).partition("/")
            arguments |= {"peer" if kind == "u" else "group": name}
        elif op == "status":
            arguments = {"mid": self._random.choice(phone.seen) if phone.seen else "0"}
        phone.ask(op, arguments)

    def _forge(self, phone: Phone) -> None:
        """Say that something was read that this user was never sent, or that does not exist."""
        if isinstance(phone, CorePhone):
            return
        self._world.figures["forged"] += 1
        told = self._world.history.told
        mid = (
            self._random.choice(told).mid
            if told and self._random.random() < 0.7
            else f"{self._random.getrandbits(63):016x}"
        )
        phone.mark(self._place(phone), mid, is_upto=self._random.random() < 0.5)
