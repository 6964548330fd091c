"""Send one message and follow it: python send.py mqtt://127.0.0.1:1883 TOKEN bob "hi"."""

import sys

from mesimqtt_client import Client, MessageFailed

url, token, peer, text = sys.argv[1:]

with Client(url, token=token) as client:
    message = client.send(peer, text)
    print("sent as", message.cid)
    try:
        message.wait("sent", timeout=10)  # it is on the server's disk now, whatever happens
        message.wait("delivered", timeout=10)  # a device of the peer has it
    except MessageFailed as error:
        sys.exit(f"failed: {error}")
    except TimeoutError:
        print("not delivered yet; it will be, when", peer, "is online")
    print("status:", message.status)
