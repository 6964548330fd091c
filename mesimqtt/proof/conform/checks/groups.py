"""Members who go, inboxes that fill, history, and what a group's sender is told (contract sections 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesimqtt.proof.conform.table import Need, check

if TYPE_CHECKING:
    from mesimqtt.proof.conform.client import Client
    from mesimqtt.proof.conform.people import Person
    from mesimqtt.proof.conform.stage import Stage

SENT, DELIVERED, READ, FAILED, FULL, UNKNOWN, PAUSED, NOT_MEMBER = 1, 2, 3, 0x80, 0x82, 0x83, 0x90, 0x91


@check("C3.26", needs=(Need.GROUPS,))
async def who_leaves(stage: Stage) -> None:
    """Carol is away and is removed: alice gets 0x91 with carol as `peer`, and carol does not receive what waited."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    sender = await alice.device("status/#")
    cid = stage.cid()
    await sender.say(f"g/{team}/{cid}", b"withdrawn")
    await sender.status(cid, SENT)
    await stage.perform("group_leave", address=team, users=[carol.address])
    await sender.status(cid, NOT_MEMBER, peer=carol.address)
    reader = await carol.device()
    await stage.quiet(reader)
    reader.nothing("g/", "what waited for her is withdrawn")


@check("C3.27", needs=(Need.GROUPS,))
async def a_group_that_goes(stage: Stage) -> None:
    """The group is deleted while its members are away: alice gets 0x80 `group-deleted` for bob and for carol."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    sender = await alice.device("status/#")
    cid = stage.cid()
    await sender.say(f"g/{team}/{cid}", b"withdrawn")
    await sender.status(cid, SENT)
    await stage.perform("group_delete", addresses=[team])
    for person in (bob, carol):
        told = await sender.status(cid, FAILED, peer=person.address)
        stage.same("the reason", "group-deleted", told.get("reason"))


@check("C3.28", needs=(Need.GROUPS,))
async def in_flight_when_he_leaves(stage: Stage) -> None:
    """Bob and carol have it in flight and are removed: bob acknowledges it, `delivered`; carol's link is lost, 0x91."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    sender, readers = await alice.device("status/#"), [await each.device() for each in (bob, carol)]
    cid = stage.cid()
    for reader in readers:
        reader.acks = False
    await sender.say(f"g/{team}/{cid}", b"in flight")
    packets = [await reader.hear(f"g/{team}/{alice.level}/", b"in flight") for reader in readers]
    await stage.perform("group_leave", address=team, users=[bob.address, carol.address])
    readers[0].ack(packets[0])
    await sender.status(cid, DELIVERED, peer=bob.address)
    await readers[1].cut()
    await sender.status(cid, NOT_MEMBER, peer=carol.address)


@check("C3.34", needs=(Need.CAP, Need.USERS))
async def inbox_cap(stage: Stage) -> None:
    """To a user who is away one message more than the cap is 0x82; after he has acknowledged them the next is SENT."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    await _fill(stage, sender, bob)
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}")
    await sender.status(cid, FULL)
    reader = await bob.device()
    for _ in range(stage.options.inbox_cap):
        await reader.hear("u/")
    await stage.quiet(reader)
    await sender.say(f"u/{bob.level}/{cid}")
    await sender.status(cid, SENT)


async def _fill(stage: Stage, sender: Client, bob: Person) -> None:
    for _ in range(stage.options.inbox_cap - 1):
        await sender.say(f"u/{bob.level}/{stage.cid()}", b"fill", wait=False)
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"fill")


@check("C4.17", needs=(Need.CAP, Need.USERS))
async def inbox_full(stage: Stage) -> None:
    """The refusal at the cap has the name `inbox-full`, and bob does not receive that message later."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    await _fill(stage, sender, bob)
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"too much")
    stage.same("the name", "inbox-full", (await sender.status(cid, FULL)).get("name"))
    reader = await bob.device()
    for _ in range(stage.options.inbox_cap):
        await reader.hear("u/", b"fill")
    await stage.quiet(reader)
    reader.nothing("u/", "a message that was refused is none")


def _entries(answer: dict[str, Any]) -> list[dict[str, Any]]:
    result = answer.get("result") or {}
    found: list[dict[str, Any]] = result.get("messages") or []
    return [each for each in found if each.get("kind") != "event"]


@check("C3.36")
async def history(stage: Stage) -> None:
    """`rpc/history` with `limit` 2 gives bob two of three messages by falling seq, and by `next` the third."""
    alice, bob = await stage.people(2)
    sender, asker = await alice.connect(), await bob.device("rpc/#")
    for text in ("one", "two", "three"):
        await sender.say(f"u/{bob.level}/{stage.cid()}", text.encode())
    first = await asker.ask("history", {"peer": alice.address, "limit": 2})
    stage.same("the first page", ["three", "two"], [each.get("text") for each in _entries(first)])
    seqs = [int(each.get("seq", 0)) for each in _entries(first)]
    stage.same("seqs that fall by one", [seqs[0], seqs[0] - 1], seqs)
    cursor = (first.get("result") or {}).get("next")
    second = await asker.ask("history", {"peer": alice.address, "limit": 1, "cursor": cursor})
    stage.same("the second page", ["one"], [each.get("text") for each in _entries(second)])
    for op in ("inbox", "sync"):
        stage.same(f"{op}", True, (await asker.ask(op)).get("ok"))


