"""A door that reports while it has no network: python door.py mqtt://127.0.0.1:1883 SHORT_TOKEN door/7 alice."""

import sys
import time

from mesimqtt_client import Client, MesimqttClientError


def main(url: str, token: str, me: str, owner: str) -> None:
    # A short token does not say whose it is, so the address is given; a fixed device name keeps one cursor.
    with Client(url, token=token, user=me, device="lock") as door:
        for event in ("opened", "closed"):
            # send never waits for the network: what cannot leave now waits in the outbox, and after a day it is stale.
            door.send(owner, event, type=7, expiry=86_400, params={"at": int(time.time())})
        print("all sent" if door.flush(timeout=10) else "still waiting for the network")


if len(sys.argv) != 5:
    sys.exit(f"usage: {__doc__}")
try:
    main(*sys.argv[1:])
except (MesimqttClientError, ValueError) as error:
    sys.exit(f"failed: {error}")
