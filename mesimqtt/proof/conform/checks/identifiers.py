"""Whose message it is and which: cid, mid and seq (contract section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import Need, check, law
from mesimqtt.proof.conform.topics import MID, mid_ms, mid_of, seq_of

if TYPE_CHECKING:
    from mesimqtt.proof.conform.heard import Heard
    from mesimqtt.proof.conform.stage import Stage

SENT, DELIVERED, BAD = 1, 2, 0x85


@check("C2.37")
async def alphabet(stage: Stage) -> None:
    """Cids of one and of 64 characters out of all that are allowed get SENT; 65, a dot, a space, an umlaut get 0x85."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    tag = stage.cid()
    for cid in ("_", "-", (tag + "AZaz09_-" * 8)[:64]):
        await sender.say(f"u/{bob.level}/{cid}", tag.encode())
        await sender.hear(f"status/{cid}", expected=f"a status for the cid {cid}")
    for cid in ("x" * 65, "a.b", "a%20b", "%C3%BC", ""):
        await sender.say(f"u/{bob.level}/{cid}")
        told = await sender.hear("status/", expected=f"a status for the cid {cid!r}")
        stage.that(b'"status":133' in told.payload, f"status 133 for the cid {cid!r}", told.payload)


@check("C2.38")
async def no_cid(stage: Stage) -> None:
    """Two messages without a cid come as two, and their statuses on `in/status/{mid}` with the mid as cid."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    for _ in range(2):
        await sender.say(f"u/{bob.level}", b"same")
        mid = mid_of(await reader.hear(f"u/{alice.level}/", b"same"))
        stage.same("the cid of its SENT", mid, (await sender.status(mid, SENT)).get("cid"))


@check("C2.39")
async def a_resend_is_no_second_message(stage: Stage) -> None:
    """The same publish twice on one connection, and again on a new one: bob receives it once."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    cid = stage.cid()
    for _ in range(2):
        await sender.say(f"u/{bob.level}/{cid}/type=7&x=1", b"once")
    await sender.leave()
    sender = await alice.connect("other")
    await sender.say(f"u/{bob.level}/{cid}/type=7&x=1", b"once")
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"marker")
    await reader.hear(f"u/{alice.level}/", b"once")
    await reader.hear(f"u/{alice.level}/", b"marker")
    await stage.quiet(reader)
    reader.nothing("u/", "one message, however often it is sent")


@check("C2.40")
async def a_resend_gets_the_current_status(stage: Stage) -> None:
    """A message that was delivered is sent again: alice gets `delivered` again, with the same mid."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"once")
    await reader.hear(f"u/{alice.level}/", b"once")
    first = await sender.status(cid, DELIVERED)
    await sender.say(f"u/{bob.level}/{cid}", b"once")
    again = await sender.status(cid, DELIVERED)
    stage.same("its mid", first.get("mid"), again.get("mid"))


@check("C2.41")
async def other_content(stage: Stage) -> None:
    """A used cid with another payload, another parameter, and to carol: each 0x85 `cid-reused`, and nothing arrives."""
    alice, bob, carol = await stage.people(3)
    sender, readers = await alice.device("status/#"), [await each.device() for each in (bob, carol)]
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/type=1", b"first")
    await readers[0].hear(f"u/{alice.level}/", b"first")
    for rest, payload in ((f"{bob.level}/{cid}/type=1", b"other"), (f"{bob.level}/{cid}/type=2", b"first"),
                          (f"{carol.level}/{cid}/type=1", b"first")):  # fmt: skip
        await sender.say(f"u/{rest}", payload)
        stage.same(f"the reason for {rest}", "cid-reused", (await sender.status(cid, BAD)).get("reason"))
    await stage.quiet(*readers)
    for reader in readers:
        reader.nothing("u/", "a message whose cid was used for another is refused")


@check("C2.42")
async def a_refusal_takes_no_cid(stage: Stage) -> None:
    """A cid that was refused (wrong parameter, nobody there) is good for a message with other content afterwards."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}/type=x", b"first")
    await sender.status(cid, BAD)
    await sender.say(f"u/{'n' * 60}/{cid}", b"second")
    await sender.status(cid, 0x83)
    await sender.say(f"u/{bob.level}/{cid}", b"third")
    await sender.status(cid, SENT)
    await reader.hear(f"u/{alice.level}/", b"third")


@law("C2.43")
def sixteen_digits(heard: Heard) -> str:
    """Every mid of the run, in topics and statuses, is 16 digits 0-9 a-f."""
    bad = [each for each in heard.at("u", "g", "sent", "event") if not MID.fullmatch(mid_of(each.packet))]
    return str(bad[0]) if bad else ""


@check("C2.44")
async def time_in_the_mid(stage: Stage) -> None:
    """The upper 42 bits of a mid, from 2020-01-01 on, are the `ts` of its SENT to within a minute, and mids grow."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    mids = []
    for _ in range(3):
        cid = stage.cid()
        await sender.say(f"u/{bob.level}/{cid}", cid.encode())
        mids.append(mid_of(await reader.hear(f"u/{alice.level}/", cid.encode())))
        told = await sender.status(cid, SENT)
        away = abs(mid_ms(mids[-1]) - told.get("ts", 0))
        stage.that(away < 60_000, "a mid that says when it was accepted", f"{mids[-1]}: {away} ms beside ts")
    stage.same("mids in the order of acceptance", sorted(mids), mids)


@check("C2.45", needs=(Need.GROUP,))
async def dense_seq(stage: Stage) -> None:
    """Messages from alice and bob to each other in turn have seq n, n+1, n+2, n+3; in a group, from three, likewise."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    one, two, three = [await each.device() for each in (alice, bob, carol)]
    found = []
    for sender, reader in ((one, two), (two, one), (two, one), (one, two)):
        await sender.say(f"u/{reader.person.level}/{stage.cid()}", b"pair")
        found.append(seq_of(await reader.hear(f"u/{sender.person.level}/", b"pair")))
    stage.same("the seqs of a pair", list(range(found[0], found[0] + 4)), found)
    found = []
    for sender, reader in ((one, three), (two, three), (three, one), (one, two)):
        payload = stage.cid().encode()
        await sender.say(f"g/{team}/{stage.cid()}", payload)
        found.append(seq_of(await reader.hear(f"g/{team}/{sender.person.level}/", payload)))
    stage.same("the seqs of a group", list(range(found[0], found[0] + 4)), found)


@check("C2.46", lasts_s=1.5)
async def seq_when_deliverable(stage: Stage) -> None:
    """A message for a second later, then one for now: the one for now has the lower seq, and both are dense."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}/when=1", b"later")
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"now")
    now = seq_of(await reader.hear(f"u/{alice.level}/", b"now"))
    later = seq_of(await reader.hear(f"u/{alice.level}/", b"later"))
    stage.same("the seq of the scheduled one", now + 1, later)
