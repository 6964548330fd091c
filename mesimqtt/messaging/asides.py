"""What a client says that is no message: READ, presence, rpc (contract section 2)."""

from __future__ import annotations

import json
import logging
from collections import deque
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.addresses import encode_address
from mesimqtt.domain.errors import MesimqttError, OperationError
from mesimqtt.domain.groups import MemberFlag
from mesimqtt.domain.rates import RateLimit, parse_windows
from mesimqtt.domain.status import Status
from mesimqtt.domain.strict_json import read_json
from mesimqtt.engine.properties import CORRELATION_DATA, write
from mesimqtt.messaging.devices import ReadMark
from mesimqtt.messaging.model import Names
from mesimqtt.messaging.operations_base import Caller
from mesimqtt.messaging.properties5 import STORE
from mesimqtt.messaging.typing import PresenceError
from mesimqtt.messaging.waiting import payload_bytes
from mesimqtt.topics import MID_PATTERN, Kind, OutTopic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesimqtt.engine.properties import Properties
    from mesimqtt.messaging.devices import Device
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Group, Target, Thread, User
    from mesimqtt.messaging.operations_base import Answer
    from mesimqtt.messaging.properties5 import Refused
    from mesimqtt.messaging.receipts import Receipts
    from mesimqtt.messaging.statuses import Statuses
    from mesimqtt.messaging.transient import Transients
    from mesimqtt.messaging.typing import Typing

log = logging.getLogger(__name__)
_RPC_PAYLOAD_MAX = 64 * 1024
RPC_PENDING_MAX = 1_000  # questions of all clients that wait for their answer
RPC_WAITING_MAX = 250  # of one user; of them so many are answered at a time, so that others come in between
RPC_AT_ONCE = 8
_NOT_READ = b'{"ok":false,"code":"busy","message":"read the answers that wait for you, then ask again"}'


@dataclass(slots=True)
class _Line:
    """What one user has asked, and how many tasks answer it."""

    waiting: deque[tuple[Device, OutTopic, bytes, Properties]] = field(default_factory=deque)
    asking: int = 0


