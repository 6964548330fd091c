"""`mesimqtt up`: the first minute. A server with alice and bob, and lines to paste."""

from __future__ import annotations

import contextlib
import json as json_text
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mesimqtt.cli.options import NOT_GIVEN, Data, Json, UsageError
from mesimqtt.cli.output import emit, line, shortest
from mesimqtt.cli.serve import Http, Mqtt, Ws, announce, is_free, run_server, server_settings
from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.strict_json import read_json
from mesimqtt.files import read_regular
from mesimqtt.store.layout import UP_NOTE

if TYPE_CHECKING:
    from mesimqtt.record.served import Served

USERS = ("alice", "bob")
_PORT, _WS_PORT, _HTTP_PORT = 1883, 8083, 8080
_NOTE_MAX = 64 * 1024
_JTI = re.compile("[0-9a-f]{24}")


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command(
        "up", short_help="Run a server with alice and bob, and print lines to paste.", epilog="Example: mesimqtt up"
    )(up)


def up(mqtt: Mqtt = None, ws: Ws = None, http: Http = None, data: Data = NOT_GIVEN, json: Json = False) -> None:
    """Run a server with the users alice and bob, and print lines to paste into other terminals. Ctrl-C ends it.

    If another server has port 1883, 8083 (WebSocket) or 8080 (HTTP), a free port is taken.
    """
    if mqtt is None and not is_free("127.0.0.1", _PORT):
        mqtt = "127.0.0.1:0"
    if ws is None and not is_free("127.0.0.1", _WS_PORT):
        ws = "127.0.0.1:0"
    if http is None and not is_free("127.0.0.1", _HTTP_PORT):
        http = "127.0.0.1:0"
    if mqtt == "off" or (mqtt or "").startswith("unix:"):
        raise UsageError("the lines that `up` prints need MQTT on ADDR:PORT")
    settings = server_settings(None, mqtt=mqtt, ws=ws, http=http, open_=False, insecure=False)

    async def ready(app: Served) -> None:
        tokens = await _welcome(app)
        host, port = next((host, port) for kind, host, port in app.bound if kind == "mqtt")
        api = next((f"http://{host}:{port}" for kind, host, port in app.bound if kind == "http"), None)
        lines = pasted(host, port, settings.root, tokens) | (curled(api, tokens) if api else {})
        if json:
            shown = {"host": host, "port": port, "tokens": tokens, "lines": lines} | ({"http": api} if api else {})
            page = next((f"ws://{host}:{port}/mqtt" for kind, host, port in app.bound if kind == "ws"), None)
            emit(shown | ({"ws": page} if page else {}))
            return
        announce(app, as_json=False)
        for title, text in lines.items():
            line("")
            line(f"# {title}")
            line(text, is_clean=True)

    run_server(settings, data, config=None, on_ready=ready)


async def _welcome(app: Served) -> dict[str, str]:
    """Make alice and bob if they are missing, and issue a token for each; those of the last time are revoked."""
    await app.perform("user_add", {"addresses": list(USERS)})
    note = app.data / UP_NOTE
    for jti in _remembered(note):
        with contextlib.suppress(OperationError):  # its user was deleted, and the token with him
            await app.perform("token_revoke", {"what": jti})
    issued = await app.perform("token_issue", {"addresses": list(USERS), "short": True})
    try:
        note.write_text(json_text.dumps([each["jti"] for each in issued["tokens"]]) + "\n", encoding="utf-8")
    except OSError as error:  # a full disk must not keep a server from starting
        logging.getLogger(__name__).warning("cannot write %s: %s", note, error.strerror)
    return {each["address"]: each["token"] for each in issued["tokens"]}


def _remembered(note: Path) -> list[str]:
    try:
        found = read_json(read_regular(note, size_max=_NOTE_MAX))
    except (OSError, ValueError):
        return []
    # Nothing but ids: `token_revoke` takes an address, too.
    return [each for each in found if isinstance(each, str) and _JTI.fullmatch(each)] if isinstance(found, list) else []


def curled(api: str, tokens: dict[str, str]) -> dict[str, str]:
    """Return what can be pasted for the HTTP API."""
    return {
        "the same over HTTP; all of the API: " + api + "/docs":
            f"curl {api}/v1/send/bob -d 'hi from curl' \\\n    -H 'Authorization: Bearer {tokens['alice']}'",
    }  # fmt: skip


def pasted(host: str, port: int, root: str, tokens: dict[str, str]) -> dict[str, str]:
    """Return what can be pasted, by what it does."""
    where = f"-h {host} -p {port}"
    url = f"mqtt://{f'[{host}]' if ':' in host else host}:{port}"
    alice, bob = (f"-u {user} -P {tokens[user]}" for user in USERS)
    # In two lines each: copied from a terminal of 80 columns, a wrapped line may come out broken.
    return {
        "a second terminal: alice's phone shows what becomes of her messages":
            f"mosquitto_sub {where} -i phone-a -c -q 1 -v -t '{root}/alice/in/#' \\\n    {alice}",
        "a third: alice writes to bob, who never connected; her phone shows sent":
            f"mosquitto_pub {where} -i laptop-a -q 1 -t {root}/alice/out/u/bob \\\n    {alice} -m 'hi bob'",
        "then bob comes: he gets it, and her phone shows delivered":
            f"mosquitto_sub {where} -i phone-b -c -q 1 -v -t '{root}/bob/in/#' \\\n    {bob}",
        "bob answers":
            f"mosquitto_pub {where} -i laptop-b -q 1 -t {root}/bob/out/u/alice \\\n    {bob} -m 'hi alice'",
        f"the same from Python: start {shortest(sys.executable)} and paste":
            "from mesimqtt_client import Client\n"
            f'token = "{tokens["alice"]}"\n'
            f'with Client("{url}", user="alice", token=token) as client:\n'
            '    message = client.send("bob", b"hi from Python")\n'
            '    message.wait("delivered", timeout=30)\n'
            "    print(message.status)\n",
    }  # fmt: skip
