"""Two folders for each user, and nothing else: the whole access policy of messaging (contract section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import check

if TYPE_CHECKING:
    from mesimqtt.proof.conform.stage import Stage

DENIED = 0x8D


@check("C2.1")
async def own_out_only(stage: Stage) -> None:
    """What alice publishes into bob's `in/`, into her own, and beside both folders reaches nobody."""
    alice, bob = await stage.people(2)
    phone, reader = await alice.device(), await bob.device()
    root = stage.options.root
    for topic in (
        f"{bob.home}/in/u/{alice.level}/0123456789abcdef/seq=1",
        f"{alice.home}/in/u/{bob.level}/0123456789abcdef/seq=1",
        f"{alice.home}/note", f"{root}/all", f"{bob.home}/in/session",
    ):  # fmt: skip
        await phone.publish(topic, b"forged")
    await stage.quiet(phone, reader)
    for client in (phone, reader):
        came = [each for each in client.received() if each.payload == b"forged"]
        stage.same(f"what {client} receives of it", [], came)


@check("C2.2", on_road=False)
async def own_in_only(stage: Stage) -> None:
    """Filters into bob's folder, over all users, over the root and under the own `out/` are 0x80 in the SUBACK."""
    alice, bob = await stage.people(2)
    client = await alice.connect()
    root = stage.options.root
    for name in (
        f"{bob.home}/in/#", f"{bob.home}/in/u/#", f"{root}/+/in/#", f"{root}/#", f"{alice.home}/#",
        f"{alice.home}/out/#", f"{alice.home}/+/#", f"{root}/{alice.level}/in",
    ):  # fmt: skip
        stage.same(f"SUBACK for {name}", (0x80,), await client.subscribe(name, whole=True))


@check("C2.3")
async def no_free_filter_matches_the_root(stage: Stage) -> None:
    """Whatever the SUBACK says to `#`, `+/…` and shared filters, nothing under the root comes by them."""
    alice, bob = await stage.people(2)
    spy, reader, sender = await alice.connect("spy"), await bob.device(), await alice.connect()
    root = stage.options.root
    for name in ("#", "+/#", f"+/{bob.level}/in/#", f"$share/x/{bob.home}/in/#", f"$share/x/{root}/#", "+/+/+/+/+/#"):
        await spy.subscribe(name, whole=True)
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"private")
    await reader.hear(f"u/{alice.level}/", b"private")
    await stage.quiet(spy)
    came = [each.topic for each in spy.inbox if each.topic.startswith(f"{root}/")]
    stage.same("topics under the root that a filter of a free topic selects", [], came)


@check("C2.4")
async def the_sender_is_the_session(stage: Stage) -> None:
    """Alice writes to carol in bob's name, with bob's client id, and from his folder: nothing comes as from bob."""
    alice, bob, carol = await stage.people(3)
    await bob.device(name=bob.address, exact=True)
    forger, reader = await alice.device(name=bob.address, exact=True), await carol.device()
    await forger.publish(f"{bob.home}/out/u/{carol.level}/{stage.cid()}", b"from bob")
    await forger.say(f"u/{carol.level}/{stage.cid()}/from={bob.level}&sender={bob.level}", b'{"from":"bob"}')
    first = await reader.hear("u/")
    stage.that(
        first.topic.startswith(f"{carol.home}/in/u/{alice.level}/"), f"a message from {alice.address}", first.topic
    )
    await stage.quiet(reader)
    reader.nothing(f"u/{bob.level}/", f"nothing from {bob.address}, who has said nothing")
