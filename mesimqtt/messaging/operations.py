"""Operations by name: one registry for the control socket, rpc and HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.messaging import (  # noqa: F401 - importing them registers their operations
    operations_access,
    operations_groups,
    operations_messages,
    operations_tokens,
    operations_users,
)
from mesimqtt.messaging.operations_base import OPERATIONS, Answer, ArgumentError, Desk, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesimqtt.messaging.messaging import Messaging

__all__ = ["OPERATIONS", "ArgumentError", "Operation", "perform"]


async def perform(
    messaging: Messaging,
    name: str,
    arguments: dict[str, Any],
    *,
    bound: Sequence[tuple[str, str, int]] = (),
) -> Answer:
    """Do one operation and return its answer, ready for JSON.

    Raises:
        OperationError: it was refused; the text is for a person, the code for a program.

    """
    operation = OPERATIONS.get(name)
    if operation is None:
        raise ArgumentError(f"no operation {name[:64]!r}; there are {', '.join(sorted(OPERATIONS))}")
    operation.check(arguments)
    return await operation.call(Desk(messaging, bound), **arguments)
