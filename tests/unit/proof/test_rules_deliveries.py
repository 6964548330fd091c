"""Rules about how a message is handed over: a history that breaks each, and one beside it that breaks nothing."""

from __future__ import annotations

from dataclasses import replace

from mesimqtt.proof import history as h
from unit.proof.stories import good, mid_at, rules_of, told


def test_what_comes_for_the_first_time_is_no_duplicate():
    """DUP=1 on what was made after the device had subscribed is told; on what is older it may be right."""
    history = good()
    history.got[0] = replace(history.got[0], dup=True)

    assert {"marked again"} == rules_of(history)
    history.online[1] = replace(history.online[1], at=1_016, written=1_015)
    assert set() == rules_of(history)


DRAWN = 100_000  # when the message was accepted of which these tell: everybody has been online for long


def calm(expiry: int | None = None) -> h.History:
    """Return a history whose message in the pair is delivered by prompt devices long after they came; it may expire."""
    history = good()
    mid = mid_at(DRAWN)
    history.online = [replace(one, is_prompt=True) for one in history.online]
    history.sent.append(h.Sent(DRAWN - 10, "alice", "phone", "c9", "u/bob", "nine", expiry))
    history.told.append(told(DRAWN + 10, "alice", "c9", mid, 1, peer="bob"))
    history.verdicts.append(h.Verdict(mid, "bob", 0x84))
    return history


def only(history: h.History, *rules: str) -> set[str]:
    """Return which of these rules a history breaks; what it lacks besides is not of interest here."""
    return rules_of(history) & set(rules)


def test_what_is_kept_from_who_is_online():
    """That a message may expire is no reason for not handing it over to who was there all the time."""
    assert {"withheld"} == only(calm(60), "withheld")
    assert {"withheld"} == only(calm(), "withheld")


def test_what_may_come_late():
    """A short life, harm to the server or to this link, a device that came just now or waits for its turn."""
    harmed = h.Harmed(DRAWN - 20_000, DRAWN - 10_000, "busy")
    late, waiting = calm(60), calm(60)
    late.online[1] = replace(late.online[1], at=DRAWN - 5_000, written=DRAWN - 5_001)
    waiting.online[1] = replace(waiting.online[1], is_prompt=False)

    assert set() == only(calm(3), "withheld")
    assert set() == only(replace_harm(calm(60), harmed), "withheld")
    assert set() == only(replace_harm(calm(60), replace(harmed, connection=2)), "withheld")
    assert {"withheld"} == only(replace_harm(calm(60), replace(harmed, connection=3)), "withheld")
    assert set() == only(late, "withheld") | only(waiting, "withheld")

    disabled = calm(60)
    disabled.changes.append(h.Change(DRAWN - 9, DRAWN - 5, h.DISABLED, "alice"))
    assert set() == only(disabled, "withheld")


def replace_harm(history: h.History, harmed: h.Harmed) -> h.History:
    """Return a history in which something was made to go wrong."""
    history.harmed.append(harmed)
    return history


def test_what_was_confirmed_does_not_expire():
    """A message that a device confirmed in time, with nothing amiss, does not end as expired or unconfirmed."""
    history = calm(60)
    history.acked.append(h.Acked(DRAWN + 20, "bob", "phone", 2, mid_at(DRAWN)))

    assert {"denied"} == only(history, "denied")
    assert set() == only(replace_harm(history, h.Harmed(DRAWN + 60_000, DRAWN + 61_000, "no server")), "denied")
    assert set() == only(calm(60), "denied")
