"""Messages that change after they were sent, or come later: edit, recall, when, age (contract sections 2 and 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import Need, check
from mesimqtt.proof.conform.topics import mid_of, params_of, seq_of

if TYPE_CHECKING:
    from mesimqtt.proof.conform.client import Client
    from mesimqtt.proof.conform.stage import Stage

SENT, DELIVERED, READ, DELETED, WIPED, BAD, DENIED = 1, 2, 3, 0x21, 0x22, 0x85, 0x8D
YEAR_S = 31_536_000
WINDOW_S = 3_600.0


async def first(stage: Stage, sender: Client, reader: Client, payload: bytes = b"first") -> tuple[str, str]:
    """Send a message that is delivered; return its cid and mid."""
    cid = stage.cid()
    await sender.say(f"u/{reader.person.level}/{cid}", payload)
    mid = mid_of(await reader.hear(f"u/{sender.person.level}/", payload))
    await sender.status(cid, DELIVERED)
    return cid, mid


@check("C2.65")
async def an_edit(stage: Stage) -> None:
    """Alice sends `edit={mid}` of her own message: bob receives the new payload with that key."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    _, mid = await first(stage, sender, reader)
    await sender.say(f"u/{bob.level}/{stage.cid()}/edit={mid}", b"second")
    packet = await reader.hear(f"u/{alice.level}/", b"second")
    stage.same("its edit", mid, dict(params_of(packet)).get("edit"))


@check("C2.66")
async def a_recall(stage: Stage) -> None:
    """Alice sends `recall={mid}` with an empty payload: bob receives it; with a payload it is 0x85."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    _, mid = await first(stage, sender, reader)
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/recall={mid}", b"not empty")
    await sender.status(cid, BAD)
    await sender.say(f"u/{bob.level}/{stage.cid()}/recall={mid}", b"")
    packet = await reader.hear(f"u/{alice.level}/", b"")
    stage.same("its recall", mid, dict(params_of(packet)).get("recall"))


@check("C2.67", lasts_s=WINDOW_S + 5)
async def the_window(stage: Stage) -> None:
    """An edit and a recall 55 minutes after the message are taken, five minutes and an hour later they are 0x8D."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    _, mid = await first(stage, sender, reader)
    for seconds, code in ((WINDOW_S - 300, SENT), (305.0, DENIED)):
        await _alive(stage, seconds, sender, reader)
        cid = stage.cid()
        await sender.say(f"u/{bob.level}/{cid}/edit={mid}", b"edited")
        await sender.status(cid, code)


async def _alive(stage: Stage, seconds: float, *clients: Client) -> None:
    """Let time pass without losing a connection to its keep alive."""
    while seconds > 0:
        await stage.passes(min(seconds, 30.0))
        seconds -= 30.0
        for client in clients:
            await client.ping()


@check("C2.68", lasts_s=1.5)
async def scheduled(stage: Stage) -> None:
    """A message with `when=1` arrives after about a second and not before; a year and a second is 0x85."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}/when=1", b"later")
    await stage.quiet(reader)
    reader.nothing("u/", "nothing before its time")
    await reader.hear(f"u/{alice.level}/", b"later")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/when={YEAR_S + 1}")
    await sender.status(cid, BAD)


@check("C2.69")
async def scheduled_is_sent_at_once(stage: Stage) -> None:
    """A message for in an hour gets SENT at once."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/when=3600", b"later")
    await sender.status(cid, SENT)


@check("C2.70", lasts_s=2.5)
async def counted_from_its_time(stage: Stage) -> None:
    """With `when=1&expiry=1` the copy for alice's tablet comes with the message, a second later; neither is expired."""
    alice, bob = await stage.people(2)
    sender, other, reader = await alice.device("status/#"), await alice.device(name="tablet"), await bob.device()
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/when=1&expiry=1", b"later")
    await stage.quiet(other)
    other.nothing("sent/", "no copy before its time")
    await reader.hear(f"u/{alice.level}/", b"later")
    await other.hear(f"sent/u/{bob.level}/", b"later")
    await sender.status(cid, DELIVERED)


