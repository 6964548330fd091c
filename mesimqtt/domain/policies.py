"""Policies, pure: what a class of users may do, who may learn what of them, and how both are written."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntFlag
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mesimqtt.domain.errors import RateError
from mesimqtt.domain.rates import parse_windows

if TYPE_CHECKING:
    from collections.abc import Mapping

Audience = Literal["all", "contacts", "nobody"]
AUDIENCES = ("all", "contacts", "nobody")
PEERS = ("all", "paired", "contacts")  # Mesibo's peers 0, 1, 2
RECEIPTS = {"all": 3, "delivered": 1, "none": 0}  # which flags of a message a recipient obeys
_CHOICES: dict[str, tuple[str, ...]] = {
    "peers": PEERS,
    "presence": AUDIENCES,
    "last_seen": AUDIENCES,
    "profile": AUDIENCES,
    "receipts": tuple(RECEIPTS),
}
PRIVACY = ("presence", "last_seen", "profile", "receipts")  # what a user decides himself
_WINDOWS = ("messages", "logins")
_SWITCH = {"on": True, "off": False}
_NUMBER_MAX = 2**53 - 1


class PolicyError(ValueError):
    """A rule that is none; the text says what to write."""


class Block(IntFlag):
    """What a user keeps somebody else from (Mesibo's kinds; calls will follow)."""

    MESSAGES = 1
    GROUP = 2
    PRESENCE = 4
    ALL = 0x7FFF_FFFF


BLOCK_KINDS = {"messages": Block.MESSAGES, "group": Block.GROUP, "presence": Block.PRESENCE, "all": Block.ALL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds for one class of users; 0 or None is the server's own bound where there is one, else none."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    messages: str | None = None
    logins: str = ""
    payload_max: int = 0
    devices_max: int = 0
    create_groups: bool = True
    groups_max: int = 0
    peers: Literal["all", "paired", "contacts"] = "all"
    incoming: bool = True
    outgoing: bool = True
    silent_blocks: bool = False
    single_token: bool = False
    token_ttl_s: int = 0
    expires_s: int = 0
    contacts_max: int = 5_000
    blocks_max: int = 1_000
    follows_max: int = 200
    presence: Audience = "contacts"
    last_seen: Audience = "contacts"
    profile: Audience = "all"
    receipts: Literal["all", "delivered", "none"] = "all"


DEFAULT, GUEST = "default", "guest"
GUEST_POLICY = Policy(
    expires_s=86_400, devices_max=3, create_groups=False, contacts_max=100, blocks_max=100, follows_max=20
)
# What holds where a policy was damaged: it may have forbidden whatever there is.
CLOSED = Policy(
    create_groups=False, incoming=False, outgoing=False, presence="nobody", last_seen="nobody", profile="nobody"
)


def with_rules(policy: Policy, rules: Mapping[str, str]) -> Policy:
    """Return a policy with rules as a person writes them: `on`, `off`, numbers, choices, windows.

    Raises:
        PolicyError: no such rule, or not such a value.

    """
    return replace(policy, **{name: _value(name, text) for name, text in rules.items()}) if rules else policy


def _value(name: str, text: str) -> Any:  # noqa: ANN401 - a field's own type
    kinds = {each.name: str(each.type) for each in fields(Policy)}
    kind = kinds.get(name)
    if kind is None:
        raise PolicyError(f"no rule {name[:40]!r}; there are {', '.join(kinds)}")
    if name in _CHOICES:
        return checked_choice(name, text)
    if name in _WINDOWS:
        try:
            parse_windows(text)
        except RateError as error:
            raise PolicyError(f"{name}: {error}") from None
        return text
    if kind == "bool":
        if text not in _SWITCH:
            raise PolicyError(f"{name} is on or off")
        return _SWITCH[text]
    if not (text.isascii() and text.isdigit() and int(text[:17]) <= _NUMBER_MAX and len(text) <= 16):
        raise PolicyError(f"{name} is a number from 0 up")
    return int(text)


def checked_choice(name: str, text: str) -> str:
    """Return a choice that there is; raise PolicyError otherwise."""
    if text not in _CHOICES[name]:
        raise PolicyError(f"{name} is one of {', '.join(_CHOICES[name])}")
    return text


def check_policy(policy: Policy) -> None:
    """Raise PolicyError for what no type says: numbers below 0, windows that are none."""
    for each in fields(Policy):
        value = getattr(policy, each.name)
        if type(value) is int and not 0 <= value <= _NUMBER_MAX:
            raise PolicyError(f"{each.name} is a number from 0 up")
        if each.name in _WINDOWS and value:
            _value(each.name, value)


def rules_of(policy: Policy) -> dict[str, str]:
    """Return all rules of a policy as a person writes them; what is left to the server is empty."""
    written: dict[str, str] = {}
    for each in fields(Policy):
        value = getattr(policy, each.name)
        written[each.name] = (
            ("on" if value else "off") if isinstance(value, bool) else str("" if value is None else value)
        )
    return written
