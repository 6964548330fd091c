"""Our own server as the kit's subject: a real process on a temporary folder, with what every check needs."""

from __future__ import annotations

import asyncio
import re
import tempfile
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mesimqtt.proof.conform.links import dialer
from mesimqtt.proof.conform.makers import ControlMaker
from mesimqtt.proof.conform.people import Made
from mesimqtt.proof.conform.stage import Options, Venue
from mesimqtt.testing.process import START_DEADLINE_S, Server, ServerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FREE = "free"
CAP = 1000
_CONFIG = f"""\
messaging:
  inbox_messages_max: {CAP}
broker:
  listeners:
    default: {{type: tcp, bind: "127.0.0.1:0"}}
    ws: {{type: ws, bind: "127.0.0.1:0"}}
  plugins:
    mesimqtt_plugins.auth.TokenAuth: {{}}
    mesimqtt_plugins.acl.FolderAccess: {{rules: [{{allow: all, topic: "{FREE}/#"}}]}}
    mesimqtt_plugins.routing.MessageRouting: {{}}
"""
_WEBSOCKET = re.compile(r"ready ws (\S+)")


@asynccontextmanager
async def own_server(options: Options, folder: Path | None = None) -> AsyncIterator[Venue]:
    """Run our server, in `folder` if one is given, and give it as a venue where every check can be made."""
    options = replace(options, free=FREE, inbox_cap=CAP)
    with tempfile.TemporaryDirectory(prefix="mesimqtt-conform-") as temporary:
        home = folder or Path(temporary)
        config = home / "conform.yaml"
        config.write_text(_CONFIG)
        server = Server(home / "data", config=config, options=("--ws", "127.0.0.1:0"))
        await asyncio.to_thread(server.start)

        async def restart() -> None:
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

        try:
            venue = Venue(dialer(f"mqtt://{server.host}:{server.port}"), Made(ControlMaker(server.data)), options)
            venue.websocket = dialer(f"ws://{await _websocket_of(server)}/mqtt")
            venue.restart = restart
            yield venue
        finally:
            await asyncio.to_thread(server.kill)


async def _websocket_of(server: Server) -> str:
    async with asyncio.timeout(START_DEADLINE_S):
        while (found := _WEBSOCKET.search(server.printed)) is None:
            if not server.is_running:
                raise ServerError(f"the server ended:\n{server.printed}")
            await asyncio.sleep(0.01)
    return found[1]
