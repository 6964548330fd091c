"""Server-side modules: Python that judges every message before it is committed (docs/modules.md)."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.status import Status, status_payload
from mesimqtt.hooks import CONSUMED, FAIL, PASS, SentMessage, Word
from mesimqtt.messaging.model import Names
from mesimqtt.messaging.observers import Observer, Observers
from mesimqtt.messaging.properties5 import answer
from mesimqtt.topics import make_params, split_params

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesimqtt.engine.connection import Connection
    from mesimqtt.hooks import Judge, Judgement
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.messaging.properties5 import Refused
    from mesimqtt.messaging.statuses import Statuses
    from mesimqtt.topics import OutTopic

log = logging.getLogger(__name__)
unjudged: ContextVar[bool] = ContextVar("unjudged", default=False)  # what a module itself sends passes by all of them
_CONSUMED_MAX = 100_000
OBSERVED = {
    "on_status": "status",
    "on_user_online": "online",
    "on_user_offline": "offline",
    "on_group_changed": "group",
}


@dataclass(frozen=True, slots=True)
class Module:
    """One function that judges. `is_open`: on a time-out or an exception the message passes; else it is refused."""

    name: str
    judge: Judge
    answer_s: float
    is_open: bool


@dataclass(slots=True, eq=False)
class Entry:
    """A message that is being judged. `digest` is of what the sender sent, whatever modules make of it.

    `is_admitted`: what it may do was looked at and its rate was taken before a module was asked. That of a scheduled
    message is at its time.
    """

    sender: User
    out: OutTopic
    payload: bytes
    digest: bytes | None
    connection: Connection | None
    qos: int
    packet_id: int
    message: SentMessage
    epoch: int  # the directory's, when it came
    is_admitted: bool
    at: int = 0  # which module is asked next
    deadline: float = 0.0
    limit: asyncio.Timeout | None = None
    loop: asyncio.AbstractEventLoop | None = None

    @property
    def names(self) -> Names:
        """Return the addresses that statuses about it carry."""
        return Names(self.message.peer, self.message.group)


class Modules:
    """Asks the modules in their order (`chain`). Without any nothing is asked.

    While a message of a sender is being judged, his later ones wait for it; those of others go on. `accept` takes what
    passed; `admit` answers a resend of what was accepted before, and says None of anything else.
    """

    def __init__(self, hub: Hub, statuses: Statuses) -> None:
        self._hub = hub
        self._statuses = statuses
        self._settings = hub.settings.modules
        self.chain: list[Module] = []  # one and the same for good: who asks for each message holds it
        self._waiting: dict[int, deque[Entry]] = {}
        self._count = 0
        self._consumed: dict[tuple[int, str], tuple[bytes | None, float, bytes]] = {}
        self._workers: set[asyncio.Task[Any]] = set()
        self.accept: Callable[[Entry], bool | Refused] = _unwired
        self.admit: Callable[[Entry], bool | Refused | None] = _unwired
        self.names: dict[str, str] = {}  # of Python modules -> of ours, for who looks at a stack

    def add(self, name: str, judge: Judge, *, answer_s: float = 0.0, on_error: str = "") -> None:
        """Ask `judge` about every message from now on, after the modules that are there."""
        is_open = (on_error or self._settings.on_error) == "pass"
        self.chain.append(Module(name, judge, answer_s or self._settings.answer_s, is_open))
        self.watch(name, judge)

    def observe(self, name: str, what: str, call: Callable[[Any], Awaitable[None] | None]) -> None:
        """Tell `call` from now on what happened: `what` is `on_status`, `on_user_online` and the like."""
        observers: Observers = self._hub.observers
        listed: list[Observer] = getattr(observers, OBSERVED[what])
        listed.append(Observer(name, call, self._hub.spawn, self._hub.count))
        self.watch(name, call)

    def watch(self, name: str, call: object) -> None:
        """Let the watchdog know whose code this is."""
        module = getattr(call, "__module__", None) or type(call).__module__
        known = self.names.get(module)
        self.names[module] = name if known in (None, name) else f"{known} or {name}"

    # ---- the way of a message --------------------------------------------------------------------------------

    def take(
        self,
        sender: User,
        out: OutTopic,
        payload: bytes,
        digest: bytes | None,
        connection: Connection | None,
        qos: int,
        packet_id: int,
    ) -> bool | Refused:
        """Judge a message now, or when the sender's earlier ones are. True: acknowledge now."""
        is_user = out.kind == "u"
        message = SentMessage(
            sender.address, out.name if is_user else None, None if is_user else out.name, payload,
            _texts(out.params.raw), connection.client_id if connection is not None else "", out.cid,
        )  # fmt: skip
        epoch, is_admitted = self._hub.directory.epoch, not out.params.when
        entry = Entry(sender, out, payload, digest, connection, qos, packet_id, message, epoch, is_admitted)
        if (waiting := self._waiting.get(sender.id)) is not None:
            return self._wait(waiting, entry)
        if (known := self.admit(entry)) is not None:
            return known
        found = self._ask(entry)
        if isinstance(found, (Word, FAIL)):
            return self._settle(entry, found)
        if self._count >= self._settings.waiting_max:
            _discard(found)
            return self._busy(entry)
        self._count += 1
        self._waiting[sender.id] = deque([entry])
        self._hub.spawn(self._work(sender.id, found))
        return False

    def _wait(self, waiting: deque[Entry], entry: Entry) -> bool | Refused:
        if len(waiting) > self._settings.waiting_per_sender or self._count >= self._settings.waiting_max:
            return self._busy(entry)
        self._count += 1
        waiting.append(entry)
        return False

    def _busy(self, entry: Entry) -> Refused:
        return self._statuses.refuse(
            entry.sender, entry.out.cid, Status.RATE_LIMITED, entry.names, reason="modules", retry_after=1
        )

    def _ask(self, entry: Entry) -> Word | FAIL | Awaitable[Judgement]:
        """Ask module after module until one ends it, or until one must be awaited."""
        while entry.at < len(self.chain):
            module = self.chain[entry.at]
            try:
                found = module.judge(entry.message)
            except Exception as error:  # noqa: BLE001 - a module's mistake is the module's
                found = self._failed(module, "it raised", error)
            if inspect.isawaitable(found):
                return found
            if (ended := self._apply(entry, module, found)) is not None:
                return ended
        return PASS

    def _apply(self, entry: Entry, module: Module, found: Judgement) -> Word | FAIL | None:
        """Take what one module said; None: the next one is asked."""
        if isinstance(found, FAIL) or found is CONSUMED:
            return found
        if found is not PASS:
            try:
                self._change(entry, found)
            except (TypeError, ValueError) as error:
                if isinstance(instead := self._failed(module, str(error)), FAIL):
                    return instead
        entry.at += 1
        return None

    def _change(self, entry: Entry, after: object) -> None:
        """Take a changed message, if it is one that could have been sent so."""
        before = entry.message
        if not isinstance(after, SentMessage):
            what = type(after).__name__
            raise TypeError(f"it returned {what}: return PASS, CONSUMED, FAIL(code) or message.changed(…)")
        if replace(after, payload=before.payload, params=before.params) != before:
            raise ValueError("it changed more than payload and parameters")
        if len(after.payload) > self._hub.settings.limits.payload_max:
            raise ValueError(f"a payload is at most {self._hub.settings.limits.payload_max} bytes")
        if after.params != before.params:
            values = {key: value.encode("utf-8", "surrogateescape") for key, value in after.params.items()}
            entry.out = replace(entry.out, params=make_params(values))  # raises a ValueError that names the key
        entry.message, entry.payload = after, after.payload

    def _failed(self, module: Module, why: str, error: Exception | None = None) -> Word | FAIL:
        """Decide in the place of a module that did not."""
        self._hub.count("modules.failed")
        verdict = "passed" if module.is_open else "refused"
        log.error("module %s: %s; the message is %s", module.name, why, verdict, exc_info=error)
        return PASS if module.is_open else FAIL(Status.FAILED, "module")

    def _settle(self, entry: Entry, found: Word | FAIL) -> bool | Refused:
        if isinstance(found, FAIL):
            code, sender = Status(found.code), entry.sender
            rule = f"module:{self.chain[entry.at].name}" if code is Status.DENIED else None
            self._hub.count("modules.refused")
            reason = found.reason or None
            return self._statuses.refuse(sender, entry.out.cid, code, entry.names, reason=reason, rule=rule)
        if found is CONSUMED:
            self._consume(entry, self.chain[entry.at].name)
            return True
        return self.accept(entry)

    def _consume(self, entry: Entry, name: str) -> None:
        """Tell the sender that a module has his message: its one status, as for expiry 0 never stored."""
        hub, now = self._hub, self._hub.now()
        mid = format_mid(hub.mids.draw())
        cid = entry.out.cid or mid
        payload = status_payload(
            cid, mid, Status.DELIVERED, hub.now_ms(),
            peer=entry.message.peer, group=entry.message.group, device=f"module:{name}",
        )  # fmt: skip
        hub.count("modules.consumed")
        if entry.out.cid and len(self._consumed) < _CONSUMED_MAX:
            until = now + hub.settings.messaging.expiry_zero_kept_s
            self._consumed[entry.sender.id, cid] = (entry.digest, until, payload)
        self._statuses.tell(entry.sender, cid, Status.DELIVERED, payload)

    def was_consumed(self, sender: User, cid: str, digest: bytes | None) -> bool | None:
        """Answer a resend of what a module took a moment ago; False: other content, None: it is none."""
        found = self._consumed.get((sender.id, cid))
        if found is None:
            return None
        if found[0] == digest:
            self._statuses.tell(sender, cid, Status.DELIVERED, found[2])
            return True
        return False

    # ---- who must be awaited -----------------------------------------------------------------------------------

    async def _work(self, number: int, found: Awaitable[Judgement] | None) -> None:
        """Judge what waits of one sender, in order."""
        task = asyncio.current_task()
        if task is not None:
            self._workers.add(task)
        waiting = self._waiting[number]
        try:
            while waiting:
                try:
                    self._answer(waiting[0], await self._judge(waiting[0], found))
                except Exception:  # the sender's other messages must have their verdicts
                    log.exception("modules: a message of %r cannot be judged", waiting[0].sender.address)
                found = None
                waiting.popleft()
                self._count -= 1
        finally:
            self._count -= len(waiting)
            del self._waiting[number]
            if task is not None:
                self._workers.discard(task)

    async def _judge(self, entry: Entry, found: Awaitable[Judgement] | None) -> bool | Refused | None:
        """Return what is to be answered; None: nobody waits for it any more."""
        step: Word | FAIL | Awaitable[Judgement] | None = found
        if step is None:
            if (known := self.admit(entry)) is not None:
                return known
            step = self._ask(entry)
        while not isinstance(step, (Word, FAIL)):
            module = self.chain[entry.at]
            ended = self._apply(entry, module, await self._bounded(entry, module, step))
            step = self._ask(entry) if ended is None else ended
        sender = self._hub.directory.user(entry.sender.address)
        if sender is None or not sender.active or sender.id != entry.sender.id:
            return None  # deleted or disabled meanwhile
        entry.sender = sender
        return self._settle(entry, step)

    async def _bounded(self, entry: Entry, module: Module, found: Awaitable[Judgement]) -> Judgement:
        entry.deadline = self._hub.now() + module.answer_s
        entry.loop = asyncio.get_running_loop()
        entry.limit = asyncio.timeout(None)  # `tick` ends it: one clock for all, and no timer for each message
        try:
            async with entry.limit:
                return await found
        except TimeoutError:
            return self._failed(module, f"no answer within {module.answer_s:g} s")
        except Exception as error:  # noqa: BLE001 - a module's mistake is the module's
            return self._failed(module, "it raised", error)
        finally:
            entry.limit = entry.loop = None

    @staticmethod
    def _answer(entry: Entry, told: bool | Refused | None) -> None:
        connection = entry.connection
        if connection is None or told is None or told is False or not entry.qos:
            return
        if told is True or answer(connection, entry.qos, entry.packet_id, told):
            connection.acknowledge(entry.packet_id, entry.qos)

    def tick(self, now: float) -> None:
        """End what takes too long; forget what was consumed long ago."""
        for waiting in self._waiting.values():
            entry = waiting[0] if waiting else None
            if entry is not None and entry.loop is not None and entry.deadline <= now:
                entry.deadline = float("inf")
                entry.loop.call_soon(_end, entry)
        while self._consumed:
            key, (_, until, _) = next(iter(self._consumed.items()))
            if until > now:
                return
            del self._consumed[key]

    def close(self) -> None:
        """Judge nothing more: what is not judged was never acknowledged."""
        for task in list(self._workers):
            task.cancel()


def _texts(level: str) -> dict[str, str]:
    values = split_params(level) if level else {}
    return {key: value.decode("utf-8", "surrogateescape") for key, value in values.items()}


def _end(entry: Entry) -> None:
    if entry.limit is not None:
        entry.limit.reschedule(0.0)


def _discard(found: Awaitable[Judgement]) -> None:
    if inspect.iscoroutine(found):
        found.close()


def _unwired(_entry: Entry) -> bool:
    raise RuntimeError("modules are not wired to what accepts messages")
