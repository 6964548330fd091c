"""What excuses a loss, and what makes a verdict true: only what was so when it can have been why."""

from __future__ import annotations

from dataclasses import replace

from mesimqtt.proof import history as h
from unit.proof.stories import PAIR, ROOM, good, rules_of, without


def refused(*changes: h.Change, to: str = "g/team", ended: int = 5_010) -> h.History:
    """Return a history with a message of alice's that was acknowledged, sent at 5 s, and of which nothing is known."""
    history = good()
    history.sent.append(h.Sent(5_000, "alice", "phone", "c9", to, "nine"))
    history.taken.append(h.Taken(ended, "alice", "c9"))
    history.changes += changes
    return history


def test_a_refusal_is_an_excuse_only_while_it_was_so():
    """Whoever left, was blocked or was deleted an hour before or after, or in another's place, excuses nothing."""
    late, there = 900_000, h.Change(4_000, 4_010, h.LEFT, "alice", "team")
    back = h.Change(4_100, 4_200, h.JOINED, "alice", "team")
    excused = (
        refused(there),
        refused(h.Change(300_000, 300_010, h.LEFT, "alice", "team"), ended=310_000),  # it was sent again and again
        refused(h.Change(4_000, 4_010, h.GROUP_DELETED, "", "team")),
        refused(h.Change(4_000, 4_010, h.BLOCKED, "bob", "alice"), to="u/bob"),
        refused(h.Change(4_000, 4_010, h.DELETED, "bob"), to="u/bob"),
    )
    for number, history in enumerate(excused):
        assert "lost" not in rules_of(history), number
    for number, history in enumerate((
        refused(h.Change(late, late, h.LEFT, "alice", "team")),
        refused(h.Change(4_000, 4_010, h.LEFT, "bob", "team")),
        refused(replace(there, begin=-90_000, at=-89_990), replace(back, begin=-80_000, at=-79_000)),
        refused(h.Change(late, late, h.GROUP_DELETED, "", "team")),
        refused(h.Change(late, late, h.BLOCKED, "bob", "alice"), to="u/bob"),
        refused(h.Change(4_000, 4_010, h.BLOCKED, "alice", "bob"), to="u/bob"),
        refused(h.Change(late, late, h.DELETED, "bob"), to="u/bob"),
        refused(h.Change(-90_000, -90_000, h.DELETED, "bob"), h.Change(-80_000, -80_000, h.MADE, "bob"), to="u/bob"),
    )):  # fmt: skip
        assert "lost" in rules_of(history), number


def amended(is_recall: bool = False, *more: h.Sent, amends: str = PAIR, at: int = 5_000, **first: int) -> set[str]:
    """Return what is broken where alice's change of her message of 1 s is acknowledged and nothing of it is known."""
    history = good()
    history.sent[0] = replace(history.sent[0], **first)
    history.sent += [*more, h.Sent(at, "alice", "phone", "c9", "u/bob", "nine", amends=amends, is_recall=is_recall)]
    history.taken.append(h.Taken(at + 10, "alice", "c9"))
    return rules_of(history) & {"lost"}


def test_a_change_is_refused_only_where_there_is_nothing_to_change():
    """An edit or recall that vanished is lost, unless its original was taken back, wiped, expired, old or another's."""
    recall = h.Sent(4_000, "alice", "phone", "c8", "u/bob", "recall c8", amends=PAIR, is_recall=True)

    assert {"lost"} == amended()
    assert {"lost"} == amended(True)
    assert {"lost"} == amended(False, replace(recall, at=900_000))
    assert {"lost"} == amended(False, replace(recall, is_recall=False))
    assert {"lost"} == amended(expiry=60)
    assert {"lost"} == amended(at=3_599_000)
    assert set() == amended(False, recall) | amended(True, recall)
    assert set() == amended(age=5) | amended(expiry=3) | amended(at=3_700_000) | amended(amends=ROOM)


