"""Every fuzz target by its name: the one table of the suite, the trial `parsers` and `make fuzz`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.fuzz import (
    client_targets,
    door_targets,
    edge_targets,
    server_targets,
    topic_targets,
    value_targets,
    wire_targets,
)

if TYPE_CHECKING:
    from mesimqtt.proof.fuzz.target import Target

_TABLES = (wire_targets, topic_targets, value_targets, edge_targets, door_targets, client_targets, server_targets)

TARGETS: dict[str, Target] = {target.name: target for table in _TABLES for target in table.TARGETS}
