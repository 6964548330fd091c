"""Modules that the configuration names: what can be one, in which order, and one line for each mistake."""

from __future__ import annotations

import sys

import pytest

from mesimqtt.domain.errors import MesimqttError
from mesimqtt.messaging.module_loader import load_modules
from mesimqtt.settings import LoadedModule

SHOP = """
from mesimqtt import FAIL, PASS

started = []


class Ends:
    def __init__(self, *, word):
        self.word = word

    def on_message(self, message):
        return message.changed(payload=message.text + self.word)

    def started(self, server):
        started.append(server)


def short(message):
    return PASS if len(message.payload) < 9 else FAIL(0x80, "long")


def longer_than(most):
    return lambda message: PASS if len(message.payload) <= most else FAIL(0x80, "long")


class Tells:
    async def on_message(self, message):
        if message.text.startswith("tell "):
            await self.server.perform("send", sender=message.sender, to=message.peer, text=message.text[5:])
        return PASS

    def started(self, server):
        self.server = server


class Log:
    def __init__(self):
        self.told = []

    def on_status(self, told):
        self.told.append(told.name)


class Helper:
    def started(self, server):
        server.bot("helper").on_message(lambda message: message.reply("at your service"))

    def on_user_online(self, seen):
        pass


nothing = 7
"""


@pytest.fixture
def shop(tmp_path):
    """A Python module of an operator, importable while the test runs."""
    (tmp_path / "the_shop.py").write_text(SHOP)
    sys.path.insert(0, str(tmp_path))
    yield "the_shop"
    sys.path.remove(str(tmp_path))
    sys.modules.pop("the_shop", None)


def load(world, *entries):
    """Load entries of `modules.load`."""
    load_modules(world.messaging, [LoadedModule(**entry) for entry in entries])


def test_the_same_module_twice_with_other_options_in_order(world, shop):
    """A class is called with its options; each entry is a module of its own, asked in the order of the list."""
    alice, bob = world.listener("alice"), world.listener("bob")
    load(
        world,
        {"call": "the_shop:Ends", "options": {"word": "!"}},
        {"call": "the_shop:Ends", "options": {"word": "?"}},
        {"call": "the_shop:short"},
    )

    alice.publish("u/bob/1", "hello")
    alice.publish("u/bob/2", "good day")

    assert ["hello!?"] == bob.payloads()
    assert ("2", 0x80) in alice.steps()
    assert 2 == len(sys.modules["the_shop"].started)


def test_a_function_with_options_makes_the_module(world, shop):
    """What has options is called with them, once; what it returns judges."""
    alice = world.listener("alice")
    load(world, {"call": "the_shop:longer_than", "options": {"most": 3}, "name": "size"})

    alice.publish("u/bob/1", "abcd")

    assert [("1", 0x80)] == alice.steps()


def test_what_a_module_sends_is_judged_by_none(world, shop):
    """A module that sends while it judges does not ask itself for ever; its message passes, and the other goes on."""
    alice, bob = world.listener("alice"), world.listener("bob")
    load(world, {"call": "the_shop:Tells"}, {"call": "the_shop:short"})

    alice.publish("u/bob/1", "tell tell a long story")

    assert ["tell a long story"] == bob.payloads()
    assert ("1", 0x80) in alice.steps()


def test_an_object_may_only_look(world, shop):
    """A class without on_message judges nothing and is told all the same."""
    load(world, {"call": "the_shop:Log"})

    assert [] == world.messaging.modules.chain
    assert {"the_shop": "the_shop:Log"} == dict(world.messaging.modules.names)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"call": "the_shop"}, r"write package.module:name"),
        (
            {"call": "no.such.thing:x"},
            r"cannot be imported: ModuleNotFoundError: .*; install it, or name its folder in PYTHONPATH",
        ),
        ({"call": "the_shop:missing"}, r"the_shop has no missing"),
        ({"call": "the_shop:nothing"}, r"neither a function nor has it one of the methods on_message, on_status"),
        ({"call": "the_shop:Ends", "options": {"words": 1}}, r"TypeError: .*check its options"),
    ],
)
def test_a_mistake_names_its_entry(world, shop, entry, why):
    """A server does not start with a module that it cannot load: one line says which and why."""
    with pytest.raises(MesimqttError, match=why) as refused:
        load(world, entry)

    assert f"modules.load[0]: {entry['call']}" in str(refused.value)


def test_a_configuration_can_bring_a_bot(world, shop):
    """A module makes a bot when it is started; its user is made, and it answers."""
    alice = world.listener("alice")
    load(world, {"call": "the_shop:Helper"})
    world.advance(1.25)

    alice.publish("u/helper/1", "hello")

    assert ["at your service"] == alice.payloads()
