"""Who receives what, where: users, groups, the sender's other devices, statuses (contract section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import Need, check
from mesimqtt.proof.conform.topics import mid_of

if TYPE_CHECKING:
    from mesimqtt.proof.conform.stage import Stage

BYTES = bytes(range(256))


@check("C2.6", on_road=False)
async def to_a_user(stage: Stage) -> None:
    """Alice publishes to `out/u/bob/{cid}`: two devices of bob's receive the same bytes on `in/u/alice/…`."""
    alice, bob = await stage.people(2)
    phone, tablet, sender = await bob.device(), await bob.device(name="tablet"), await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", BYTES)
    for device in (phone, tablet):
        await device.hear(f"u/{alice.level}/", BYTES)


@check("C2.7", needs=(Need.GROUP,))
async def to_a_group(stage: Stage) -> None:
    """Alice publishes to `out/g/team/{cid}`: bob and carol receive the bytes on `in/g/team/alice/…`, alice does not."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    sender, other = await alice.device(), await alice.device(name="tablet")
    readers = [await each.device() for each in (bob, carol)]
    await sender.say(f"g/{team}/{stage.cid()}", BYTES)
    for reader in readers:
        await reader.hear(f"g/{team}/{alice.level}/", BYTES)
    await stage.quiet(sender, other)
    for device in (sender, other):
        device.nothing("g/", "a member does not receive her own message")


@check("C2.8")
async def sent_copy(stage: Stage) -> None:
    """Alice's other device receives `in/sent/u/bob/{mid}` with the bytes and bob's mid; the sending one does not."""
    alice, bob = await stage.people(2)
    sender, other, reader = await alice.device(), await alice.device(name="tablet"), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"copy")
    copy = await other.hear(f"sent/u/{bob.level}/", b"copy")
    message = await reader.hear(f"u/{alice.level}/", b"copy")
    stage.same("the mid of the copy", mid_of(message), mid_of(copy))
    await stage.quiet(sender)
    sender.nothing("sent/", "the device that sent it has it")


@check("C2.9", needs=(Need.GROUP,))
async def sent_copy_of_a_group(stage: Stage) -> None:
    """Alice's other device receives `in/sent/g/team/{mid}`."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    sender, other = await alice.connect(), await alice.device(name="tablet")
    await sender.say(f"g/{team}/{stage.cid()}", b"copy")
    await other.hear(f"sent/g/{team}/", b"copy")


@check("C2.10")
async def sent_copy_raises_nothing(stage: Stage) -> None:
    """Alice's other device acknowledges its copy while bob is away: no `delivered` comes of that."""
    alice, bob = await stage.people(2)
    sender, other = await alice.connect(), await alice.device(name="tablet")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"copy")
    await stage.quiet(other)
    stage.same("statuses above 1", [], [each for each in other.statuses(cid) if each.get("status", 0) > 1])


@check("C2.11")
async def status_topic(stage: Stage) -> None:
    """The sending device, and another of alice's, receive a JSON object on `in/status/{cid}` that names the cid."""
    alice, bob = await stage.people(2)
    sender, other = await alice.device("status/#"), await alice.device(name="tablet")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}")
    for device in (sender, other):
        packet = await device.hear(f"status/{cid}")
        stage.same("topic", f"{alice.home}/in/status/{cid}", packet.topic)
        stage.that(packet.payload.startswith(b"{"), "a JSON object", repr(packet.payload))


@check("C2.12")
async def status_code_alone(stage: Stage) -> None:
    """A device that subscribed to `in/s/#` receives `1`, then `2`, on `in/s/{cid}`, and a refusal as `131`."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("s/#"), await bob.device()
    cid, lost = stage.cid(), stage.cid()
    await sender.say(f"u/{bob.level}/{cid}")
    await reader.hear(f"u/{alice.level}/")
    await sender.hear(f"s/{cid}", b"1")
    await sender.hear(f"s/{cid}", b"2")
    await sender.say(f"u/{'n' * 60}/{lost}")
    await sender.hear(f"s/{lost}", b"131")
    sender.nothing("status/", "nothing on in/status, which it did not subscribe to")
