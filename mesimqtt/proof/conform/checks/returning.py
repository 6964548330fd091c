"""What a sender's device is told when it comes back, and what it is not (contract section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import check
from mesimqtt.proof.conform.topics import MID, mid_of, seq_of

if TYPE_CHECKING:
    from mesimqtt.proof.conform.client import Client
    from mesimqtt.proof.conform.stage import Stage
    from mesimqtt.testing.wire5 import Packet

SENT, DELIVERED, READ, UNKNOWN, BAD = 1, 2, 3, 0x83, 0x85


def told(device: Client, cid: str) -> list[object]:
    """Take the codes that a device has been told of a cid."""
    return [each.get("status") for each in device.statuses(cid)]


@check("C4.31")
async def the_newest_to_a_returning_one(stage: Stage) -> None:
    """Alice's phone is away while her message is sent, delivered and read: it is told `read` and no more.

    Her tablet, which was there, was told each.
    """
    alice, bob = await stage.people(2)
    phone, tablet, reader = (
        await alice.device("status/#"), await alice.device("status/#", name="tablet"), await bob.device(),
    )  # fmt: skip
    await phone.leave()
    sender = await alice.connect()
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"x")
    mid = mid_of(await reader.hear(f"u/{alice.level}/", b"x"))
    await tablet.status(cid, DELIVERED)
    await reader.say(f"read/u/{alice.level}", mid.encode())
    await tablet.status(cid, READ)
    phone = await alice.device("status/#")
    await phone.hear(f"status/{cid}", fits=lambda packet: b'"status":3,' in packet.payload)
    await stage.quiet(phone)
    stage.same("what else a returning device is told", [], told(phone, cid))


@check("C4.33")
async def from_the_first_subscription_on(stage: Stage) -> None:
    """A device of alice's that comes for the first time is told nothing of messages from before."""
    alice, bob = await stage.people(2)
    sender, _ = await alice.device("status/#"), await bob.device()
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}")
    await sender.status(cid, DELIVERED)
    tablet = await alice.device("status/#", name="tablet")
    await stage.quiet(tablet)
    tablet.nothing("status/", "it was not there")


@check("C4.34")
async def a_device_without_a_number(stage: Stage) -> None:
    """A device without a client id is told nothing of what happened between its connections."""
    alice, bob = await stage.people(2)
    nameless = await alice.device("status/#", name="")
    await nameless.leave()
    sender, _ = await alice.connect(), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}")
    await stage.quiet(sender)
    nameless = await alice.device("status/#", name="")
    await stage.quiet(nameless)
    nameless.nothing("status/", "it begins anew each time")


@check("C4.35")
async def moves_on_puback(stage: Stage) -> None:
    """A status that alice's phone did not acknowledge comes again when it returns, equal; one that it did does not."""
    alice, bob = await stage.people(2)
    phone = await alice.device("status/#")
    phone.acks = False
    cid = stage.cid()
    await phone.say(f"u/{bob.level}/{cid}")
    first = await phone.hear(f"status/{cid}")
    await phone.cut()
    phone = await alice.device("status/#")
    again = await phone.hear(f"status/{cid}")
    stage.same("the payload", first.payload, again.payload)
    await stage.quiet(phone)
    await phone.leave()
    phone = await alice.device("status/#")
    await stage.quiet(phone)
    phone.nothing("status/", "it was acknowledged")


@check("C4.36")
async def moves_on_writing(stage: Stage) -> None:
    """A status that was written to a device at QoS 0 does not come again when it returns."""
    alice, bob = await stage.people(2)
    phone = await alice.device("status/#", qos=0)
    cid = stage.cid()
    await phone.say(f"u/{bob.level}/{cid}")
    await phone.hear(f"status/{cid}")
    await stage.quiet(phone)
    await phone.cut()
    phone = await alice.device("status/#", qos=0)
    await stage.quiet(phone)
    phone.nothing("status/", "it was written")


@check("C4.37")
async def code_or_json(stage: Stage) -> None:
    """A device with `in/#` gets `in/status`; one with `in/#` and `in/s/#` gets `in/s`, and nothing on `in/status`."""
    alice, bob = await stage.people(2)
    sender, both = await alice.device("#"), await alice.device("#", "s/#", name="tablet")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}")
    await sender.status(cid, SENT)
    await both.hear(f"s/{cid}", b"1")
    await stage.quiet(sender, both)
    sender.nothing("s/", "in/# selects in/status")
    both.nothing("status/", "it has in/s/# too")


