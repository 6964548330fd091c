"""Filters under `in/`: which there are, what they select, and at which QoS (contract section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import check

if TYPE_CHECKING:
    from mesimqtt.proof.conform.stage import Stage

CLASSES = ("u", "g", "sent", "status", "s", "read", "presence", "rpc", "event")


@check("C2.30")
async def legal_filters(stage: Stage) -> None:
    """Each form is granted, and a device with `in/u/bob/#` receives bob's message and not carol's."""
    alice, bob, carol = await stage.people(3)
    client = await alice.connect("all")
    for name in ("#", *(f"{each}/#" for each in CLASSES), f"u/{bob.level}/#", "g/team/#", "session"):
        stage.same(f"SUBACK for in/{name}", (1,), await client.subscribe(name))
    narrow = await alice.device(f"u/{bob.level}/#", name="narrow")
    for person in (carol, bob):
        sender = await person.connect()
        await sender.say(f"u/{alice.level}/{stage.cid()}", person.address.encode())
    await narrow.hear(f"u/{bob.level}/", bob.address.encode())
    await stage.quiet(narrow)
    narrow.nothing("", f"in/u/{bob.level}/# selects nobody else")


@check("C2.31", on_road=False)
async def other_filters(stage: Stage) -> None:
    """`in/+`, `in/u/+/#`, `in/u`, `in/u/bob`, `in/session/#`, `in/x/#`, `in/status/{cid}` and the like are 0x80."""
    alice, bob = await stage.people(2)
    client = await alice.connect()
    for name in (
        "+", "+/#", "u/+/#", "u", f"u/{bob.level}", f"u/{bob.level}/+", f"u/{bob.level}/0123456789abcdef/#",
        "session/#", "x/#", "status/42", "s/+", "sent/u/#", f"read/u/{bob.level}/#", "presence/+", "", "U/#",
    ):  # fmt: skip
        stage.same(f"SUBACK for in/{name}", (0x80,), await client.subscribe(name))


@check("C2.32")
async def what_no_filter_selects_waits(stage: Stage) -> None:
    """A device that selects bob alone misses nothing: it receives carol's message once it subscribes to `in/u/#`."""
    alice, bob, carol = await stage.people(3)
    device = await alice.device(f"u/{bob.level}/#")
    sender = await carol.connect()
    await sender.say(f"u/{alice.level}/{stage.cid()}", b"waits")
    await stage.quiet(device)
    device.nothing("u/", "it selects bob alone")
    await device.subscribe("u/#")
    await device.hear(f"u/{carol.level}/", b"waits")


@check("C2.33", on_road=False)
async def at_most_qos_1(stage: Stage) -> None:
    """A subscription that asks for QoS 2 is granted QoS 1, one that asks for 0 is granted 0."""
    [alice] = await stage.people(1)
    client = await alice.connect()
    for asked, granted in ((2, 1), (1, 1), (0, 0)):
        stage.same(f"SUBACK for QoS {asked}", (granted,), await client.subscribe("#", qos=asked))


@check("C2.34")
async def at_the_subscriptions_qos(stage: Stage) -> None:
    """A message published at QoS 1 comes at QoS 0 to who subscribed at 0, and at QoS 1 to who subscribed at 1."""
    alice, bob = await stage.people(2)
    readers = [await bob.device(name=f"q{qos}", qos=qos) for qos in (0, 1)]
    sender = await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"x")
    for qos, reader in enumerate(readers):
        stage.same("QoS of the delivery", qos, (await reader.hear(f"u/{alice.level}/", b"x")).qos)


@check("C2.35")
async def whatever_the_publishers_qos(stage: Stage) -> None:
    """Messages published at QoS 0, 1 and 2 all come at QoS 1 to who subscribed at 1, and each but once."""
    alice, bob = await stage.people(2)
    reader, sender = await bob.device(), await alice.connect()
    for qos in (0, 1, 2):
        await sender.say(f"u/{bob.level}/{stage.cid()}", str(qos).encode(), qos=qos)
        stage.same(
            f"QoS of what was published at {qos}", 1, (await reader.hear(f"u/{alice.level}/", str(qos).encode())).qos
        )
    await stage.quiet(reader)
    reader.nothing("u/", "each message but once")
