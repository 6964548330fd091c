"""Parameters: where they stand, in which order they arrive, and what MQTT 5.0 makes of them (contract section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import Need, check
from mesimqtt.proof.conform.topics import MID, mid_of, params_of, seq_of

if TYPE_CHECKING:
    from mesimqtt.proof.conform.stage import Stage

FIVE = (Need.FIVE,)


@check("C2.47")
async def spelling(stage: Stage) -> None:
    """`name=a%20b%26c` arrives percent-encoded as it was sent, in one last level; spaces and two `=` are 0x85."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}/name=a%20b%26c&%C3%BC=%2B", b"x")
    level = (await reader.hear(f"u/{alice.level}/", b"x")).topic.rpartition("/")[2]
    stage.same("the last level after seq", "name=a%20b%26c&%C3%BC=%2B", level.partition("&")[2])
    for bad in ("a=b c", "a=b=c", "=b", "a=%zz", "a&b=c", "a=1&a=2"):
        cid = stage.cid()
        await sender.say(f"u/{bob.level}/{cid}/{bad}")
        await sender.status(cid, 0x85)


@check("C2.48")
async def exactly_with_an_equals_sign(stage: Stage) -> None:
    """`u/bob/type=7` is a message without a cid and with a parameter; `u/bob/type7` is one with a cid and without."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.device("status/#"), await bob.device()
    await sender.say(f"u/{bob.level}/type=7", b"a")
    one = await reader.hear(f"u/{alice.level}/", b"a")
    stage.same("its parameters", [("type", "7")], params_of(one)[1:])
    await sender.status(mid_of(one), 1)
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"b")
    stage.same("no parameters", [], params_of(await reader.hear(f"u/{alice.level}/", b"b"))[1:])
    await sender.status(cid, 1)


@check("C2.49", needs=(Need.GROUP,))
async def seq_first(stage: Stage) -> None:
    """On `in/u`, `in/g` and both kinds of `in/sent` the last level begins with `seq=` and a number."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    sender, other, reader = await alice.connect(), await alice.device(name="tablet"), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}/type=1&x=2", b"x")
    await sender.say(f"g/{team}/{stage.cid()}/type=1&x=2", b"y")
    for device, place, payload in (
        (reader, f"u/{alice.level}/", b"x"), (reader, f"g/{team}/{alice.level}/", b"y"),
        (other, f"sent/u/{bob.level}/", b"x"), (other, f"sent/g/{team}/", b"y"),
    ):  # fmt: skip
        packet = await device.hear(place, payload)
        stage.that(
            packet.topic.rpartition("/")[2].startswith("seq=") and seq_of(packet) > 0, "seq=N first", packet.topic
        )


@check("C2.50")
async def no_seq_at_expiry_0(stage: Stage) -> None:
    """A message with `expiry=0` arrives without a seq, and the next one does not leave a number out."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    seqs = []
    for params, payload in (("", b"before"), ("/expiry=0", b"now"), ("", b"after")):
        await sender.say(f"u/{bob.level}/{stage.cid()}{params}", payload)
        seqs.append(seq_of(await reader.hear(f"u/{alice.level}/", payload)))
    stage.same("the seqs", [seqs[0], -1, seqs[0] + 1], seqs)


@check("C2.51")
async def the_senders_order(stage: Stage) -> None:
    """`z=1&type=7&a=2&flags=3&m=` arrives after seq in this order and spelling; nothing is added that was not given."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device()
    for level in ("z=1&type=7&a=2&flags=3&m=", "b=2&a=1", ""):
        payload = stage.cid().encode()
        await sender.say(f"u/{bob.level}/{stage.cid()}{'/' * bool(level)}{level}", payload)
        came = (await reader.hear(f"u/{alice.level}/", payload)).topic.rpartition("/")[2]
        stage.same("what follows seq", level, came.partition("&")[2])


@check("C2.52", needs=FIVE)
async def user_properties(stage: Stage) -> None:
    """A 5.0 client gives `type`, `expiry` and a key of its own as user properties: 3.1.1 finds them in the topic."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(five=True), await bob.device()
    pairs = [("type", "7"), ("colour", "sky blue"), ("expiry", "3600")]
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"x", user=pairs)
    stage.same("its parameters", pairs, params_of(await reader.hear(f"u/{alice.level}/", b"x"))[1:])


@check("C2.53", needs=FIVE)
async def they_outrank(stage: Stage) -> None:
    """The user property `expiry=100` with a Message Expiry Interval of 5: the message has 100 seconds."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(five=True), await bob.device()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"x", user=[("expiry", "100")], message_expiry_interval=5)
    left = int(dict(params_of(await reader.hear(f"u/{alice.level}/", b"x"))).get("expiry", "-1"))
    stage.that(90 <= left <= 100, "an expiry of 100", left)


@check("C2.54", needs=FIVE)
async def five_receives_properties(stage: Stage) -> None:
    """A 5.0 client receives a topic that ends with the mid; seq and the sender's keys are user properties, in order."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(), await bob.device(five=True)
    await sender.say(f"u/{bob.level}/{stage.cid()}/z=1&type=7&a=b%20c", b"x")
    packet = await reader.hear(f"u/{alice.level}/", b"x")
    stage.that(MID.fullmatch(packet.topic.rpartition("/")[2]), "a topic that ends with the mid", packet.topic)
    pairs = packet.user_property
    stage.same("the first user property", "seq", pairs[0][0] if pairs else "")
    stage.same("the others", [("z", "1"), ("type", "7"), ("a", "b c")], pairs[1:])


@check("C2.55", needs=FIVE)
async def mapped_through(stage: Stage) -> None:
    """Expiry, Content Type, Response Topic and Correlation Data go from a 5.0 client to one as the same properties."""
    alice, bob = await stage.people(2)
    sender, reader = await alice.connect(five=True), await bob.device(five=True)
    given = {"content_type": "text/plain", "response_topic": "a/b", "correlation_data": b"\x00\xff"}
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"x", message_expiry_interval=100, **given)
    packet = await reader.hear(f"u/{alice.level}/", b"x")
    stage.same("the properties", given, {name: getattr(packet, name) for name in given})
    left = packet.message_expiry_interval or 0
    stage.that(90 <= left <= 100, "a Message Expiry Interval of 100", left)
