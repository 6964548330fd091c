"""Free topics: ordinary MQTT where a rule opens them, and closed everywhere else (contract sections 5 and 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import Need, check

if TYPE_CHECKING:
    from mesimqtt.proof.conform.client import Client
    from mesimqtt.proof.conform.stage import Stage
    from mesimqtt.testing.wire5 import Packet


def _topic(stage: Stage, rest: str) -> str:
    return f"{stage.options.free.rstrip('/#')}/{stage.cid()}/{rest}"


@check("C6.1", needs=(Need.FREE,), on_road=False)
async def ordinary_mqtt(stage: Stage) -> None:
    """QoS 0, 1 and 2 to `+` and `#`, a retained message, a will, a shared subscription and a kept session work."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.connect("reader")
    topic = _topic(stage, "lamp")
    place = topic.rpartition("/")[0]
    stage.same("SUBACK for QoS 2", (2,), await reader.subscribe(f"{place}/+", qos=2, whole=True))
    for qos in (0, 1, 2):
        await sender.publish(topic, str(qos).encode(), qos=qos)
        stage.same("QoS of the delivery", qos, (await _arrives(reader, topic, str(qos).encode())).qos)
    await sender.publish(topic, b"on", retain=True)
    await _arrives(reader, topic, b"on")
    late = await bob.connect("late")
    await late.subscribe(f"{place}/#", qos=1, whole=True)
    stage.same("its retain flag", True, (await _arrives(late, topic, b"on")).retain)
    await sender.publish(topic, b"", retain=True)
    gone = await alice.connect("gone", will=(f"{place}/state", b"offline"))
    await gone.cut()
    await _arrives(late, f"{place}/state", b"offline")
    await late.cut()
    await sender.publish(f"{place}/kept", b"kept")
    late = await bob.connect("late")
    stage.same("session present", True, late.connack.session_present)
    await _arrives(late, f"{place}/kept", b"kept")
    workers = [await bob.connect(f"worker{number}") for number in (1, 2)]
    for worker in workers:
        await worker.subscribe(f"$share/workers/{place}/job", whole=True)
    await sender.publish(f"{place}/job", b"job")
    await stage.quiet(*workers)
    stage.same("how many of two workers get a job", 1, sum(len(worker.inbox) for worker in workers))


async def _arrives(reader: Client, topic: str, payload: bytes) -> Packet:
    return await reader.until(
        lambda: next((each for each in reader.inbox if (each.topic, each.payload) == (topic, payload)), None),
        f"{reader} receives {topic} with {payload!r}",
    )


@check("C6.2", on_road=False)
async def closed(stage: Stage) -> None:
    """A filter for a topic that no rule opens is 0x80, and what is published there reaches nobody."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.connect("reader")
    topic = f"closed-{stage.cid()}/door"
    stage.same(f"SUBACK for {topic}", (0x80,), await reader.subscribe(topic, whole=True))
    await sender.publish(topic, b"open")
    await stage.quiet(reader)
    stage.same("what arrives", [], [each.topic for each in reader.inbox])
