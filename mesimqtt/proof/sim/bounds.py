"""What must stay bounded, looked at on the live server; and what must not be left when it has stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.broker.wire import TURN_BYTES_MAX
from mesimqtt.proof.history import Bound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesimqtt.proof.sim.world import SimWorld

LOOK_MS = 10_000


class Watch:
    """Looks at the server's structures every ten seconds, and keeps the largest that each ever was."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._largest: dict[str, tuple[float, float]] = {}

    def begin(self) -> None:
        """Look, and look again until the run ends."""
        if self._world.history.finished_at:
            return
        if self._world.server.is_running:
            for name, value, most in self._sizes():
                before = self._largest.get(name, (0.0, most))
                self._largest[name] = (max(before[0], value), most)
        self._world.loop.post(LOOK_MS, self.begin)

    def end(self) -> None:
        """Write down what was found."""
        self._world.history.bounds += [Bound(name, *found) for name, found in sorted(self._largest.items())]

    def _sizes(self) -> Iterator[tuple[str, float, float]]:
        server = self._world.server
        limits, settings = server.settings.limits, server.settings
        engine, wire = server.engine, server.wire
        for device in (device for user in server.messaging.directory.online() for device in user.devices):
            yield "in flight to a device", len(device.connection.claimed), limits.inflight_max
        yield "bytes held for slow readers", engine.held_bytes, limits.queue_bytes_total
        unwritten = [protocol.transport.get_write_buffer_size() for protocol in wire.protocols.values()]
        yield "bytes unwritten to a client", max(unwritten, default=0), limits.unwritten_max + TURN_BYTES_MAX
        yield "sessions", len(engine.sessions), len(self._world.people) * limits.sessions_per_user_max
        yield "connections", len(wire.protocols), 4 * len(self._world.phones) + 8
        yield "rows that wait for a commit", len(server.store.committer.batch.rows), settings.store.pending_max
        yield "coroutines", server.tasks, 200

    def leftovers(self) -> Iterator[str]:
        """Name what is left of a server that has stopped."""
        server = self._world.server
        if server.tasks:
            yield f"{server.tasks} coroutines are left"
        if server.wire.protocols:
            yield f"{len(server.wire.protocols)} connections are left"
        if server.engine.counters.connected:
            yield f"{server.engine.counters.connected} clients are counted as connected"
        if self._world.underway:
            yield f"{self._world.underway} coroutines of the trial are left"