@check("C4.38")
async def refusals_are_not_stored(stage: Stage) -> None:
    """A refusal comes at once to both of alice's devices that are online, and not to the one that returns later."""
    [alice] = await stage.people(1)
    sender, tablet = await alice.device("status/#"), await alice.device("status/#", name="tablet")
    away = await alice.device("status/#", name="watch")
    await away.leave()
    cid = stage.cid()
    await sender.say(f"u/nobody-{cid}/{cid}")
    for device in (sender, tablet):
        await device.status(cid, UNKNOWN)
    away = await alice.device("status/#", name="watch")
    await stage.quiet(away)
    away.nothing("status/", "a refusal is not stored")


@check("C4.39")
async def a_mid_as_cid(stage: Stage) -> None:
    """Refusals of messages without a cid, or with one that is none, come on `in/status/` and 16 digits of their own."""
    [alice] = await stage.people(1)
    sender = await alice.device("status/#")
    cids = set()
    for rest in (f"u/nobody-{stage.cid()}", f"u/nobody-{stage.cid()}/a.b", "x/y/z"):
        await sender.say(rest)
        cids.add((await sender.hear("status/")).topic.rpartition("/")[2])
    stage.that(len(cids) == 3 and all(map(MID.fullmatch, cids)), "three mids", sorted(cids))


@check("C4.40", "C4.41")
async def a_denied_free_topic(stage: Stage) -> None:
    """Five publishes to a closed topic: one piece of news, with event, topic and rule in this order, and no more."""
    [alice] = await stage.people(1)
    reader = await alice.device("session")
    topics = [f"closed-{stage.cid()}/door" for _ in range(5)]
    for topic in topics:
        await reader.publish(topic, b"open")
    packet = await reader.hear("session", fits=_is_denial, expected="news on in/session of a denied free topic")
    start = f'{{"event":"denied","topic":"{topics[0]}","rule":'
    stage.that(packet.payload.decode().startswith(start), f"{start}…", packet.payload)
    await stage.quiet(reader)
    stage.same("more of it within a second", [], list(filter(_is_denial, reader.received("session"))))


def _is_denial(packet: Packet) -> bool:
    return b'"denied"' in packet.payload


@check("C4.45", lasts_s=15.0)
async def at_most_the_newest_1000(stage: Stage) -> None:
    """Bob reads 1 005 messages with one `<=mid`: alice gets READ for 1 000, not for the first five."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    cids = [stage.cid() for _ in range(1005)]
    for end in (500, len(cids)):  # in two parts, so that no inbox is full
        for cid in cids[end - 505 if end > 500 else 0 : end]:
            await sender.say(f"u/{bob.level}/{cid}", cid.encode(), wait=cid == cids[end - 1])
        last = await reader.hear(f"u/{alice.level}/", cids[end - 1].encode(), within_s=30.0)
        await sender.status(cids[end - 1], DELIVERED, within_s=30.0)
    await reader.say(f"read/u/{alice.level}", b"<=" + mid_of(last).encode())
    await sender.status(cids[-1], READ, within_s=30.0)
    await stage.quiet(sender)
    told_read = {each["cid"] for each in sender.statuses() if each.get("status") == READ} | {cids[-1]}
    stage.same("how many READ", 1000, len(told_read))
    stage.same("those without", set(cids[:5]), set(cids) - told_read)


@check("C4.47")
async def expiry_0_is_not_stored(stage: Stage) -> None:
    """A message with `expiry=0` that bob acknowledges: `delivered` without SENT, no seq, and nothing in his history."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device("u/#", "rpc/#")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/expiry=0", b"fleeting")
    stage.same("seq", -1, seq_of(await reader.hear(f"u/{alice.level}/", b"fleeting")))
    await sender.hear(f"status/{cid}", fits=lambda packet: b'"status":2,' in packet.payload)
    stage.same("other statuses", [], told(sender, cid))
    answer = await reader.ask("history", {"peer": alice.address})
    stage.that("fleeting" not in str(answer), "a history without it", answer)


@check("C4.48")
async def puback_of_expiry_0(stage: Stage) -> None:
    """The PUBACK of a message with `expiry=0` comes though bob has not acknowledged it."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    reader.acks = False
    await sender.say(f"u/{bob.level}/{stage.cid()}/expiry=0", b"x")
    await reader.hear(f"u/{alice.level}/", b"x")


@check("C4.49")
async def remembered_for_a_minute(stage: Stage) -> None:
    """The same message with `expiry=0` again is none: bob receives it once, and alice is told the verdict again."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    cid = stage.cid()
    for _ in range(2):
        await sender.say(f"u/{bob.level}/{cid}/expiry=0", b"once")
        await sender.status(cid, DELIVERED)
    await reader.hear(f"u/{alice.level}/", b"once")
    await stage.quiet(reader)
    reader.nothing("u/", "one message, however often it is sent")
