"""A client's end of a connection of the virtual server: what it sends, what it has received."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mesimqtt.testing import wire

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.testing.world import World


class Peer:
    """A client's end of one connection. Acknowledges what it gets at QoS 1 unless `auto_ack` is off."""

    def __init__(self, world: World, user: str, device: str, connection: Connection) -> None:
        self.world = world
        self.user = user
        self.device = device
        self.connection = connection
        self.auto_ack = True
        self.is_reading = True
        self.inbox: list[Any] = []
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

    def received(self, part: str = "") -> list[Any]:
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


def mid_of(message: Any) -> str:
    """Return the mid in the topic of a message, a copy or an event."""
    levels: list[str] = message.topic.split("/")
    return levels[-2] if "=" in levels[-1] else levels[-1]


def seq_of(message: Any) -> int:
    """Return the seq in the topic of a message, or, of 5.0, in its first user property."""
    if "=" not in message.topic:
        return int(message.user_property[0][1])
    return int(message.topic.rpartition("/")[2].partition("&")[0].removeprefix("seq="))
