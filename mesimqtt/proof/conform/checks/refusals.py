"""How a refused publish is answered: reason codes of MQTT 5.0, PUBACK of 3.1.1 (contract section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.proof.conform.table import Need, check
from mesimqtt.proof.conform.topics import PAYLOAD_MAX

if TYPE_CHECKING:
    from mesimqtt.proof.conform.stage import Stage

FIVE = (Need.FIVE,)
NOT_AUTHORIZED, NAME_INVALID, SPECIFIC = 0x87, 0x90, 0x83


@check("C4.50", needs=FIVE)
async def status_and_code(stage: Stage) -> None:
    """A 5.0 client that writes to nobody gets a PUBACK (QoS 2: a PUBREC) from 0x80 up, and a status each."""
    [alice] = await stage.people(1)
    sender = await alice.device("status/#", five=True)
    for qos in (1, 2):
        cid = stage.cid()
        answer = await sender.say(f"u/nobody-{cid}/{cid}", qos=qos)
        stage.that(answer.code >= 0x80, "a reason code from 0x80 up", f"{answer.kind} {answer.code:#04x}")
        await sender.status(cid, 0x83)


@check("C4.51", needs=FIVE)
async def not_authorized(stage: Stage) -> None:
    """A message from bob's folder gets 0x87."""
    alice, bob, carol = await stage.people(3)
    sender = await alice.connect(five=True)
    answer = await sender.publish(f"{bob.home}/out/u/{carol.level}/{stage.cid()}", b"forged")
    stage.same("the reason code", NOT_AUTHORIZED, answer.code)


@check("C4.52", needs=FIVE)
async def topic_name_invalid(stage: Stage) -> None:
    """Messages to nobody, to a misspelled address and to a topic that is none get 0x90."""
    alice, bob = await stage.people(2)
    sender = await alice.connect(five=True)
    for rest in (f"u/nobody-{stage.cid()}", f"u/%{ord(bob.address[0]):02X}{bob.level[1:]}", f"x/{bob.level}"):
        stage.same(f"the reason code for {rest}", NAME_INVALID, (await sender.say(rest)).code)


@check("C4.53", needs=FIVE)
async def all_else(stage: Stage) -> None:
    """Wrong parameters and a payload that is too large get 0x83."""
    alice, bob = await stage.people(2)
    sender = await alice.connect(five=True)
    answer = await sender.say(f"u/{bob.level}/{stage.cid()}", user=[("type", "x")])
    stage.same("the reason code for a wrong parameter", SPECIFIC, answer.code)
    answer = await sender.say(f"u/{bob.level}/{stage.cid()}", b"x" * (PAYLOAD_MAX + 1))
    stage.same("the reason code for too much", SPECIFIC, answer.code)


@check("C4.54", needs=FIVE)
async def reason_string(stage: Stage) -> None:
    """The PUBACK of a cid with other content has 0x83 and the Reason String `0x85 cid-reused`."""
    alice, bob = await stage.people(2)
    sender = await alice.connect(five=True)
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"first")
    answer = await sender.say(f"u/{bob.level}/{cid}", b"other")
    stage.same("code and string", (SPECIFIC, "0x85 cid-reused"), (answer.code, answer.reason_string))


@check("C4.55")
async def acknowledged_on_311(stage: Stage) -> None:
    """Refused publishes of a 3.1.1 client at QoS 1 and 2 get PUBACK and PUBREC, the connection stays, statuses come."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    for qos in (1, 2):
        cid, forged = stage.cid(), stage.cid()
        await sender.say(f"u/nobody-{cid}/{cid}", qos=qos)
        await sender.status(cid, 0x83)
        await sender.publish(f"{bob.home}/out/u/{alice.level}/{forged}", qos=qos)
        await sender.status(forged, 0x8D)
