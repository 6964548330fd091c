"""Servers whose tokens, and whose operators, do not what they say."""

from __future__ import annotations

import asyncio
import base64
import json

from conform.broken.between import Broken, with_password


class NeedsName(Broken):
    """A client must give its user name, though the token has it."""

    def greeted(self, link, raw):
        is_nameless = not link.user and not link.five
        return with_password(raw, link.password, link.password, user="", name="nobody") if is_nameless else raw


class NeverEnds(Broken):
    """A connection lives on, whatever becomes of its token and its user."""

    async def ended(self):
        await asyncio.Event().wait()


class Reissuing(Broken):
    """Gives out other tokens than it takes: `changed` says how they look."""

    def __init__(self, hall) -> None:
        super().__init__(hall)
        self.real: dict[str, str] = {}

    def changed(self, token: str, **options) -> str:
        """Return what a token is given out as."""
        raise NotImplementedError

    async def perform(self, op, **arguments):
        answer = await self.hall.perform(op, **arguments)
        if op == "token_issue":
            for each in answer["tokens"]:
                other = self.changed(each["token"], **arguments)
                self.real[other], each["token"] = each["token"], other
        return answer

    def greeted(self, link, raw):
        return with_password(raw, link.password, self.real.get(link.password, link.password))


class OddClaims(Reissuing):
    """Tokens have no id."""

    def changed(self, token, **options):
        if token.count(".") != 2:
            return token
        head, body, mark = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        del claims["jti"]
        text = json.dumps(claims, separators=(",", ":")).encode()
        return f"{head}.{base64.urlsafe_b64encode(text).rstrip(b'=').decode()}.{mark}"


class LongShort(Reissuing):
    """A short token has 40 characters."""

    def changed(self, token, **options):
        return token + "x" * 8 if options.get("short") else token


class LooseDevice(Broken):
    """A token that was issued for a device is good for any."""

    async def perform(self, op, **arguments):
        arguments.pop("device", None)
        return await self.hall.perform(op, **arguments)


class DisablingDeletes(Broken):
    """Who is disabled loses what waits for him."""

    async def perform(self, op, **arguments):
        renamed = {"user_disable": "user_delete", "user_enable": "user_add"}.get(op, op)
        return await self.hall.perform(renamed, **arguments)


class DeletingDisables(Broken):
    """Who is deleted is only locked out: when he is made again all is as it was."""

    def __init__(self, hall) -> None:
        super().__init__(hall)
        self.deleted: set[str] = set()

    async def perform(self, op, **arguments):
        if op == "user_delete":
            self.deleted.update(arguments["addresses"])
            op = "user_disable"
        elif op == "user_add" and self.deleted.issuperset(arguments["addresses"]):
            op = "user_enable"
        return await self.hall.perform(op, **arguments)


ALL = {
    NeedsName: "C5.3",
    NeverEnds: "C5.13 C5.14 C5.22",
    OddClaims: "C5.7",
    LongShort: "C5.21",
    LooseDevice: "C5.8 C5.22",
    DisablingDeletes: "C5.17",
    DeletingDisables: "C5.18 C5.19 C5.20",
}
