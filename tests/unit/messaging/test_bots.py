"""Bots: users whose device is a function. What they return acknowledges, what they send has statuses like anybody's."""

from __future__ import annotations

import asyncio

import pytest

from mesimqtt.domain.errors import OperationError
from mesimqtt.hooks import PASS
from mesimqtt.messaging.bot import Bot
from mesimqtt.messaging.module_loader import ModuleServer
from unit.messaging.world import mid_of


@pytest.fixture
def helper(world):
    """Return a bot that says hi to everything."""
    world.user("helper")
    bot = world.messaging.bots.add("helper")
    world.turn()

    @bot.on_message
    async def answer(message):
        await message.reply(f"hi, {message.sender}: {message.text}")

    return bot


def test_a_bot_answers_and_its_return_is_the_receipt(world, helper):
    """alice's message is delivered when the handler has returned; the answer names it, and comes like any message."""
    alice = world.listener("alice")

    alice.publish("u/helper/1", "hello")
    (answer,) = alice.received("u/helper")
    statuses = {status["status"]: status for status in alice.statuses()}

    assert b"hi, alice: hello" == answer.payload
    assert f"ref={statuses[1]['mid']}" in answer.topic
    assert [1, 2] == sorted(statuses)
    assert ("bot", "helper") == (statuses[2]["device"], statuses[2]["peer"])


def test_a_bot_is_told_what_became_of_its_message(world, helper):
    """send() returns once committed; wait_delivered() and wait_read() with the statuses that any sender gets."""
    sent = world.run(helper.send("alice", "news", type=3))
    before = sent.status
    alice = world.listener("alice")
    (message,) = alice.received("u/helper")
    delivered = world.run(sent.wait_delivered())
    alice.publish("read/u/helper", mid_of(message))
    read = world.run(sent.wait_read(by="alice"))

    assert 1 == before
    assert message.topic.endswith("seq=1&type=3")
    assert sent.mid == mid_of(message)
    assert (2, "alice", "phone") == (delivered["status"], delivered["peer"], delivered["device"])
    assert [1, 2, 3] == [status["status"] for status in sent.statuses]
    assert 3 == read["status"]


def test_what_is_refused_raises(world, helper):
    """A refused send raises with the status' name; a message that fails later raises where it is waited for."""
    with pytest.raises(OperationError) as refused:
        world.run(helper.send("nobody", "x"))
    sent = world.run(helper.send("alice", "x", expiry=5))
    world.advance(7)
    with pytest.raises(OperationError) as expired:
        world.run(sent.wait_delivered())

    assert "invalid-destination" == refused.value.code
    assert "expired" == expired.value.code


def test_a_bot_may_say_that_it_has_read(world, helper):
    """message.read() gives the sender READ, from a group too."""
    world.group("team", "alice", "helper")
    alice = world.listener("alice")

    @helper.on_message
    async def read(message):
        await message.read()

    alice.publish("u/helper/1", "a")
    alice.publish("g/team/2", "b")

    assert {("1", 1), ("1", 2), ("1", 3), ("2", 1), ("2", 2), ("2", 3)} == set(alice.steps())


def test_a_handler_that_raises_is_tried_again_and_the_next_waits(world, helper):
    """The message stays unacknowledged; the later one of that conversation keeps its place, others go on."""
    alice, carol = world.listener("alice"), world.listener("carol")
    seen = []

    @helper.on_message
    def handle(message):
        seen.append(message.text)
        if message.text == "a" and len([each for each in seen if each == "a"]) < 3:
            raise RuntimeError("the database is away")

    alice.publish("u/helper/1", "a")
    alice.publish("u/helper/2", "b")
    carol.publish("u/helper/1", "from carol")
    first, steps = list(seen), alice.steps()
    world.advance(1.25)
    second = list(seen)
    world.advance(2.25)

    assert ["a", "from carol"] == first
    assert [("1", 1), ("2", 1)] == steps
    assert ["a", "from carol", "a"] == second
    assert ["a", "from carol", "a", "a", "b"] == seen
    assert [("1", 2), ("2", 2)] == alice.steps()


def refuse(message):
    """Handle nothing."""
    raise ValueError(message.text)


