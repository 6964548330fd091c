"""MQTT.js in Node and in Chromium: js/driver.js does what is asked over HTTP, and tells what came."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import queue
import subprocess
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interop.guest import DEADLINE_S, Guest, Properties, Received, Will

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

JS = Path(__file__).resolve().parent / "js"
START_DEADLINE_S = 90.0
LIFE_S = 7_200
POLL_S = 5.0
PAGE = b"<!doctype html><meta charset=utf-8><script src=/mqtt.min.js></script><script src=/driver.js></script>"


class Channel:
    """A loopback HTTP server between a test and one JavaScript process."""

    def __init__(self) -> None:
        self.commands: queue.Queue[dict[str, Any]] = queue.Queue()
        self.hello = ""
        self._answers: dict[int, dict[str, Any]] = {}
        self._listeners: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._fatal = ""
        channel = self

        class Handler(_Handler):
            owner = channel

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def listen(self, identity: str, take: Callable[[dict[str, Any]], None]) -> None:
        """Give messages of one client to `take`."""
        self._listeners[identity] = take

    def ask(self, verb: str, **rest: object) -> Any:
        """Have a command done and return its result."""
        number = next(self._numbers)
        self.commands.put({"number": number, "verb": verb, **rest})
        with self._changed:
            is_done = self._changed.wait_for(lambda: number in self._answers or self._fatal, DEADLINE_S)
            assert is_done, f"{verb}: no answer within {DEADLINE_S:g} s"
            assert not self._fatal, self._fatal
            answer = self._answers.pop(number)
        assert "error" not in answer, f"{verb} {rest}: {answer['error']}"
        return answer["result"]

    def wait_for_hello(self) -> str:
        """Wait until the driver runs; return what it is."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.hello, START_DEADLINE_S), "js/driver.js did not start"
        return self.hello

    def told(self, what: dict[str, Any]) -> None:
        """Take what the driver tells."""
        with self._changed:
            if "number" in what:
                self._answers[what["number"]] = what
            self.hello = what.get("hello", self.hello)
            self._fatal = what.get("fatal", self._fatal)
            self._changed.notify_all()
        if "topic" in what:
            self._listeners[what["id"]](what)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    owner: Channel
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/next":
            try:
                self._answer(json.dumps(self.owner.commands.get(timeout=POLL_S)).encode(), "application/json")
            except queue.Empty:
                self._answer(b"", "text/plain", 204)
        elif self.path == "/mqtt.min.js":
            self._answer((JS / "node_modules/mqtt/dist/mqtt.min.js").read_bytes(), "text/javascript")
        elif self.path == "/driver.js":
            self._answer((JS / "driver.js").read_bytes(), "text/javascript")
        else:
            self._answer(PAGE, "text/html")

    def do_POST(self) -> None:
        self.owner.told(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(b"", "text/plain", 204)

    def _answer(self, body: bytes, content_type: str, code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        if code != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the browser may be gone already
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Runtime:
    """Node, or a Chromium without a window, with the driver in it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.channel = Channel()
        command = ["node", str(JS / "driver.js"), self.channel.url]
        if name == "chromium":
            profile = folder / "chromium"
            command = [*_WITH_US, "chromium", "--headless", f"--user-data-dir={profile}", *_CHROMIUM]
            command += [f"{self.channel.url}/"]
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "HOME": str(folder)},  # nothing of the user's own settings
            )
        try:
            self.version = self.channel.wait_for_hello()
        except AssertionError as error:
            self.close()
            raise AssertionError(f"{error}: {self._log.read_text(errors='replace')[-2000:]}") from None

    def close(self) -> None:
        """End it with all of its processes."""
        os.killpg(self._process.pid, 9)
        self._process.wait()
        self.channel.close()


# A browser ends when the tests are killed, too; the driver in Node notices by itself.
_WITH_US = ("setpriv", "--pdeathsig", "TERM", "timeout", str(LIFE_S))
# As root and in a container there is no sandbox to be had; the page is our own.
_CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
)


class Js(Guest):
    """A client of MQTT.js."""

    runtime: Runtime

    def come(
        self, filters: Sequence[tuple[str, int]] = (), *, keeps: bool = False, will: Will | None = None
    ) -> bool | None:
        channel = self.runtime.channel
        channel.listen(self.client_id, self._took)
        is_ws = self.kind.transport == "ws"
        options: dict[str, Any] = {
            "clientId": self.client_id,
            "username": self.who.address,
            "password": self.who.token,
            "protocolVersion": self.kind.version,
            "clean": not keeps,
        }
        if self.kind.version == 5:
            options["properties"] = {"sessionExpiryInterval": 3600 if keeps else 0}
        given = asdict(will) | {"payload": base64.b64encode(will.payload).decode()} if will else None
        url = f"ws://127.0.0.1:{self.house.ws_port}/mqtt" if is_ws else f"mqtt://127.0.0.1:{self.house.port}"
        present = channel.ask("come", id=self.client_id, url=url, options=options, will=given)
        for topic, qos in filters:
            assert [qos] == channel.ask("subscribe", id=self.client_id, topic=topic, qos=qos)
        return bool(present)

    def publish(
        self, topic: str, payload: bytes, qos: int = 0, *, retain: bool = False, properties: Properties | None = None
    ) -> None:
        given = {name: value for name, value in asdict(properties).items() if value} if properties else None
        if given and "correlation" in given:
            given["correlation"] = base64.b64encode(given["correlation"]).decode()
        text = base64.b64encode(payload).decode()
        self.runtime.channel.ask(
            "publish", id=self.client_id, topic=topic, payload=text, qos=qos, retain=retain, properties=given
        )

    def leave(self) -> None:
        self.runtime.channel.ask("leave", id=self.client_id)

    def vanish(self) -> None:
        self.runtime.channel.ask("vanish", id=self.client_id)

    def close(self) -> None:
        self.runtime.channel.ask("close", id=self.client_id)

    def _took(self, what: dict[str, Any]) -> None:
        given = what["properties"]
        correlation = given["correlation"]
        shown = Properties(
            given["content_type"],
            given["response_topic"],
            base64.b64decode(correlation) if correlation else None,
            given["expiry_s"],
            tuple((name, value) for name, value in given["user"]),
        )
        self.took(Received(what["topic"], base64.b64decode(what["payload"]), what["qos"], bool(what["retain"]), shown))
