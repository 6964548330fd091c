"""Where and as whom a client connects: URL, token, device and bounds, checked before anything starts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypedDict, Unpack
from urllib.parse import urlsplit

from mesimqtt_client._outbox import OUTBOX_BYTES_MAX, OUTBOX_MAX
from mesimqtt_client._protocol import PAYLOAD_MAX, Core
from mesimqtt_client._topics import check_address, is_a

TokenSource = str | Callable[[], str]

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_SHORT_LENGTH: Final = 32
_POSITIVE: Final = frozenset(
    {"connect_timeout_s", "reconnect_base_s", "reconnect_max_s", "outbox_max", "outbox_bytes_max", "payload_max"}
)


class Tuning(TypedDict, total=False):
    """Options that most programs leave alone.

    root: the server's topic root, `m`.  clean_session: forget this device's session at every connect, False.
    keep_alive_s: 60.  connect_timeout_s: until SUBACK, 10.  reconnect_base_s, reconnect_max_s: the wait before try n is
    random between 0 and base * 2^n, at most max; 1 and 60.  outbox_max: unacknowledged messages, 1 000.
    outbox_bytes_max: their bytes, 64 MiB.  payload_max: the server's limit, 256 KiB.  tls: for a private authority.
    """

    root: str
    clean_session: bool
    keep_alive_s: int
    connect_timeout_s: float
    reconnect_base_s: float
    reconnect_max_s: float
    outbox_max: int
    outbox_bytes_max: int
    payload_max: int
    tls: ssl.SSLContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A checked set of options."""

    host: str
    port: int
    token: TokenSource
    user: str
    device: str
    root: str = "m"
    clean_session: bool = False
    keep_alive_s: int = 60
    connect_timeout_s: float = 10.0
    reconnect_base_s: float = 1.0
    reconnect_max_s: float = 60.0
    outbox_max: int = OUTBOX_MAX
    outbox_bytes_max: int = OUTBOX_BYTES_MAX
    payload_max: int = PAYLOAD_MAX
    tls: ssl.SSLContext | None = None

    def read_token(self) -> str:
        """Return the token to connect with: a callable gives a fresh one each time."""
        return self.token if isinstance(self.token, str) else self.token()

    def make_core(self) -> Core:
        """Return the core that these options describe."""
        return Core(
            self.user,
            root=self.root,
            outbox_max=self.outbox_max,
            outbox_bytes_max=self.outbox_bytes_max,
            payload_max=self.payload_max,
        )


def make_options(
    url: str, token: TokenSource, user: str | None, device: str | None, **tuning: Unpack[Tuning]
) -> Options:
    """Check everything that can be checked without a connection. Raises ValueError."""
    scheme, host, port = _parse_url(url)
    address, bound_device = _identify(token() if callable(token) else token, user)
    if device is not None and bound_device is not None and device != bound_device:
        raise ValueError(f"the token is bound to the device {bound_device!r}, not {device!r}: leave device= out")
    if scheme == "mqtts":
        tuning.setdefault("tls", ssl.create_default_context())
    elif "tls" in tuning:
        raise ValueError(f"tls= needs an mqtts:// URL, not {url!r}")
    _check_tuning(tuning)
    name = _check_device(device if device is not None else bound_device or default_device(address))
    return Options(host=host, port=port, token=token, user=address, device=name, **tuning)


def default_device(user: str) -> str:
    """Return a device name that is the same at every start of this user on this machine.

    The server keeps a cursor per (user, device), so a random name would leave one behind at every start and push the
    user's real devices out of the 20 that are kept; and the host alone would hide whose device a log line is about.
    Two programs of one user on one machine must name themselves (`device=`), or each takes the other's session over.
    """
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname().split(".")[0])[:32].strip("-") or "host"
    return f"py-{host}-{hashlib.sha256(user.encode()).hexdigest()[:8]}"


def _parse_url(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"cannot read the URL {url!r}: {error}; write mqtt://host:1883 or mqtts://host:8883") from None
    is_bare = parts.path in ("", "/") and not parts.query and not parts.fragment and parts.username is None
    if parts.scheme not in _PORTS or not parts.hostname or not is_bare or port == 0:
        raise ValueError(f"cannot use the URL {url!r}: write mqtt://host:1883 or mqtts://host:8883, and nothing more")
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme]


def _identify(token: str, user: str | None) -> tuple[str, str | None]:
    """Return (user, bound device). The claims are read without verification: that is the server's part."""
    if not is_a(token, str) or not token or not token.isascii() or token != token.strip():
        raise ValueError("a token is the line that `mesimqtt token issue` prints, without spaces around it")
    claims = _read_claims(token)
    subject, device = claims.get("sub"), claims.get("dev")
    if not isinstance(subject, str):
        if user is None:
            short = len(token) == _SHORT_LENGTH and "." not in token
            what = "a short token does not say whose it is" if short else "this token is no JWT with a `sub` claim"
            raise ValueError(f"{what}: give user=")
        return check_address(user), None
    if user is not None and user != subject:
        raise ValueError(f"the token is of {subject!r}, not of {user!r}: leave user= out or take another token")
    return check_address(subject), device if isinstance(device, str) else None


def _read_claims(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _check_device(device: str) -> str:
    if not is_a(device, str) or not 1 <= len(device.encode(errors="replace")) <= 128 or not device.isprintable():
        raise ValueError(f"a device is a printable name of 1 to 128 bytes, e.g. 'phone', not {device!r}")
    return device


def _check_tuning(tuning: Tuning) -> None:
    root = tuning.get("root", "m")
    if not root or root.startswith("$") or set(root) & set("/+#\0"):
        raise ValueError(f"root is one topic level, without / + # and not starting with $, not {root!r}")
    if not 0 <= tuning.get("keep_alive_s", 60) <= 65_535:
        raise ValueError("keep_alive_s is from 0 (off) to 65535")
    for key, value in tuning.items():
        if key in _POSITIVE and not (isinstance(value, int | float) and value > 0):
            raise ValueError(f"{key} is greater than 0, not {value!r}")
