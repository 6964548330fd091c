"""Pages for everybody, without a token: whether the server is well, in one word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mesimqtt.api.application import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def health_page(check: Callable[[], Awaitable[dict[str, Any]]]) -> Callable[[], Awaitable[Response]]:
    """Return the page `/healthz`: 200 and `{"status":"ok"}`, or 503 and `failing`; why is for `/v1/health`."""

    async def page() -> Response:
        answer = await check()
        return Response(200 if answer["status"] == "ok" else 503, json.dumps({"status": answer["status"]}).encode())

    return page


async def alive() -> Response:
    """Answer `/livez`: the process runs and its loop goes round; nothing else is looked at."""
    return Response(200, b'{"status":"ok"}')
