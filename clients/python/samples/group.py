"""Write to a group and see who has got it: python group.py mqtt://127.0.0.1:1883 TOKEN team "hi all"."""

import sys
import time

from mesimqtt_client import Client, MesimqttClientError, StatusUpdate


def main(url: str, token: str, group: str, text: str) -> None:
    client = Client(url, token=token, device="noticeboard")

    @client.on_status
    def follow(update: StatusUpdate) -> None:
        print(update.peer or group, "->", update.status, flush=True)

    with client:
        message = client.send_group(group, text, expiry=3600)
        message.wait("sent", timeout=10)
        time.sleep(1)
        print("so far:", {member: str(status) for member, status in message.recipients.items()})


if len(sys.argv) != 5:
    sys.exit(f"usage: {__doc__}")
try:
    main(*sys.argv[1:])
except (MesimqttClientError, TimeoutError, ValueError) as error:
    sys.exit(f"failed: {error}")
