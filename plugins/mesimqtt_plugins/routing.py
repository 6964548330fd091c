"""Users and groups -> topics: claims the root and hands everything under it to messaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amqtt.contexts import BaseContext
from amqtt.plugins.base import BasePlugin

from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from mesimqtt.broker.context import Context


class MessageRouting(BasePlugin[BaseContext]):
    """Claims `ROOT/`. Without this plugin in the configuration, everything under the root is denied."""

    def __init__(self, context: Context) -> None:
        """Hand messaging's claim to the broker's engine."""
        super().__init__(context)
        claim = context.services.claim
        if claim is None:
            raise MesimqttError("MessageRouting: messaging does not run here; leave this plugin out")
        context.claim_root(claim)

    @dataclass
    class Config:
        """MessageRouting has no options: the root is `root`, limits stand under `messaging`."""