@check("C2.71", lasts_s=2.0)
async def cancelled(stage: Stage) -> None:
    """A recall before its time makes a scheduled message 0x21, and bob receives neither."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/when=1", b"later")
    mid = (await sender.status(cid, SENT))["mid"]
    await sender.say(f"u/{bob.level}/{stage.cid()}/recall={mid}", b"")
    await sender.status(cid, DELETED)
    await stage.passes(1.3)
    await stage.quiet(reader)
    reader.nothing("u/", "bob hears of neither")


@check("C2.72", needs=(Need.RESTART,), lasts_s=3.0)
async def scheduled_over_a_restart(stage: Stage) -> None:
    """The server is killed while a message waits for its time: it arrives afterwards, once."""
    alice, bob = await stage.people(2)
    sender = await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}/when=2", b"later")
    await stage.restart()
    reader = await bob.device()
    await reader.hear(f"u/{alice.level}/", b"later")
    await stage.quiet(reader)
    reader.nothing("u/", "it comes once")


@check("C2.73", lasts_s=2.0)
async def disappears(stage: Stage) -> None:
    """A message with `age=1` is 0x22 a second after bob has read it, and a device that was away does not receive it."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    late = await bob.device(name="tablet")
    await late.leave()
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/age=1", b"brief")
    mid = mid_of(await reader.hear(f"u/{alice.level}/", b"brief"))
    await reader.say(f"read/u/{alice.level}", mid.encode())
    await sender.status(cid, READ)
    await sender.status(cid, WIPED)
    late = await bob.device(name="tablet")
    await stage.quiet(late)
    late.nothing("u/", "it is deleted everywhere")


@check("C3.29")
async def a_message_of_its_own(stage: Stage) -> None:
    """An edit and a recall have their own mid, the next seq, and SENT and `delivered` on their own cid."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"first")
    packet = await reader.hear(f"u/{alice.level}/", b"first")
    mid, seqs, mids = mid_of(packet), [seq_of(packet)], {mid_of(packet)}
    for key, payload in (("edit", b"second"), ("recall", b"")):
        cid = stage.cid()
        await sender.say(f"u/{bob.level}/{cid}/{key}={mid}", payload)
        packet = await reader.hear(f"u/{alice.level}/", payload)
        stage.same("the mid of its SENT", mid_of(packet), (await sender.status(cid, SENT))["mid"])
        await sender.status(cid, DELIVERED)
        seqs.append(seq_of(packet))
        mids.add(mid_of(packet))
    stage.same("the seqs", list(range(seqs[0], seqs[0] + 3)), seqs)
    stage.same("how many mids", 3, len(mids))


@check("C3.30")
async def recalled_is_deleted(stage: Stage) -> None:
    """A message that was delivered and read becomes 0x21 when it is recalled."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    cid, mid = await first(stage, sender, reader)
    await reader.say(f"read/u/{alice.level}", mid.encode())
    await sender.status(cid, READ)
    await sender.say(f"u/{bob.level}/{stage.cid()}/recall={mid}", b"")
    await sender.status(cid, DELETED)


@check("C3.31")
async def withdrawn(stage: Stage) -> None:
    """Alice recalls a message while bob is away: when he comes he receives what follows, and not the message."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    await reader.leave()
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"regretted")
    mid = (await sender.status(cid, SENT))["mid"]
    await sender.say(f"u/{bob.level}/{stage.cid()}/recall={mid}", b"")
    await sender.status(cid, DELETED)
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"marker")
    reader = await bob.device()
    await reader.hear(f"u/{alice.level}/", b"marker")
    came = [packet.topic for packet in reader.received("u/") if packet.payload == b"regretted"]
    stage.same("what was recalled before it was acknowledged", [], came)


@check("C3.32")
async def the_recall_arrives(stage: Stage) -> None:
    """Alice recalls a message while bob is away, before he had it: the recall comes to him all the same."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    await reader.leave()
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"regretted")
    mid = (await sender.status(cid, SENT))["mid"]
    await sender.say(f"u/{bob.level}/{stage.cid()}/recall={mid}", b"")
    reader = await bob.device()
    await reader.hear(f"u/{alice.level}/", fits=lambda packet: ("recall", mid) in params_of(packet))


@check("C3.33")
async def not_ones_own(stage: Stage) -> None:
    """Bob's edit and recall of alice's message, and those of a mid that nobody has, are 0x8D, and reach nobody."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device(), await bob.device()
    _, mid = await first(stage, sender, reader)
    for key, payload, other in (("edit", b"forged", mid), ("recall", b"", mid), ("edit", b"forged", "f" * 16)):
        cid = stage.cid()
        await reader.say(f"u/{alice.level}/{cid}/{key}={other}", payload)
        await reader.status(cid, DENIED)
    await stage.quiet(sender)
    sender.nothing("u/", "nothing of it arrives")
