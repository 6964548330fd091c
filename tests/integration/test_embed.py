"""The server inside another program: in a thread, in the caller's loop, inside an ASGI application; on real sockets."""

from __future__ import annotations

import asyncio
import http.client
import logging
import threading
from contextlib import asynccontextmanager

import paho.mqtt.client as paho
import pytest
import uvicorn

from integration.raw_websocket import RawWebSocket, masked
from integration.server import wait_until
from mesimqtt import FAIL, PASS, App
from mesimqtt.domain.errors import InUseError, MesimqttError, OperationError
from mesimqtt.messaging.module_loader import ModuleServer
from mesimqtt.testing import stream as wire

NOWHERE = {"mqtt": "127.0.0.1:0", "ws": "off", "http": "off"}


@pytest.fixture
def app(tmp_path):
    """An app that serves when it is told to."""
    made = App(tmp_path / "data", **NOWHERE)
    yield made
    made.stop()


class Phone:
    """A client that keeps what it receives."""

    def __init__(self, server, user, *, websocket=None):
        self.received = []
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id="phone", transport="websockets" if websocket else "tcp"
        )
        self.client.username_pw_set(user, server.token(user))
        self.client.on_message = lambda client, data, message: self.received.append((message.topic, message.payload))
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.connect("127.0.0.1", websocket or server.port)
        self.client.subscribe(f"m/{user}/in/#", 1)
        self.client.loop_start()
        assert subscribed.wait(20)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def test_verbs_work_from_any_thread_and_on_a_stopped_server(app):
    """Users, tokens, groups and messages before the start, while it serves from several threads, and after its end."""
    app.user("alice", "bob")
    with app:
        names = []
        threads = [
            threading.Thread(target=lambda n=n: names.append(app.send("alice", "bob", f"{n}")["name"]))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        app.group("team", "alice")
        app.group("team", "alice", "bob")
        phone = Phone(app, "bob")
        wait_until(lambda: len([topic for topic, _ in phone.received if "/u/alice/" in topic]) == 8)
        phone.close()
    with pytest.raises(OperationError) as refused:
        app.send("alice", "nobody", "hi")
    inbox = app.perform_as("bob", "inbox")

    assert {"alice", "team"} == {each.get("peer") or each["group"] for each in inbox["conversations"]}
    assert ["sent"] * 8 == names
    assert "invalid-destination" == refused.value.code
    with pytest.raises(OperationError, match="address is you"):
        app.perform_as("bob", "inbox", address="alice")
    assert ["alice", "bob"] == [each["address"] for each in app.perform("group_show", address="team")["members"]]
    assert 0 == app.port


def test_a_verb_that_would_wait_for_itself_is_refused(app):
    """In the server's own loop, and in any loop that must not wait, the blocking verbs say what to use instead."""

    async def story():
        async with app as aio:
            with pytest.raises(RuntimeError, match="await app"):
                app.user("alice")
            await aio.user("alice")
            return await asyncio.to_thread(app.token, "alice")

    assert asyncio.run(story()).count(".") == 2


@pytest.mark.parametrize("who", ["the program", "a module"])
def test_what_was_begun_is_done_whole_though_its_caller_gives_up(tmp_path, who):
    """What is committed is in force: nobody whom the store knows as disabled is served, whoever waited no longer."""

    async def story():
        async with App(tmp_path / "data", **NOWHERE) as served, asyncio.timeout(30):
            await served.user("alice")
            alice = served.running.messaging.find_user("alice")
            caller = served if who == "the program" else ModuleServer(served.running.messaging)
            asked = asyncio.ensure_future(caller.perform("user_disable", addresses=["alice"]))
            await asyncio.sleep(0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            await served.perform("user_add", addresses=["bob"])  # committed after it
            return (await served.perform("user_show", address="alice"))["state"], alice.active

    assert ("disabled", False) == asyncio.run(story())


def test_one_process_has_the_folder(app, tmp_path):
    """A second server on the same folder raises, and can be started once the first has ended."""
    second = App(tmp_path / "data", **NOWHERE)
    with app, pytest.raises(InUseError):
        second.start()
    with second:
        assert second.port


def test_it_does_not_listen_to_the_world_without_tls(tmp_path):
    """An address beyond loopback is refused before anything is opened, unless the program insists."""
    for place in ("mqtt", "ws", "http"):
        with pytest.raises(MesimqttError, match="beyond loopback"):
            App(tmp_path / "data", **{**NOWHERE, place: "0.0.0.0:0"})

    (tmp_path / "config.yaml").write_text("http: {bind: '0.0.0.0:0'}\n")
    with pytest.raises(MesimqttError, match="listener 'http'"):
        App(tmp_path / "data", mqtt="127.0.0.1:0", ws="off", config=tmp_path / "config.yaml")

    assert not (tmp_path / "data").exists()
    assert App(tmp_path / "data", **{**NOWHERE, "mqtt": "0.0.0.0:0"}, insecure=True)


def test_a_message_passes_the_module_or_not(app):
    """@app.on_message judges what real clients send; it cannot be added once somebody may be connected."""

    @app.on_message
    async def judge(message):
        await asyncio.sleep(0)
        return FAIL(0x8D, "rude") if message.text == "darn" else PASS

    with app:
        app.user("alice", "bob")
        alice, bob = Phone(app, "alice"), Phone(app, "bob")
        alice.client.publish("m/alice/out/u/bob/1", "darn", 1)
        alice.client.publish("m/alice/out/u/bob/2", "dear", 1)
        wait_until(lambda: any(topic.endswith("status/2") and b"delivered" in told for topic, told in alice.received))
        with pytest.raises(MesimqttError, match="before the server starts"):
            app.module(lambda message: PASS)
        alice.close()
        bob.close()

    assert [b"dear"] == [payload for topic, payload in bob.received if "/u/alice/" in topic]
    assert any(b'"reason":"rude"' in told for _, told in alice.received)


def test_a_module_that_blocks_is_named(app, caplog):
    """The log says which module holds up everybody, and where."""
    caplog.set_level(logging.WARNING)

    def sleepy(message):
        wait_until(lambda: "module sleepy holds up everybody" in caplog.text, what="the line in the log meanwhile")
        return PASS

    app.module(sleepy, name="sleepy")
    with app:
        app.user("alice", "bob")
        app.send("alice", "bob", "hi")
        wait_until(lambda: "module sleepy held up everybody" in caplog.text, what="the line in the log")

    assert "module sleepy holds up everybody for more than 0.5 s" in caplog.text
    assert "in sleepy, at" in caplog.text


def test_a_bot_is_back_after_a_restart(app):
    """A bot that was made before the start, and one that was made while it serves, handle what came meanwhile."""
    seen, early = [], app.bot("early")
    early.on_message(lambda message: seen.append((message.bot.address, message.text)))
    with app:
        late = app.bot("late")
        late.on_message(lambda message: seen.append((message.bot.address, message.text)))
        app.user("alice")
    app.send("alice", "early", "one")
    app.send("alice", "late", "two")
    with app:
        wait_until(lambda: len(seen) == 2, what="both bots")
        sent = app.call(late.send("early", "three"))

        assert "early" == app.call(sent.wait_delivered(timeout=60))["peer"]

    assert [("early", "one"), ("early", "three"), ("late", "two")] == sorted(seen)


# ---- ASGI ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def application(app):
    """Serve an ASGI application that mounts MQTT under /mqtt, as Starlette does it; give its port."""

    async def asgi(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            async with app.lifespan(asgi) as state:
                scope["state"].update(state)
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["path"].startswith("/mqtt"):
            await app.asgi(scope, receive, send)
        else:
            await scope["state"]["mesimqtt"].user("alice", "bob")
            sent = await scope["state"]["mesimqtt"].send("alice", "bob", "from the web page")
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": sent["name"].encode()})

    config = uvicorn.Config(asgi, port=0, lifespan="on", ws="websockets-sansio", log_level="error")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


def get(port, path):
    """Return status and body of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    with connection.getresponse() as response:
        found = response.status, response.read()
    connection.close()
    return found


def test_an_asgi_application_has_the_server_in_its_loop(app):
    """One port: a page sends through the server, and a phone on the application's WebSocket receives it."""

    async def story():
        async with application(app) as port:
            await app.aio.user("bob")
            token = await app.aio.token("bob")
            page = await RawWebSocket.connect(port, "/mqtt")
            page.send(wire.connect("page", "bob", token), wire.subscribe(1, [("m/bob/in/#", 1)]))
            await page.mqtt(4 + 5)
            answer = await asyncio.to_thread(get, port, "/")
            refused = await asyncio.to_thread(get, port, "/mqtt")
            message = await page.mqtt(20)
            await page.close()
        return answer, refused[0], message

    answer, refused, message = asyncio.run(story())

    assert (200, b"sent") == answer
    assert 426 == refused
    assert b"m/bob/in/u/alice/" in message


def test_what_is_no_mqtt_over_websocket_is_closed(app):
    """A text frame ends the connection with 1003, a client without the subprotocol `mqtt` is not let in."""

    async def story():
        async with application(app) as port:
            page = await RawWebSocket.connect(port, "/mqtt")
            page.writer.write(masked(b"hello", 1))
            code = await page.close_code()
            await page.close()
            other = await RawWebSocket.connect(port, "/mqtt", Sec_WebSocket_Protocol="chat")
            await other.close()
        return code, other.status

    assert (1003, 403) == asyncio.run(story())


def test_paho_over_the_applications_port(app):
    """A real client over WebSocket: it sends and hears what became of it, through the application."""

    async def story():
        async with application(app) as port:
            await app.aio.user("alice", "bob")
            return await asyncio.to_thread(talk, port)

    def talk(port):
        alice = Phone(app, "alice", websocket=port)
        alice.client.publish("m/alice/out/u/bob/1", "hi", 1)
        wait_until(lambda: alice.received, what="the status")
        alice.close()
        return alice.received

    ((topic, told),) = asyncio.run(story())

    assert "m/alice/in/status/1" == topic
    assert b'"name":"sent"' in told