def test_what_is_scheduled_is_no_excuse():
    """It is refused at once where there is no such place; a block counts when its time comes, and that is told."""

    def scheduled(*changes: h.Change, to: str = "u/bob") -> set[str]:
        history = refused(*changes, to=to)
        history.sent[-1] = replace(history.sent[-1], when=60)
        return rules_of(history) & {"lost"}

    assert {"lost"} == scheduled()
    assert {"lost"} == scheduled(h.Change(4_000, 4_010, h.BLOCKED, "bob", "alice"))
    assert {"lost"} == scheduled(h.Change(65_000, 65_010, h.LEFT, "alice", "team"), to="g/team")
    assert set() == scheduled(h.Change(4_000, 4_010, h.DELETED, "bob"))
    assert set() == scheduled(h.Change(4_000, 4_010, h.LEFT, "alice", "team"), to="g/team")


def test_nobody_of_that_name():
    """What is for somebody who never was is refused; that nobody of a group has had anything of it is no excuse."""
    assert "lost" not in rules_of(refused(to="u/nobody")) | rules_of(refused(to="g/nothing"))
    quiet = refused()
    quiet.first_members["club"] = {"alice", "bob"}
    quiet.sent[-1] = replace(quiet.sent[-1], to="g/club")

    assert "lost" in rules_of(quiet)


def ended(code: int, reason: str, *changes: h.Change, when: int = 0) -> h.History:
    """Return a history in which alice's message of 1 s to bob, or bob's of 2 s for carol in the group, ended so."""
    history = good()
    is_group = code == 0x91 or reason == "group-deleted"
    user, index = ("carol", 3) if is_group else ("bob", 0)
    mid = ROOM if is_group else PAIR
    history.got = without(history.got, user=user, mid=mid)
    history.acked = without(history.acked, user=user, mid=mid)
    history.marked.clear()
    history.told = [one for one in history.told if one.peer != user or one.mid != mid or one.code == 1]
    history.verdicts[index] = h.Verdict(mid, user, code, reason)
    history.sent[0] = replace(history.sent[0], when=when)
    history.changes += changes
    return history


def test_a_verdict_is_true_only_at_a_time_that_fits():
    """What a verdict says must have been so when it can have been why: not before the message, nor long after."""
    left, joined = h.Change(500_000, 500_010, h.LEFT, "carol", "team"), h.Change(1, 2, h.JOINED, "carol", "team")
    blocked = h.Change(60_500, 61_500, h.BLOCKED, "bob", "alice")
    deleted, made = h.Change(500_000, 500_010, h.DELETED, "bob"), h.Change(1, 2, h.MADE, "bob")
    for number, history in enumerate((
        ended(0x91, "", left),
        ended(0x88, "", blocked, when=60),
        ended(0x80, "user-deleted", deleted),
        ended(0x83, "", replace(deleted, begin=60_000, at=60_010), when=60),
        ended(0x80, "group-deleted", h.Change(500_000, 500_010, h.GROUP_DELETED, "", "team")),
        ended(0x8D, "user-disabled", h.Change(60_000, 60_010, h.DISABLED, "alice"), when=60),
    )):  # fmt: skip
        assert "lost" not in rules_of(history), number
    late = ended(0x88, "", replace(blocked, begin=100_000, at=100_010), when=60)
    late.harmed.append(h.Harmed(55_000, 90_000, "no server"))  # which sends it when it is up again
    assert "lost" not in rules_of(late)
    before = replace(left, begin=-90_000, at=-89_990), replace(joined, begin=-80_000, at=-79_990)
    gone = replace(deleted, begin=-90_000, at=-89_990), replace(made, begin=-80_000, at=-79_990)
    for number, history in enumerate((
        ended(0x91, "", *before),
        ended(0x91, "", replace(left, user="bob")),  # who sent it left, and it was no scheduled one
        ended(0x88, "", replace(blocked, begin=600_000, at=600_010), when=60),
        ended(0x88, "", replace(blocked, begin=100_000, at=100_010), when=60),
        ended(0x88, "", replace(blocked, begin=600_000, at=600_010)),
        ended(0x80, "user-deleted", *gone),
        ended(0x83, "", deleted),
        ended(0x8D, "user-disabled", h.Change(600_000, 600_010, h.DISABLED, "alice"), when=60),
    )):  # fmt: skip
        assert "lost" in rules_of(history), number
