"""Joining a group by a PIN: it says as what, how often and until when; guessing is slow, and soon refused."""

from __future__ import annotations

from hashlib import scrypt
from math import ceil
from typing import TYPE_CHECKING

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.groups import AdminFlag, GroupFlag, MemberFlag, Role
from mesimqtt.domain.rates import RateLimit, Window, parse_windows
from mesimqtt.messaging.rights import Bench
from mesimqtt.store import groups as group_rows
from mesimqtt.store import members
from mesimqtt.store import pins as rows
from mesimqtt.store.members import NewMember

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from mesimqtt.messaging.groups import Groups
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User
    from mesimqtt.store.pins import PinRow

PIN_MIN, PIN_MAX = 6, 64
_GUESSES_OF_ALL = 20  # times as many wrong PINs for one group as one user may try


class Pins:
    """Makes, lists and removes PINs, and lets in who knows one."""

    def __init__(self, hub: Hub, groups: Groups) -> None:
        self._hub = hub
        self._groups = groups
        windows = parse_windows(hub.settings.rates.failed_pins)
        self._by_user = RateLimit(windows)
        self._by_group = RateLimit(tuple(Window(each.seconds, each.most * _GUESSES_OF_ALL) for each in windows))

    async def add(self, address: str, pin: str | None, wanted: PinRow, *, by: User | None) -> tuple[int, str]:
        """Make a PIN; return its number and its text, which nobody can be told again.

        Raises:
            OperationError: no such group, the right is missing, or the PIN would give more than its maker has.

        """
        group = self._groups.group(address)
        text = pin if pin is not None else f"{self._hub.chance.below(10**8):08d}"
        if not (PIN_MIN <= len(text) <= PIN_MAX and text.isprintable()):
            raise OperationError("bad-pin", f"a PIN has {PIN_MIN} to {PIN_MAX} printable characters")
        now_ms, bound = self._hub.now_ms(), self._hub.settings.groups.pins_max

        def check(connection: sqlite3.Connection) -> None:
            self._check_maker(Bench(connection, group.id, by), wanted)
            if len(rows.of_group(connection, group.id, now_ms)) >= bound:
                raise OperationError("too-many-pins", f"a group has at most {bound} PINs; remove one first")

        check(self._hub.store.read)  # what is refused costs no hash
        digest = await self._digest(group.id, text)

        def work(connection: sqlite3.Connection) -> int:
            check(connection)
            rows.forget_expired(connection, group.id, now_ms)
            number = rows.add(connection, group.id, digest, wanted)
            if number is None:
                raise OperationError("bad-pin", "choose another PIN")
            return number

        return await self._hub.committer.run(work), text

    @staticmethod
    def _check_maker(bench: Bench, wanted: PinRow) -> None:
        standing = bench.standing
        is_plain = wanted.role == Role.MEMBER and not wanted.granted
        if standing is None or not (is_plain and standing.flags(bench.group.flags) & MemberFlag.SHARED_PIN):
            bench.need(int(AdminFlag.ADD_PIN), "make a PIN")
        bench.check_grant(wanted.granted)
        if wanted.role == Role.ADMIN:
            bench.need(int(AdminFlag.ADD_ADMIN), "make a PIN for admins")
            bench.check_admin(wanted.admin)

    def listed(self, address: str, *, by: User | None) -> list[PinRow]:
        """Return a group's PINs, without their texts, which are not kept."""
        group = self._groups.group(address)
        Bench(self._hub.store.read, group.id, by).need(int(AdminFlag.LIST_PIN), "list PINs")
        return rows.of_group(self._hub.store.read, group.id, self._hub.now_ms())

    async def remove(self, address: str, number: int, *, by: User | None) -> None:
        """Remove a PIN."""
        group = self._groups.group(address)

        def work(connection: sqlite3.Connection) -> None:
            Bench(connection, group.id, by).need(int(AdminFlag.REMOVE_PIN), "remove a PIN")
            if not rows.remove(connection, group.id, number):
                raise OperationError("no-such-pin", f"{address!r} has no PIN {number}")

        await self._hub.committer.run(work)

    async def enter(self, address: str, user: User, pin: str | None) -> list[str]:
        """Let a user join by himself: a public room, or with a PIN. Return [] if he was a member.

        Raises:
            OperationError: the same for a wrong PIN as for a group that is not there; or too many guesses.

        """
        group = self._hub.directory.group(address)
        if group is not None and user.id in group.members:
            return []
        if pin is None:
            if group is None or not group.flags & GroupFlag.AUTO_ADD_MEMBER:
                raise OperationError("no-such-group", f"there is no public group {address!r}; with a PIN, give it")
            return await self._groups.join(address, [user.address], by=user, admission=self._public(group.id))
        now = self._hub.now()
        wait = max(self._by_user.take(user.address, now), self._by_group.wait_s(address, now))
        if wait:
            raise OperationError("rate-limited", f"too many PINs tried; try again in {ceil(wait)} s")
        digest = await self._digest(group.id if group is not None else 0, pin)
        if group is None or rows.find(self._hub.store.read, group.id, digest, self._hub.now_ms()) is None:
            self._by_group.charge(address, self._hub.now(), 1)
            raise _wrong(address)
        joined = await self._groups.join(address, [user.address], by=user, admission=self._with(group.id, digest))
        self._by_user.forget(user.address)
        return joined

    def _public(self, group: int) -> Callable[[sqlite3.Connection], NewMember]:
        def admit(connection: sqlite3.Connection) -> NewMember:
            found = group_rows.by_id(connection, group)
            if found is None or not found.flags & GroupFlag.AUTO_ADD_MEMBER:
                raise OperationError("no-such-group", "there is no such public group any more")
            return NewMember()

        return admit

    def _with(self, group: int, digest: bytes) -> Callable[[sqlite3.Connection], NewMember]:
        now_ms = self._hub.now_ms()

        def admit(connection: sqlite3.Connection) -> NewMember:
            found = rows.find(connection, group, digest, now_ms)
            row = group_rows.by_id(connection, group)
            if found is None or row is None or not _is_backed(connection, group, found):
                raise _wrong(row.address if row is not None else "")
            rows.use(connection, found.id)
            return NewMember(found.role, found.granted, found.admin)

        return admit

    async def _digest(self, group: int, pin: str) -> bytes:
        """Return the hash of a PIN, made beside the loop: it takes some 50 ms on purpose."""
        return await self._hub.store.compute(
            lambda: scrypt(pin.encode(), salt=b"mesimqtt pin %d" % group, n=2**14, r=8, p=1, dklen=32)
        )


def _is_backed(connection: sqlite3.Connection, group: int, pin: PinRow) -> bool:
    """Tell whether the maker of a PIN could still make it: what he lost, his PINs lose with him."""
    if not pin.created_by:
        return True
    maker = members.find(connection, group, pin.created_by)
    if maker is None:
        return False
    if pin.role == Role.MEMBER and not pin.granted:
        return True
    return bool(maker.bits & AdminFlag.ADD_PIN) and not pin.admin & ~maker.bits


def _wrong(address: str) -> OperationError:
    return OperationError("bad-pin", f"there is no group {address!r} with this PIN")