def test_what_a_bot_cannot_handle_gets_a_verdict(world, helper):
    """After `tries_max` the sender has 0x80 `bot`, the bot has it among the dead, and the next message is handled."""
    alice = world.listener("alice")
    seen = []

    @helper.on_message
    def handle(message):
        seen.append(message.text)
        if message.text == "poison":
            raise ValueError("no")

    alice.publish("u/helper/1", "poison")
    alice.publish("u/helper/2", "fine")
    world.advance(20)

    statuses = alice.statuses()
    assert [("1", 1), ("2", 1), ("1", 0x80), ("2", 2)] == [(each["cid"], each["status"]) for each in statuses]
    assert "bot" == statuses[2]["reason"]
    assert ["poison"] * 5 + ["fine"] == seen
    assert [(statuses[0]["mid"], "ValueError: no")] == list(helper.dead)


def test_what_a_bot_gave_up_is_on_record_over_restarts(make_world):
    """The last ones of each bot with their errors: for the bot itself, and for who asks; his deletion ends it."""
    world = make_world(bots={"dead_letters_max": 3, "tries_max": 1})
    alice = world.listener("alice")
    for device in ("bot", "other"):
        world.bot("helper", device).on_message(refuse)
    for number in range(5):
        alice.publish(f"u/helper/{number}", f"{number} " + "x" * 1000)
        world.advance(1)
    mids = [each["mid"] for each in alice.statuses() if each["status"] == 0x80]
    before = list(world.messaging.bots.add("helper").dead)
    world.restart()
    after = list(world.bot("helper").dead)

    assert before == after
    assert mids[-3:] == [mid for mid, _ in after]
    assert [f"ValueError: {number} xxx" for number in (2, 3, 4)] == [error[:17] for _, error in after]
    first = world.do("bot_dead_list", address="helper", limit=2)
    rest = world.do("bot_dead_list", address="helper", after=first["next"])
    letters = first["letters"] + rest["letters"]
    assert [("bot", mid, 1, 500) for mid in mids[-3:]] == [
        (each["device"], each["mid"], each["tries"], len(each["error"])) for each in letters if each["device"] == "bot"
    ]
    assert 6 == len(letters)
    assert rest["next"] is None
    world.do("user_delete", addresses=["helper"])
    assert [(0,)] == world.rows("SELECT count(*) FROM given_up")


def test_what_a_bot_gives_up_another_device_of_its_user_may_take(world, helper):
    """The bot's user has a phone, away: the message waits for it, without a verdict."""
    world.listener("helper", "phone").disconnect()
    alice = world.listener("alice")

    @helper.on_message
    def handle(message):
        raise ValueError("no")

    alice.publish("u/helper/1", "hard")
    world.advance(20)
    before = alice.steps()
    phone = world.listener("helper", "phone")

    assert [("1", 1)] == before
    assert ["hard"] == phone.payloads()
    assert [("1", 2)] == alice.steps()


def test_nothing_is_lost_over_a_restart(world, helper):
    """What came while the bot was away, and what it had not handled when the server was killed, comes (again)."""
    seen = []
    alice = world.listener("alice")

    @helper.on_message
    async def never(message):
        seen.append(message.text)
        await asyncio.get_running_loop().create_future()

    alice.publish("u/helper/1", "in the middle")
    world.restart()
    alice = world.listener("alice")
    alice.publish("u/helper/2", "before it was back")
    world.messaging.bots.add("helper").on_message(lambda message: seen.append(message.text))
    world.turn()

    assert ["in the middle", "in the middle", "before it was back"] == seen
    assert {("1", 2), ("2", 1), ("2", 2)} <= set(alice.steps())


def test_bots_that_answer_each_other_come_to_an_end(world, helper):
    """Each answer counts its hops; at `hops_max` it is not sent, and what it would answer counts as handled."""
    world.user("other")
    other = world.messaging.bots.add("other")
    other.on_message(lambda message: message.reply("and you?"))
    world.turn()

    world.run(other.send("helper", "how are you?"))
    for _ in range(20):
        world.turn()

    assert 1 + 5 == world.rows("SELECT count(*) FROM message")[0][0]
    assert 1 == world.messaging.stats()["counters"]["bots.storms"]
    assert [] == list(helper.dead) + list(other.dead)


def test_answers_in_one_conversation_are_bounded(make_world):
    """A client that answers every answer at once gets so many as `bots.answers` allows; the bot goes on with others."""
    world = make_world(bots={"answers": "60:3"})
    world.user("helper")
    helper = world.messaging.bots.add("helper")
    helper.on_message(lambda message: message.reply("hi"))
    alice, carol = world.listener("alice"), world.listener("carol")

    for number in range(5):
        alice.publish(f"u/helper/{number}", "again")
    carol.publish("u/helper/1", "hello")

    assert ["hi"] * 3 == alice.payloads()
    assert ["hi"] == carol.payloads()
    assert {(str(number), 2) for number in range(5)} <= set(alice.steps())


