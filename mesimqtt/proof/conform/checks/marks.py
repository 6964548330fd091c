"""Read marks: what a reader publishes, who hears of it, and what is none (contract section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import Need, check
from mesimqtt.proof.conform.topics import mid_of

if TYPE_CHECKING:
    from mesimqtt.proof.conform.client import Client
    from mesimqtt.proof.conform.people import Person
    from mesimqtt.proof.conform.stage import Stage

READ, BAD = 3, 0x85


async def sent(stage: Stage, sender: Client, bob: Person, reader: Client, count: int) -> list[tuple[str, str]]:
    """Send some messages that bob acknowledges; return (cid, mid) of each."""
    found = []
    for _ in range(count):
        cid = stage.cid()
        await sender.say(f"u/{bob.level}/{cid}", cid.encode())
        found.append((cid, mid_of(await reader.hear(f"u/{sender.person.level}/", cid.encode()))))
    return found


@check("C2.13")
async def one_mid(stage: Stage) -> None:
    """Bob publishes the mid of the second of three messages: alice gets READ for that one, and for no other."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    (first, _), (second, mid), (third, _) = await sent(stage, sender, bob, reader, 3)
    await reader.say(f"read/u/{alice.level}", mid.encode())
    await sender.status(second, READ)
    await stage.quiet(sender)
    for cid in (first, third):
        stage.same(f"READ of {cid}", [], [each for each in sender.statuses(cid) if each.get("status") == READ])


@check("C2.14")
async def up_to_a_mid(stage: Stage) -> None:
    """Bob publishes `<=` and the mid of the second of three messages: alice gets READ for the first two."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    (first, _), (second, mid), (third, _) = await sent(stage, sender, bob, reader, 3)
    await reader.say(f"read/u/{alice.level}", b"<=" + mid.encode())
    for cid in (first, second):
        await sender.status(cid, READ)
    await stage.quiet(sender)
    stage.same(f"READ of {third}", [], [each for each in sender.statuses(third) if each.get("status") == READ])


@check("C2.15", needs=(Need.GROUP,))
async def all_senders_of_a_group(stage: Stage) -> None:
    """Carol marks a group read up to bob's message: alice and bob both get READ, from carol."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    one, two, reader = await alice.device("status/#"), await bob.device("status/#"), await carol.device()
    cids = []
    for sender in (one, two):
        cids.append(stage.cid())
        await sender.say(f"g/{team}/{cids[-1]}", cids[-1].encode())
        last = await reader.hear(f"g/{team}/{sender.person.level}/", cids[-1].encode())
    await reader.say(f"read/g/{team}", b"<=" + mid_of(last).encode())
    for sender, cid in zip((one, two), cids, strict=True):
        await sender.status(cid, READ, peer=carol.address)


@check("C2.16")
async def told_to_other_devices(stage: Stage) -> None:
    """Bob's other device receives `in/read/u/alice` with the payload that he published; the reading one does not."""
    alice, bob = await stage.people(2)
    sender, reader, other = await alice.connect(), await bob.device(), await bob.device(name="tablet")
    [(_, mid)] = await sent(stage, sender, bob, reader, 1)
    await reader.say(f"read/u/{alice.level}", b"<=" + mid.encode())
    packet = await other.hear(f"read/u/{alice.level}", b"<=" + mid.encode())
    stage.same("topic", f"{bob.home}/in/read/u/{alice.level}", packet.topic)
    await stage.quiet(reader)
    reader.nothing("read/", "the device that said it knows it")


@check("C2.17")
async def the_newest_to_a_returning_one(stage: Stage) -> None:
    """Bob's tablet is away while he reads twice; when it returns it receives the newest mark, and that alone."""
    alice, bob = await stage.people(2)
    sender, reader, other = await alice.connect(), await bob.device(), await bob.device(name="tablet")
    marks = await sent(stage, sender, bob, reader, 2)
    await other.leave()
    for _, mid in marks:
        await reader.say(f"read/u/{alice.level}", b"<=" + mid.encode())
    other = await bob.device(name="tablet")
    await other.hear(f"read/u/{alice.level}", b"<=" + marks[-1][1].encode())
    await stage.quiet(other)
    other.nothing("read/", "one mark per conversation")


@check("C2.18")
async def not_addressed_to_him(stage: Stage) -> None:
    """Carol marks alice's message to bob as read, by its mid and by `<=`: nothing comes of it."""
    alice, bob, carol = await stage.people(3)
    sender, reader = await alice.device("status/#"), await bob.device()
    stranger = await carol.device()
    [(cid, mid)] = await sent(stage, sender, bob, reader, 1)
    await sender.say(f"u/{carol.level}/{stage.cid()}", b"hello carol")
    await stranger.hear(f"u/{alice.level}/")
    for payload in (mid, f"<={mid}", "f" * 16):
        await stranger.say(f"read/u/{alice.level}", payload.encode())
    await stage.quiet(sender, stranger)
    told = [each for each in sender.statuses(cid) if each.get("status") == READ]
    stage.same("READ that carol can raise for a message to bob", [], told)


@check("C2.19")
async def malformed(stage: Stage) -> None:
    """Read marks that are no mid (empty, short, capitals, JSON, `<` alone) get status 0x85."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    [(_, mid)] = await sent(stage, sender, bob, reader, 1)
    for payload in ("", mid[:15], "ABCDEF0123456789", f'{{"mid":"{mid}"}}', f"<{mid}", f"<={mid}0", "all"):
        await reader.say(f"read/u/{alice.level}", payload.encode())
        await reader.hear(
            "status/", fits=lambda packet: b'"status":133' in packet.payload, expected=f"status 133 for {payload!r}"
        )
