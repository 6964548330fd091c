"""Addresses and devices: what is a legal name, how it is spelled, and whose a device is (contract section 1)."""

from __future__ import annotations

import secrets
import unicodedata
from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import check
from mesimqtt.proof.conform.topics import ADDRESS_MAX, level_of

if TYPE_CHECKING:
    from mesimqtt.proof.conform.client import Client
    from mesimqtt.proof.conform.stage import Stage

UNKNOWN, BAD = 0x83, 0x85


async def verdict_of(alice: Client, level: str) -> int:
    """Return the status of a message to whatever a topic level spells: 0x83 for nobody, 0x85 for no address."""
    cid = alice.stage.cid()
    await alice.say(f"u/{level}/{cid}")
    found = await alice.hear(f"status/{cid}", expected=f"a status for a message to {level}")
    for code in (1, UNKNOWN, BAD):
        if f'"status":{code},'.encode() in found.payload:
            return code
    raise alice.stage.broken("status 1, 131 or 133", repr(found.payload))


async def hold(stage: Stage, expected: int, *levels: str) -> None:
    """Hold that messages to some levels have this status."""
    [person] = await stage.people(1)
    alice = await person.device("status/#")
    for level in levels:
        stage.same(f"the status of a message to {level}", expected, await verdict_of(alice, level))


@check("C1.1")
async def length(stage: Stage) -> None:
    """A message to an address of 63 bytes that nobody has is 0x83, to one of 64 or of none 0x85."""
    await hold(stage, UNKNOWN, "x" * ADDRESS_MAX, "%C3%A9" * 31)
    await hold(stage, BAD, "x" * (ADDRESS_MAX + 1), "%C3%A9" * 32, "")


@check("C1.2")
async def normal_form(stage: Stage) -> None:
    """A message to a name that is not NFC, or no UTF-8, is 0x85: it is not taken for the one that looks like it."""
    await hold(stage, BAD, level_of(unicodedata.normalize("NFD", "zoé")), "%E9", "a%FFb")


@check("C1.3")
async def case(stage: Stage) -> None:
    """A message to bob's address in capitals is 0x83, and does not come to bob."""
    alice, bob = await stage.people(2)
    phone, reader = await alice.device("status/#"), await bob.device()
    stage.same(f"the status of a message to {bob.address.upper()}", UNKNOWN, await verdict_of(phone, bob.level.upper()))
    await stage.quiet(reader)
    reader.nothing("u/", "a name in capitals is another name")


@check("C1.4")
async def no_odd_characters(stage: Stage) -> None:
    """Messages to names with control characters, spaces at an end, `.` and `..` are 0x85."""
    await hold(stage, BAD, "a%0Ab", "a%7Fb", "%01", "%20a", "a%20", ".", "..")


@check("C1.5")
async def percent_encoded(stage: Stage) -> None:
    """Messages to `+1…`, `…@example.org` and `door/…`, percent-encoded, are 0x83 and not 0x85: legal, and nobody's."""
    await hold(stage, UNKNOWN, level_of("+1999" + secrets.token_hex(3)), f"x{secrets.token_hex(3)}@example.org")
    await hold(
        stage, UNKNOWN, level_of("door/" + secrets.token_hex(3)), level_of("a#b+c$d " + secrets.token_hex(3) + "ü")
    )


@check("C1.6")
async def one_spelling(stage: Stage) -> None:
    """A message to bob with a letter of his name percent-encoded, or lower-case hex, is 0x85 and does not arrive."""
    alice, bob = await stage.people(2)
    phone, reader = await alice.device("status/#"), await bob.device()
    for level in (f"%{ord(bob.address[0]):02X}{bob.level[1:]}", "door%2f7", "a%40b", "a%7Eb"):
        stage.same(f"the status of a message to {level}", BAD, await verdict_of(phone, level))
    await stage.quiet(reader)
    reader.nothing("u/", "another spelling of bob is nobody")


@check("C1.7", on_road=False)
async def one_spelling_of_a_filter(stage: Stage) -> None:
    """A filter with another spelling of the own address, or of a peer's, is 0x80 in the SUBACK."""
    alice, bob = await stage.people(2)
    client = await alice.connect()
    own = f"{stage.options.root}/%{ord(alice.address[0]):02X}{alice.level[1:]}/in/#"
    peer = f"{alice.home}/in/u/%{ord(bob.address[0]):02X}{bob.level[1:]}/#"
    for name in (own, peer):
        stage.same(f"SUBACK for {name}", (0x80,), await client.subscribe(name, whole=True))


@check("C1.8")
async def a_device_is_of_its_user(stage: Stage) -> None:
    """Alice and bob connect with the same client id: both stay, and each gets what is his."""
    alice, bob = await stage.people(2)
    one = await alice.device(name="same")
    two = await bob.device(name="same")
    await one.say(f"u/{bob.level}/{stage.cid()}", b"to bob")
    await two.hear(f"u/{alice.level}/", b"to bob")
    await two.say(f"u/{alice.level}/{stage.cid()}", b"to alice")
    await one.hear(f"u/{bob.level}/", b"to alice")


@check("C1.9")
async def a_clean_device_has_a_cursor(stage: Stage) -> None:
    """A device with a clean session that was there gets what came meanwhile, though another one has acknowledged it."""
    alice, bob = await stage.people(2)
    tablet = await bob.device(name="tablet", clean=True)
    await tablet.leave()
    phone, sender = await bob.device(), await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"meanwhile")
    await phone.hear(f"u/{alice.level}/", b"meanwhile")
    await stage.quiet(phone)
    tablet = await bob.device(name="tablet", clean=True)
    await tablet.hear(f"u/{alice.level}/", b"meanwhile")


@check("C1.10")
async def no_client_id_no_cursor(stage: Stage) -> None:
    """A device without a client id that was there does not get what another one has acknowledged meanwhile."""
    alice, bob = await stage.people(2)
    nameless = await bob.device(name="")
    await nameless.leave()
    phone, sender = await bob.device(), await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"meanwhile")
    await phone.hear(f"u/{alice.level}/", b"meanwhile")
    await stage.quiet(phone)
    nameless = await bob.device(name="")
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"now")
    first = await nameless.hear(f"u/{alice.level}/")
    stage.same("what comes first to a device without a client id", b"now", first.payload)


@check("C1.11", "C1.13")
async def twenty_devices(stage: Stage) -> None:
    """With 21 devices the first loses its place, and the news of it is on `in/session`.

    A message that another one has acknowledged meanwhile comes to the second when it returns, and not to the first.
    """
    alice, bob = await stage.people(2)
    for number in range(20):
        await (await bob.device(name=f"d{number}")).leave()
        await stage.passes(0.002)
    last = await bob.device(name="d20")
    sender = await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"meanwhile")
    await last.hear(f"u/{alice.level}/", b"meanwhile")
    await stage.quiet(last)
    stage.that(last.received("session"), "news on in/session that a device was dropped", "none")
    second = await bob.device(name="d1")
    await second.hear(f"u/{alice.level}/", b"meanwhile")
    first = await bob.device(name="d0")
    await stage.quiet(first)
    first.nothing("u/", "the 21st device displaces the longest unseen: it begins anew")
