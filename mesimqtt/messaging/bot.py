"""A bot: a user whose device is a function of this process, with receipts like anybody's (docs/bots.md)."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from mesimqtt.domain.addresses import check_address, decode_address, encode_address
from mesimqtt.domain.errors import OperationError
from mesimqtt.messaging.bot_link import BotLink
from mesimqtt.messaging.bot_sent import Sent
from mesimqtt.messaging.modules import unjudged
from mesimqtt.topics import format_params, split_params

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mesimqtt.domain.rates import RateLimit
    from mesimqtt.messaging.bots import Bots

log = logging.getLogger(__name__)
HOPS = "hops"
DEVICE = "bot"
_answering: ContextVar[int] = ContextVar("answering", default=-1)  # how many bots a message went through; -1: none


class StormError(OperationError):
    """A bot answers bots, or answers too fast: this answer is not sent, and what it answers is not asked again."""


@dataclass(slots=True, eq=False)
class BotMessage:
    """A message as a bot receives it. `params` are the sender's parameters, `seq` among them."""

    bot: Bot
    sender: str
    group: str | None
    mid: str
    payload: bytes
    params: Mapping[str, str]
    number: int
    tries: int = 0
    due: float = 0.0

    @property
    def text(self) -> str:
        """Return the payload as text; what is no UTF-8 is replaced."""
        return self.payload.decode("utf-8", "replace")

    @property
    def type(self) -> int:
        """Return the application's message type."""
        return int(self.params.get("type", "0"))

    @property
    def hops(self) -> int:
        """Return how many bots have answered each other up to this message."""
        text = self.params.get(HOPS, "0")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0

    async def reply(self, payload: bytes | str, **params: Any) -> Sent:  # noqa: ANN401 - any parameter of a message
        """Answer into the same conversation, with this message's mid as `ref`."""
        to = None if self.group else self.sender
        return await self.bot.send(to, payload, group=self.group, **{"ref": self.mid, **params})

    async def read(self) -> None:
        """Tell the sender that it was read; implies that it is delivered."""
        kind, name = ("g", self.group) if self.group else ("u", self.sender)
        await self.bot.publish(f"read/{kind}/{encode_address(name)}", self.mid.encode())


@dataclass(slots=True, eq=False)
class _Queue:
    """What waits of one conversation: its messages are handled one after the other."""

    waiting: deque[BotMessage] = field(default_factory=deque)
    is_working: bool = False