def test_a_bot_handles_so_many_conversations_at_once(make_world):
    """`bots.concurrency` conversations are handled side by side; the others wait for one to end."""
    world = make_world(bots={"concurrency": 2})
    world.user("helper", "dave")
    helper, open_ = world.messaging.bots.add("helper"), []

    @helper.on_message
    async def handle(message):
        gate = asyncio.get_running_loop().create_future()
        open_.append((message.sender, gate))
        await gate

    for name in ("alice", "bob", "carol", "dave"):
        world.listener(name).publish("u/helper/1", "x")
    first = [sender for sender, _ in open_]
    open_[0][1].set_result(None)
    world.turn()

    assert ["alice", "bob"] == first
    assert ["alice", "bob", "carol"] == [sender for sender, _ in open_]


def test_a_disabled_bot_is_offline_and_comes_back(world, helper):
    """The bot is a user: disabled it has no device, enabled it is back within a second, with what it missed."""
    alice = world.listener("alice")
    world.do("user_disable", addresses=["helper"])
    was_online = helper.is_online
    alice.publish("u/helper/1", "anybody?")
    before = alice.steps()
    world.do("user_enable", addresses=["helper"])
    world.advance(1.25)

    assert not was_online
    assert [("1", 1)] == before
    assert helper.is_online
    assert ["hi, alice: anybody?"] == alice.payloads()


def test_no_client_can_be_a_bots_device(world, helper):
    """A client with the bot's own token and client id is refused; with another it is a device beside it."""
    assert ("CONNACK", 0, 5) == world.connect("helper", "bot").connack
    assert ("CONNACK", 0, 0) == world.connect("helper", "phone").connack


def test_expiry_0_reaches_a_bot(world, helper):
    """A message for who is online now is delivered by the handler's return, or has no answer in time."""
    alice = world.listener("alice")
    helper.on_message(lambda message: 1 / 0 if message.text == "bad" else None)

    alice.publish("u/helper/1/expiry=0", "good")
    alice.publish("u/helper/2/expiry=0", "bad")
    world.advance(20)

    assert [("1", 2), ("2", 0x81)] == alice.steps()


def test_what_is_sent_at_once_has_its_statuses_too(world):
    """A bot that is just coming online waits until it can be told what becomes of its message."""
    world.user("helper")
    world.commits.hold()
    bot = world.messaging.bots.add("helper")
    was_online = bot.is_online
    sending = asyncio.ensure_future(bot.send("alice", "hi"), loop=world._asyncio)
    world.turn()
    world.commits.release()

    async def sent():
        return (await sending).status

    assert not was_online
    assert 1 == world.run(sent())


def test_what_a_bot_answers_is_judged_whoever_asked(world, helper):
    """A module's own message is judged by none; the bot's answer to it is."""
    asked = []
    alice = world.listener("alice")
    world.module(lambda message: asked.append(message.text) or PASS)
    server = ModuleServer(world.messaging)

    world.run(server.perform("send", sender="alice", to="helper", text="hello", expiry=0))
    world.turn()

    assert ["hi, alice: hello"] == asked
    assert ["hi, alice: hello"] == alice.payloads()


def test_one_device_is_one_bot(world, helper):
    """The same user and device is the same bot; another object for it is refused."""
    assert helper is world.messaging.bots.add("helper")
    with pytest.raises(OperationError, match="already"):
        world.messaging.bots.adopt(Bot("helper"))


def test_bots_share_work_out(world):
    """Two bots in a round-robin group: each piece is one's, and what one cannot do the other takes over."""
    done = []
    for name in ("first", "second"):
        bot = world.bot(name)

        @bot.on_message
        def work(message):
            if message.text == "hard" and message.bot.address == "first":
                raise ValueError("not I")
            done.append((message.bot.address, message.text))

    world.group("team", "alice", "first", "second")
    world.do("group_set", address="team", profile={"kind": "round-robin"})
    alice = world.listener("alice")
    for number, text in enumerate(("a", "b", "hard", "hard")):
        alice.publish(f"g/team/{number}", text)
    world.advance(60)

    easy = {text: bot for bot, text in done if text != "hard"}
    assert {"a", "b"} == easy.keys()
    assert {"first", "second"} == set(easy.values())  # who begins depends on the group's seq
    assert [("second", "hard")] * 2 == [each for each in done if each[1] == "hard"]
    assert 4 == len(done)
    assert {str(number) for number in range(4)} == {cid for cid, status in alice.steps() if status == 2}
