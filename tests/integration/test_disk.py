"""A disk that is full: no acknowledgement without its row, and good again without a restart.

Goal: with a full disk a message is refused, never acknowledged and forgotten; the server lives, says what is wrong, and
takes messages again within five seconds once there is room. Method: QoS 1 publishes fill a disk of a few megabytes (a
tmpfs with a server process where one may be mounted, a limit of pages in this process in any case). What many clients
see of it, and a sync that fails, are trials of the proof (mesimqtt/proof/processes).
"""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from integration.disks import PageLimit, disks
from integration.raw_client import RawClient, play, until
from mesimqtt.testing import stream as wire
from stopwatch import Stopwatch

RECOVERY_S = 5.0
WINDOW = 20
PAYLOAD = 3_000
BALLAST = 1024 * 1024


class Sender:
    """Alice's connections: sends messages with cids of their own and remembers which were acknowledged."""

    def __init__(self, disk):
        self._disk = disk
        self._number = 0
        self.acked = []
        self.refused = set()

    async def connect(self):
        client = await RawClient.connect(self._disk.port, "laptop", "alice", self._disk.tokens["alice"])
        assert 0 == client.code
        return client

    async def send_until_closed(self):
        """Publish windows at QoS 1 until the server closes the connection; nothing may be acknowledged afterwards."""
        client = await self.connect()
        await client.subscribe("m/alice/in/status/#")
        while await self._window(client):
            pass
        await client.close()

    async def _window(self, client):
        cids = {}
        for _ in range(WINDOW):
            self._number += 1
            cids[self._number % 65_000 + 1] = f"c{self._number}"
        client.writer.write(b"".join(packet(number, cid) for number, cid in cids.items()))
        waiting = set(cids)
        try:
            while waiting:
                if not client._arrived:
                    await client._read()
                while client._arrived:
                    ack = client._arrived.popleft()
                    assert wire.PUBACK == ack.kind
                    waiting.remove(ack.packet_id)
                    self.acked.append(cids[ack.packet_id])
                self._statuses(client)
        except (EOFError, OSError):
            self._statuses(client)
            return False
        return True

    def _statuses(self, client):
        while client._messages:
            message = client._messages.popleft()
            if b'"status":128,' in message.payload:
                assert b'"reason":"store"' in message.payload
                self.refused.add(message.topic.rpartition("/")[2])

    async def one(self):
        """Publish one message; tell whether it was acknowledged, and not refused by a status."""
        self._number += 1
        cid = f"c{self._number}"
        client = await self.connect()
        try:
            await client.subscribe("m/alice/in/status/#")
            client.writer.write(packet(1, cid))
            await client.expect(wire.PUBACK)
        except (EOFError, OSError):
            return False
        finally:
            self._statuses(client)
            await client.close()
        self.acked.append(cid)
        return True


def packet(number, cid):
    payload = cid.encode().ljust(PAYLOAD, b".")
    return wire.publish(f"m/alice/out/u/bob/{cid}", payload, qos=1, packet_id=number)


def stored(disk):
    """Return the cids in the file, and what integrity_check says, as another process sees them."""
    connection = sqlite3.connect(disk.data / "mesimqtt.db", timeout=60)
    try:
        cids = {cid for (cid,) in connection.execute("SELECT cid FROM message")}
        return cids, connection.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        connection.close()


def delivered(disk):
    """Return of how many messages the file says DELIVERED."""
    connection = sqlite3.connect(disk.data / "mesimqtt.db", timeout=60)
    try:
        return connection.execute("SELECT sum(last_seq - first_seq + 1) FROM step WHERE status = 2").fetchone()[0]
    finally:
        connection.close()


async def recovered(alice):
    """Wait until a message of alice is accepted again."""
    watch = Stopwatch()
    async with asyncio.timeout(60):
        while not await alice.one():
            pass
    assert watch.elapsed_s < RECOVERY_S


async def received_by_bob(disk, wanted):
    """Let bob acknowledge all that comes until he has `wanted`; return every payload's cid in order."""
    client = await RawClient.connect(disk.port, "phone", "bob", disk.tokens["bob"])
    await client.subscribe("m/bob/in/u/#", 1)
    found = []
    while not wanted <= set(found):
        found.append((await client.message()).payload.rstrip(b".").decode())
    await client.close()
    return found


def on_every_disk(folder, story):
    """Play a story on each kind of disk that can be had here."""
    for kind in disks():
        (folder / kind.name).mkdir()
        play(lambda kind=kind: story(kind))


@pytest.mark.parametrize("ballast", [0, BALLAST])
def test_a_full_disk_refuses_and_recovers(tmp_path, ballast):
    """No PUBACK without its row, the store's health is told, and room is used within five seconds of its coming."""

    async def story(kind):
        async with kind.serving(tmp_path / kind.name, ballast) as disk:
            alice = Sender(disk)
            await alice.send_until_closed()
            assert len(alice.acked) > WINDOW
            assert alice.refused
            while await alice.one():
                pass  # one message may fit where twenty did not
            if ballast:  # without it a change that is small enough may still be written, and all is well again
                assert "disk-full" == await disk.health()
            cids, integrity = stored(disk)
            assert (set(), "ok") == (set(alice.acked) - cids, integrity)
            assert not alice.refused & cids

            await disk.free()
            await recovered(alice)
            assert "ok" == await disk.health()
            got = await received_by_bob(disk, set(alice.acked))
            cids, integrity = stored(disk)
            assert (set(), "ok") == (set(alice.acked) - cids, integrity)
            assert len(got) == len(set(got))
            assert not alice.refused & set(got)

    on_every_disk(tmp_path, story)


def test_acknowledgements_are_kept_on_a_full_disk(tmp_path):
    """On a full disk what a recipient acknowledges is still kept as DELIVERED, and does not come a second time."""

    async def story(kind):
        async with kind.serving(tmp_path / kind.name, BALLAST) as disk:
            alice = Sender(disk)
            await alice.send_until_closed()
            await disk.reserve()
            first = await received_by_bob(disk, set(alice.acked))
            # Below a limit of pages there is room for files, and the reserve is made again within a second.
            assert kind is PageLimit or not (disk.data / "ballast").exists()
            await until(lambda: delivered(disk) == len(alice.acked))
            await disk.free()
            await recovered(alice)
            second = await received_by_bob(disk, {alice.acked[-1]})

            assert (disk.data / "ballast").stat().st_size == BALLAST
            assert set(alice.acked[:-1]) == set(first)
            assert [alice.acked[-1]] == second

    on_every_disk(tmp_path, story)