class Bot:
    """One bot. Its handler's normal return acknowledges a message; an exception leaves it to be tried again."""

    def __init__(self, address: str, device: str = DEVICE) -> None:
        self.address = check_address(address)
        self.device = device
        self.dead: deque[tuple[str, str]] = deque()  # (mid, error) of what was given up last, over restarts
        self._bots: Bots  # given by the server that adopts it
        self._answers: RateLimit
        self._link: BotLink | None = None
        self._handler: Callable[[BotMessage], Awaitable[object] | object] | None = None
        self._queues: dict[str, _Queue] = {}
        self._working = 0
        self._sent: WeakValueDictionary[str, Sent] = WeakValueDictionary()
        self._asked: dict[int, asyncio.Future[str]] = {}
        self._opening: list[asyncio.Future[None]] = []

    def adopted(self, bots: Bots, answers: RateLimit) -> None:
        """Belong to a server from now on."""
        self._bots, self._answers = bots, answers
        self.dead = bots.given_up(self.address, self.device)

    def __repr__(self) -> str:
        return f"<Bot {self.address} {'online' if self.is_online else 'offline'}>"

    @property
    def is_connected(self) -> bool:
        """Tell whether it is online or about to be."""
        return self._link is not None

    @property
    def is_online(self) -> bool:
        """Tell whether the bot is a device of its user now."""
        return self._link is not None and self._link.is_open

    async def wait_online(self) -> None:
        """Wait until it is online, if it is about to be. Raises OperationError if it is not."""
        if self._link is not None and not self._link.is_open:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._opening.append(future)
            await future
        if not self.is_online:
            raise _offline(self.address)

    def on_message(
        self, handler: Callable[[BotMessage], Awaitable[object] | object]
    ) -> Callable[[BotMessage], Awaitable[object] | object]:
        """Call `handler`, a function or a coroutine function, with each message. Usable as a decorator."""
        self._handler = handler
        return handler

    # ---- sending ------------------------------------------------------------------------------------------------

    async def send(
        self,
        to: str | None,
        payload: bytes | str,
        *,
        group: str | None = None,
        cid: str | None = None,
        **params: Any,  # noqa: ANN401 - any parameter of a message
    ) -> Sent:
        """Send to a user or a group; return once it is committed (expiry 0: once it is handed over).

        Raises:
            OperationError: it was refused; `code` is the status' name.
            StormError: an answer to too many answers, or too many of them.

        """
        if (to is None) == (group is None):
            raise OperationError("bad-argument", "name one destination: to (a user) or group")
        kind, name = ("u", to) if to is not None else ("g", group)
        place = f"{kind}/{encode_address(name or '')}"
        if (hops := _answering.get()) >= 0:
            params[HOPS] = self._admit(place, hops + 1)
        sent = Sent(cid or self._bots.draw_cid())
        self._sent[sent.cid] = sent
        tail = f"/{format_params(params)}" if params else ""
        body = payload.encode() if isinstance(payload, str) else payload
        if len(body) > self._bots.payload_max:
            raise OperationError("bad-request", f"a message has at most {self._bots.payload_max} bytes")
        await self.publish(f"{place}/{sent.cid}{tail}", body)
        await sent.wait_sent()
        return sent

    def _admit(self, place: str, hops: int) -> int:
        if hops > self._bots.settings.hops_max:
            raise StormError("loop", f"{self.address}: {hops} bots have answered each other; see bots.hops_max")
        if self._answers and self._answers.take(place, self._bots.now()):
            raise StormError("rate-limited", f"{self.address}: too many answers to {place}; see bots.answers")
        return hops

    async def publish(self, place: str, payload: bytes) -> None:
        """Publish under the own `out/`; return once the server has taken it. Raises OperationError."""
        link = self._link
        if link is None:
            raise OperationError(
                "offline", f"bot {self.address!r} is offline: the server is stopped, or it is disabled"
            )
        packet_id = link.publish(self._bots.out_prefix(self.address) + place.encode(), payload)
        if packet_id:
            future = self._asked[packet_id] = asyncio.get_running_loop().create_future()
            try:
                await future
            finally:
                self._asked.pop(packet_id, None)

    # ---- the link ------------------------------------------------------------------------------------------------

    def connect(self) -> BotLink | None:
        """Come online, if the user is there."""
        link = BotLink(
            self._bots.claim, self._bots.root, self.address, self.device,
            arrived=self._arrived, answered=self._answered, ended=self._ended,
        )  # fmt: skip
        self._link = link
        if not link.connect():
            self._link = None
        return self._link

    def begin(self, link: BotLink) -> None:
        """Begin to receive: its device is committed."""
        link.begin()
        self._opened()

    def _opened(self) -> None:
        opening, self._opening = self._opening, []
        for future in opening:
            if not future.done():
                future.set_result(None)

    def disconnect(self, reason: str) -> None:
        """Go offline: what is not handled comes again."""
        if self._link is not None:
            self._link.close(reason)

    def _ended(self, reason: str) -> None:
        self._link = None
        self._opened()
        for queue in self._queues.values():
            queue.waiting.clear()
        self._queues.clear()
        for sent in list(self._sent.values()):
            sent.lost(reason)
        for future in self._asked.values():
            if not future.done():
                future.set_exception(OperationError("closed", reason))

    def _answered(self, packet_id: int, reason: str) -> None:  # a refusal is told as a status, too
        future = self._asked.get(packet_id)
        if future is not None and not future.done():
            future.set_result(reason)

    def _arrived(self, number: int, topic: bytes, payload: bytes) -> None:
        levels = topic.decode().split("/")[3:]
        if levels[0] == "status":
            status = json.loads(payload)
            sent = self._sent.get(status["cid"])
            if sent is not None:
                sent.told(status)
            if self._link is not None:
                self._bots.ack_soon(self._link, number)
            return
        params = split_params(levels.pop()) if "=" in levels[-1] else {}
        texts = {key: value.decode("utf-8", "surrogateescape") for key, value in params.items()}
        group = decode_address(levels[1]) if levels[0] == "g" else None
        message = BotMessage(self, decode_address(levels[-2]), group, levels[-1], payload, texts, number)
        key = f"{levels[0]}/{levels[1]}"
        queue = self._queues.setdefault(key, _Queue())
        queue.waiting.append(message)
        self.wake()

    # ---- handling ------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Begin to handle what is due, within the bound."""
        now = self._bots.now()
        for key, queue in list(self._queues.items()):
            if not queue.waiting:
                del self._queues[key]
            elif not queue.is_working and queue.waiting[0].due <= now:
                if self._working >= self._bots.settings.concurrency:
                    return
                queue.is_working = True
                self._working += 1
                self._bots.spawn(self._work(queue))

    async def _work(self, queue: _Queue) -> None:
        self._bots.began(asyncio.current_task())
        try:
            while queue.waiting and queue.waiting[0].due <= self._bots.now():
                message = queue.waiting[0]
                if await self._handle(message) and queue.waiting:  # if not, the link ended meanwhile
                    queue.waiting.popleft()
        finally:
            queue.is_working = False
            self._working -= 1
        self.wake()

    async def _handle(self, message: BotMessage) -> bool:
        """Handle one message; False: it is to be tried again."""
        link, settings = self._link, self._bots.settings
        _answering.set(message.hops)  # of this task alone
        unjudged.set(False)  # it may have been begun by what a module sent
        message.tries += 1
        try:
            found = self._handler(message) if self._handler is not None else None
            if inspect.isawaitable(found):
                async with asyncio.timeout(settings.handle_s or None):
                    await found
        except StormError as error:
            log.warning("bot %s does not answer %s: %s", self.address, message.mid, error)
            self._bots.count("bots.storms")
        except Exception as error:
            if link is not self._link:
                return True  # it comes again from the store
            if message.tries < settings.tries_max:
                wait = min(settings.retry_s * 2 ** (message.tries - 1), settings.retry_max_s)
                message.due = self._bots.now() + wait
                log.warning("bot %s failed on %s; again in %g s: %r", self.address, message.mid, wait, error)
                return False
            log.exception("bot %s gives up %s of %r", self.address, message.mid, message.sender)
            self.dead.append((message.mid, self._bots.bury(message, error)))
            self._bots.count("bots.dead")
            if link is not None:
                self._bots.give_up(link, message.number)
            return True
        if link is not None and link is self._link:
            link.ack(message.number)
        return True


def _offline(address: str) -> OperationError:
    return OperationError(
        "offline", f"bot {address!r} is offline: does the server run, with an active user of that name?"
    )
