"""The bots of this server and what they share. Each is a user whose device is a function (docs/bots.md)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.addresses import encode_address
from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.ids import format_mid
from mesimqtt.domain.rates import RateLimit, parse_windows
from mesimqtt.messaging.bot import DEVICE, Bot
from mesimqtt.store import given_up

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from mesimqtt.engine.ports import Claim
    from mesimqtt.messaging.bot import BotMessage
    from mesimqtt.messaging.bot_link import BotLink
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.receipts import Receipts

GIVEN_UP = "bot"
_ERROR_MAX = 500  # characters of an error that are kept


class Bots:
    """Connects bots whose users are there and active, and looks after what is to be tried again."""

    def __init__(self, hub: Hub, claim: Claim, receipts: Receipts) -> None:
        self._hub = hub
        self._receipts = receipts
        self._bots: dict[tuple[str, str], Bot] = {}
        self._acks: list[tuple[BotLink, int]] = []
        self._working: set[asyncio.Task[None]] = set()
        self._next_second = 0.0
        self.claim = claim
        self.root = hub.settings.root
        self.settings = hub.settings.bots
        self.payload_max = hub.settings.limits.payload_max
        self.now = hub.now
        self.count = hub.count

    def add(self, address: str, device: str = DEVICE) -> Bot:
        """Return the bot of that user and device, made at the first call; it comes online when its user is there.

        Raises:
            AddressError: that is no address.

        """
        return self._bots.get((address, device)) or self.adopt(Bot(address, device))

    def adopt(self, bot: Bot) -> Bot:
        """Take a bot that was made before this server.

        Raises:
            OperationError: that device is another bot already.

        """
        if self._bots.get((bot.address, bot.device), bot) is not bot:
            raise OperationError("bot-exists", f"{bot.address!r} has a bot {bot.device!r} already; name another device")
        bot.adopted(self, RateLimit(parse_windows(self.settings.answers)))
        self._bots[bot.address, bot.device] = bot
        self._connect(bot)
        return bot

    def owns(self, address: str, device: str) -> bool:
        """Tell whether a device is a bot's: no client can be it."""
        return (address, device) in self._bots

    def _connect(self, bot: Bot) -> None:
        user = None if bot.is_connected else self._hub.directory.user(bot.address)
        if user is None or not user.active or user.is_leaving or (link := bot.connect()) is None:
            return
        committer = self._hub.committer
        committer.batch.after.append(lambda ok: bot.begin(link) if ok else link.close("store: cannot write"))
        committer.wake()

    def tick(self, now: float) -> None:
        """Connect who can be connected, about once a second; try again what is due."""
        if now >= self._next_second:
            self._next_second = now + 1.0
            for bot in self._bots.values():
                self._connect(bot)
        for bot in self._bots.values():
            bot.wake()

    def close(self) -> None:
        """Take all bots offline."""
        for bot in self._bots.values():
            bot.disconnect("the server is stopping")
        self._bots.clear()
        for task in list(self._working):
            task.cancel()

    def began(self, task: asyncio.Task[None] | None) -> None:
        """Take note of who is at work: he ends with the server."""
        if task is not None:
            self._working.add(task)
            task.add_done_callback(self._working.discard)

    def ack_soon(self, link: BotLink, number: int) -> None:
        """Acknowledge in the loop's next turn: who hands over is not done yet."""
        self._acks.append((link, number))
        if len(self._acks) == 1:
            self._hub.spawn(self._acknowledge())

    async def _acknowledge(self) -> None:
        acks, self._acks = self._acks, []
        for link, number in acks:
            link.ack(number)

    def give_up(self, link: BotLink, number: int) -> None:
        """Give a message that a bot cannot handle its verdict, 0x80 `bot`, unless another device may still take it."""
        token = link.drop(number)
        if type(token) is tuple:  # what is not stored is judged as unanswered
            feed, message = token
            feed.acked.add(message.seq)
            self._receipts.passed_over(link.claim_state, feed, message, GIVEN_UP)

    def bury(self, message: BotMessage, error: Exception) -> str:
        """Keep that a bot gives a message up, in the commit of its verdict; return why, as it is kept."""
        bot, hub = message.bot, self._hub
        why = f"{type(error).__name__}: {error}"[:_ERROR_MAX].encode("utf-8", "replace").decode()
        user = hub.directory.user(bot.address)
        if user is not None:
            mid = int(message.mid, 16)
            hub.committer.row(given_up.INSERT, user.id, bot.device, mid, message.tries, hub.now_ms(), why)
            hub.committer.row(given_up.TRIM, user.id, bot.device, self.settings.dead_letters_max)
            hub.committer.wake()
        return why

    def given_up(self, address: str, device: str) -> deque[tuple[str, str]]:
        """Return mid and error of the last messages that a bot gave up, before a restart too."""
        user, most = self._hub.directory.user(address), self.settings.dead_letters_max
        found = given_up.last(self._hub.store.read, user.id, device, most) if user is not None else []
        return deque([(format_mid(mid), error) for mid, error in found], maxlen=most)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a bot's work beside everything else."""
        self._hub.spawn(coroutine)

    def draw_cid(self) -> str:
        """Return a cid that is unique over restarts."""
        return f"bot-{self._hub.mids.draw():016x}"

    def out_prefix(self, address: str) -> bytes:
        """Return where a user publishes."""
        return f"{self.root}/{encode_address(address)}/out/".encode()
