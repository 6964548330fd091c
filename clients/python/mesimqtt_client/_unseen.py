"""Characters that cannot be seen: no address may hold one (contract section 1). Vectors hold it to the server."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"
_EMOJI_SELECTOR = "\ufe0f"
_HIDDEN = frozenset(  # drawn as nothing or as a space, although Unicode calls them letters, marks or symbols
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE0F), *range(0xE0100, 0xE01F0))))
)


def has_unseen(address: str) -> bool:
    """Tell whether two addresses could look the same for a character that shows nothing."""
    if address.isascii():
        return False
    for index, character in enumerate(address):
        before, after = address[index - 1 : index], address[index + 1 : index + 2]
        if character in _JOINERS:  # legal where a script or an emoji needs them
            if not (_joins(before, is_before=True) and _joins(after, is_before=False)):
                return True
        elif character == _EMOJI_SELECTOR:
            if unicodedata.category(before or " ") != "So":
                return True
        elif character in _HIDDEN or unicodedata.category(character) == "Cf":
            return True
    return False


def _joins(neighbour: str, *, is_before: bool) -> bool:
    if not neighbour:
        return False
    category = unicodedata.category(neighbour)
    is_letter = category == "Lo" and (not is_before or unicodedata.bidirectional(neighbour) == "AL")
    return is_letter or category == "So" or (is_before and category in ("Mn", "Mc", "Sk"))
