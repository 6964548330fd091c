"""`POST /backend`: Mesibo's backend operations, so that a backend written for Mesibo works by changing its URL.

A body is an object with `op`, the app `token` and what the operation takes; the answer echoes `op` and `id` and has
`result` true or false, then with `error`. Mesibo's documentation is the model; docs/mesibo.md lists what differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.api.mesibo_otp import Otps
from mesimqtt.api.mesibo_words import (
    AUTH_FAILED,
    BAD_OP,
    BAD_REQUEST,
    PAGE_MAX,
    MesiboError,
    error_of,
    flag,
    names,
    number,
    object_of,
    request_of,
    text,
)
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.messaging.operations_base import Scope
from mesimqtt.store import groups, users

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesimqtt.messaging.messaging import Messaging
    from mesimqtt.messaging.operations import Caller

    Json = dict[str, Any]
    Perform = Callable[[str, Json, Caller], Awaitable[Json]]

TOKEN_MINUTES = 525_600
NEVER_S = 10 * 365 * 86_400  # Mesibo's expiry 0, "never": a token has an end here
YEAR_S = 365 * 86_400
_PEERS = {0: "all", 1: "paired", 2: "contacts"}
_RIGHTS = {"cs": "send", "cr": "receive", "canpub": "publish", "cansub": "subscribe", "canlist": "list"}


class Backend:
    """Answers Mesibo's operations. `caller_of` returns whose token the app token is, or raises MesimqttError."""

    def __init__(self, messaging: Messaging, perform: Perform, caller_of: Callable[[bytes, str], Caller]) -> None:
        self._messaging = messaging
        self._perform = perform
        self._caller_of = caller_of
        self._otps = Otps(messaging.chance)
        self._operations: dict[str, Callable[[Json, Caller], Awaitable[Json]]] = {
            "useradd": self._useradd,
            "userset": self._userset,
            "userdel": self._userdel,
            "usersget": self._usersget,
            "tokendel": self._tokendel,
            "otp": self._otp,
            "groupadd": self._groupadd,
            "groupset": self._groupset,
            "groupdel": self._groupdel,
            "groupeditmembers": self._groupeditmembers,
            "groupgetmembers": self._groupgetmembers,
            "message": self._message,
        }

    async def reply(self, raw: bytes, address: str) -> Json:
        """Return the answer to a body from `address`; to one that is no request, too."""
        try:
            body = request_of(raw)
        except MesiboError as error:
            return {"error": error.code, "message": str(error), "op": "", "result": False}
        return await self.answer(body, address)

    async def answer(self, body: Json, address: str) -> Json:
        """Return the answer to one request from `address`; a refusal is an answer, too."""
        said = body.get("op")
        op = said if isinstance(said, str) else ""
        answer: Json = {}
        try:
            caller = self._caller(body, address)
            work = self._operations.get(op)
            if work is None:
                raise MesiboError(BAD_OP, f"there are {', '.join(self._operations)}")  # noqa: TRY301 - one answer for all
            answer = await work(body, caller)
        except MesiboError as error:
            answer = {"error": error.code, "message": str(error)}
        except MesimqttError as error:
            answer = {"error": error_of(error), "message": str(error)}
        answer |= {"op": op, "result": "error" not in answer}
        return answer | ({"id": body["id"]} if "id" in body else {})

    def _caller(self, body: Json, address: str) -> Caller:
        token = body.get("token")
        if not token or not isinstance(token, str):
            raise MesiboError(AUTH_FAILED, "token is missing: the app token, a text")
        caller = self._caller_of(token.encode("utf-8", "replace"), address)
        if caller.power < Scope.BACKEND:
            raise MesiboError("DENIED", "the app token is one of our tokens of scope backend")
        return caller

    # ---- users -------------------------------------------------------------------------------------------------

    async def _useradd(self, body: Json, caller: Caller) -> Json:
        user = object_of(body, "user")
        address = text(user, "address", text(user, "addr", ""))
        if not address:
            raise MesiboError(BAD_REQUEST, "user.address is missing")
        if "otp" in user and user["otp"] and not self._otps.check(address, str(user["otp"]), self._messaging.now()):
            raise MesiboError("BADOTP", "the one-time password is wrong or its time is over")
        await self._perform("user_add", {"addresses": [address]}, caller)
        await self._change(address, user, caller)
        found: Json = {"uid": str(self._uid(address)), "address": address}
        wanted = user.get("token") if isinstance(user.get("token"), dict) else None
        if wanted is None and "appid" in user:  # the form of before: appid and expiry beside the address
            wanted = user
        if wanted is not None:
            minutes = number(wanted, "expiry", TOKEN_MINUTES)
            ttl = minutes * 60 if minutes else NEVER_S
            issued = await self._perform("token_issue", {"addresses": [address], "ttl": ttl}, caller)
            found["token"] = issued["tokens"][0]["token"]
        return {"user": found}

    async def _userset(self, body: Json, caller: Caller) -> Json:
        user = object_of(body, "user")
        address = self._address(user)
        await self._change(address, user, caller)
        return {"user": {"uid": str(self._uid(address)), "address": address}}

    async def _change(self, address: str, user: Json, caller: Caller) -> None:
        permissions = user.get("permissions")
        rules = {}
        if isinstance(permissions, dict) and "peers" in permissions:
            peers = number(permissions, "peers", 0)
            if peers not in _PEERS:
                raise MesiboError(BAD_REQUEST, "permissions.peers is 0 (all), 1 (paired) or 2 (contacts)")
            rules["peers"] = _PEERS[peers]
        profile = {"name": text(user, "name", "")} if "name" in user else {}
        if profile or rules:
            await self._perform("user_set", {"address": address, "profile": profile, "rules": rules}, caller)
        if "active" in user:
            op = "user_enable" if flag(user, "active", default=True) else "user_disable"
            await self._perform(op, {"addresses": [address]}, caller)

    async def _userdel(self, body: Json, caller: Caller) -> Json:
        await self._perform("user_delete", {"addresses": [self._address(object_of(body, "user"))]}, caller)
        return {}

    async def _tokendel(self, body: Json, caller: Caller) -> Json:
        await self._perform("token_revoke", {"what": self._address(object_of(body, "user"))}, caller)
        return {}

    async def _usersget(self, body: Json, caller: Caller) -> Json:
        user = object_of(body, "user")
        count = min(max(number(user, "count", PAGE_MAX), 1), PAGE_MAX)
        address = text(user, "address", text(user, "addr", "*"))
        if address != "*" or "uid" in user:
            rows = [await self._perform("user_show", {"address": self._address(user)}, caller)]
        else:
            page = {"limit": count, "after": text(user, "after", "")}
            rows = (await self._perform("user_list", page, caller))["users"]
        return {"users": [self._user(row) for row in rows], "count": len(rows)}

    def _user(self, row: Json) -> Json:
        address = row["address"]
        active = row["state"] == "active"
        return {"uid": str(self._uid(address)), "address": address, "name": row["name"], "active": active}

    async def _otp(self, body: Json, _caller: Caller) -> Json:
        wanted = object_of(body, "otp")
        address = text(wanted, "address", "")
        if not address:
            raise MesiboError(BAD_REQUEST, "otp.address is missing")
        expiry_s = number(wanted, "expiry", 300)
        tries, reuse = number(wanted, "tries", 3), flag(wanted, "reuse", default=False)
        made = self._otps.make(address, self._messaging.now(), tries=tries, expiry_s=expiry_s, is_reused=reuse)
        return {"otp": {"address": address, "otp": made, "expiry": expiry_s}}

    # ---- groups ------------------------------------------------------------------------------------------------

    async def _groupadd(self, body: Json, caller: Caller) -> Json:
        group = object_of(body, "group")
        arguments: Json = {"flags": number(group, "flag", 0), "expiry": number(group, "expiry", YEAR_S)}
        if name := text(group, "name", ""):
            arguments["profile"] = {"name": name}
        made = await self._perform("group_add", arguments, caller)
        if not flag(group, "active", default=True):
            await self._perform("group_set", {"address": made["address"], "profile": {"paused": "on"}}, caller)
        row = groups.find(self._messaging.store.read, made["address"])
        return {"group": {"gid": row.id if row is not None else 0, "address": made["address"]}}

    async def _groupset(self, body: Json, caller: Caller) -> Json:
        group = object_of(body, "group")
        address = self._group(group)
        changes = {"name": text(group, "name", "")} if "name" in group else {}
        if "flag" in group:
            changes["flags"] = str(number(group, "flag", 0))
        if "expiry" in group:
            changes["expiry"] = str(number(group, "expiry", YEAR_S))
        if "active" in group:
            changes["paused"] = "off" if flag(group, "active", default=True) else "on"
        if not changes:
            raise MesiboError(BAD_REQUEST, "nothing to change: name, flag, expiry or active")
        await self._perform("group_set", {"address": address, "profile": changes}, caller)
        return {"group": {"gid": group["gid"]}}

    async def _groupdel(self, body: Json, caller: Caller) -> Json:
        await self._perform("group_delete", {"addresses": [self._group(object_of(body, "group"))]}, caller)
        return {}

    async def _groupeditmembers(self, body: Json, caller: Caller) -> Json:
        group = object_of(body, "group")
        address = self._group(group)
        members = names(group.get("m", group.get("members", "")))
        if not members:
            raise MesiboError(BAD_REQUEST, "m is a comma separated list of addresses")
        arguments = {"address": address, "users": members}
        if flag(group, "delete", default=False):
            await self._perform("group_leave", arguments, caller)
            return {}
        await self._perform("group_join", arguments, caller)
        rights = {
            f"{right}:{member}": "on" if flag(group, key, default=True) else "off"
            for key, right in _RIGHTS.items()
            if key in group
            for member in members
        }
        if rights:
            await self._perform("group_set", {"address": address, "profile": rights}, caller)
        return {}

    async def _groupgetmembers(self, body: Json, caller: Caller) -> Json:
        group = object_of(body, "group")
        count = min(max(number(group, "count", PAGE_MAX), 1), PAGE_MAX)
        arguments = {"address": self._group(group), "limit": count, "after": text(group, "after", "")}
        found = (await self._perform("group_members", arguments, caller))["members"]
        members = [{"uid": str(self._uid(each["address"])), **each} for each in found]
        return {"members": members, "count": len(members)}

    # ---- messages ----------------------------------------------------------------------------------------------

    async def _message(self, body: Json, caller: Caller) -> Json:
        letter = object_of(body, "message") if isinstance(body.get("message"), dict) else body
        sender, to = text(letter, "from", ""), names(letter.get("to", ""))
        if not sender or (not to and not letter.get("gid")):
            raise MesiboError(BAD_REQUEST, "from, and to or gid, are missing")
        arguments: Json = {"sender": sender, "to": to, "text": text(letter, "message", "")}
        if letter.get("gid"):
            arguments["groups"] = [self._group(letter)]
        for key in ("type", "when", "flags", "expiry"):
            if key in letter:
                arguments[key] = number(letter, key, 0)
        keys = {key: text(letter, key, "") for key in ("title", "url") if letter.get(key)}
        if keys:
            arguments["keys"] = keys
        answer = await self._perform("message_send", arguments, caller)
        results = answer["results"]
        sent = [each["mid"] for each in results if each["status"] < 0x80]
        if not sent:
            raise MesiboError(error_of(None, results[0]["name"]), f"{results[0]['name']}: nobody got it")
        if len(results) == 1:
            return {"mid": sent[0]}
        refused = [
            ({"gid": letter["gid"]} if "group" in each else {"to": each["peer"]})
            | {"error": error_of(None, each["name"])}
            for each in results
            if each["status"] >= 0x80
        ]
        return {"mid": sent[0], "mids": sent} | ({"refused": refused} if refused else {})

    # ---- who is meant ------------------------------------------------------------------------------------------

    def _uid(self, address: str) -> int:
        row = users.find(self._messaging.store.read, address)
        return row.id if row is not None else 0

    def _address(self, user: Json) -> str:
        """Return whom a request means: by his address, or by his uid, which is the number of his row."""
        address = text(user, "address", text(user, "addr", ""))
        if address:
            return address
        row = users.by_id(self._messaging.store.read, number(user, "uid", 0))
        if row is None:
            raise MesiboError("NOSUCHUSER", "neither address nor uid of a user")
        return row.address

    def _group(self, group: Json) -> str:
        """Return which group a request means: its gid is the number of its row; our address of it is taken, too."""
        said = group.get("gid", "")
        if isinstance(said, str) and said and not said.isdecimal():
            return said
        row = groups.by_id(self._messaging.store.read, number(group, "gid", 0))
        if row is None:
            raise MesiboError("NOSUCHGROUP", "no group has this gid")
        return row.address
