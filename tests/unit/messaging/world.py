"""A whole server in virtual time: real engine, messaging and store, and clients at its edge; no sockets, no sleep."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import replace
from typing import Any

from mesimqtt.engine.engine import Engine
from mesimqtt.hooks import Decision
from mesimqtt.messaging import operations
from mesimqtt.messaging.messaging import Messaging
from mesimqtt.settings import Limits, Settings
from mesimqtt.settings import Messaging as MessagingSettings
from mesimqtt.settings import Store as StoreSettings
from mesimqtt.store.sessions import SessionKeeper
from mesimqtt.store.store import Store
from mesimqtt.tokens import TokenSigner
from unit.engine import both_ends as wire
from unit.messaging.faults import FaultyDatabase, HeldRunner

START_MS = 1_790_000_000_000
YEAR_S = 31_536_000
SECRET = b"0123456789abcdef0123456789abcdef"
_TICK_MS = 250


class FakeLoop:
    """What the store asks of an event loop: a queue of callables, run when the world says so."""

    def __init__(self) -> None:
        self.queue: deque[tuple[Any, ...]] = deque()

    def call_soon(self, call, *args):
        self.queue.append((call, *args))

    call_soon_threadsafe = call_soon

    def run(self):
        while self.queue:
            call, *args = self.queue.popleft()
            call(*args)


class TokenGate:
    """Lets in who has a good token, as the auth plugin does; free topics are open."""

    def __init__(self, messaging: Messaging) -> None:
        self.messaging = messaging

    def authenticate(self, connection, request):
        return self.messaging.check_connect(request)

    def decide(self, connection, action, topic):
        return Decision(allow=True, rule="open")

    def audit(self, connection, action, topic, rule):
        self.messaging.notify_denied(connection, topic, rule)


class World:
    """One server, its clock and its clients. `messaging` and `limits` hold settings that differ from the defaults."""

    def __init__(self, folder, *, messaging=(), limits=(), store=(), tokens=(), rates=()) -> None:
        self.folder = folder
        self.loop = FakeLoop()
        self.ms = START_MS
        base = Settings()
        self.settings = Settings(
            messaging=replace(MessagingSettings(), **dict(messaging)),
            limits=replace(Limits(), **dict(limits)),
            store=replace(StoreSettings(), **{"ballast_bytes": 0, **dict(store)}),
            tokens=replace(base.tokens, **dict(tokens)),
            rates=replace(base.rates, **dict(rates)),
        )
        self.peers: list[Peer] = []
        self.fatal: list[str] = []
        self.tokens: dict[str, str] = {}
        self._asyncio = asyncio.new_event_loop()
        self.open()

    # ---- the server ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the server on the folder, with nothing in memory."""
        self.store = Store(
            self.folder, self.settings.store, loop=self.loop, now=self.now, now_ms=self.now_ms,
            on_fatal=self.fatal.append, inline=True,
        )  # fmt: skip
        committer = self.store.committer
        self.database = committer._database = FaultyDatabase(committer._database)
        self.commits = committer._runner = HeldRunner()
        self.reads = self.store._reader = HeldRunner()
        self.store.read.execute("PRAGMA synchronous = OFF")  # what survives here survives in the same process
        signer = TokenSigner(SECRET, issuer=self.settings.tokens.issuer)
        self.asked: list[asyncio.Task] = []
        self.messaging = Messaging(
            self.settings, self.store, signer, now=self.now, now_ms=self.now_ms,
            spawn=lambda coroutine: self.asked.append(self._asyncio.create_task(coroutine)),
        )  # fmt: skip
        keeper = SessionKeeper(self.store)
        kept, retained = list(keeper.restore()), keeper.restore_retained()
        self.engine = Engine(
            self.settings.limits, gate=TokenGate(self.messaging), claim=self.messaging.claim, keeper=keeper,
            observer=None, now=self.now(),
        )  # fmt: skip
        self.messaging.on_revoked = self.engine.revoke
        self.engine.restore(kept)
        self.engine.restore_retained(retained)

    def restart(self, *, kill: bool = True) -> None:
        """Stop the server, at once or in good order, and start it again on the same folder."""
        if not kill:
            self.turn()
            for peer in list(self.peers):
                peer.connection.close("the server is stopping")
            self.run(self.store.close())
        for peer in self.peers:
            peer.read_out()
        self.peers.clear()
        self.loop.queue.clear()
        self.store._database.close()
        self.open()

    def close(self) -> None:
        """Let go of the folder."""
        self.store._database.close()
        self._asyncio.close()

    def now(self) -> float:
        """Return monotonic seconds."""
        return (self.ms - START_MS) / 1000 + 1000

    def now_ms(self) -> int:
        """Return milliseconds since 1970."""
        return self.ms

    def turn(self) -> None:
        """Run everything that can run without time passing, clients' acknowledgements included."""
        while True:
            self.loop.run()
            self._answer()
            if not sum(peer.exchange() for peer in self.peers) and not self.loop.queue:
                return

    def _answer(self) -> None:
        """Let what was asked by rpc go on, unless an operation of the test's own is just being driven."""
        self.asked = [task for task in self.asked if not task.done()]
        while self.asked and not self._asyncio.is_running():
            self._asyncio.run_until_complete(asyncio.sleep(0))
            self.asked = [task for task in self.asked if not task.done()]
            if not self.loop.queue and all(task._fut_waiter is not None for task in self.asked):
                return
            self.loop.run()

    def advance(self, seconds: float) -> None:
        """Let virtual time pass, with the ticks that belong to it."""
        end = self.ms + round(seconds * 1000)
        while self.ms < end:
            self.ms = min(self.ms + _TICK_MS, end)
            self.tick()

    def jump(self, seconds: float) -> None:
        """Let much time pass at once; the clients keep their connections alive."""
        self.ms += round(seconds * 1000)
        for peer in self.peers:
            peer.connection.receive(wire.PINGREQ, self.now())
        self.advance(1.25)

    def tick(self) -> None:
        """Do what the broker's ticker does four times a second."""
        self.engine.tick(self.now())
        self.messaging.tick(self.now())
        self.turn()

    def run(self, coroutine) -> Any:
        """Run a coroutine to its end, with the server's turns in between."""

        async def drive():
            task = asyncio.ensure_future(coroutine)
            for _ in range(1000):
                if task.done():
                    break
                self.turn()
                await asyncio.sleep(0)
            return await task

        return self._asyncio.run_until_complete(drive())

    def do(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Do one operation, as the command line does."""
        answer = self.run(operations.perform(self.messaging, op, arguments))
        self.turn()
        return answer

    # ---- people ------------------------------------------------------------------------------------------------------

    def user(self, *addresses: str) -> None:
        """Make users, each with a token."""
        self.do("user_add", addresses=list(addresses))
        for token in self.do("token_issue", addresses=list(addresses), ttl=5 * YEAR_S)["tokens"]:
            self.tokens[token["address"]] = token["token"]

    def group(self, address: str, *members: str) -> None:
        """Make a group of users."""
        self.do("group_add", address=address)
        if members:
            self.do("group_join", address=address, users=list(members))

    def connect(self, user: str, device: str = "phone", *, clean: bool = False, token: str = "", **options) -> Peer:
        """Connect a device; its CONNACK is taken."""
        connection = self.engine.open("192.0.2.1", "default", self.now())
        peer = Peer(self, user, device, connection)
        password = (token or self.tokens[user]).encode()
        self.peers.append(peer)
        peer.send(wire.connect(device, clean=clean, user=user, password=password, keep_alive=0, **options))
        peer.connack = peer.other.pop(0) if peer.other else None
        return peer

    def listener(self, user: str, device: str = "phone", *, qos: int = 1, filters=("#",), **options) -> Peer:
        """Connect a device that subscribes under `in/`."""
        peer = self.connect(user, device, **options)
        for rest in filters:
            assert [qos] == peer.subscribe(rest, qos=qos)
        return peer

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Read from the store."""
        return self.store.read.execute(sql, values).fetchall()


class Peer:
    """A client's end of one connection. Acknowledges what it gets at QoS 1 unless `auto_ack` is off."""

    def __init__(self, world: World, user: str, device: str, connection) -> None:
        self.world = world
        self.user = user
        self.device = device
        self.connection = connection
        self.auto_ack = True
        self.is_reading = True
        self.inbox: list[wire.Message] = []
        self.other: list[Any] = []
        self.connack: Any = None
        self._packet_id = 0

    @property
    def is_closed(self) -> bool:
        """Tell whether the server closed this connection, or the client lost it."""
        return bool(self.connection.closing)

    def send(self, *packets: bytes) -> None:
        """Send packets in one segment."""
        self.connection.receive(b"".join(packets), self.world.now())
        self.world.turn()

    def read_out(self) -> list[Any]:
        """Take what the server has written."""
        data = b"".join(self.connection.out)
        self.connection.out.clear()
        if self.connection in self.world.engine.dirty:
            self.world.engine.dirty.remove(self.connection)
        packets = wire.decode(data)
        for packet in packets:
            if packet != wire.PINGRESP:
                (self.inbox if isinstance(packet, wire.Message) else self.other).append(packet)
        return packets

    def exchange(self) -> bool:
        """Read and acknowledge; tell whether there was anything."""
        if not self.is_reading or not self.connection.out:
            return False
        packets = self.read_out()
        acks = [wire.ack("PUBACK", each.packet_id) for each in packets if isinstance(each, wire.Message) and each.qos]
        if acks and self.auto_ack and not self.is_closed:
            self.connection.receive(b"".join(acks), self.world.now())
        return bool(packets)

    def next_id(self) -> int:
        """Return a fresh packet id."""
        self._packet_id += 1
        return self._packet_id

    def subscribe(self, *filters: str, qos: int = 1) -> list[int] | None:
        """Subscribe to filters under the own `in/` (or whole ones that begin with `m/`); return the SUBACK's codes."""
        names = [name if name.startswith(("m/", "$", "+", "free")) else f"m/{self.user}/in/{name}" for name in filters]
        self.send(wire.subscribe(*[(name, qos) for name in names], packet_id=self.next_id()))
        found = [each for each in self.other if each[0] == "SUBACK"]
        self.other = [each for each in self.other if each[0] != "SUBACK"]
        return found[0][2] if found else None

    def unsubscribe(self, rest: str) -> None:
        """Forget a filter under the own `in/`."""
        self.send(wire.unsubscribe(f"m/{self.user}/in/{rest}", packet_id=self.next_id()))
        self.other = [each for each in self.other if each[0] != "UNSUBACK"]

    def publish(self, rest: str, payload: bytes | str = b"hi", *, qos: int = 1, packet_id: int = 0) -> bool:
        """Publish under the own `out/` (or a whole topic); tell whether it was acknowledged by now."""
        topic = rest if rest.startswith(("m/", "$", "free")) else f"m/{self.user}/out/{rest}"
        body = payload.encode() if isinstance(payload, str) else payload
        packet_id = packet_id or self.next_id()
        self.send(wire.publish(topic, body, qos=qos, packet_id=packet_id))
        return self.took("PUBACK" if qos == 1 else "PUBREC", packet_id)

    def took(self, kind: str, packet_id: int) -> bool:
        """Tell whether the server has answered so, and take the answer."""
        found = (kind, packet_id) in self.other
        if found:
            self.other.remove((kind, packet_id))
        return found

    def ack(self, *messages: wire.Message) -> None:
        """Acknowledge messages."""
        self.send(*[wire.ack("PUBACK", message.packet_id) for message in messages])

    def received(self, part: str = "") -> list[wire.Message]:
        """Return the messages since the last look whose topic has `part` after `in/`; the others stay."""
        start = f"m/{self.user}/in/{part}"
        found = [message for message in self.inbox if message.topic.startswith(start)]
        self.inbox = [message for message in self.inbox if not message.topic.startswith(start)]
        return found

    def payloads(self, part: str = "u/") -> list[str]:
        """Return the payloads of messages since the last look."""
        return [message.payload.decode() for message in self.received(part)]

    def statuses(self) -> list[dict[str, Any]]:
        """Return the statuses since the last look."""
        return [json.loads(message.payload) for message in self.received("status/")]

    def steps(self) -> list[Any]:
        """Return the statuses since the last look as (cid, status)."""
        return [(status["cid"], status["status"]) for status in self.statuses()]

    def news(self) -> list[dict[str, Any]]:
        """Return the news of the session since the last look."""
        return [json.loads(message.payload) for message in self.received("session")]

    def rpc(self, op: str, number: str = "1", **arguments: Any) -> Any:
        """Ask and return the answer."""
        self.publish(f"rpc/{op}/{number}", json.dumps(arguments))
        return [json.loads(message.payload) for message in self.received(f"rpc/{number}")]

    def lose(self) -> None:
        """Lose the connection."""
        self.connection.lost(self.world.now())
        self.world.peers.remove(self)
        self.world.turn()

    def disconnect(self) -> None:
        """End the connection in good order."""
        self.send(wire.DISCONNECT)
        self.world.peers.remove(self)


def mid_of(message: wire.Message) -> str:
    """Return the mid in the topic of a message, a copy or an event."""
    levels = message.topic.split("/")
    return levels[-2] if "=" in levels[-1] else levels[-1]


def seq_of(message: wire.Message) -> int:
    """Return the seq in the topic of a message, or, of 5.0, in its first user property."""
    if "=" not in message.topic:
        return int(message.user_property[0][1])
    return int(message.topic.rpartition("/")[2].partition("&")[0].removeprefix("seq="))
