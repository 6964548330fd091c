"""Groups, pure: Mesibo's flag bits, what they let a member do, and who may give what to whom (docs/groups.md)."""

from __future__ import annotations

from enum import IntFlag, StrEnum
from json.encoder import encode_basestring


class GroupFlag(IntFlag):
    """What kind of group it is. 0: every member sends and receives, members alone are told who is one."""

    SEND_BY_SELECTED = 0x1
    SEND_BY_ANYONE = 0x2
    AUTO_ADD_MEMBER = 0x8
    RECV_BY_SELECTED = 0x10
    RECV_ROUND_ROBIN = 0x20
    NO_STORAGE = 0x40
    RECV_LOOPBACK = 0x80
    PUB_BY_SELECTED = 0x100
    PUB_BY_ANYONE = 0x200
    SUB_BY_SELECTED = 0x1000
    SUB_BY_ANYONE = 0x2000
    LIST_BY_SELECTED = 0x1_0000
    LIST_BY_ANYONE = 0x2_0000
    NO_SELF_DELETE = 0x4_0000


class MemberFlag(IntFlag):
    """What a member may do in a group."""

    SEND = 0x1
    RECV = 0x2
    PUBL = 0x4
    SUBS = 0x8
    LIST = 0x10
    RECORD = 0x20
    ADMIN = 0x1000
    NO_SELF_DELETE = 0x2000
    SHARED_PIN = 0x8000


class AdminFlag(IntFlag):
    """What an admin may do to a group and its members."""

    MODIFY = 0x1
    ADD_USER = 0x10
    REM_USER = 0x20
    ADD_ADMIN = 0x40
    REM_ADMIN = 0x80
    REM_OWNER = 0x100
    REM_GROUP = 0x200
    CALL_CONTROL = 0x400
    HANG_UP = 0x800
    OWNER = 0x1000
    ADD_PIN = 0x2000
    REMOVE_PIN = 0x4000
    LIST_PIN = 0x8000


class Role(StrEnum):
    """A member's part in a group."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


_USERS = b'"users": ['  # as an event's JSON begins its list
GROUP_ALL = sum(GroupFlag)
MEMBER_ALL = 0x1F  # Mesibo's MEMBERFLAG_ALL: send, recv, publ, subs, list
OWNER_ALL = 0xFFFF  # Mesibo's OWNERFLAG_ALL
ADMIN_ALL = OWNER_ALL & ~AdminFlag.OWNER
ADMIN_USUAL = int(
    AdminFlag.MODIFY
    | AdminFlag.ADD_USER
    | AdminFlag.REM_USER
    | AdminFlag.ADD_PIN
    | AdminFlag.REMOVE_PIN
    | AdminFlag.LIST_PIN
)
GRANTABLE = MEMBER_ALL | MemberFlag.RECORD | MemberFlag.NO_SELF_DELETE | MemberFlag.SHARED_PIN
KINDS: dict[str, int] = {
    "normal": 0,
    "broadcast": int(GroupFlag.SEND_BY_SELECTED),
    "public": int(GroupFlag.AUTO_ADD_MEMBER),
    "round-robin": int(GroupFlag.RECV_ROUND_ROBIN),
    "no-storage": int(GroupFlag.NO_STORAGE),
}
RIGHTS: dict[str, MemberFlag] = {
    "send": MemberFlag.SEND,
    "receive": MemberFlag.RECV,
    "publish": MemberFlag.PUBL,
    "subscribe": MemberFlag.SUBS,
    "list": MemberFlag.LIST,
    "record": MemberFlag.RECORD,
    "stay": MemberFlag.NO_SELF_DELETE,
    "pins": MemberFlag.SHARED_PIN,
}
_SELECTED = (
    (GroupFlag.SEND_BY_SELECTED, MemberFlag.SEND),
    (GroupFlag.RECV_BY_SELECTED, MemberFlag.RECV),
    (GroupFlag.PUB_BY_SELECTED, MemberFlag.PUBL),
    (GroupFlag.SUB_BY_SELECTED, MemberFlag.SUBS),
    (GroupFlag.LIST_BY_SELECTED, MemberFlag.LIST),
)


def kind_of(flags: int) -> str:
    """Return the name of the kind whose flags these are, `custom` for any other."""
    return next((name for name, value in KINDS.items() if value == flags), "custom")


def member_flags(group: int, role: str, granted: int, denied: int) -> int:
    """Return what a member may do: by the group's flags and his role, and then what he himself was given or denied."""
    flags = MEMBER_ALL
    if role == Role.MEMBER:
        for by_selected, right in _SELECTED:
            if group & by_selected:
                flags &= ~right
    else:
        flags |= MemberFlag.ADMIN
    return (flags | granted) & ~denied


def admin_flags(role: str, given: int) -> int:
    """Return what a member may do as an admin."""
    if role == Role.OWNER:
        return OWNER_ALL
    return given & ADMIN_ALL if role == Role.ADMIN else 0


def needed_to_remove(role: str) -> int:
    """Return the admin bits that it takes to remove somebody of this role, or to take rights from him."""
    return {
        Role.OWNER: int(AdminFlag.REM_OWNER),
        Role.ADMIN: int(AdminFlag.REM_USER | AdminFlag.REM_ADMIN),
    }.get(Role(role), int(AdminFlag.REM_USER))


def needed_for_role(before: str, after: str, bits_before: int, bits_after: int) -> int:
    """Return the admin bits that it takes to bring a member from one role (and its admin bits) to another."""
    if (before, bits_before) == (after, bits_after):
        return 0
    needed = 0
    if before == Role.OWNER:
        needed |= AdminFlag.REM_OWNER
    if after == Role.OWNER:
        needed |= AdminFlag.OWNER
    # An admin of no bits is one all the same: no kind of group takes the right to send or receive from him.
    if bits_before & ~bits_after or (before == Role.ADMIN and after == Role.MEMBER):
        needed |= AdminFlag.REM_ADMIN
    if bits_after & ~bits_before or (before != Role.ADMIN and after == Role.ADMIN):
        needed |= AdminFlag.ADD_ADMIN
    return int(needed)


def is_event_for(payload: bytes, address: str, *, may_list: bool | None) -> bool:
    """Tell whether an event of a group is for a user: who may not list the members is told of himself alone.

    `may_list` None: he is no member any more, and may read that he is not.
    """
    if may_list or _USERS not in payload:
        return True
    own = encode_basestring(address).encode()
    return _USERS + own + b"]" in payload or (may_list is None and own in payload)


def names_of(flags: type[IntFlag], value: int) -> list[str]:
    """Return the names of the bits that are set, in Mesibo's spelling and order."""
    return [str(flag.name).replace("_", "") for flag in flags if value & flag]
