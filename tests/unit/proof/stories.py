"""A small history in which everything is as promised, and the pieces of which others are made."""

from __future__ import annotations

from mesimqtt.domain.ids import first_mid_at, format_mid
from mesimqtt.proof import history as h
from mesimqtt.proof.checker import judge

EPOCH_MS = 1_790_000_000_000
LATER = 1_000_000  # when the trial ended
CONNECTIONS = {"alice": 1, "bob": 2, "carol": 3}  # the first of each phone


def mid_at(ms: int, number: int = 0) -> str:
    """Return a mid that the server drew at a time of the trial."""
    return format_mid(first_mid_at(EPOCH_MS + ms) + number)


def got(at: int, user: str, place: str, mid: str, seq: int, body: str, **more) -> h.Got:
    """Return a delivery to the user's phone, on his first connection."""
    sender = more.pop("sender", place[2:])
    fields = {"written": at - 1, "device": "phone", "connection": CONNECTIONS.get(user, 4)} | more
    return h.Got(at=at, user=user, place=place, sender=sender, mid=mid, seq=seq, body=body, **fields)


def told(at: int, user: str, cid: str, mid: str, code: int, *, peer: str = "", group: str = "", **more) -> h.Told:
    """Return a status that was told to the user's phone."""
    text = more.pop("text", f"{cid} {mid} {peer} {code}")
    fields = {"device": "phone", "connection": CONNECTIONS[user], "reason": "", "ts": EPOCH_MS + at} | more
    return h.Told(at=at, user=user, cid=cid, mid=mid, peer=peer, group=group, code=code, text=text, **fields)


PAIR = mid_at(1_000)  # alice to bob
ROOM = mid_at(2_000)  # bob to team, whose members are alice, bob and carol


def good() -> h.History:
    """Return a history of three users: one message in a pair, delivered and read, and one in a group, delivered."""
    return h.History(
        epoch_ms=EPOCH_MS,
        first_members={"team": {"alice", "bob", "carol"}},
        online=[h.Online(10, 9, user, "phone", number) for user, number in CONNECTIONS.items()],
        sent=[
            h.Sent(990, "alice", "phone", "c1", "u/bob", "one"),
            h.Sent(1_990, "bob", "phone", "c2", "g/team", "two"),
        ],
        taken=[h.Taken(1_010, "alice", "c1"), h.Taken(2_010, "bob", "c2")],
        got=[
            got(1_020, "bob", "u/alice", PAIR, 1, "one"),
            got(2_020, "alice", "g/team", ROOM, 5, "two", sender="bob"),
            got(2_030, "carol", "g/team", ROOM, 5, "two", sender="bob"),
        ],
        shown=[
            h.Shown(1_020, "bob", "phone", PAIR),
            h.Shown(2_020, "alice", "phone", ROOM),
            h.Shown(2_030, "carol", "phone", ROOM),
        ],
        acked=[
            h.Acked(1_030, "bob", "phone", 2, PAIR),
            h.Acked(2_040, "alice", "phone", 1, ROOM),
            h.Acked(2_050, "carol", "phone", 3, ROOM),
        ],
        marked=[h.Marked(3_000, "bob", "u/alice", PAIR)],
        told=[
            told(1_010, "alice", "c1", PAIR, 1, peer="bob"),
            told(1_060, "alice", "c1", PAIR, 2, peer="bob"),
            told(2_010, "bob", "c2", ROOM, 1, group="team"),
            told(2_060, "bob", "c2", ROOM, 2, peer="alice", group="team"),
            told(2_070, "bob", "c2", ROOM, 2, peer="carol", group="team"),
            told(3_020, "alice", "c1", PAIR, 3, peer="bob"),
        ],
        kept=[
            h.Kept(PAIR, "alice", "c1", "alice/bob", 1, False, EPOCH_MS + 10**10),
            h.Kept(ROOM, "bob", "c2", "team", 5, False, EPOCH_MS + 10**10),
        ],
        verdicts=[
            h.Verdict(PAIR, "bob", 3),
            h.Verdict(ROOM, "", 1),
            h.Verdict(ROOM, "alice", 2),
            h.Verdict(ROOM, "carol", 2),
        ],
        bounds=[h.Bound("in flight", 64, 64)],
        finished_at=LATER,
    )


def second() -> h.History:
    """Return the good history with a second message in the pair."""
    history = good()
    history.sent.append(h.Sent(4_990, "alice", "phone", "c3", "u/bob", "three"))
    history.got.append(got(5_020, "bob", "u/alice", mid_at(5_000), 2, "three"))
    history.acked.append(h.Acked(5_030, "bob", "phone", 2, mid_at(5_000)))
    history.kept.append(h.Kept(mid_at(5_000), "alice", "c3", "alice/bob", 2, False, EPOCH_MS + 10**10))
    history.verdicts.append(h.Verdict(mid_at(5_000), "bob", 2))
    return history


def rules_of(history: h.History) -> set[str]:
    """Return which rules a history breaks, by the words before the colon."""
    return {complaint.partition(":")[0] for complaint in judge(history)}


def without(items: list, **fields: object) -> list:
    """Return the items that differ from `fields` somewhere."""
    return [one for one in items if any(getattr(one, key) != value for key, value in fields.items())]
