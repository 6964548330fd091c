"""What a device gets when it comes: cursors, new devices, order, what is in flight (contract section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import Need, check
from mesimqtt.proof.conform.topics import mid_of, seq_of

if TYPE_CHECKING:
    from mesimqtt.proof.conform.client import Client
    from mesimqtt.proof.conform.stage import Stage
    from mesimqtt.testing.wire5 import Packet

IN_FLIGHT = 64


async def burst(stage: Stage, sender: Client, level: str, payloads: list[bytes]) -> None:
    """Publish many messages at once, then wait until all are acknowledged."""
    for payload in payloads[:-1]:
        await sender.say(f"u/{level}/{stage.cid()}", payload, wait=False)
    await sender.say(f"u/{level}/{stage.cid()}", payloads[-1])


def numbered(first: int, last: int) -> list[bytes]:
    """Return payloads that are numbers."""
    return [str(number).encode() for number in range(first, last)]


async def unacknowledged(stage: Stage, reader: Client, count: int) -> list[Packet]:
    """Wait for so many messages, and return all that came without being acknowledged."""
    found = [await reader.hear("u/") for _ in range(count)]
    await stage.quiet(reader)
    return found + reader.received("u/")


@check("C3.1")
async def kept_for_every_device(stage: Stage) -> None:
    """Phone and tablet are away, the phone comes and acknowledges: the tablet, which comes later, receives it too."""
    alice, bob = await stage.people(2)
    for name in ("phone", "tablet"):
        await (await bob.device(name=name)).leave()
    sender = await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"for both")
    for name in ("phone", "tablet"):
        device = await bob.device(name=name)
        await device.hear(f"u/{alice.level}/", b"for both")
        await stage.quiet(device)


@check("C3.2", needs=(Need.USERS,))
async def never_connected(stage: Stage) -> None:
    """Bob has never connected when alice writes to him: he receives it when he first comes."""
    alice, bob = await stage.people(2)
    sender = await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"welcome")
    await (await bob.device()).hear(f"u/{alice.level}/", b"welcome")


@check("C3.3")
async def acknowledged_out_of_order(stage: Stage) -> None:
    """Of three messages a device acknowledges the first and the third and is cut off: the second comes again alone."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    reader.acks = False
    await burst(stage, sender, bob.level, numbered(1, 4))
    one, _, three = [await reader.hear(f"u/{alice.level}/") for _ in range(3)]
    reader.ack(one, three)
    await stage.quiet(reader)
    await reader.cut()
    reader = await bob.device()
    await reader.hear(f"u/{alice.level}/", b"2")
    await stage.quiet(reader)
    reader.nothing("u/", "what was acknowledged does not come again")


@check("C3.4", lasts_s=2.5)
async def legal_gaps(stage: Stage) -> None:
    """Between two messages bob sends one himself and one expires while he is away: he receives the two, and no more."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"one")
    before = seq_of(await reader.hear(f"u/{alice.level}/", b"one"))
    await reader.say(f"u/{alice.level}/{stage.cid()}", b"own")
    await reader.leave()
    await sender.say(f"u/{bob.level}/{stage.cid()}/expiry=1", b"expired")
    await stage.passes(2.2)
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"two")
    reader = await bob.device()
    after = await reader.hear("u/")
    stage.same("what comes next, and its seq", (b"two", before + 3), (after.payload, seq_of(after)))
    await stage.quiet(reader)
    reader.nothing("u/", "nothing else")


@check("C3.5")
async def a_new_device(stage: Stage) -> None:
    """The phone has acknowledged one message of two: a new tablet receives the other one alone."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"acknowledged")
    await reader.hear(f"u/{alice.level}/", b"acknowledged")
    await reader.leave()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"waiting")
    tablet = await bob.device(name="tablet")
    first = await tablet.hear("u/")
    stage.same("what comes first to a new device", b"waiting", first.payload)


@check("C3.6")
async def a_device_without_a_cursor(stage: Stage) -> None:
    """A device without a client id receives what waits, and does not acknowledge it: the next such device does, too."""
    alice, bob = await stage.people(2)
    sender = await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"waiting")
    for _ in range(2):
        nameless = await bob.connect("")
        nameless.acks = False
        await nameless.subscribe("#")
        await nameless.hear(f"u/{alice.level}/", b"waiting")
        await nameless.cut()


