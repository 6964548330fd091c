"""One story on one server: two phones, a bot, a backend that sends by HTTP, and one that is told by webhooks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from integration.receivers import Receiver
from integration.server import wait_until
from integration.test_embed import Phone
from integration.test_http import ask
from mesimqtt.settings import Settings, Webhooks
from mesimqtt.testing.live import LiveServer

SETTINGS = replace(Settings(), webhooks=Webhooks(private_hosts=("127.0.0.1",), batch_age_s=0.05))


@pytest.fixture
def server(tmp_path):
    """A server that may tell a receiver on this machine."""
    live = LiveServer(tmp_path / "data", settings=SETTINGS)
    yield live
    live.stop()


def texts(phone, part):
    """Return the payloads that a phone has of a class and peer."""
    return [payload.decode() for topic, payload in phone.received if f"/in/{part}/" in topic]


def names(phone, cid):
    """Return the statuses that a phone has of its message, in order."""
    return [json.loads(told)["name"] for topic, told in phone.received if topic.endswith(f"/status/{cid}")]


def test_an_order_from_the_shop_to_the_door(server):
    """alice orders from the shop's bot, which tells bob; the backend confirms by HTTP, and is told each step."""
    app = server.start()
    app.user("alice", "bob", "shop")
    alice, bob = Phone(app, "alice"), Phone(app, "bob")
    bot = server.bot("orders")

    @bot.on_message
    async def take(message):
        await message.read()
        errand = await bot.send("bob", f"deliver {message.text} to {message.sender}", type=7)
        await errand.wait_delivered(timeout=60)
        await message.reply("on its way")

    with Receiver() as receiver:
        hook = app.perform("webhook_add", name="crm", url=f"http://127.0.0.1:{receiver.port}/hook")
        receiver.secret = hook["secret"]
        alice.client.publish("m/alice/out/u/orders/o-1", "soup", 1)
        wait_until(lambda: texts(alice, "u/orders"), what="the bot's answer")
        token = app.perform("token_issue", addresses=["shop"], scope="backend")["tokens"][0]["token"]
        port = app.port_of("http")
        status, sent = ask(port, "POST", "/v1/send/alice", {"sender": "shop", "text": "that was 7 euros"}, token=token)
        wait_until(lambda: texts(alice, "u/shop"), what="the shop's message")

        def told(kind):
            return {(each["from"], each["to"]) for each in receiver.events if each["type"] == kind}

        everybody = {("alice", "orders"), ("orders", "bob"), ("orders", "alice"), ("shop", "alice")}
        wait_until(lambda: everybody <= told("message.delivered"), what="the receiver's events")
        read, accepted = told("message.read"), told("message.accepted")
    alice.close()
    bob.close()

    assert ["deliver soup to alice"] == texts(bob, "u/orders")
    assert ["on its way"] == texts(alice, "u/orders")
    assert ["sent", "delivered", "read"] == names(alice, "o-1")
    assert (201, "sent") == (status, sent["name"])
    assert [("alice", "delivered")] == server.status(sent["mid"])
    assert [] == receiver.strange
    assert everybody <= accepted
    assert ("alice", "orders") in read


def test_a_robot_and_a_bot_do_not_answer_each_other_for_ever(tmp_path):
    """Row 125: a client that answers everything at once, and a bot that does, come to an end; others go on."""
    settings = replace(Settings(), bots=replace(Settings().bots, answers="60:20"))
    server = LiveServer(tmp_path / "data", settings=settings)
    app = server.start()
    app.user("robot", "alice")
    bot = server.bot("echo")
    bot.on_message(lambda message: message.reply(message.payload))
    robot, alice = Phone(app, "robot"), Phone(app, "alice")
    keep = robot.client.on_message

    def answer(client, data, message):
        keep(client, data, message)
        if "/in/u/echo/" in message.topic:
            client.publish("m/robot/out/u/echo", message.payload, 1)

    robot.client.on_message = answer
    robot.client.publish("m/robot/out/u/echo", "hello", 1)
    wait_until(lambda: app.perform("stats")["counters"].get("bots.storms"), what="the end of the storm")
    alice.client.publish("m/alice/out/u/echo", "and me?", 1)
    wait_until(lambda: texts(alice, "u/echo"), what="an answer to somebody else")
    robot.close()
    alice.close()
    server.stop()

    assert 20 == len(texts(robot, "u/echo"))
    assert ["and me?"] == texts(alice, "u/echo")
