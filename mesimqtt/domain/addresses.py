"""User and group addresses and their one legal spelling in a topic (contract section 1)."""

import unicodedata
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from mesimqtt.domain.errors import AddressError

ADDRESS_MAX_BYTES = 63
_SAFE = "@"  # beside RFC 3986's unreserved characters, which `quote` never touches


def check_address(address: str) -> str:
    """Return `address` unchanged if it is legal, else raise AddressError with the reason."""
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
    if unicodedata.normalize("NFC", address) != address:
        raise AddressError("an address must be in Unicode normal form NFC")
    return address


@lru_cache(maxsize=65_536)
def encode_address(address: str) -> str:
    """Return the spelling of a legal address as one topic level."""
    return quote(check_address(address), safe=_SAFE)


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
