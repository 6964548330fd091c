"""PROXY headers of both versions: the address in them, or closed."""

from __future__ import annotations

import pytest

from mesimqtt.broker.proxy_protocol import SIGNATURE, HeaderError, read_header

V4 = bytes((192, 0, 2, 1, 198, 51, 100, 9)) + b"\x10\x00\x07\x5b"
V6 = bytes.fromhex("20010db8000000000000000000000001") * 2 + b"\x10\x00\x07\x5b"


def v2(command=0x21, family=0x11, body=V4, size=None):
    return SIGNATURE + bytes((command, family)) + (len(body) if size is None else size).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.9 4096 1883\r\n", "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 2001:DB8::2 4096 1883\r\n", "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
        (v2(), "192.0.2.1"),
        (v2(family=0x21, body=V6), "2001:db8::1"),
        (v2(body=V4 + b"\x04\x00\x03abc" + b"\x20\x00\x00"), "192.0.2.1"),
        (v2(command=0x20), None),
        (v2(command=0x20, family=0, body=b""), None),
        (v2(family=0, body=b""), None),
        (v2(family=0x12), None),
        (v2(family=0x31, body=b"/a".ljust(216, b"\0")), None),
    ],
)
def test_a_header_names_the_client(header, address):
    """Row 115: the address is that of the header, LOCAL and UNKNOWN leave the proxy's; not a byte more is taken."""
    assert (len(header), address) == read_header(header + b"\x10MQTT")
    assert [None] * len(header) == [read_header(header[:end]) for end in range(len(header))]


@pytest.mark.parametrize(
    "data",
    [
        b"\x10\x0c\x00\x04MQTT",
        b"GET / HTTP/1.1\r\n",
        b"proxy TCP4 192.0.2.1 198.51.100.9 4096 1883\r\n",
        b"PROXY\tTCP4 192.0.2.1 198.51.100.9 4096 1883\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.9 4096\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.9 4096 1883 \r\n",
        b"PROXY  TCP4 192.0.2.1 198.51.100.9 4096 1883\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 4096 1883\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.9 4096 1883\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 4096 1883\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.9 4096 1883\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.9 4096 65536\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.9 04096 1883\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.9 +1 1883\r\n",
        b"PROXY TCP5 192.0.2.1 198.51.100.9 4096 1883\r\n",
        b"PROXY \r\n",
        b"PROXY UNKNOWN " + b"x" * 100,
        SIGNATURE[:-1] + b"x",
        v2(command=0x31),
        v2(command=0x22),
        v2(family=0x13),
        v2(size=11),
        v2(size=65_535),
        v2(body=V4 + b"\x04\x00"),
        v2(body=V4 + b"\x04\x00\x09abc"),
    ],
)
def test_what_is_malformed_is_an_error(data):
    """Row 115: anything else is an error, as soon as it shows."""
    with pytest.raises(HeaderError):
        read_header(data)