@check("C3.7")
async def own_sent_messages(stage: Stage) -> None:
    """Alice's new tablet receives no copy of what she sent before it came, but of what she sends now."""
    alice, bob = await stage.people(2)
    sender = await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"before")
    tablet = await alice.device(name="tablet")
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"now")
    first = await tablet.hear("sent/")
    stage.same("the first copy", b"now", first.payload)


@check("C3.8")
async def live_messages_follow(stage: Stage) -> None:
    """After its backlog a device receives what is sent now."""
    alice, bob = await stage.people(2)
    sender = await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"backlog")
    reader = await bob.device()
    await reader.hear(f"u/{alice.level}/", b"backlog")
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"live")
    await reader.hear(f"u/{alice.level}/", b"live")


@check("C3.9")
async def backlog_before_live(stage: Stage) -> None:
    """200 messages wait, and 50 more are sent while the device comes: all arrive once, in the order of seq."""
    alice, bob = await stage.people(2)
    sender = await alice.connect()
    await burst(stage, sender, bob.level, numbered(0, 200))
    reader = await bob.connect("phone")
    subscribed = reader.subscribe("#")
    await burst(stage, sender, bob.level, numbered(200, 250))
    await subscribed
    await in_order(stage, reader, 250)


async def in_order(stage: Stage, reader: Client, count: int) -> None:
    """Hold that so many messages arrive in the order in which they were sent, with growing seq, each once."""
    packets = [await reader.hear("u/") for _ in range(count)]
    stage.same("the order of the messages", [int(each.payload) for each in packets], list(range(count)))
    seqs = [seq_of(each) for each in packets]
    stage.same("seqs that grow", sorted(set(seqs)), seqs)


@check("C3.10")
async def across_reconnects(stage: Stage) -> None:
    """A device loses its link three times among 90 messages: those that it sees for the first time are in order."""
    alice, bob = await stage.people(2)
    sender = await alice.connect()
    first: list[int] = []
    for start in (0, 30, 60):
        reader = await bob.device()
        await burst(stage, sender, bob.level, numbered(start, start + 30))
        while len(first) < start + 30:
            number = int((await reader.hear("u/")).payload)
            if number not in first:
                first.append(number)
        await reader.cut()
    stage.same("the order of first deliveries", list(range(90)), first)


@check("C3.11", needs=(Need.RESTART,))
async def across_restarts(stage: Stage) -> None:
    """30 messages wait, the server is killed, 30 more are sent: the device receives all in order."""
    alice, bob = await stage.people(2)
    sender = await alice.connect()
    await burst(stage, sender, bob.level, numbered(0, 30))
    await stage.restart()
    sender = await alice.connect()
    await burst(stage, sender, bob.level, numbered(30, 60))
    await in_order(stage, await bob.device(), 60)


@check("C3.13")
async def at_most_64(stage: Stage) -> None:
    """Of 80 messages a device that acknowledges none receives at most 64; the others follow its acknowledgements."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    reader.acks = False
    await burst(stage, sender, bob.level, numbered(0, 80))
    packets = await unacknowledged(stage, reader, 1)
    stage.that(len(packets) <= IN_FLIGHT, f"at most {IN_FLIGHT} in flight", len(packets))
    reader.acks = True
    reader.ack(*packets)
    for number in range(len(packets), 80):
        await reader.hear("u/", str(number).encode())


@check("C3.14", needs=(Need.FIVE,))
async def receive_maximum(stage: Stage) -> None:
    """A 5.0 client with Receive Maximum 5 has at most 5 unacknowledged, and receives all in the end."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device(five=True, receive_maximum=5)
    reader.acks = False
    await burst(stage, sender, bob.level, numbered(0, 12))
    packets = await unacknowledged(stage, reader, 1)
    stage.that(len(packets) <= 5, "at most 5 in flight", len(packets))
    reader.acks = True
    reader.ack(*packets)
    for number in range(len(packets), 12):
        await reader.hear("u/", str(number).encode())


