"""Rules about how a message is handed over: a history that breaks each, and one beside it that breaks nothing."""

from __future__ import annotations

from dataclasses import replace

from mesimqtt.proof import history as h
from unit.proof.stories import good, mid_at, rules_of, told


def marked(*, written: int = 9, is_resumed: bool = True, qos: int = 1) -> h.History:
    """Return a history in which the message of 1 s comes to bob with DUP=1; his SUBACK was `written` at that time."""
    history = good()
    history.got[0] = replace(history.got[0], dup=True, qos=qos)
    history.online[1] = replace(history.online[1], at=written + 1, written=written)
    history.entered.append(h.Entered(written, "bob", "phone", 2, is_resumed))
    history.ended.append(h.Ended(5, "bob", "phone", 1))
    return history


def test_what_comes_for_the_first_time_is_no_duplicate():
    """DUP=1 on what was made after the device had subscribed is told; on what is older it may be right."""
    assert {"marked again"} == rules_of(marked())
    assert set() == marked_there(ended=900)


def marked_there(*, ended: int, crashed: tuple[int, ...] = ()) -> set[str]:
    """Return what is broken where bob had a connection before, which `ended`, and comes back at 300 s."""
    history = marked(written=300_000)
    history.got[0] = replace(history.got[0], at=300_020, written=300_010, connection=12)
    history.online[1] = replace(history.online[1], connection=12)
    history.entered = [h.Entered(10, "bob", "phone", 2, False), h.Entered(300_000, "bob", "phone", 12, True)]
    history.ended = [h.Ended(ended, "bob", "phone", 2)]
    history.crashed += map(h.Crashed, crashed)
    return only(history, "marked again")


def test_what_was_made_while_a_device_was_away_is_no_duplicate():
    """DUP=1 is wrong where the connection before had long ended; after a crash the server cannot know."""
    assert {"marked again"} == marked_there(ended=-200_000)
    assert set() == marked_there(ended=-100_000)  # the server may not have noticed before 180 s
    assert set() == marked_there(ended=-200_000, crashed=(200_000,))
    assert {"marked again"} == marked_there(ended=-200_000, crashed=(-20_000,))


def test_no_dup_at_qos_0_nor_in_a_new_session():
    """Nothing that comes so was sent before [MQTT-3.3.1-2], contract section 3."""
    assert {"marked again"} == rules_of(marked(written=1_015, is_resumed=False))
    assert {"marked again"} == rules_of(marked(written=1_015, qos=0))
    assert set() == rules_of(marked(written=1_015))


def came_again(*, dup: bool, is_resumed: bool = True, between: bool = True) -> set[str]:
    """Return what is broken where the message of 1 s comes again after a reconnect; `between` is one more of those."""
    history = good()
    history.entered = [h.Entered(8, "bob", "phone", 2, False), h.Entered(4_900, "bob", "phone", 12, is_resumed)]
    if between:
        history.entered.insert(1, h.Entered(3_000, "bob", "phone", 11, True))
    history.got.append(replace(history.got[0], at=5_000, connection=12, dup=dup))
    return rules_of(history)


def test_what_comes_again_is_marked_as_that():
    """On a resumed session a repeat has DUP=1, however many connections were between; in a new one it has not."""
    assert {"unmarked"} == came_again(dup=False)
    assert {"unmarked"} == came_again(dup=False, between=False)
    assert set() == came_again(dup=True)
    assert set() == came_again(dup=False, is_resumed=False)
    assert {"marked again"} == came_again(dup=True, is_resumed=False)


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


def kept_off(*changes: h.Change, when: int = 0, to: str = "u/bob") -> set[str]:
    """Return whether it is told as withheld where these changes are made; `when` and `to` are the message's."""
    history = calm(60)
    history.sent[-1] = replace(history.sent[-1], when=when, to=to)
    history.changes += changes
    return only(history, "withheld")


def test_who_may_be_kept_off():
    """A block of this sender, or who was disabled or deleted: then; not hours before, nor by or for another."""
    disabled, enabled = h.Change(DRAWN - 9, DRAWN - 5, h.DISABLED, "alice"), h.Change(0, 0, h.ENABLED, "alice")
    blocked = h.Change(DRAWN - 9, DRAWN - 5, h.BLOCKED, "bob", "alice")
    unblocked = replace(blocked, what=h.UNBLOCKED, begin=50_000, at=50_010)

    assert set() == kept_off(disabled, when=2) | kept_off(blocked) | kept_off(replace(disabled, user="bob"))
    assert set() == kept_off(h.Change(DRAWN + 5, DRAWN + 9, h.DELETED, "bob"))
    assert {"withheld"} == kept_off(disabled)  # what was accepted is delivered
    left = replace(disabled, what=h.LEFT, group="team")
    assert set() == kept_off(left, when=2, to="g/team")
    assert {"withheld"} == kept_off(left, to="g/team")
    assert {"withheld"} == kept_off(replace(disabled, at=40), replace(enabled, begin=50, at=60), when=2)
    assert {"withheld"} == kept_off(replace(blocked, user="alice", group="bob"))
    assert {"withheld"} == kept_off(replace(blocked, group="carol"))
    assert {"withheld"} == kept_off(replace(blocked, begin=40, at=50), unblocked)


def replace_harm(history: h.History, harmed: h.Harmed) -> h.History:
    """Return a history in which something was made to go wrong."""
    history.harmed.append(harmed)
    return history


def test_what_was_confirmed_does_not_expire():
    """A message that a device confirmed in time, with nothing amiss, does not end as expired or unconfirmed."""
    slow, down = h.Harmed(DRAWN + 10, DRAWN + 10_000, "slow disk"), h.Harmed(DRAWN + 5_000, DRAWN + 6_000, "no server")

    assert {"denied"} == only(confirmed(), "denied")
    assert {"denied"} == only(replace_harm(confirmed(), slow), "denied")
    assert {"denied"} == only(
        replace_harm(confirmed(), replace(down, at=DRAWN + 20_000, until=DRAWN + 21_000)), "denied"
    )
    assert set() == only(replace_harm(confirmed(), down), "denied")
    assert set() == only(replace_harm(confirmed(), replace(slow, until=DRAWN + 25_000)), "denied")
    assert set() == only(calm(60), "denied")


def confirmed(*changes: h.Change) -> h.History:
    """Return a history whose message bob confirmed, and that ended as expired all the same."""
    history = calm(60)
    history.acked.append(h.Acked(DRAWN + 20, "bob", "phone", 2, mid_at(DRAWN)))
    history.changes += changes
    return history


def test_a_block_is_a_reason_only_of_whom_and_when():
    """Who blocked the sender when the message came may have had it held; any other block denies nothing."""
    blocked = h.Change(DRAWN - 9, DRAWN + 5, h.BLOCKED, "bob", "alice")
    unblocked = h.Change(DRAWN + 30_000, DRAWN + 30_010, h.UNBLOCKED, "bob", "alice")
    before = replace(blocked, begin=40, at=50), replace(unblocked, begin=50_000, at=50_010)

    assert set() == only(confirmed(blocked), "denied") | only(confirmed(blocked, unblocked), "denied")
    assert {"denied"} == only(confirmed(*before), "denied")
    assert {"denied"} == only(confirmed(replace(blocked, begin=DRAWN + 20_000, at=DRAWN + 20_010)), "denied")
    assert {"denied"} == only(confirmed(replace(blocked, group="carol")), "denied")
    assert {"denied"} == only(confirmed(replace(blocked, user="alice", group="bob")), "denied")
