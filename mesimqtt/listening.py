"""Where the server listens: ADDR:PORT as it is written, listeners chosen by a caller, and who can reach them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.domain.hosts import is_loopback

if TYPE_CHECKING:
    from mesimqtt.settings import Settings

OFF = "off"
_UNIX = "unix:"
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - what an empty host means to amqtt


class Reach(NamedTuple):
    """A listener that other machines can reach."""

    name: str
    bind: str
    has_tls: bool

    @property
    def danger(self) -> str:
        """Return what is wrong with it without TLS."""
        where = f"listener {self.name!r}: {self.bind} is beyond loopback"
        return f"{where}, and without TLS others can read tokens and messages"


def bound_address(text: str) -> tuple[str, int]:
    """Return (host, port) of ADDR:PORT; an IPv6 address stands in brackets. Raises MesimqttError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise MesimqttError(f"{text!r}: write an IPv6 address in brackets, for example [::1]:1883")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise MesimqttError(f"{text!r} is not ADDR:PORT, for example 127.0.0.1:1883")
    return host or "127.0.0.1", int(port)


def choose(settings: Settings, *, mqtt: str | None, ws: str | None, http: str | None) -> Settings:
    """Return settings that listen there: ADDR:PORT, `unix:PATH`, or `off`; None leaves a listener as it is.

    Raises:
        MesimqttError: that is no place to listen.

    """
    for bind in filter(None, (mqtt, ws, http)):
        if bind != OFF and not bind.startswith(_UNIX):
            bound_address(bind)
    broker = copy.deepcopy(settings.broker)
    listeners: dict[str, Any] = broker["listeners"]
    if mqtt is not None:
        listeners["default"]["bind"] = mqtt
    names = [name for name, listener in listeners.items() if (listener or {}).get("type") == "ws"]
    if ws == OFF:
        for name in set(names) - {"default"}:
            del listeners[name]
    elif ws is not None:
        name = "ws" if "ws" in names or len(names) != 1 else names[0]
        listeners[name] = {**(listeners.get(name) or {}), "type": "ws", "bind": ws}
    if http is not None:
        settings = replace(settings, http=replace(settings.http, bind=http))
    return replace(settings, broker=broker)


def reachable(settings: Settings) -> list[Reach]:
    """List what other machines can reach. Raises MesimqttError where anybody could come in (`open`)."""
    found = []
    listeners: dict[str, Any] = settings.broker["listeners"]
    http = {"bind": settings.http.bind, "ssl": bool(settings.http.certfile)}
    for name, options in [*listeners.items(), ("http", http)]:
        listener = options or {}
        bind = str(listener.get("bind") or listeners["default"].get("bind") or "")
        if bind == OFF or bind.startswith(_UNIX) or listener.get("type") == "external":
            continue
        try:
            host, _ = bound_address(bind)
        except MesimqttError as error:
            raise MesimqttError(f"listener {name!r}: bind: {error}") from None
        if is_loopback(_EVERYWHERE if bind.startswith(":") else host):
            continue
        if settings.open:
            raise MesimqttError(
                f"listener {name!r}: --open lets anybody in, so it goes with loopback only, not with {bind}"
            )
        # amqtt: what default sets, the others have
        found.append(Reach(name, bind, has_tls=bool(listener.get("ssl") or listeners["default"].get("ssl"))))
    return found
