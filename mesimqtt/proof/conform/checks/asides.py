"""What is no message: presence, questions by rpc, group events, news of the session (contract section 2)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import Need, check
from mesimqtt.proof.conform.topics import seq_of

if TYPE_CHECKING:
    from mesimqtt.proof.conform.stage import Stage


@check("C2.20")
async def presence_to_a_user(stage: Stage) -> None:
    """Alice publishes to `out/presence/u/bob`: bob, who is online, receives the bytes on `in/presence/u/alice`."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"hello")
    await reader.hear(f"u/{alice.level}/", b"hello")
    await sender.say(f"presence/u/{bob.level}", b"typing")
    packet = await reader.hear(f"presence/u/{alice.level}", b"typing")
    stage.same("topic", f"{bob.home}/in/presence/u/{alice.level}", packet.topic)


@check("C2.21", needs=(Need.GROUP,))
async def presence_in_a_group(stage: Stage) -> None:
    """Alice publishes to `out/presence/g/team`: bob and carol receive it on `in/presence/g/team/alice`."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    sender, readers = await alice.connect(), [await each.device() for each in (bob, carol)]
    await sender.say(f"presence/g/{team}", b"typing")
    for reader in readers:
        packet = await reader.hear(f"presence/g/{team}/", b"typing")
        stage.same("topic", f"{reader.person.home}/in/presence/g/{team}/{alice.level}", packet.topic)


@check("C2.22")
async def presence_is_not_stored(stage: Stage) -> None:
    """Bob's device that was away when alice published presence does not receive it when it returns."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    await reader.leave()
    await sender.say(f"presence/u/{bob.level}", b"typing")
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"marker")
    reader = await bob.device()
    await reader.hear(f"u/{alice.level}/", b"marker")
    await stage.quiet(reader)
    came = [packet.topic for packet in reader.received("presence/") if packet.payload == b"typing"]
    stage.same("presence that waited", [], came)


@check("C2.23")
async def answer_to_who_asked(stage: Stage) -> None:
    """The asking device, which subscribed to `in/rpc/#`, receives JSON on `in/rpc/{r}`; another of alice's does not."""
    [alice] = await stage.people(1)
    asker, other = await alice.device("rpc/#"), await alice.device("rpc/#", name="tablet")
    await asker.say("rpc/inbox/q1", b"{}")
    packet = await asker.hear("rpc/")
    stage.same("topic", f"{alice.home}/in/rpc/q1", packet.topic)
    stage.that(isinstance(json.loads(packet.payload), dict), "a JSON object", packet.payload)
    await stage.quiet(other)
    other.nothing("rpc/", "the answer goes to the asking connection")


@check("C2.24")
async def answer_to_the_others(stage: Stage) -> None:
    """The asking device has not subscribed to `in/rpc/#`: the answer comes to alice's other device, which has."""
    [alice] = await stage.people(1)
    asker, other = await alice.connect(), await alice.device("rpc/#", name="tablet")
    await asker.say("rpc/inbox/q2", b"{}")
    await other.hear("rpc/q2")


@check("C2.25")
async def answers_are_not_stored(stage: Stage) -> None:
    """Nobody is there for the answer: a device that subscribes afterwards does not receive it."""
    [alice] = await stage.people(1)
    other = await alice.device("rpc/#", name="tablet")
    await other.leave()
    asker = await alice.connect()
    await asker.say("rpc/inbox/q3", b"{}")
    await stage.quiet(asker)
    other = await alice.device("rpc/#", name="tablet")
    await stage.quiet(other)
    other.nothing("rpc/", "answers are never stored")


@check("C2.26")
async def answers_have_one_form(stage: Stage) -> None:
    """An operation answers `{"ok":true,"result":{…}}`, one that is not there `{"ok":false,"code":…,"message":…}`."""
    [alice] = await stage.people(1)
    asker = await alice.device("rpc/#")
    good, bad = await asker.ask("inbox"), await asker.ask("no-such-operation")
    stage.that(good.get("ok") is True and isinstance(good.get("result"), dict), "ok and a result", good)
    stage.that(bad.get("ok") is False and {"code", "message"} <= bad.keys(), "not ok, a code and a message", bad)


@check("C2.27", needs=(Need.GROUPS,))
async def group_events(stage: Stage) -> None:
    """Carol joins and leaves: alice receives JSON that names her on `in/event/g/team/{mid}/seq=…`, in this order."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob)
    reader = await alice.device()
    for op in ("group_join", "group_leave"):
        await stage.perform(op, address=team, users=[carol.address])
        packet = await reader.hear(
            f"event/g/{team}/",
            fits=lambda packet: carol.address in packet.payload.decode("utf-8", "replace"),
            expected=f"an event of {op} that names {carol.address}",
        )
        stage.that(isinstance(json.loads(packet.payload), dict) and seq_of(packet) > 0, "JSON, and a seq", packet.topic)


@check("C2.28")
async def news_of_the_session(stage: Stage) -> None:
    """The news of a denied free topic comes as a JSON object with `event` on exactly `in/session`."""
    [alice] = await stage.people(1)
    reader = await alice.device("session")
    await reader.publish(f"closed/{stage.cid()}", b"x")
    await stage.quiet(reader)
    came = reader.received("session")
    stage.that(came or stage.options.free, "news on in/session", "none")
    for packet in came:
        stage.same("topic", f"{alice.home}/in/session", packet.topic)
        stage.that(json.loads(packet.payload).get("event"), "a JSON object with an event", packet.payload)