@check("C3.37")
async def own_history_only(stage: Stage) -> None:
    """Carol asks for her history with alice and with bob, who have written to each other: it has none of that."""
    alice, bob, carol = await stage.people(3)
    sender, asker = await alice.connect(), await carol.device("rpc/#")
    secret = stage.cid()
    await sender.say(f"u/{bob.level}/{stage.cid()}", secret.encode())
    questions: list[dict[str, Any]] = [{"peer": alice.address}, {"peer": bob.address}]
    questions += [{"peer": bob.address, "address": alice.address}]
    for question in questions:
        answer = await asker.ask("history", question)
        stage.that(secret not in str(answer), f"nothing of alice and bob for {question}", answer)


@check("C3.38", needs=(Need.GROUPS,))
async def history_from_the_join_on(stage: Stage) -> None:
    """Carol joins after the first of two messages: her history of the group has the second alone."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob)
    sender, asker = await alice.connect(), await carol.device("rpc/#")
    await sender.say(f"g/{team}/{stage.cid()}", b"before")
    await stage.perform("group_join", address=team, users=[carol.address])
    await sender.say(f"g/{team}/{stage.cid()}", b"after")
    answer = await asker.ask("history", {"group": team})
    stage.same("her history", ["after"], [each.get("text") for each in _entries(answer)])


@check("C4.25", needs=(Need.GROUPS,))
async def paused(stage: Stage) -> None:
    """In a paused group a member's message is 0x90, and reaches nobody."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    sender, reader = await alice.device("status/#"), await bob.device("g/#")
    await stage.perform("group_set", address=team, profile={"paused": "on"})
    cid = stage.cid()
    await sender.say(f"g/{team}/{cid}", b"paused")
    await sender.status(cid, PAUSED)
    await stage.quiet(reader)
    reader.nothing("g/", "a paused group is quiet")


@check("C4.26", needs=(Need.GROUP,))
async def who_may_not_know(stage: Stage) -> None:
    """dave, who never was a member, writes to the group and to one that is not there: both are 0x83, and look alike."""
    alice, bob, carol, dave = await stage.people(4)
    team = await stage.group(alice, bob, carol)
    sender = await dave.device("status/#")
    names = []
    for group in (team, f"no-{stage.cid()}"):
        cid = stage.cid()
        await sender.say(f"g/{group}/{cid}")
        told = await sender.status(cid, UNKNOWN)
        names.append(sorted(told))
    stage.same("the keys of both statuses", names[0], names[1])


@check("C4.42", needs=(Need.GROUP,))
async def sent_of_a_group(stage: Stage) -> None:
    """A message to a group gets one SENT, with `group` and without `peer`."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    sender = await alice.device("status/#")
    cid = stage.cid()
    await sender.say(f"g/{team}/{cid}")
    told = await sender.status(cid, SENT)
    stage.same("group and peer", (team, None), (told.get("group"), told.get("peer")))
    await stage.quiet(sender)
    stage.same("further SENT", [], [each for each in sender.statuses(cid) if each.get("status") == SENT])


@check("C4.43", needs=(Need.GROUP,))
async def one_per_member(stage: Stage) -> None:
    """Bob and carol acknowledge: alice gets `delivered` once for each, with `peer`, `group` and the device."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    sender = await alice.device("status/#")
    readers = [await each.device() for each in (bob, carol)]
    cid = stage.cid()
    await sender.say(f"g/{team}/{cid}", b"x")
    for reader in readers:
        told = await sender.status(cid, DELIVERED, peer=reader.person.address)
        stage.same("group and device", (team, reader.name), (told.get("group"), told.get("device")))
    await stage.quiet(sender)
    stage.same("further deliveries", [], [each for each in sender.statuses(cid) if each.get("status") == DELIVERED])


@check("C4.44", needs=(Need.GROUPS, Need.USERS), lasts_s=8.0)
async def a_large_group(stage: Stage) -> None:
    """In a group of 102 alice gets summaries `"counts":{"delivered":2,…}`, none per member; `rpc/status` has all."""
    people = await stage.people(102)
    alice, bob, carol = people[:3]
    team = await stage.group(*people)
    sender = await alice.device("status/#", "rpc/#")
    for person in (bob, carol):
        await person.device()
    cid = stage.cid()
    await sender.say(f"g/{team}/{cid}", b"x")
    mid = (await sender.status(cid, SENT))["mid"]
    summary = await sender.hear(f"status/{cid}", fits=lambda packet: b'"counts":{"delivered":2,' in packet.payload)
    stage.that(b'"peer"' not in summary.payload, "a summary without a peer", summary.payload)
    stage.same("statuses of single members", [], [each for each in sender.statuses(cid) if "peer" in each])
    answer = await sender.ask("status", {"mid": mid})
    stage.same("counts by rpc/status", 2, ((answer.get("result") or {}).get("counts") or {}).get("delivered"))
