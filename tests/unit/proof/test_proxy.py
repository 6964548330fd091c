"""The bad road between client and server: what passes, what does not, and what either end notices."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from mesimqtt.proof.processes.proxy import Proxy


@contextlib.asynccontextmanager
async def connected():
    """Yield a proxy and both ends of a connection through it, the client's and the server's."""
    accepted = asyncio.Queue()
    server = await asyncio.start_server(lambda *both: accepted.put_nowait(both), "127.0.0.1", 0)
    proxy = await Proxy.before(*server.sockets[0].getsockname())
    client = await asyncio.open_connection("127.0.0.1", proxy.port)
    theirs = await accepted.get()
    client[1].write(b"?")
    assert b"?" == await theirs[0].readexactly(1)
    try:
        yield proxy.road, client, theirs
    finally:
        await proxy.close()
        for _, writer in (client, theirs):
            writer.close()
        server.close()


def played(story):
    """Run a story of a connection."""

    async def play():
        async with connected() as (road, client, server), asyncio.timeout(20):
            await story(road, client, server)

    asyncio.run(play())


async def is_silent(reader):
    """Tell whether neither bytes nor an end come."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await reader.read(1)
            return False
    return True


def test_a_good_road_carries_everything_and_the_end():
    """Bytes of both directions and the end of either one arrive."""

    async def story(_, client, server):
        client[1].write(b"up")
        server[1].write(b"down")
        assert (b"up", b"down") == (await server[0].readexactly(2), await client[0].readexactly(4))
        client[1].close()
        assert b"" == await server[0].read()

    played(story)


def test_a_slow_or_stalled_road_loses_nothing():
    """What trickles, or stands still for a while, arrives whole and in order."""

    async def story(road, client, server):
        road.up.piece, road.up.pause_s = 7, 0.0001
        road.up.stall(True)
        client[1].write(bytes(range(256)))
        assert await is_silent(server[0])
        road.up.stall(False)
        assert bytes(range(256)) == await server[0].readexactly(256)

    played(story)


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_cut_comes_after_exactly_so_many_bytes(is_reset):
    """The rest of a packet does not arrive, and both ends are told, in good order or by a reset."""

    async def story(road, client, server):
        road.up.cut_after(3)
        client[1].write(b"12345")
        await road.up.full.wait()
        assert b"123" == await server[0].readexactly(3)
        road.cut(is_reset=is_reset)
        for reader, _ in (client, server):
            if is_reset:
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            else:
                assert b"" == await reader.read()

    played(story)


def test_a_hole_tells_nobody():
    """What goes into a hole does not come out, nor does the end; the other direction is as before."""

    async def story(road, client, server):
        road.up.is_hole = True
        client[1].write(b"lost")
        server[1].write(b"here")
        assert b"here" == await client[0].readexactly(4)
        client[1].close()
        await road.up.ended.wait()
        assert await is_silent(server[0])

    played(story)
