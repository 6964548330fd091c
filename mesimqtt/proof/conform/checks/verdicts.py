"""The codes one by one: when each is sent (contract section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import Need, check
from mesimqtt.proof.conform.topics import mid_of

if TYPE_CHECKING:
    from mesimqtt.proof.conform.stage import Stage

SENT, DELIVERED, READ, DELETED, FAILED, OFFLINE, UNKNOWN, EXPIRED, BAD, BLOCKED, DENIED = (
    1, 2, 3, 0x21, 0x80, 0x81, 0x83, 0x84, 0x85, 0x88, 0x8D,
)  # fmt: skip


@check("C4.6")
async def sent(stage: Stage) -> None:
    """A message to bob, who is away, gets SENT with his `peer` and a mid, and then nothing more."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}")
    told = await sender.status(cid, SENT)
    stage.same("peer", bob.address, told.get("peer"))
    await stage.quiet(sender)
    stage.same("further statuses", [], sender.statuses(cid))


@check("C4.7", needs=(Need.RESTART,))
async def committed(stage: Stage) -> None:
    """The server is killed as soon as PUBACK (QoS 1) and PUBREC (QoS 2) are there: bob receives both messages."""
    alice, bob = await stage.people(2)
    sender = await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"1")
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"2", qos=2)
    await stage.restart()
    reader = await bob.device()
    for payload in (b"1", b"2"):
        await reader.hear(f"u/{alice.level}/", payload)


@check("C4.8")
async def delivered(stage: Stage) -> None:
    """No `delivered` before bob's phone acknowledges; then one that names it, and none for the tablet's PUBACK."""
    alice, bob = await stage.people(2)
    sender, phone, tablet = await alice.device("status/#"), await bob.device(), await bob.device(name="tablet")
    phone.acks = tablet.acks = False
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"x")
    packets = [await each.hear(f"u/{alice.level}/", b"x") for each in (phone, tablet)]
    await stage.quiet(sender, phone, tablet)
    stage.same("before an acknowledgement", [SENT], [each.get("status") for each in sender.statuses(cid)])
    phone.ack(packets[0])
    told = await sender.status(cid, DELIVERED)
    stage.same("peer and device", (bob.address, phone.name), (told.get("peer"), told.get("device")))
    tablet.ack(packets[1])
    await stage.quiet(tablet, sender)
    stage.same("after the second device's", [], sender.statuses(cid))


@check("C4.9")
async def by_a_plain_puback(stage: Stage) -> None:
    """A PUBACK of MQTT 3.1.1, and nothing else, raises `delivered`."""
    alice, bob = await stage.people(2)
    sender, _ = await alice.device("status/#"), await bob.device()
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}")
    await sender.status(cid, DELIVERED)


@check("C4.10")
async def read(stage: Stage) -> None:
    """Bob publishes the mid from a device that never had the message: alice gets READ."""
    alice, bob = await stage.people(2)
    sender, reader, other = await alice.device("status/#"), await bob.device(), await bob.connect("laptop")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"x")
    mid = mid_of(await reader.hear(f"u/{alice.level}/", b"x"))
    await other.say(f"read/u/{alice.level}", mid.encode())
    await sender.status(cid, READ)


@check("C4.11")
async def both_in_order(stage: Stage) -> None:
    """Bob reads what he has not acknowledged: alice, who is online, gets `delivered` and then `read`."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    reader.acks = False
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"x")
    mid = mid_of(await reader.hear(f"u/{alice.level}/", b"x"))
    await reader.say(f"read/u/{alice.level}", mid.encode())
    await stage.quiet(sender)
    stage.same("the statuses", [SENT, DELIVERED, READ], [each.get("status") for each in sender.statuses(cid)])


@check("C4.12")
async def deleted(stage: Stage) -> None:
    """A recalled message is 33, `deleted`, with bob's `peer`."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"x")
    mid = (await sender.status(cid, SENT))["mid"]
    await sender.say(f"u/{bob.level}/{stage.cid()}/recall={mid}", b"")
    told = await sender.status(cid, DELETED)
    stage.same("name and peer", ("deleted", bob.address), (told.get("name"), told.get("peer")))


@check("C4.13", lasts_s=2.5)
async def failed(stage: Stage) -> None:
    """A `failed` has a reason: that of a message that was only ever written at QoS 0 is `unconfirmed`."""
    alice, bob = await stage.people(2)
    sender, _ = await alice.device("status/#"), await bob.device(qos=0)
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/expiry=1")
    told = await sender.status(cid, FAILED)
    stage.same("name and reason", ("failed", "unconfirmed"), (told.get("name"), told.get("reason")))


@check("C4.14")
async def user_offline(stage: Stage) -> None:
    """A message with `expiry=0` to bob, who is away, is 0x81 at once, and nothing else."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/expiry=0")
    await sender.status(cid, OFFLINE)
    stage.same("other statuses", [], sender.statuses(cid))


@check("C4.15", lasts_s=11.0)
async def nobody_answers(stage: Stage) -> None:
    """A message with `expiry=0` that bob's device does not acknowledge is 0x81 after 10 seconds, and not after 9."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    reader.acks = False
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/expiry=0", b"x", wait=False)
    await reader.hear(f"u/{alice.level}/", b"x")
    await stage.passes(9.0)
    stage.same("statuses after 9 s", [], sender.statuses(cid))
    await sender.status(cid, OFFLINE)


