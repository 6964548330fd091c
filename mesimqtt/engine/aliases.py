"""Topic aliases that a client sets [MQTT 5.0, section 3.3.2.3.4]. Those that the server sets are made in letter.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.engine import codes
from mesimqtt.engine.arrival import check_response_topic
from mesimqtt.engine.packets import MalformedError
from mesimqtt.engine.properties import SUBSCRIPTION_ID, TOPIC_ALIAS

if TYPE_CHECKING:
    from mesimqtt.engine.connection import Connection
    from mesimqtt.engine.properties import Properties


def resolve(connection: Connection, raw: bytes, found: Properties) -> bytes:
    """Return the topic that a PUBLISH means, and remember its alias. Raises MalformedError."""
    if SUBSCRIPTION_ID in found.values:  # [MQTT-3.3.4-6]
        raise MalformedError("Subscription Identifier in a PUBLISH of a client", codes.PROTOCOL_ERROR)
    check_response_topic(found)
    alias = found.number(TOPIC_ALIAS, 0)
    five = connection.five
    if not alias or five is None:
        if not raw:
            raise MalformedError("no topic and no topic alias", codes.PROTOCOL_ERROR)
        return raw
    if alias > connection.engine.mqtt.topic_aliases_max:  # [MQTT-3.3.2-9]
        raise MalformedError("topic alias above the maximum", codes.TOPIC_ALIAS_INVALID)
    if raw:
        five.topics[alias] = raw
        return raw
    known = five.topics.get(alias)
    if known is None:  # [MQTT-3.3.2-11]
        raise MalformedError("unknown topic alias", codes.PROTOCOL_ERROR)
    return known
