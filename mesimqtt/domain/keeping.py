"""For how long messages are kept: rules by group and type, and the most specific one counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

EVERY_GROUP, EVERY_TYPE = 0, -1
_TYPE_MAX = 2**32 - 1


class Rule(NamedTuple):
    """For how many seconds (0: for ever) the messages of a group (0: of all) and a type (-1: any) are kept."""

    group_id: int
    type: int
    keep_s: int


class Rules:
    """The rules in force; the most specific one counts: group and type, group, type, all."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._keep = {(rule.group_id, rule.type): rule.keep_s for rule in rules}

    def keep_s(self, group_id: int, message_type: int) -> int:
        """Return for how long a message is kept; 0: for ever."""
        for key in (
            (group_id, message_type),
            (group_id, EVERY_TYPE),
            (EVERY_GROUP, message_type),
            (EVERY_GROUP, EVERY_TYPE),
        ):
            if key in self._keep:
                return self._keep[key]
        return 0

    @property
    def shortest_s(self) -> int:
        """Return the shortest time of any rule; 0: all is kept for ever."""
        return min(filter(None, self._keep.values()), default=0)


def parse_keep_types(text: str) -> list[Rule]:
    """Return the rules that a setting such as "5:86400,6:0" says: a type and its seconds, each.

    Raises:
        ValueError: it says anything else; the text tells how it is written.

    """
    found = []
    for part in filter(None, text.replace(" ", "").split(",")):
        kind, _, seconds = part.partition(":")
        if not (kind.isascii() and kind.isdigit() and seconds.isascii() and seconds.isdigit()):
            raise ValueError(f"{part!r}: write TYPE:SECONDS, separated by commas, for example 5:86400,6:0")
        if int(kind) > _TYPE_MAX:
            raise ValueError(f"{part!r}: a type is at most {_TYPE_MAX}")
        found.append(Rule(EVERY_GROUP, int(kind), int(seconds)))
    return found
