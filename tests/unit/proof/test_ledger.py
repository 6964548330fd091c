"""What clients of real servers wrote down: the check passes what is right and names each kind of wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesimqtt.proof.checker import Delivery, StatusStep
from mesimqtt.proof.processes.ledger import Aside, Ledger
from mesimqtt.proof.processes.link import Device

PHONE, TABLET, LAPTOP = Device("bob", "phone", ""), Device("bob", "tablet", ""), Device("carol", "laptop", "")
ONE = Delivery("team", 1, "alice", "a1", "mid1", 3)  # seqs of a group begin with its events
TWO = replace(ONE, sender="carol", cid="c1", mid="mid2", seq=4)


def told(sender: str, cid: str, mid: str, peer: str, code: int) -> StatusStep:
    return StatusStep(sender, 1, cid, mid, peer, code, f"{code} {peer}")


def good() -> Ledger:
    ledger = Ledger({"team": ("alice", "bob", "carol")})
    ledger.accept("alice", "team", "a1", "PUBACK")
    ledger.accept("carol", "team", "c1", "SENT")
    ledger.deliveries = {PHONE: [ONE, TWO], TABLET: [ONE, TWO], LAPTOP: [ONE], Device("alice", "x", ""): [TWO]}
    for peer in ("bob", "carol"):
        ledger.steps += [told("alice", "a1", "mid1", peer, code) for code in (2, 3)]
    ledger.steps += [told("carol", "c1", "mid2", peer, 2) for peer in ("alice", "bob")]
    ledger.marked = {("bob", "mid1"): "alice"}
    ledger.asides = [Aside(PHONE, 1, "a9", "mid9"), Aside(PHONE, 2, "a9", "mid9")]
    return ledger


def without_a_device(ledger: Ledger) -> None:
    ledger.deliveries[TABLET] = [ONE]


def other_order(ledger: Ledger) -> None:
    ledger.deliveries[TABLET] = [TWO, ONE]


def a_gap(ledger: Ledger) -> None:
    ledger.deliveries[TABLET] = [ONE, replace(TWO, seq=9)]


def another_mid(ledger: Ledger) -> None:
    ledger.deliveries[TABLET] = [ONE, replace(TWO, mid="mid7")]


def one_member_untold(ledger: Ledger) -> None:
    ledger.steps = [step for step in ledger.steps if (step.cid, step.peer) != ("c1", "alice")]


def mark_untold(ledger: Ledger) -> None:
    ledger.steps = [step for step in ledger.steps if step.code != 3]


def aside_twice(ledger: Ledger) -> None:
    ledger.asides.append(Aside(PHONE, 2, "a9", "mid10"))


def step_back(ledger: Ledger) -> None:
    ledger.steps.append(replace(told("alice", "a1", "mid1", "bob", 2), text="again"))


BAD = {
    "bob/tablet: lost: c1 of carol for team, accepted by SENT": without_a_device,
    "bob/tablet: out of order": other_order,
    "bob/tablet: gap": a_gap,
    "devices differ: c1 of carol": another_mid,
    "no verdict: c1 of carol was accepted and never told as delivered to alice": one_member_untold,
    "unread: alice was never told that bob read mid1": mark_untold,
    "doubled: a9, for who is online only, came twice": aside_twice,
    "backward: a1 of alice went from 3 to 2": step_back,
}


def test_what_is_right_passes() -> None:
    """A group of three, of whom two write and one has two devices: nothing to say."""
    assert [] == good().check()


@pytest.mark.parametrize("said", BAD)
def test_each_kind_of_wrong_is_named(said: str) -> None:
    """One thing is wrong, and the check says it."""
    ledger = good()
    BAD[said](ledger)

    assert said in "\n".join(ledger.check())
