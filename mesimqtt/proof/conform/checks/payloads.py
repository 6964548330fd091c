"""Payloads, retain and wills (contract section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import Need, check
from mesimqtt.proof.conform.topics import PAYLOAD_MAX, mid_of

if TYPE_CHECKING:
    from mesimqtt.proof.conform.stage import Stage

SENT, BAD = 1, 0x85
REFUSED_AT_CONNECT = {5, 0x87}


@check("C2.78")
async def opaque(stage: Stage) -> None:
    """An empty payload, every byte, what is no UTF-8, and 64 KiB arrive as they were sent."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    for payload in (b"", bytes(range(256)), b"\xff\xfe\x00", bytes(range(256)) * 256):
        await sender.say(f"u/{bob.level}/{stage.cid()}", payload)
        came = (await reader.hear(f"u/{alice.level}/")).payload
        stage.that(came == payload, f"the same {len(payload)} bytes", f"{len(came)} bytes: {came[:40]!r}")


@check("C2.79")
async def largest(stage: Stage) -> None:
    """A payload of 262 144 bytes arrives."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"x" * PAYLOAD_MAX)
    came = (await reader.hear(f"u/{alice.level}/")).payload
    stage.that(came == b"x" * PAYLOAD_MAX, f"{PAYLOAD_MAX} bytes", f"{len(came)} bytes")


@check("C2.80")
async def too_large(stage: Stage) -> None:
    """A payload of 262 145 bytes is 0x85 with a `limit`; the connection goes on, and the cid is free."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"x" * (PAYLOAD_MAX + 1))
    told = await sender.status(cid, BAD)
    stage.that(isinstance(told.get("limit"), int) and told["limit"] <= PAYLOAD_MAX, "a limit", told)
    await sender.say(f"u/{bob.level}/{cid}", b"smaller")
    await sender.status(cid, SENT)


@check("C2.82")
async def retain(stage: Stage) -> None:
    """A message published with retain comes without it, once: a device that subscribes again does not get it again."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"retained", retain=True)
    packet = await reader.hear(f"u/{alice.level}/", b"retained")
    stage.same("its retain flag", False, packet.retain)
    await stage.quiet(reader)
    await reader.subscribe("u/#", "#")
    late = await bob.device(name="tablet")
    await stage.quiet(reader, late)
    for device in (reader, late):
        device.nothing("u/", "nothing is retained under the root")


@check("C2.83")
async def a_will(stage: Stage) -> None:
    """Alice's connection is cut: bob receives her will on `in/u/alice/…`. After a DISCONNECT he does not."""
    alice, bob = await stage.people(2)
    reader = await bob.device()
    gone = await alice.connect("polite", will=(f"{alice.home}/out/u/{bob.level}", b"not sent"))
    await gone.leave()
    gone = await alice.connect("sudden", will=(f"{alice.home}/out/u/{bob.level}", b"gone"))
    await gone.cut()
    await reader.hear(f"u/{alice.level}/", b"gone")
    await stage.quiet(reader)
    reader.nothing("u/", "who says goodbye leaves no will")


@check("C2.84")
async def a_will_fires_again(stage: Stage) -> None:
    """The same will with a cid fires twice: bob receives two messages with two mids."""
    alice, bob = await stage.people(2)
    reader = await bob.device()
    mids = set()
    for _ in range(2):
        sender = await alice.connect("phone", will=(f"{alice.home}/out/u/{bob.level}/same-cid", b"gone"))
        await sender.cut()
        mids.add(mid_of(await reader.hear(f"u/{alice.level}/", b"gone")))
    stage.same("how many messages", 2, len(mids))


@check("C2.85", on_road=False)
async def a_will_is_judged_at_connect(stage: Stage) -> None:
    """A CONNECT whose will names bob's `out/`, or an `in/`, is refused as not authorized."""
    alice, bob = await stage.people(2)
    for topic in (f"{bob.home}/out/u/{alice.level}", f"{bob.home}/in/u/{alice.level}"):
        client = await alice.connect("forger", will=(topic, b"forged"), refused=True)
        stage.that(
            client.connack.code in REFUSED_AT_CONNECT, "CONNACK 5, not authorized", f"{client.connack.code:#04x}"
        )


@check("C2.86", needs=(Need.GROUPS,))
async def a_will_is_judged_at_firing(stage: Stage) -> None:
    """Alice's will is for a group that she has left meanwhile: nobody receives it."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    reader = await bob.device()
    gone = await alice.connect("phone", will=(f"{alice.home}/out/g/{team}", b"gone"))
    await stage.perform("group_leave", address=team, users=[alice.address])
    await gone.cut()
    sender = await carol.connect()
    await sender.say(f"g/{team}/{stage.cid()}", b"marker")
    await reader.hear(f"g/{team}/{carol.level}/", b"marker")
    await stage.quiet(reader)
    reader.nothing("g/", "who is no member leaves no will there")
