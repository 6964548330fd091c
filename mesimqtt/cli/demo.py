"""`mesimqtt demo`: the story of one message in one terminal, on a real server with real clients."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesimqtt.cli.link import perform
from mesimqtt.cli.options import Json, data_folder
from mesimqtt.cli.output import clean, emit, line, program
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    import subprocess

    from mesimqtt_client import Client, Message

START_S = 60.0  # at most: on a machine that is busy with other things nothing is wrong, only late
STEP_S = 30.0
_GREEN, _BOLD, _PLAIN = "\x1b[32m", "\x1b[1m", "\x1b[0m"


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command(
        "demo", short_help="Show a message sent, delivered and read, on a real server.", epilog="Example: mesimqtt demo"
    )(demo)


def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Keep the data here, instead of in a folder for now.", parser=data_folder
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Start a server and two clients, and show a message sent to somebody offline, delivered and read.

    Exit code 0 only if every step really happened.
    """
    with tempfile.TemporaryDirectory(prefix="mesimqtt-demo-") as folder:
        stage = _Stage(data or Path(folder) / "data", as_json=json)
        with stage.server() as url:
            _story(stage, url)
    if json:
        emit({"ok": True, "steps": stage.steps})
    else:
        line(f"\n{stage.bold('That is all of it.')} Your own server: {program()} up", is_clean=True)


class _Stage:
    """The server of the demo, and what the audience sees."""

    def __init__(self, data: Path, *, as_json: bool) -> None:
        self.data = data
        self.steps: list[dict[str, object]] = []
        self._as_json = as_json
        self._is_coloured = sys.stdout.isatty()
        self._began = time.monotonic()

    def bold(self, text: str) -> str:
        """Return text in bold, where the terminal can."""
        return f"{_BOLD}{text}{_PLAIN}" if self._is_coloured else text

    def tell(self, who: str, what: str) -> None:
        """Show one step that has happened."""
        seconds = time.monotonic() - self._began
        self.steps.append({"at_ms": round(seconds * 1000), "who": who, "what": what})
        if not self._as_json:
            mark = f"{_GREEN}ok{_PLAIN}" if self._is_coloured else "ok"
            line(f"{mark} {seconds:5.2f} s  {self.bold(f'{who:<6}')}  {clean(what)}", is_clean=True)

    @contextmanager
    def server(self) -> Iterator[str]:
        """Run a server in a process of its own; give its URL."""
        import subprocess

        command = [sys.executable, "-m", "mesimqtt", "--data", str(self.data), "serve", "--mqtt", "127.0.0.1:0"]
        command += ["--ws", "off", "--http", "off"]
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603 - ourselves
            try:
                address = _ready_address(process)
                if address is None:
                    log.seek(0)
                    last = log.read().decode(errors="replace").strip().splitlines()
                    raise MesimqttError(f"the demo's server did not start: {last[-1] if last else 'it said nothing'}")
                self.tell("server", f"one process, one SQLite file, MQTT on {address}")
                yield f"mqtt://{address}"
            finally:
                process.terminate()
                try:
                    process.wait(START_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _ready_address(process: subprocess.Popen[str]) -> str | None:
    import select

    if process.stdout is None or not select.select([process.stdout], [], [], START_S)[0]:
        return None
    words = process.stdout.readline().split()
    return words[2] if words[:2] == ["ready", "mqtt"] else None


def _story(stage: _Stage, url: str) -> None:
    import logging

    from mesimqtt_client import Client, MesimqttClientError

    logging.getLogger("mesimqtt_client").setLevel(logging.CRITICAL)
    perform(stage.data, "user_add", addresses=["alice", "bob"])
    issued = perform(stage.data, "token_issue", addresses=["alice", "bob"], ttl=600)["tokens"]
    stage.tell("server", "made the users alice and bob, and a token for each")
    alice, bob = (Client(url, token=each["token"], device=f"demo-{each['address']}") for each in issued)
    try:
        with alice:
            _one_message(stage, alice, bob)
            _refusal(stage, alice)
            _group(stage, alice)
    except (MesimqttClientError, TimeoutError) as error:
        raise MesimqttError(f"the demo stops here, a step did not happen: {error}") from None
    finally:
        bob.close()


def _one_message(stage: _Stage, alice: Client, bob: Client) -> None:
    import queue

    received: queue.SimpleQueue[Message] = queue.SimpleQueue()
    alice.wait_online(STEP_S)
    message = alice.send("bob", "hi bob")
    message.wait("sent", timeout=STEP_S)
    stage.tell("alice", f"'hi bob' is sent: on disk, mid {message.mid}; bob is not here")
    bob.on_message(received.put)
    bob.start()
    try:
        got = received.get(timeout=STEP_S)
        while got.mid != message.mid:  # in a folder that was there before, older ones may wait for him
            got = received.get(timeout=STEP_S)
    except queue.Empty:
        raise TimeoutError("bob did not get the message") from None
    if (got.text, got.sender) != ("hi bob", "alice"):
        raise MesimqttError(f"the demo stops here: bob got {got}")
    stage.tell("bob", f"connects and receives {got.text!r} from {got.sender}")
    message.wait("delivered", timeout=STEP_S)
    stage.tell("alice", "delivered: bob's device has acknowledged it")
    got.mark_read()
    message.wait("read", timeout=STEP_S)
    stage.tell("alice", "read: bob said so")


def _refusal(stage: _Stage, alice: Client) -> None:
    from mesimqtt_client import MessageFailed

    lost = alice.send("nobody", "hello?")
    try:
        lost.wait("sent", timeout=STEP_S)
    except MessageFailed as failure:
        stage.tell("alice", f"a message to nobody is not swallowed: {failure}")
    else:
        raise MesimqttError("the demo stops here: a message to nobody was accepted")


def _group(stage: _Stage, alice: Client) -> None:
    name = f"demo-{time.time_ns()}"
    perform(stage.data, "group_add", address=name, owner="alice")
    perform(stage.data, "group_join", address=name, users=["bob"])
    message = alice.send_group(name, "hi all")
    message.wait("delivered", timeout=STEP_S, member="bob")
    stage.tell("alice", "a group too: each member's receipt is his own, bob's says delivered")
    perform(stage.data, "group_delete", addresses=[name])