async def given_again(stage: Stage, *, clean: bool) -> tuple[Packet, Packet]:
    """Let a device lose its link before it acknowledges a message; return both deliveries."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device(clean=clean)
    reader.acks = False
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"again")
    first = await reader.hear(f"u/{alice.level}/", b"again")
    await reader.cut()
    reader = await bob.device(clean=clean)
    return first, await reader.hear(f"u/{alice.level}/", b"again")


@check("C3.15")
async def again_with_dup(stage: Stage) -> None:
    """A message that was not acknowledged comes again when the device returns, with DUP=1; the first one had DUP=0."""
    first, again = await given_again(stage, clean=False)
    stage.same("DUP of both", (False, True), (first.dup, again.dup))


@check("C3.16")
async def again_after_a_clean_session(stage: Stage) -> None:
    """A message that was not acknowledged comes again to a device with a clean session, with DUP=0."""
    first, again = await given_again(stage, clean=True)
    stage.same("DUP of both", (False, False), (first.dup, again.dup))


@check("C3.17")
async def again_with_the_same_mid(stage: Stage) -> None:
    """A message that comes again has the mid and the seq that it had."""
    first, again = await given_again(stage, clean=False)
    stage.same("mid and seq", (mid_of(first), seq_of(first)), (mid_of(again), seq_of(again)))


@check("C3.18", needs=(Need.RESTART,))
async def packet_ids_go_on(stage: Stage) -> None:
    """The server is killed while messages are in flight: no packet id from before comes with another message."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    reader.acks = False
    await burst(stage, sender, bob.level, numbered(0, 10))
    before = {each.packet_id: each.payload for each in await unacknowledged(stage, reader, 10)}
    await stage.restart()
    sender, reader = await alice.connect(), await bob.device()
    reader.acks = False
    await burst(stage, sender, bob.level, numbered(10, 20))
    after = {each.packet_id: each.payload for each in await unacknowledged(stage, reader, 20)}
    mixed = {number for number in before.keys() & after.keys() if before[number] != after[number]}
    stage.same("old packet ids that mean a new message", set(), mixed)


@check("C3.19")
async def qos_0_is_acknowledged_by_writing(stage: Stage) -> None:
    """What was written to a device at QoS 0 does not come again when it returns."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device(qos=0)
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"written")
    await reader.hear(f"u/{alice.level}/", b"written")
    await stage.quiet(reader)
    await reader.cut()
    reader = await bob.device(qos=0)
    await stage.quiet(reader)
    reader.nothing("u/", "writing counts as acknowledgement")


@check("C3.20")
async def qos_0_raises_no_delivered(stage: Stage) -> None:
    """Alice gets SENT and no `delivered` for a message that was written to a device at QoS 0."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device(qos=0)
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"written")
    await reader.hear(f"u/{alice.level}/", b"written")
    await stage.quiet(sender, reader)
    stage.same("its statuses", [1], [each.get("status") for each in sender.statuses(cid)])


@check("C3.21", lasts_s=2.5)
async def unconfirmed(stage: Stage) -> None:
    """A message with `expiry=1` that was only written at QoS 0 ends as 0x80 with the reason `unconfirmed`."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device(qos=0)
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/expiry=1", b"written")
    await reader.hear(f"u/{alice.level}/", b"written")
    stage.same("the reason", "unconfirmed", (await sender.status(cid, 0x80)).get("reason"))


@check("C3.22", lasts_s=2.5)
async def read_after_unconfirmed(stage: Stage) -> None:
    """After 0x80 `unconfirmed` bob says that he has read it: alice gets READ."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device(qos=0)
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/expiry=1", b"written")
    mid = mid_of(await reader.hear(f"u/{alice.level}/", b"written"))
    await sender.status(cid, 0x80)
    await reader.say(f"read/u/{alice.level}", mid.encode())
    await sender.status(cid, 3)


@check("C3.24", needs=(Need.FIVE,))
async def passed_over(stage: Stage) -> None:
    """A device with Maximum Packet Size 300 does not receive a message of 600 bytes, but the one after it."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device(five=True, maximum_packet_size=300)
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"x" * 600)
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"small")
    first = await reader.hear("u/")
    stage.same("what comes first", b"small", first.payload)


@check("C3.25", needs=(Need.FIVE, Need.USERS))
async def too_large_for_every_device(stage: Stage) -> None:
    """Bob's only device is passed over: alice gets 0x80 with the reason `too-large-for-device`."""
    alice, bob = await stage.people(2)
    sender, _ = await alice.device("status/#"), await bob.device(five=True, maximum_packet_size=300)
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"x" * 600)
    stage.same("the reason", "too-large-for-device", (await sender.status(cid, 0x80)).get("reason"))
