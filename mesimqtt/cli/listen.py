"""`mesimqtt listen`: what a user receives, in this terminal."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesimqtt.cli.link import Answer, Control, perform
from mesimqtt.cli.options import NOT_GIVEN, Data, Json, UsageError
from mesimqtt.cli.output import emit, line, tell
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from mesimqtt_client import Message

DEVICE = "mesimqtt-listen"
DEVICES_MAX = 9  # of the 20 that a user has
LOCK_NAME = "listen.lock"
TOKEN_S = 3_600  # a fresh one is issued at each connect
CLOSE_S = 1.0
_LOOK_S = 0.2


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command(
        "listen",
        short_help="Receive as a device of a user would, one line a message.",
        epilog="Example: mesimqtt listen --as bob --count 1",
    )(listen)


def listen(
    user: Annotated[str, typer.Option("--as", metavar="USER", help="Whose messages.")],
    count: Annotated[int, typer.Option("--count", metavar="N", min=0, help="End after so many; 0: never.")] = 0,
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", min=0, help="End after so long; 0: never.")] = 0,
    device: Annotated[
        str | None, typer.Option("--device", metavar="ID", help=f"As which device of the user; {DEVICE} by default.")
    ] = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Receive as a device of a user would, and print one line a message, until Ctrl-C.

    Each printed message counts as delivered. Exit code 1 if --timeout came before --count messages.
    """
    Control(data).close()  # offline there is nothing to listen to: this raises with what to do
    end = _Ear(count, as_json=json)
    with _device_of_its_own(data, user, device) as own:
        _run(data, user, own, end, timeout)
    if count and end.heard < count and timeout:
        tell(f"mesimqtt: {end.heard} of {count} messages within {timeout:g} s")
        raise typer.Exit(1)


@contextlib.contextmanager
def _device_of_its_own(data: Path, user: str, wanted: str | None) -> Iterator[str]:
    """Give a device that no other `listen` of this user has: as one, two would take the session from each other.

    Without `--device` it is the first free one of a few names, so that a second terminal simply works, what was heard
    before is not heard again, and the user's 20 places are not used up as by a name per process.
    """
    import os

    names = [wanted] if wanted is not None else [DEVICE, *(f"{DEVICE}-{n}" for n in range(2, DEVICES_MAX + 1))]
    try:
        descriptor = os.open(data / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise MesimqttError(f"cannot write {data / LOCK_NAME}: {error.strerror}") from None
    try:
        free = next((name for name in names if _take(descriptor, user, name)), None)
        if free is None:
            other = "end it, or name another device: --device ID"
            raise MesimqttError(f"`mesimqtt listen` runs already as {user}'s device {names[-1]}; {other}")
        yield free
    finally:
        os.close(descriptor)  # which gives the name free, as the end of the process would


def _take(descriptor: int, user: str, device: str) -> bool:
    """Take a device's name for this process: lock the one byte of the file that stands for it."""
    import fcntl
    import hashlib

    place = int.from_bytes(hashlib.blake2b(f"{user}\0{device}".encode(), digest_size=4).digest())
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except OSError:
        return False
    return True


class _Ear:
    """Prints messages until there were enough."""

    def __init__(self, count: int, *, as_json: bool) -> None:
        self._count = count
        self._as_json = as_json
        self._never = threading.Event()
        self.heard = 0
        self.done = threading.Event()

    def hear(self, message: Message) -> None:
        """Print one message. What comes after the last one wanted is held back: unacknowledged, it comes again."""
        if self.done.is_set():
            self._never.wait()
        if self._as_json:
            emit(described(message))
        else:
            where = f"{message.sender} in {message.group}" if message.group else message.sender
            line(f"{where}  {message.mid}  {message.payload.decode(errors='backslashreplace')}")
        self.heard += 1
        if self.heard == self._count:
            self.done.set()


def described(message: Message) -> Answer:
    """Return a message as JSON; a payload that is no text stands in base64."""
    answer: Answer = {"from": message.sender, "group": message.group, "mid": message.mid, "seq": message.seq}
    if message.type:
        answer["type"] = message.type
    try:
        answer["text"] = message.payload.decode()
    except UnicodeDecodeError:
        import base64

        answer["payload"] = base64.b64encode(message.payload).decode()
    return {key: value for key, value in answer.items() if value is not None}


def mqtt_url(info: Answer) -> str:
    """Return where this machine reaches the server's first plain MQTT listener."""
    for each in info["listeners"]:
        if each["kind"] == "mqtt" and each["port"]:
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(each["host"], each["host"])  # noqa: S104 - compared, not bound
            return f"mqtt://{f'[{host}]' if ':' in host else host}:{each['port']}"
    raise MesimqttError("the server has no plain MQTT listener on TCP, which this command needs")


def _run(data: Path, user: str, device: str, ear: _Ear, timeout: float) -> None:
    import logging
    import time

    from mesimqtt_client import Client, State

    def token() -> str:
        issued = perform(data, "token_issue", addresses=[user], ttl=TOKEN_S, device=device)
        return str(issued["tokens"][0]["token"])

    logging.getLogger("mesimqtt_client").setLevel(logging.CRITICAL)  # what matters is told below, in one line
    info = perform(data, "server_info")
    try:
        client = Client(mqtt_url(info), token=token, user=user, device=device, root=info["root"])
    except ValueError as error:
        raise UsageError(str(error)) from None
    client.on_message(ear.hear)
    client.on_state(
        lambda state, why: (
            tell(f"mesimqtt: {why.rstrip('.')}; trying again") if state is State.OFFLINE and why else None
        )
    )
    deadline = time.monotonic() + timeout if timeout else None
    client.start()
    try:
        while not ear.done.wait(_LOOK_S):
            if client.state is State.DENIED:
                raise MesimqttError(f"the server let {user} in no more: {client.state_reason or 'see its log'}")
            if deadline is not None and time.monotonic() >= deadline:
                return
    except KeyboardInterrupt:
        return
    finally:
        client.close(CLOSE_S)
