"""Send one message and follow it: python send.py mqtt://127.0.0.1:1883 TOKEN bob "hi"."""

import sys

from mesimqtt_client import Client, MesimqttClientError


def main(url: str, token: str, peer: str, text: str) -> None:
    with Client(url, token=token) as client:
        message = client.send(peer, text)
        try:
            message.wait("sent", timeout=10)  # it is on the server's disk now, whatever happens
        except TimeoutError as error:
            sys.exit(f"not known to be sent, and lost if it is not: {error}")
        print("sent as", message.cid)
        try:
            message.wait("delivered", timeout=10)  # a device of the peer has it
        except TimeoutError:
            print("not delivered yet; it will be, when", peer, "is online")
        print("status:", message.status)


if len(sys.argv) != 5:
    sys.exit(f"usage: {__doc__}")
try:
    main(*sys.argv[1:])
except (MesimqttClientError, ValueError) as error:  # refused; or a URL, token or address that cannot be one
    sys.exit(f"failed: {error}")
