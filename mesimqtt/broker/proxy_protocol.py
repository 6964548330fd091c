"""The PROXY protocol, versions 1 and 2, sans I/O: the header in which a proxy names the client's address."""

from __future__ import annotations

import ipaddress

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1 = b"PROXY "
_V1_MAX = 107  # with its end of line, as the specification has it
_V2_HEAD = 16
_V2_MAX = 2048  # for addresses and TLVs; the specification asks for 216, certificates' names need more
_TCP4, _TCP6 = 0x11, 0x21
_ADDRESS_SIZES = {_TCP4: 12, _TCP6: 36, 0x12: 12, 0x22: 36, 0x31: 216, 0x32: 216, 0x00: 0}


class HeaderError(ValueError):
    """What came is no header of the PROXY protocol."""


def read_header(data: bytes) -> tuple[int, str | None] | None:
    """Return (size of the header, the client's address) of what `data` begins with; None while it is not whole.

    The address is None where the header says that the proxy's own is to be taken. Raises HeaderError.
    """
    if data[: len(_V1)] == _V1[: len(data)]:
        return _version_1(data)
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _version_2(data)
    raise HeaderError("no PROXY header")


def _version_1(data: bytes) -> tuple[int, str | None] | None:
    end = data.find(b"\r\n", 0, _V1_MAX)
    if end < 0:
        if len(data) >= _V1_MAX:
            raise HeaderError("the header is too long")
        return None
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return end + 2, None
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise HeaderError("malformed header")
    version = 4 if words[1] == b"TCP4" else 6
    source, _ = _address(words[2], version), _address(words[3], version)
    for port in words[4:]:
        if not port.isdigit() or len(port) > 5 or int(port) > 0xFFFF or (port[:1] == b"0" and port != b"0"):
            raise HeaderError("malformed port")
    return end + 2, source


def _address(text: bytes, version: int) -> str:
    try:
        parsed = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        raise HeaderError("malformed address") from None
    if parsed.version != version or b"%" in text:
        raise HeaderError("malformed address")
    return str(parsed)


def _version_2(data: bytes) -> tuple[int, str | None] | None:
    if len(data) < _V2_HEAD:
        return None
    command, family, size = data[12], data[13], int.from_bytes(data[14:16], "big")
    if command not in (0x20, 0x21):
        raise HeaderError("unknown version or command")
    if family not in _ADDRESS_SIZES:
        raise HeaderError("unknown family of addresses")
    if size > _V2_MAX:
        raise HeaderError("the header is too long")
    if size < _ADDRESS_SIZES[family]:
        raise HeaderError("the header is shorter than its addresses")
    end = _V2_HEAD + size
    if len(data) < end:
        return None
    _check_fields(data[_V2_HEAD + _ADDRESS_SIZES[family] : end])
    if command == 0x20 or family not in (_TCP4, _TCP6):  # LOCAL, or nothing that is an address of a client
        return end, None
    width = 4 if family == _TCP4 else 16
    return end, str(ipaddress.ip_address(data[_V2_HEAD : _V2_HEAD + width]))


def _check_fields(data: bytes) -> None:
    """Skip the TLVs: each must end within the header."""
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position + 1 : position + 3], "big")
        if position + 3 > len(data) or position + 3 + size > len(data):
            raise HeaderError("a field ends beyond the header")
        position += 3 + size