@check("C4.16")
async def written_at_expiry_0(stage: Stage) -> None:
    """A message with `expiry=0` to bob, whose only device subscribes at QoS 0, is 0x80 `unconfirmed`."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device(qos=0)
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/expiry=0", b"x")
    await reader.hear(f"u/{alice.level}/", b"x")
    stage.same("the reason", "unconfirmed", (await sender.status(cid, FAILED)).get("reason"))


@check("C4.18")
async def nobody_there(stage: Stage) -> None:
    """Messages to a user and to a group that are not there are 0x83, `invalid-destination`."""
    [alice] = await stage.people(1)
    sender = await alice.device("status/#")
    for place in ("u", "g"):
        cid = stage.cid()
        await sender.say(f"{place}/nobody-{stage.cid()}/{cid}")
        stage.same("the name", "invalid-destination", (await sender.status(cid, UNKNOWN)).get("name"))


@check("C4.19", needs=(Need.GROUP,))
async def none_that_he_may_know_of(stage: Stage) -> None:
    """Dave writes to a group of others, publishes presence and a read mark there: 0x83, and no member hears of it."""
    alice, bob, carol, dave = await stage.people(4)
    team = await stage.group(alice, bob, carol)
    sender, reader = await dave.device("status/#"), await alice.device()
    cid = stage.cid()
    await sender.say(f"g/{team}/{cid}", b"x")
    await sender.status(cid, UNKNOWN)
    for rest, payload in ((f"presence/g/{team}", b"x"), (f"read/g/{team}", b"0123456789abcdef")):
        await sender.say(rest, payload)
        told = await sender.hear("status/", expected=f"a status for {rest}")
        stage.that(b'"status":131,' in told.payload, f"131 for {rest}", told.payload)
    await stage.quiet(reader)
    came = [packet.topic for packet in reader.received() if dave.level in packet.topic]
    stage.same("what a member receives of dave", [], came)


@check("C4.20", lasts_s=2.5)
async def expired(stage: Stage) -> None:
    """A message with `expiry=1` to bob, who is away, is 0x84 after that, and does not come to him later."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/expiry=1", b"too late")
    await sender.status(cid, SENT)
    await sender.status(cid, EXPIRED)
    reader = await bob.device()
    await stage.quiet(reader)
    reader.nothing("u/", "what is expired is never delivered")


@check("C4.21")
async def bad_request(stage: Stage) -> None:
    """Topics under `out/` that the contract does not know, and wrong parameters, are 0x85 with a reason."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    for rest in (
        "", "u", f"x/{bob.level}/1", f"u/{bob.level}/1/2/3", f"u/{bob.level}/1/type=x", "read/u", f"read/x/{bob.level}",
        f"presence/{bob.level}", f"u/{bob.level}/1/expiry=-1", f"u/{bob.level}/1/when=soon",
    ):  # fmt: skip
        await sender.say(rest, b"x")
        told = await sender.hear("status/", expected=f"a status for out/{rest}")
        stage.that(b'"status":133,' in told.payload and b'"reason":' in told.payload, f"133 for {rest}", told.payload)


@check("C4.22")
async def blocked(stage: Stage) -> None:
    """Bob blocks alice (`rpc/block_add`): her message is 0x88, or SENT and no more, and he does not receive it."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device("u/#", "rpc/#")
    answer = await reader.ask("block_add", {"peers": [alice.address]})
    stage.same("the answer to block_add", True, answer.get("ok"))
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"unwanted")
    await stage.quiet(sender, reader)
    came = [each.get("status") for each in sender.statuses(cid)]
    stage.that(came in ([BLOCKED], [SENT]), "[136], or [1] where blocks are silent", came)
    reader.nothing("u/", "whom he blocks does not reach him")
    await reader.ask("block_remove", {"peers": [alice.address]})


@check("C4.24")
async def denied(stage: Stage) -> None:
    """A message from bob's folder is 0x8D to alice, who published it, with a `rule`; nobody receives it."""
    alice, bob, carol = await stage.people(3)
    sender, reader, owner = await alice.device("status/#"), await carol.device(), await bob.device()
    cid = stage.cid()
    await sender.publish(f"{bob.home}/out/u/{carol.level}/{cid}", b"forged")
    told = await sender.status(cid, DENIED)
    stage.that(told.get("rule"), "a rule", told)
    await stage.quiet(reader, owner)
    for device in (reader, owner):
        device.nothing("u/", "a message in another's name is none")
        device.nothing("sent/", "nor is it one that bob has sent")


@check("C4.29", lasts_s=3.0)
async def in_flight_at_its_deadline(stage: Stage) -> None:
    """Two messages with `expiry=1` are in flight, and have no verdict yet a second after their time.

    Then one is acknowledged: `delivered`; the other device loses its link: 0x84.
    """
    alice, bob, carol = await stage.people(3)
    sender, readers = await alice.device("status/#"), [await each.device() for each in (bob, carol)]
    cids, packets = [], []
    for reader in readers:
        reader.acks = False
        cids.append(stage.cid())
        await sender.say(f"u/{reader.person.level}/{cids[-1]}/expiry=1", b"x")
        packets.append(await reader.hear(f"u/{alice.level}/", b"x"))
    await stage.passes(2.0)
    for cid in cids:
        stage.same("statuses at the deadline", [SENT], [each.get("status") for each in sender.statuses(cid)])
    readers[0].ack(packets[0])
    await sender.status(cids[0], DELIVERED)
    await readers[1].cut()
    await sender.status(cids[1], EXPIRED)


@check("C4.46", lasts_s=2.5)
async def flags_suppress_no_failure(stage: Stage) -> None:
    """With `flags=0` alice still gets SENT, 0x84 at the end, and a refusal."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    cid, lost = stage.cid(), stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/flags=0&expiry=1", b"x")
    await sender.status(cid, SENT)
    await sender.say(f"u/nobody-{lost}/{lost}/flags=0", b"x")
    await sender.status(lost, UNKNOWN)
    await sender.status(cid, EXPIRED)
