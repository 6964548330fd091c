"""Messages sent by an operation: each takes the road of a PUBLISH, and the status that it is told is the answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.addresses import encode_address
from mesimqtt.domain.errors import AddressError, OperationError
from mesimqtt.domain.status import TITLES, Status
from mesimqtt.topics import TopicError, format_params, parse_out

if TYPE_CHECKING:
    from mesimqtt.messaging.accept import Acceptor
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.messaging.statuses import Statuses

CID_BASE_MAX = 55  # of a cid for several recipients: what is left makes one for each of them
_CODES = frozenset({"store", "cid-reused"})  # reasons that say more to a program than the name of their status


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What is to be sent: payload, parameters in the contract's words, and the sender's own id of it, if he has one."""

    payload: bytes
    params: dict[str, str | int] = field(default_factory=dict)
    cid: str | None = None


class Sending:
    """Sends for operations. Whoever may know everything (`is_operator`) is told why exactly something was refused."""

    def __init__(self, hub: Hub, statuses: Statuses, acceptor: Acceptor) -> None:
        self._hub = hub
        self._statuses = statuses
        self._acceptor = acceptor
        self._asked: dict[tuple[int, str], asyncio.Future[tuple[int, bytes]]] = {}  # (sender, cid) -> the verdict

    async def send(self, sender: User, kind: str, name: str, letter: Letter, *, is_operator: bool) -> dict[str, Any]:
        """Send to a user (`kind` u) or group (g); return the first status, SENT, once it is committed.

        Raises:
            OperationError: it was refused; `code` is the status' name.

        """
        code, answer = await self.status(sender, kind, name, letter)
        if code >= Status.FAILED:
            reason = answer.get("reason")
            told = self._told(code, answer, sender, kind, name, is_operator=is_operator)
            title = reason if reason in _CODES else TITLES[code]
            raise OperationError(title, told, retry_after=answer.get("retry_after", 0))
        return answer

    async def send_all(self, sender: User, places: list[tuple[str, str]], letter: Letter) -> dict[str, Any]:
        """Send to several; return one status for each, in their order, and how many were accepted."""
        letters = [_letter_for(letter, place) for place in places]
        told = await asyncio.gather(
            *(self._one(sender, *place, each) for place, each in zip(places, letters, strict=True))
        )
        counts: dict[str, int] = {}
        for answer in told:
            counts[answer["name"]] = counts.get(answer["name"], 0) + 1
        accepted = sum(answer["status"] < Status.FAILED for answer in told)
        return {"results": told, "accepted": accepted, "refused": len(told) - accepted, "counts": counts}

    async def _one(self, sender: User, kind: str, name: str, letter: Letter) -> dict[str, Any]:
        try:
            return (await self.status(sender, kind, name, letter))[1]
        except OperationError as error:  # malformed for this destination, or no verdict in time: the others go on
            status = Status.FAILED if error.code == "store" else Status.BAD_REQUEST
            place = {"group": name} if kind == "g" else {"peer": name}
            named = {"cid": letter.cid} if letter.cid else {}
            return named | place | {"status": int(status), "name": TITLES[status], "reason": str(error)}

    async def status(self, sender: User, kind: str, name: str, letter: Letter) -> tuple[int, dict[str, Any]]:
        """Send to one; return the code and JSON of the status that it is told.

        Raises:
            OperationError: it is nothing that could be sent, or there was no verdict in time.

        """
        hub = self._hub
        if not sender.active:
            raise OperationError(
                "user-disabled", f"{sender.address!r} is disabled; first: mesimqtt user enable {sender.address}"
            )
        if len(letter.payload) > hub.settings.limits.payload_max:
            raise OperationError("bad-request", f"a message has at most {hub.settings.limits.payload_max} bytes")
        cid = letter.cid or f"op-{hub.mids.draw():016x}"
        try:
            tail = f"/{format_params(letter.params)}" if letter.params else ""
            out = parse_out(f"{kind}/{encode_address(name)}/{cid}{tail}")
        except (AddressError, TopicError) as error:
            raise OperationError("bad-request", str(error)) from None
        hub.directory.counters(sender)
        key = (sender.id, cid)
        while key in self._asked:  # the same at the same time: each gets a verdict of its own
            await asyncio.wait([self._asked[key]])
        future = self._asked[key] = asyncio.get_running_loop().create_future()
        watched = self._statuses.watched
        watched[key] = lambda code, text: None if future.done() else future.set_result((code, text))
        try:
            self._acceptor.message(sender, out, letter.payload, None, 0, 0)
            code, text = await asyncio.wait_for(future, hub.settings.messaging.offline_answer_s + 5)
        except TimeoutError:
            again = f"look at: mesimqtt stats; then send again, with --cid {cid}"
            raise OperationError("store", f"no verdict in time; {again}") from None
        finally:
            watched.pop(key, None)
            del self._asked[key]
            future.cancel()  # whoever waits for it goes on
        return code, json.loads(text)

    def _told(self, code: int, answer: dict[str, Any], sender: User, kind: str, name: str, *, is_operator: bool) -> str:
        """Return a refusal as a sentence."""
        reason = answer.get("reason") or answer.get("rule")
        if reason == "store":
            return f"not sent: the store cannot take it now ({self._hub.store.health}); look at: mesimqtt stats"
        if code != Status.INVALID_DESTINATION:
            return f"{name}: {TITLES[code]}{f' ({reason})' if reason else ''}"
        if not is_operator:
            return f"no {'user' if kind == 'u' else 'group'} {name!r} that you may know of"
        if kind == "u" and self._hub.directory.user(name) is not None:
            return f"a policy keeps {sender.address!r} and {name!r} apart; look at: mesimqtt user show {name}"
        if kind == "u":
            return f"no user {name!r}; make it with: mesimqtt user add {name}"
        if self._hub.directory.group(name) is None:
            return f"no group {name!r}; make it with: mesimqtt group add {name}"
        return f"{sender.address!r} is not a member of {name!r}; first: mesimqtt group join {name} {sender.address}"


def _letter_for(letter: Letter, place: tuple[str, str]) -> Letter:
    """Return a letter with a cid for one of its destinations: the same each time, in whatever order they stand."""
    if letter.cid is None:
        return letter
    suffix = blake2b("\0".join(place).encode(), digest_size=4).hexdigest()
    return Letter(payload=letter.payload, params=letter.params, cid=f"{letter.cid}-{suffix}")
