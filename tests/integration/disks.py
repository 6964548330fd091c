"""Disks that run full and become free again when a test says so, each under a running server."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace

from integration.server import Server
from mesimqtt.app import running
from mesimqtt.proof.processes.disks import Tmpfs as SmallDisk
from mesimqtt.proof.processes.disks import can_mount
from mesimqtt.settings import Http, Settings
from mesimqtt.settings import Store as StoreSettings

USERS = ["alice", "bob"]
TMPFS_BYTES = 8 * 1024 * 1024
FILLER_BYTES = 4 * 1024 * 1024
PAGES = 250
RESERVE_PAGES = 20


class Tmpfs:
    """A server process on a tmpfs of 8 MiB of its own, half of it taken by a file that `free` removes."""

    name = "tmpfs"

    def __init__(self, folder, ballast):
        self.disk = SmallDisk(folder / "disk", TMPFS_BYTES)
        self.data = self.disk.folder / "data"
        config = folder / "mesimqtt.yaml"
        config.write_text(f"store: {{ballast_bytes: {ballast}}}\n")
        self.server = Server(self.data, config=config)

    @classmethod
    @asynccontextmanager
    async def serving(cls, folder, ballast):
        """Mount, serve, and leave neither process nor mount behind."""
        disk = cls(folder, ballast)
        with disk.disk:
            disk.tokens = await asyncio.to_thread(disk.server.add_users, *USERS)
            disk.disk.fill(FILLER_BYTES)
            await asyncio.to_thread(disk.server.start)
            try:
                yield disk
            finally:
                disk.server.kill()

    @property
    def port(self):
        return self.server.port

    async def health(self):
        """What `mesimqtt stats` says of the store."""
        return json.loads(await asyncio.to_thread(self.server.run, "stats", "--json"))["health"]

    async def reserve(self):
        """The server gives its ballast for this by itself."""

    async def free(self):
        self.disk.free()


class PageLimit:
    """A server in this process whose database may have no more than so many pages, until `free` lifts the limit.

    SQLite answers as on a full disk; it needs no right to mount anything, so that it runs everywhere.
    """

    name = "page limit"

    @classmethod
    @asynccontextmanager
    async def serving(cls, folder, ballast):
        """Serve on a free port."""
        settings = Settings()
        broker = {**settings.broker, "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0"}}}
        settings = replace(settings, broker=broker, http=Http(bind="off"), store=StoreSettings(ballast_bytes=ballast))
        disk = cls()
        disk.data = folder / "data"
        async with running(settings, disk.data) as disk.app:
            await disk.app.perform("user_add", {"addresses": USERS})
            issued = await disk.app.perform("token_issue", {"addresses": USERS})
            disk.tokens = {each["address"]: each["token"] for each in issued["tokens"]}
            await disk._limit(PAGES)
            yield disk

    @property
    def port(self):
        return self.app.bound[0][2]

    async def health(self):
        """What the operation behind `mesimqtt stats` says of the store."""
        return (await self.app.perform("stats", {}))["health"]

    async def reserve(self):
        """Give the pages that a ballast would be, as far as states need them: here it is a file that takes none."""
        await self._limit(PAGES + RESERVE_PAGES)

    async def free(self):
        await self._limit(100_000)

    async def _limit(self, pages):
        # The limit is the connection's, and this one runs on the committer's.
        await self.app.store.committer.run(
            lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        )


def disks():
    """Return the disks that can be had here; a real one only where a tmpfs may be mounted."""
    return [PageLimit, Tmpfs] if can_mount() else [PageLimit]
