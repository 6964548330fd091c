"""Receive, confirm and answer: python receive.py mqtt://127.0.0.1:1883 TOKEN. Ctrl-C ends it."""

import sys
import threading
from contextlib import suppress

from mesimqtt_client import Client, Message, State, StatusUpdate

if len(sys.argv) != 3:
    sys.exit(f"usage: {__doc__}")
url, token = sys.argv[1:]
try:
    client = Client(url, token=token, device="desk")
except ValueError as error:
    sys.exit(f"failed: {error}")


@client.on_message
def handle(message: Message) -> None:
    print(message.sender, "wrote:", message.text, flush=True)
    message.mark_read()
    if message.ref is None:
        client.send(message.sender, f"got it: {message.text}", ref=message.mid)


@client.on_status
def follow(update: StatusUpdate) -> None:
    print("status of", update.cid, "for", update.peer, "is", update.status, flush=True)


@client.on_state
def show(state: State, reason: str) -> None:
    print("connection:", state, reason, flush=True)


with client, suppress(KeyboardInterrupt):
    threading.Event().wait()
