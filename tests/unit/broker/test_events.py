"""Plugin events: in order, in few tasks, bounded; a plugin's failure is its own."""

from __future__ import annotations

import asyncio
import logging

from mesimqtt.broker import events
from mesimqtt.broker.events import EventRunner


class Recorder:
    """A plugin that writes down what it was told."""

    def __init__(self):
        self.seen = []
        self.gate = asyncio.Event()
        self.running = 0
        self.most = 0

    async def on_event(self, number):
        self.seen.append(number)

    async def on_slow_event(self, number):
        self.running += 1
        self.most = max(self.most, self.running)
        await self.gate.wait()
        self.running -= 1
        self.seen.append(number)

    async def on_broken_event(self, number):
        raise ValueError(number)


def story(play):
    async def run():
        runner = EventRunner(asyncio.get_running_loop())
        await play(runner, Recorder())
        await runner.close()

    asyncio.run(run())


async def settled(condition):
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("nothing happened")


def test_events_come_in_order_and_share_one_task():
    """A thousand events that wait for nothing are worked off by one task in the order in which they were fired."""

    async def play(runner, plugin):
        for number in range(1000):
            runner.fire([plugin.on_event], number=number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        assert list(range(1000)) == plugin.seen

    story(play)


def test_a_plugin_that_waits_does_not_hold_up_the_others():
    """While one callback waits, the next events run."""

    async def play(runner, plugin):
        for number in range(3):
            runner.fire([plugin.on_slow_event], number=number)
        runner.fire([plugin.on_event], number="other")
        await settled(lambda: plugin.running == 3 and plugin.seen == ["other"])
        plugin.gate.set()
        await settled(lambda: len(plugin.seen) == 4)

        assert ["other", 0, 1, 2] == plugin.seen

    story(play)


def test_tasks_and_waiting_events_are_bounded(monkeypatch, caplog):
    """Beyond the bounds events are dropped, counted, and told once with the plugin's name."""
    monkeypatch.setattr(events, "RUNNERS_MAX", 4)
    monkeypatch.setattr(events, "EVENTS_MAX", 20)

    async def play(runner, plugin):
        for number in range(10):
            runner.fire([plugin.on_slow_event], number=number)
        await settled(lambda: plugin.running == 4)
        for number in range(10, 40):
            runner.fire([plugin.on_slow_event], number=number)
        plugin.gate.set()
        await settled(lambda: len(plugin.seen) == 24)

        assert 4 == plugin.most
        assert 16 == runner.dropped

    with caplog.at_level(logging.WARNING):
        story(play)
    warnings = [record.getMessage() for record in caplog.records]

    assert ["plugins are too slow for their events; Recorder misses some"] == warnings


def test_a_failure_is_logged_with_the_plugins_name_and_stops_nothing(caplog):
    """What a plugin raises is its own affair."""

    async def play(runner, plugin):
        runner.fire([plugin.on_broken_event, plugin.on_event], number=7)
        await settled(lambda: plugin.seen)

        assert [7] == plugin.seen

    with caplog.at_level(logging.ERROR):
        story(play)

    assert "plugin Recorder failed in an event" in caplog.text


def test_close_waits_for_what_is_queued():
    """Events fired just before the end still reach their plugins."""
    plugins = []

    async def play(runner, plugin):
        plugins.append(plugin)
        runner.fire([plugin.on_event], number=1)

    story(play)

    assert [1] == plugins[0].seen
