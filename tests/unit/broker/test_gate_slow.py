"""amqtt's plugins that need time, or end the question themselves: there is an answer all the same."""

from __future__ import annotations

import asyncio

from mesimqtt.broker import foreign
from mesimqtt.broker.foreign import Fault
from mesimqtt.hooks import Action, ConnectRequest, Decision, Identity
from unit.broker.gate_world import Connection, Fast, Slow, World

ALICE = Identity(user="alice", jti="t")
YES = Decision(allow=True, rule="rules[0]")


async def settled(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


def test_answers_of_a_slow_plugin_last_until_all_of_them_are_there():
    """What was asked at once is good until the last answer is there, however long that takes; later it is too old."""

    async def story():
        class Serial(Slow):
            async def topic_filtering(self, **about):
                answer = await super().topic_filtering(**about)
                world.now += 1.0
                return answer

        world = World(access=[Fast(YES), Serial(True)])
        connections = [Connection(ALICE, client_id=f"c{number}") for number in range(20)]

        def known():
            return [world.gate.decide(each, Action.RECEIVE, "x") for each in connections]

        assert [None] * 20 == known()
        await settled(lambda: all(each.resumed for each in connections))
        assert [YES] * 20 == known()
        world.now += 100
        assert [None] * 20 == known()
        await world.gate.close()

    asyncio.run(story())


def test_many_answers_of_one_client_last_as_long():
    """The filters of one SUBSCRIBE are as many as the configuration allows: no answer is forgotten before the last."""

    async def story():
        world = World(access=[Fast(YES), Slow(True)])
        connection = Connection(ALICE)
        topics = [f"f/{number}" for number in range(300)]
        decided = [world.gate.decide(connection, Action.SUBSCRIBE, topic) for topic in topics]
        assert [None] * 300 == decided
        await settled(lambda: connection.resumed == 300)

        assert [YES] * 300 == [world.gate.decide(connection, Action.SUBSCRIBE, topic) for topic in topics]

    asyncio.run(story())


def test_a_plugin_that_cancels_the_question_has_refused():
    """Whoever waits is answered at once, as if it had said no: nobody hangs until his deadline, or for ever."""

    class Canceller(Slow):
        async def _give(self):
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

    async def story():
        world = World(auth=[Canceller(True)], access=[Fast(YES), Canceller(True)])
        newcomer, connection = Connection(), Connection(ALICE)
        request = ConnectRequest("phone", "alice", b"x", True, 4, "127.0.0.1", "default")

        assert world.gate.authenticate(newcomer, request) is None
        assert world.gate.decide(connection, Action.PUBLISH, "x") is None
        await settled(lambda: newcomer.verdicts and connection.resumed)
        assert [Fault(5, "a plugin cancelled the question")] == newcomer.verdicts
        assert Decision(allow=False, rule="cancelled") == world.gate.decide(connection, Action.PUBLISH, "x")

    asyncio.run(story())


def test_who_is_one_too_many_waits_and_is_not_denied(monkeypatch):
    """A plugin is asked a bounded number of questions at once; the others wait for room, and no message is lost."""
    monkeypatch.setattr(foreign, "TOPICS_ASKED_MAX", 4)

    class Persistent(Connection):
        decision = None

        def resume(self, now):
            super().resume(now)
            self.decision = world.gate.decide(self, Action.RECEIVE, "x")

    world, raised = World(access=[Fast(YES), Slow(True)]), []

    class Broken(Connection):
        def resume(self, now):
            raise ValueError("it harms nobody else")

    async def story():
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context["exception"]))
        connections = [Persistent(ALICE, client_id=f"c{number}") for number in range(20)]
        several = [*connections[:10], Broken(ALICE, client_id="broken"), *connections[10:]]
        assert [None] * 21 == [world.gate.decide(each, Action.RECEIVE, "x") for each in several]
        await settled(lambda: all(each.decision for each in connections))

        assert [YES] * 20 == [each.decision for each in connections]
        assert ["it harms nobody else"] == [str(error) for error in raised]
        await world.gate.close()

    asyncio.run(story())
