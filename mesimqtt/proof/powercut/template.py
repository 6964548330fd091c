"""Users, a group and devices, made once: each life of a server begins on a copy of that disk."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.powercut.chat import GROUP, USERS, Chat
from mesimqtt.proof.powercut.disk import Disk
from mesimqtt.proof.powercut.vfs import PowerCutDisk
from mesimqtt.proof.powercut.world import PowerWorld

if TYPE_CHECKING:
    from pathlib import Path


class Template:
    """A disk with people on it."""

    def __init__(
        self, folder: Path, world_type: type[PowerWorld] = PowerWorld, power_type: type[PowerCutDisk] = PowerCutDisk
    ) -> None:
        self.folder = folder
        self._world_type, self._power_type = world_type, power_type
        self.disk = Disk()
        power = PowerCutDisk(self.disk, random.Random(0))
        world = world_type(folder, power, history={"search": False})
        world.user(*USERS, "door")
        world.group(GROUP, *USERS)
        chat = Chat(world, random.Random(0))
        for phone in chat.phones:
            chat.come(phone)  # each device has a cursor from here on
        world.advance(2)
        self.tokens = dict(world.tokens)
        world.restart(kill=False)
        world.close()
        power.close()
        self.disk.is_dead = False
        self.disk.settle()

    def world(self, chance: random.Random, **sections: Any) -> PowerWorld:  # noqa: ANN401 - the world's
        """Return a server of its own on a copy of the disk."""
        world = self._world_type(self.folder, self._power_type(self.disk.fork(), chance), **sections)
        world.tokens = dict(self.tokens)
        return world
