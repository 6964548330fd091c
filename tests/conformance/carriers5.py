"""Every packet of a client that carries properties, and a legal example of every property."""

from __future__ import annotations

from mesimqtt.testing.wire5 import (
    PROPERTIES,
    auth,
    connect,
    disconnect,
    one,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    subscribe,
    unsubscribe,
    will,
)

EXAMPLES = {"byte": 1, "two": 1, "four": 1, "variable": 1, "binary": b"b", "text": "t", "pair": ("n", "v")}
METHOD = one("authentication_method", "OAUTH2-JWT")
# What a client may send in packets that carry properties; each builder takes the raw property block.
SENT = {
    "CONNECT": lambda raw: connect("d", raw=raw),
    "WILL": lambda raw: connect("d", will=will("w", b"", raw=raw)),
    "PUBLISH": lambda raw: publish("a", b"x", raw=raw),
    "PUBACK": lambda raw: puback(1, 0, raw=raw),
    "PUBREC": lambda raw: pubrec(1, 0, raw=raw),
    "PUBREL": lambda raw: pubrel(1, 0, raw=raw),
    "PUBCOMP": lambda raw: pubcomp(1, 0, raw=raw),
    "SUBSCRIBE": lambda raw: subscribe(("a", 0), raw=raw),
    "UNSUBSCRIBE": lambda raw: unsubscribe("a", raw=raw),
    "DISCONNECT": lambda raw: disconnect(0, raw=raw),
    "AUTH": lambda raw: auth(0x19, raw=raw),
}
ONLY_SERVERS = {("SUBSCRIPTION_IDENTIFIER", "PUBLISH"), ("SERVER_REFERENCE", "DISCONNECT")}


def allowed(name: str, kind: str) -> bool:
    """Tell whether a client may send this property in this packet."""
    return kind in PROPERTIES[name][2] and (name.upper(), kind) not in ONLY_SERVERS


def example(name: str) -> bytes:
    """A legal property of this name."""
    value = {"response_topic": "r", "authentication_method": "OAUTH2-JWT"}.get(name, EXAMPLES[PROPERTIES[name][1]])
    return one(name, value)


def speaker(five, kind):
    """Open a connection from which a packet of this kind may come."""
    if kind in {"CONNECT", "WILL"}:
        return five.open()
    if kind == "AUTH":
        return five.connected("d", authentication_method="OAUTH2-JWT", told={"authentication_method": "OAUTH2-JWT"})
    return five.connected("d")
