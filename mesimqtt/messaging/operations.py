"""Operations by name: one registry for the control socket, rpc and HTTP."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import OperationError
from mesimqtt.messaging import (  # noqa: F401 - importing them registers their operations
    operations_access,
    operations_bots,
    operations_groups,
    operations_history,
    operations_members,
    operations_messages,
    operations_people,
    operations_policies,
    operations_presence,
    operations_server,
    operations_tokens,
    operations_users,
    operations_webhooks,
)
from mesimqtt.messaging.operations_base import OPERATIONS, OPERATOR, Answer, ArgumentError, Caller, Desk, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesimqtt.messaging.messaging import Messaging

__all__ = ["OPERATIONS", "OPERATOR", "ArgumentError", "Caller", "Operation", "perform"]


async def perform(
    messaging: Messaging,
    name: str,
    arguments: dict[str, Any],
    *,
    bound: Sequence[tuple[str, str, int]] = (),
    caller: Caller = OPERATOR,
) -> Answer:
    """Do one operation and return its answer, ready for JSON.

    Raises:
        OperationError: it was refused; the text is for a person, the code for a program.

    """
    operation = OPERATIONS.get(name)
    if operation is None:
        known = sorted(each.name for each in OPERATIONS.values() if each.scope <= caller.power)
        raise ArgumentError(f"no operation {name[:64]!r}; there are {', '.join(known)}", "no-such-operation")
    arguments = operation.admit(caller, arguments)
    operation.check(arguments)
    if operation.is_lookup and caller.user and (wait := messaging.lookups.take(caller.user, messaging.now())):
        seconds = ceil(wait)
        raise OperationError("rate-limited", f"too many look-ups; ask again in {seconds} s", retry_after=seconds)
    return await operation.call(Desk(messaging, bound, caller), **arguments)
