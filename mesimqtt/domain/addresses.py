"""User and group addresses and their one legal spelling in a topic (contract section 1)."""

import re
import unicodedata
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from mesimqtt.domain.errors import AddressError

ADDRESS_MAX_BYTES = 63
_JOINERS = "\u200c\u200d"
_EMOJI_SELECTOR = "\ufe0f"
_HIDDEN = frozenset(  # drawn as nothing or as a space, although Unicode calls them letters, marks or symbols
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE0F), *range(0xE0100, 0xE01F0))))
)
_SAFE = "@"  # beside RFC 3986's unreserved characters, which `quote` never touches
_PLAIN = re.compile(rf"[A-Za-z0-9_~@-][A-Za-z0-9._~@-]{{0,{ADDRESS_MAX_BYTES - 1}}}")  # legal and spelled as it is


def check_address(address: str) -> str:
    """Return `address` unchanged if it is legal, else raise AddressError with the reason."""
    if _PLAIN.fullmatch(address):
        return address
    try:
        encoded = address.encode("utf-8")
    except UnicodeEncodeError:
        raise AddressError("an address must be valid UTF-8") from None
    if not 1 <= len(encoded) <= ADDRESS_MAX_BYTES:
        raise AddressError(f"an address is 1 to {ADDRESS_MAX_BYTES} bytes of UTF-8, this one has {len(encoded)}")
    if address in (".", ".."):
        raise AddressError("an address must not be '.' or '..'")
    if address != address.strip():
        raise AddressError("an address must not begin or end with a space")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Cn") or c in "\u2028\u2029" for c in address):
        raise AddressError("an address must not contain control characters")
    if not address.isascii() and _has_hidden(address):
        raise AddressError("an address must not contain characters that cannot be seen")
    if unicodedata.normalize("NFC", address) != address:
        raise AddressError("an address must be in Unicode normal form NFC")
    return address


def _has_hidden(address: str) -> bool:
    """Tell whether two addresses could look the same for a character that shows nothing.

    Joiners and the emoji selector stay legal where a script or an emoji needs them: family emoji, Persian, Hindi.
    """
    for index, character in enumerate(address):
        if character in _JOINERS:
            if not (_joins(address[index - 1 : index]) and _joins(address[index + 1 : index + 2], is_before=False)):
                return True
        elif character == _EMOJI_SELECTOR:
            if unicodedata.category(address[index - 1 : index] or " ") != "So":
                return True
        elif character in _HIDDEN or unicodedata.category(character) == "Cf":
            return True
    return False


def _joins(neighbour: str, *, is_before: bool = True) -> bool:
    if not neighbour:
        return False
    category = unicodedata.category(neighbour)
    is_letter = category == "Lo" and (not is_before or unicodedata.bidirectional(neighbour) == "AL")
    return is_letter or category == "So" or (is_before and category in ("Mn", "Mc", "Sk"))


@lru_cache(maxsize=65_536)
def encode_address(address: str) -> str:
    """Return the spelling of a legal address as one topic level."""
    return address if _PLAIN.fullmatch(address) else quote(check_address(address), safe=_SAFE)


@lru_cache(maxsize=65_536)
def decode_address(level: str) -> str:
    """Return the address that a topic level spells; raise AddressError for any other spelling."""
    try:
        address = unquote_to_bytes(level).decode("utf-8")
    except UnicodeDecodeError:
        raise AddressError("an address must be valid UTF-8") from None
    if encode_address(address) != level:
        raise AddressError(f"write this address as {encode_address(address)!r} in a topic")
    return address
