"""Where connections come from: what is counted together under `connections_per_address`."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

LOCAL = "unix"  # stands for the address of who comes through a Unix socket
_IPV6_COUNTED_BITS = 64  # a household or a machine has at least so much for itself


@lru_cache(maxsize=4096)
def counted_as(address: str) -> str:
    """Return the name under which connections from `address` are counted; empty: they are not."""
    if ":" not in address:
        return "" if address == LOCAL else address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, _IPV6_COUNTED_BITS), strict=False))