class Asides:
    """Takes read marks, presence and questions. Each kind has a rate of its own."""

    def __init__(
        self,
        hub: Hub,
        *,
        statuses: Statuses,
        receipts: Receipts,
        transients: Transients,
        typing: Typing,
        perform: Callable[[str, dict[str, Any], Caller], Awaitable[Answer]],
    ) -> None:
        self._hub = hub
        self._statuses = statuses
        self._receipts = receipts
        self._transients = transients
        self._typing = typing
        self._perform = perform
        rates = hub.settings.rates
        reads, presence = (RateLimit(parse_windows(text)) for text in (rates.reads, rates.presence))
        self._rpc_rate = RateLimit(parse_windows(rates.rpc))
        self._lines: dict[int, _Line] = {}
        self._rates = {
            Kind.READ_USER: reads,
            Kind.READ_GROUP: reads,
            Kind.PRESENCE_USER: presence,
            Kind.PRESENCE_GROUP: presence,
        }

    def take(
        self, device: Device, out: OutTopic, payload: bytes, qos: int, packet_id: int, properties: Properties
    ) -> bool | Refused:
        """Take one. True: acknowledge now. Of its properties only an rpc's Correlation Data says anything."""
        if out.kind is Kind.RPC:
            self._rpc(device, out, payload, properties)
            return True
        is_group = out.kind in (Kind.READ_GROUP, Kind.PRESENCE_GROUP)
        names = Names(group=out.name) if is_group else Names(peer=out.name)
        if wait := self._rates[out.kind].take(device.user.address, self._hub.now()):
            return self._statuses.refuse(device.user, None, Status.RATE_LIMITED, names, retry_after=ceil(wait))
        key = f"{'g' if is_group else 'u'}/{encode_address(out.name)}".encode()
        target = self._hub.directory.target(device.user, key, "g" if is_group else "u", out.name)
        if target is None or (_is_unknown(target) and not target.thread.id):
            return self._statuses.refuse(device.user, None, Status.INVALID_DESTINATION, names)
        if out.kind in (Kind.READ_USER, Kind.READ_GROUP):
            return self._read(device, names, target.thread, payload, qos, packet_id)
        if _is_unknown(target):
            return self._statuses.refuse(device.user, None, Status.INVALID_DESTINATION, names)
        if target.group is not None and not target.group.may(device.user.id, MemberFlag.PUBL):
            return self._not_his(device.user, target.group, names)
        return self._presence(device, names, key, target, payload)

    def _not_his(self, user: User, group: Group, names: Names) -> Refused:
        """Refuse presence in a group of whom is no member (of an open one), or may not publish it."""
        if user.id in group.members:
            return self._statuses.refuse(user, None, Status.DENIED, names, rule="group.publish")
        return self._statuses.refuse(user, None, Status.NOT_MEMBER, names)

    # ---- READ ------------------------------------------------------------------------------------------------

    def _read(
        self, device: Device, names: Names, thread: Thread, payload: bytes, qos: int, packet_id: int
    ) -> bool | Refused:
        text = payload.decode("ascii", "replace").strip()
        mid = text.removeprefix("<=")
        if not MID_PATTERN.fullmatch(mid):
            reason = "the payload is a mid, or <=mid"
            return self._statuses.refuse(device.user, None, Status.BAD_REQUEST, names, reason=reason)
        user, connection = device.user, device.connection
        number = int(mid, 16)
        if not self._receipts.read(user, thread, number, upto=text.startswith("<=")):
            if not self._transients.read(user, thread, number):
                self._hub.count("read.ignored")
            return True
        change = self._receipts.mark(user, thread, text)
        peer = thread.group.level if thread.group else thread.peer(user).level
        place = f"read/{'g' if thread.group else 'u'}/{peer}"

        def committed(ok: bool) -> None:
            if ok:
                self._tell_read(user, device, place, text.encode(), change)
            if qos and (ok or connection.five is not None):
                connection.acknowledge(packet_id, qos, *(() if ok else STORE))
            elif qos:
                connection.close("store: cannot write")

        self._hub.committer.batch.after.append(committed)
        self._hub.committer.wake()
        return False

    def _tell_read(self, user: User, source: Device, place: str, payload: bytes, change: int) -> None:
        for device in user.devices:
            if device is not source:
                self._hub.tell(device, place, payload, ReadMark(change))
            elif device.read_change >= change - 1:
                self._receipts.mark_acknowledged(device, change)

    # ---- presence, rpc ---------------------------------------------------------------------------------------

    def _presence(self, device: Device, names: Names, key: bytes, target: Target, payload: bytes) -> bool | Refused:
        limit = self._hub.settings.presence.payload_max
        if len(payload) > limit:
            return self._statuses.refuse(device.user, None, Status.BAD_REQUEST, names, reason="limit", limit=limit)
        try:
            self._typing.publish(device, key, target, payload)
        except PresenceError as error:
            return self._statuses.refuse(device.user, None, Status.BAD_REQUEST, names, reason=str(error))
        return True

    def _rpc(self, device: Device, out: OutTopic, payload: bytes, properties: Properties) -> None:
        user = device.user
        if wait := ceil(self._rpc_rate.take(user.address, self._hub.now())):
            refusal = _refused("rate-limited", f"too many questions; ask again in {wait} s") | {"retry_after": wait}
            return self._reply(device, out, properties, refusal)
        line = self._lines.get(user.id) or _Line()
        if self._hub.asking >= RPC_PENDING_MAX or len(line.waiting) >= RPC_WAITING_MAX:
            return self._reply(device, out, properties, _refused("busy", "too many questions at once; ask again"))
        self._lines[user.id] = line
        self._hub.asking += 1
        line.waiting.append((device, out, payload, properties))
        if line.asking < RPC_AT_ONCE:
            line.asking += 1
            self._hub.spawn(self._ask(user.id, line))
        return None

    async def _ask(self, user: int, line: _Line) -> None:
        """Answer what a user asks, one question after the other, until none waits."""
        try:
            while line.waiting:
                device, out, payload, properties = line.waiting.popleft()
                try:
                    self._reply(device, out, properties, await self._answer(device, out.name, payload))
                finally:
                    self._hub.asking -= 1
        finally:
            line.asking -= 1
            if not line.asking:
                self._lines.pop(user, None)

    def _reply(self, device: Device, out: OutTopic, properties: Properties, answer: Answer) -> None:
        body = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
        correlation = properties.data(CORRELATION_DATA)
        echo = write([(CORRELATION_DATA, correlation)]) if correlation is not None else b""
        is_here = device in device.user.devices and device.qos_of("rpc") >= 0
        for other in [device] if is_here else list(device.user.devices):
            told = body if self._has_room(other, len(body)) else _NOT_READ
            self._hub.tell(other, f"rpc/{out.cid}", told, more=echo)

    def _has_room(self, device: Device, size: int) -> bool:
        """Tell whether an answer may wait for a device to read the ones before it: together they have a bound."""
        if not device.express:
            return True
        return payload_bytes(device.express) + size <= self._hub.settings.limits.unwritten_max

    async def _answer(self, device: Device, operation: str, payload: bytes) -> Answer:
        identity = device.connection.identity
        caller = Caller(device.user.address, identity.scope if identity is not None else "user")
        try:
            return {"ok": True, "result": await self._perform(operation, _rpc_args(payload), caller)}
        except MesimqttError as error:
            wait = getattr(error, "retry_after", 0)
            refusal = _refused(getattr(error, "code", "server"), str(error))
            return refusal | {"retry_after": wait} if wait else refusal
        except Exception:  # the edge: a mistake of ours is told without its insides
            log.exception("rpc: %s failed", operation[:64])
            return _refused("internal", "the server met an unexpected error; its log has the details")


def _is_unknown(target: Target) -> bool:
    """Tell whether the sender may not know of a target: what he has of it he may still read, no more."""
    return target.verdict is not None and target.verdict.status is Status.INVALID_DESTINATION


def _refused(code: str, message: str) -> Answer:
    return {"ok": False, "code": code, "message": message}


def _rpc_args(payload: bytes) -> dict[str, Any]:
    if len(payload) > _RPC_PAYLOAD_MAX:
        raise OperationError("bad-request", f"an rpc payload has at most {_RPC_PAYLOAD_MAX} bytes")
    try:
        args = read_json(payload) if payload.strip() else {}
    except ValueError:
        raise OperationError("bad-request", "the payload is not JSON") from None
    if not isinstance(args, dict):
        raise OperationError("bad-request", "an rpc payload is a JSON object")
    return args
