"""The keys of parameters, one by one (contract section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import check
from mesimqtt.proof.conform.topics import mid_of, params_of, seq_of

if TYPE_CHECKING:
    from mesimqtt.proof.conform.client import Client
    from mesimqtt.proof.conform.people import Person
    from mesimqtt.proof.conform.stage import Stage

SENT, DELIVERED, READ, DELETED, WIPED, BAD = 1, 2, 3, 0x21, 0x22, 0x85
YEAR_S = 31_536_000


async def refused(stage: Stage, sender: Client, bob: Person, *levels: str) -> None:
    """Hold that messages with these parameters are 0x85."""
    for level in levels:
        cid = stage.cid()
        await sender.say(f"u/{bob.level}/{cid}/{level}")
        await sender.status(cid, BAD)


async def carried(stage: Stage, sender: Client, reader: Client, level: str) -> str:
    """Send a message with these parameters and return how they arrive."""
    payload = stage.cid().encode()
    await sender.say(f"u/{reader.person.level}/{stage.cid()}/{level}", payload)
    packet = await reader.hear(f"u/{sender.person.level}/", payload, expected=f"a message with {level[:80]}")
    return packet.topic.rpartition("/")[2].partition("&")[2]


@check("C2.57")
async def a_type(stage: Stage) -> None:
    """`type=0` and `type=4294967295` arrive as they are; 4294967296, -1, 1.5 and an empty one are 0x85."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    for level in ("type=0", "type=4294967295"):
        stage.same("the parameters", level, await carried(stage, sender, reader, level))
    await refused(stage, sender, bob, "type=4294967296", "type=-1", "type=1.5", "type=")


@check("C2.58", lasts_s=1.5)
async def an_expiry(stage: Stage) -> None:
    """`expiry=100` arrives at once with 100 (or 99), and with less to a device that comes more than a second later."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    late = await bob.device(name="tablet")
    await late.leave()
    await sender.say(f"u/{bob.level}/{stage.cid()}/expiry=100", b"x")
    first = int(dict(params_of(await reader.hear(f"u/{alice.level}/", b"x"))).get("expiry", "-1"))
    stage.that(first in {99, 100}, "expiry=100", first)
    await stage.passes(1.2)
    late = await bob.device(name="tablet")
    second = int(dict(params_of(await late.hear(f"u/{alice.level}/", b"x"))).get("expiry", "-1"))
    stage.that(90 <= second < 100, "fewer seconds than 100", second)


@check("C2.59")
async def an_expiry_of_0(stage: Stage) -> None:
    """A message with `expiry=0` reaches the device that is online, and not another one that comes back later."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    late = await bob.device(name="tablet")
    await late.leave()
    await sender.say(f"u/{bob.level}/{stage.cid()}/expiry=0", b"now")
    await reader.hear(f"u/{alice.level}/", b"now")
    late = await bob.device(name="tablet")
    await stage.quiet(late)
    late.nothing("u/", "what is never stored does not come later")


@check("C2.61")
async def receipts_wanted(stage: Stage) -> None:
    """With `flags=1` alice gets `delivered` and no `read`; with `flags=2` `read` and no `delivered`; with 0 neither."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    cids, mid = {}, ""
    for flags in (0, 1, 2, 3):
        cids[flags] = stage.cid()
        await sender.say(f"u/{bob.level}/{cids[flags]}/flags={flags}", str(flags).encode())
        mid = mid_of(await reader.hear(f"u/{alice.level}/", str(flags).encode()))
    await reader.say(f"read/u/{alice.level}", b"<=" + mid.encode())
    await sender.hear(f"status/{cids[3]}", fits=lambda packet: b'"status":3,' in packet.payload)
    await stage.quiet(sender)
    for flags, wanted in ((0, {SENT}), (1, {SENT, DELIVERED}), (2, {SENT, READ})):
        came = {each["status"] for each in sender.statuses(cids[flags])}
        stage.same(f"the statuses of flags={flags}", wanted, came)


@check("C2.62")
async def transient(stage: Stage) -> None:
    """A message with `flags=4` arrives without a seq where somebody is online, and else is 0x81, as with expiry 0."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}/flags=4", b"now")
    stage.same("seq", -1, seq_of(await reader.hear(f"u/{alice.level}/", b"now")))
    await reader.leave()
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/flags=4", b"now")
    await sender.status(cid, 0x81)


@check("C2.63")
async def forwarded(stage: Stage) -> None:
    """Carol forwards bob's message with `flags=131&ref={mid}`: alice finds both keys; unknown bits are 0x85."""
    alice, bob, carol = await stage.people(3)
    sender, reader, last = await bob.connect(), await carol.device(), await alice.device()
    await sender.say(f"u/{carol.level}/{stage.cid()}", b"spread this")
    mid = mid_of(await reader.hear(f"u/{bob.level}/", b"spread this"))
    level = f"flags=131&ref={mid}"
    stage.same("the parameters", level, await carried(stage, reader, last, level))
    await refused(stage, reader, alice, "flags=x", "flags=-1")


@check("C2.64")
async def a_reference(stage: Stage) -> None:
    """`ref={mid}` arrives as it is; what is no mid is 0x85."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"question")
    mid = mid_of(await reader.hear(f"u/{alice.level}/", b"question"))
    stage.same("the parameters", f"ref={mid}", await carried(stage, sender, reader, f"ref={mid}"))
    await refused(stage, sender, bob, "ref=12", f"ref={mid.upper()}0", "ref=")


@check("C2.74")
async def seq_is_the_servers(stage: Stage) -> None:
    """A sender who gives `seq` himself gets 0x85."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    await refused(stage, sender, bob, "seq=1", "type=1&seq=1")


@check("C2.75")
async def sixteen_keys(stage: Stage) -> None:
    """Sixteen keys of the sender's own arrive, beside `type` and `flags`; seventeen are 0x85."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    level = "type=1&flags=3&" + "&".join(f"k{number}={number}" for number in range(16))
    stage.same("the parameters", level, await carried(stage, sender, reader, level))
    await refused(stage, sender, bob, "&".join(f"k{number}={number}" for number in range(17)))


@check("C2.76")
async def two_kibibytes(stage: Stage) -> None:
    """Parameters of 2 048 bytes arrive, of 2 049 are 0x85."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    level = "k=" + "x" * 2046
    stage.same("the parameters", level, await carried(stage, sender, reader, level))
    await refused(stage, sender, bob, level + "x")


@check("C2.77")
async def untouched(stage: Stage) -> None:
    """Keys and values of the sender's own, with every character that must be encoded, arrive in the same spelling."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    level = "X-Note=%22%2F%23%2B%24%26%3D%25%20%E2%82%AC&empty=&%E2%82%AC=0&a.b_c~d=-"
    stage.same("the parameters", level, await carried(stage, sender, reader, level))
