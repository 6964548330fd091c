"""An echo in asyncio: python echo.py mqtt://127.0.0.1:1883 TOKEN. Ctrl-C ends it."""

import asyncio
import sys
from contextlib import suppress

from mesimqtt_client import AsyncClient, MesimqttClientError


async def main(url: str, token: str) -> None:
    async with AsyncClient(url, token=token, device="echo") as client:
        async for message in client.messages():
            await client.send(message.sender, message.payload, ref=message.mid)
            await message.mark_read()
            print("echoed", message.text, "to", message.sender, flush=True)


if len(sys.argv) != 3:
    sys.exit(f"usage: {__doc__}")
try:
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
except (MesimqttClientError, ValueError) as error:
    sys.exit(f"failed: {error}")
