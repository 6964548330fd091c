"""Rules about messages: each has a history that breaks it, and it alone; and one beside it that breaks nothing."""

from __future__ import annotations

from dataclasses import replace

from mesimqtt.proof import history as h
from unit.proof.stories import EPOCH_MS, PAIR, ROOM, good, got, mid_at, rules_of, second, told, without

TWIN = mid_at(1_500)


def test_a_good_history_breaks_nothing():
    """Sent, delivered, read, in a pair and in a group: no complaint."""
    assert set() == rules_of(good())


# ---- messages -------------------------------------------------------------------------------------------------------


def test_lost_for_a_user():
    """The server acknowledged it, the store knows nothing of it, and nobody got it."""
    history = good()
    history.sent.append(h.Sent(5_000, "alice", "phone", "c9", "u/bob", "nine"))
    history.taken.append(h.Taken(5_010, "alice", "c9"))

    assert {"lost"} == rules_of(history)
    history.taken.clear()
    assert set() == rules_of(history)  # it was never acknowledged


def test_an_acknowledged_message_that_may_have_been_refused_is_not_lost():
    """On 3.1.1 a refusal is acknowledged, too, and the status that says so may go down with the link."""
    history = good()
    history.sent.append(h.Sent(5_000, "alice", "phone", "c9", "g/team", "nine"))
    history.taken.append(h.Taken(5_010, "alice", "c9"))
    history.changes.append(h.Change(4_000, 4_010, h.LEFT, "alice", "team"))

    assert set() == rules_of(history)


def test_told_as_delivered_and_nobody_got_it():
    """A verdict `delivered` without any delivery is a loss, and a status that is not true."""
    history = good()
    history.got = without(history.got, user="bob")
    history.marked.clear()
    history.acked = without(history.acked, user="bob")
    history.told = [one for one in history.told if one.code != 3]
    history.verdicts[0] = h.Verdict(PAIR, "bob", 2)

    assert {"lost", "gap", "forged"} == rules_of(history)


def test_a_verdict_without_its_reason():
    """Nobody took the message back, nobody was deleted, it has no expiry: it may not end so."""
    for code, reason in ((0x21, ""), (0x22, ""), (0x84, ""), (0x80, "user-deleted"), (0x82, ""), (0x91, "")):
        history = good()
        history.got = without(history.got, user="bob")
        history.acked = without(history.acked, user="bob")
        history.marked.clear()
        history.told = [one for one in history.told if one.user != "alice" or one.code == 1]
        history.verdicts[0] = h.Verdict(PAIR, "bob", code, reason)

        assert {"lost"} == rules_of(history), hex(code)


def test_a_verdict_with_its_reason():
    """Expired after its expiry, deleted after a recall, gone with its recipient: as it should be."""
    history = good()
    history.got = without(history.got, user="bob")
    history.acked = without(history.acked, user="bob")
    history.marked.clear()
    history.told = [one for one in history.told if one.user != "alice" or one.code == 1]
    history.sent[0] = replace(history.sent[0], expiry=5)
    history.verdicts[0] = h.Verdict(PAIR, "bob", 0x84)

    assert set() == rules_of(history)


def sent_again(first: int, second: int, *, expiry: int | None = 0) -> h.History:
    """Return a history with a message that came to bob twice, each time with another mid, drawn at those times."""
    history = good()
    history.sent.append(h.Sent(first - 10, "alice", "phone", "c9", "u/bob", "nine", expiry))
    for at in (first, second):
        history.got.append(got(at + 20, "bob", "u/alice", mid_at(at), 0, "nine", connection=at))
        history.acked.append(h.Acked(at + 30, "bob", "phone", at, mid_at(at)))
        history.told.append(told(at + 40, "alice", "c9", mid_at(at), 2, peer="bob"))
    return history


def test_a_resend_of_expiry_0_after_the_server_forgot_it():
    """Its cid is kept for a minute, in memory: a stop or a crash between, or a minute, and it is another message."""
    stopped, crashed = sent_again(5_000, 9_000), sent_again(5_000, 9_000)
    stopped.stopped, crashed.crashed = [7_000], [h.Crashed(7_000)]
    for history in (stopped, crashed, sent_again(5_000, 65_001)):
        assert set() == rules_of(history)


def test_a_resend_of_expiry_0_is_doubled_otherwise():
    """Within the minute of one life it is known; and what is stored is known whatever happens."""
    before = sent_again(5_000, 9_000)
    before.stopped = [4_000, 10_000]
    stored = sent_again(5_000, 90_000, expiry=5)
    stored.stopped = [7_000]
    for history in (sent_again(5_000, 64_000), before, stored):
        assert "doubled" in rules_of(history)


def unconfirmed(*online: h.Online, ended: int | None = None, expiry: int | None = 5) -> h.History:
    """Return a history whose message in the pair came to nobody and ended as `unconfirmed`; bob has one device more."""
    history = good()
    history.got = without(history.got, user="bob")
    history.acked = without(history.acked, user="bob")
    history.marked.clear()
    history.told = [one for one in history.told if one.user != "alice" or one.code == 1]
    history.sent[0] = replace(history.sent[0], expiry=expiry)
    history.verdicts[0] = h.Verdict(PAIR, "bob", 0x80, "unconfirmed")
    history.online += online
    if ended is not None:
        history.ended.append(h.Ended(ended, "bob", "watch", 9))
    return history


def test_what_was_written_at_qos_0_may_be_lost_on_its_way():
    """A device at QoS 0 was there, or had gone so lately that the server could not know: writing counts."""
    watch = h.Online(500, 499, "bob", "watch", 9, qos=0)
    assert set() == rules_of(unconfirmed(watch))
    assert set() == rules_of(unconfirmed(watch, ended=600))
    assert set() == rules_of(unconfirmed(replace(watch, filters=("u/alice/#",)), ended=1_500))


def test_what_was_written_and_lost_stays_sent_for_who_left_a_group():
    """A device at QoS 0 was there when the message came, so it counts as had; nobody confirms it after he left."""

    def left(*online: h.Online) -> set[str]:
        history = good()
        history.online += online
        history.got = without(history.got, user="carol")
        history.acked = without(history.acked, user="carol")
        history.told = [one for one in history.told if one.peer != "carol"]
        history.verdicts[3] = h.Verdict(ROOM, "carol", 1)
        history.changes.append(h.Change(3_000, 3_010, h.LEFT, "carol", "team"))
        return rules_of(history)

    watch = h.Online(500, 499, "carol", "watch", 9, qos=0)
    assert set() == left(watch)
    assert {"no verdict"} == left()
    assert {"no verdict"} == left(replace(watch, at=2_510, written=2_500, filters=("u/#",)))


def test_unconfirmed_where_nothing_can_have_been_written():
    """Nobody was there at QoS 0, or it took no such messages, was long gone, came too late, or there is no deadline."""
    watch = h.Online(500, 499, "bob", "watch", 9, qos=0)
    assert {"lost"} == rules_of(unconfirmed())
    assert {"lost"} == rules_of(unconfirmed(replace(watch, qos=1)))
    assert {"lost"} == rules_of(unconfirmed(replace(watch, user="carol")))
    assert {"lost"} == rules_of(unconfirmed(replace(watch, filters=("g/#", "u/carol/#"))))
    assert {"lost"} == rules_of(unconfirmed(replace(watch, at=-300_000, written=-300_000), ended=-200_000))
    assert {"lost"} == rules_of(unconfirmed(replace(watch, at=6_010, written=6_001)))
    assert {"lost"} == rules_of(unconfirmed(watch, expiry=None))


def only_sent(flags: int) -> h.History:
    """Return the good history, but the message in the pair came to nobody and has no verdict."""
    history = good()
    history.sent[0] = replace(history.sent[0], flags=flags)
    history.got = without(history.got, user="bob")
    history.acked = without(history.acked, user="bob")
    history.marked.clear()
    history.told = [one for one in history.told if one.user != "alice" or one.code == 1]
    history.verdicts[0] = h.Verdict(PAIR, "bob", 1)
    return history


def test_no_verdict_in_the_end():
    """All was read back, and a message is still only sent; where no receipt was wanted, none is kept."""
    assert {"no verdict", "gap"} == rules_of(only_sent(3))

    assert {"gap"} == rules_of(only_sent(0))


def confirmed_while(blocked_at: int, unblocked_at: int) -> h.History:
    """Return a history whose message was confirmed at 1.03 s and never told of, and when its sender was blocked."""
    history = only_sent(3)
    history.got, history.acked = good().got, good().acked
    history.changes = [
        h.Change(blocked_at, blocked_at + 5, h.BLOCKED, "bob", "alice"),
        h.Change(unblocked_at, unblocked_at + 5, h.UNBLOCKED, "bob", "alice"),
    ]
    return history


def test_no_receipt_for_whom_one_blocks():
    """What was confirmed while its sender was blocked stays sent; a block long before or after is no excuse."""
    assert set() == rules_of(confirmed_while(1_015, 60_000))

    assert {"no verdict"} == rules_of(confirmed_while(600_000, 900_000))
    assert {"no verdict"} == rules_of(confirmed_while(-60_000, -50_000))


def test_no_receipt_for_whom_one_blocks_when_it_is_read():
    """Written at QoS 0, and read while its sender was blocked: he is told nothing, however it is confirmed later."""
    for blocked_at, expected in ((2_000, set()), (600_000, {"no verdict"})):
        history = confirmed_while(blocked_at, blocked_at + 2_000)
        history.acked = [replace(one, at=500_000) if one.user == "bob" else one for one in history.acked]
        history.marked = [h.Marked(3_000, "bob", "u/alice", PAIR, is_upto=True)]

        assert expected == rules_of(history)


def test_doubled_by_a_resend():
    """One cid that is two messages."""
    history = good()
    history.told.append(told(5_000, "alice", "c1", TWIN, 1, peer="bob"))

    assert {"doubled"} == rules_of(history)


def test_doubled_for_a_receiver():
    """What was said once comes as two messages."""
    history = good()
    history.got.append(got(5_000, "bob", "u/alice", TWIN, 2, "one"))

    assert {"doubled"} == rules_of(history)


def test_shown_twice():
    """A client shows its user the same message again."""
    history = good()
    history.shown.append(h.Shown(5_000, "bob", "phone", PAIR))

    assert {"shown twice"} == rules_of(history)


def test_repeated_on_one_connection():
    """A mid comes again although the link was not lost."""
    history = good()
    history.got.insert(1, replace(history.got[0], at=1_025, dup=True))

    assert {"repeated", "out of order"} == rules_of(history)


def again(*harmed: h.Harmed, ended: int = 890_000, is_acked_again: bool = False) -> set[str]:
    """Return what is broken where the message that bob acknowledged at 1.03 s comes again, and what went wrong."""
    history = good()
    history.got.append(replace(history.got[0], at=900_000, written=899_990, connection=12, dup=True))
    history.ended.append(h.Ended(ended, "bob", "phone", 2))
    history.harmed += harmed
    if is_acked_again:
        history.acked.append(h.Acked(900_010, "bob", "phone", 12, PAIR))
    return rules_of(history)


def test_repeated_though_its_acknowledgement_was_in_the_store():
    """A mid comes again on another connection, and neither the link nor the server was lost within seconds."""
    assert {"repeated"} == again()
    assert {"repeated"} == again(is_acked_again=True)
    assert {"repeated"} == again(ended=10_000)
    assert {"repeated"} == again(h.Harmed(20_000, 25_000, "no server"), h.Harmed(12_000, h.EVER_MS, "cut", 2))
    assert {"repeated"} == again(h.Harmed(900, h.EVER_MS, "cut", 3))
    assert {"repeated"} == again(h.Harmed(500, 20_000, "slow disk"))  # it was slow, and then all was well for minutes


def test_repeated_after_an_acknowledgement_that_may_be_lost():
    """It went down with the link or the server, or these were lost before a slow disk, or a link, had taken it."""
    assert set() == again(ended=1_050)
    assert set() == again(h.Harmed(1_100, 2_000, "no server"))
    assert set() == again(h.Harmed(1_100, h.EVER_MS, "cut", 2))
    assert set() == again(h.Harmed(500, 20_000, "slow disk"), h.Harmed(21_000, 22_000, "no server"))
    assert set() == again(h.Harmed(500, 200_000, "stall", 2), ended=201_000)


def test_unexpected():
    """Never sent; for another; from another; before it was sent."""
    for bad in (
        got(5_000, "bob", "u/alice", TWIN, 2, "who said this?"),
        got(5_000, "bob", "u/alice", ROOM, 2, "two"),
        got(2_080, "dave", "u/alice", PAIR, 1, "one"),
        got(500, "bob", "u/alice", PAIR, 1, "one"),
    ):
        history = good()
        history.got = [one for one in history.got if (one.user, one.mid) != (bad.user, bad.mid)]
        history.got.append(bad)

        assert "unexpected" in rules_of(history), bad


def test_refused_and_delivered_all_the_same():
    """The sender was told that it is refused, and the receiver has it."""
    history = good()
    history.sent.append(h.Sent(5_000, "alice", "phone", "c9", "u/bob", "nine"))
    history.told.append(told(5_010, "alice", "c9", mid_at(5_005), 0x88, peer="bob"))
    history.got.append(got(5_020, "bob", "u/alice", mid_at(5_005), 2, "nine"))

    assert {"unexpected"} == rules_of(history)


def test_out_of_order():
    """A second message comes before the first, on one connection or over two."""
    assert set() == rules_of(second())
    history = second()
    history.got = [history.got[3], *history.got[:3]]
    assert {"out of order"} == rules_of(history)

    history.got[1] = replace(history.got[1], connection=12)

    assert {"out of order"} == rules_of(history)


def test_a_new_conversation_of_an_old_name_begins_anew():
    """Who was deleted and made again counts from seq 1 with everybody."""
    history = second()
    history.changes += [h.Change(6_000, 6_010, h.DELETED, "bob"), h.Change(7_000, 7_010, h.MADE, "bob")]
    history.sent.append(h.Sent(8_000, "alice", "phone", "c4", "u/bob", "four"))
    history.got.append(got(8_020, "bob", "u/alice", mid_at(8_010), 1, "four"))

    assert set() == rules_of(history)


def test_disagreeing():
    """Two devices see two messages at one seq, or one message that says two things."""
    history = good()
    history.sent.append(h.Sent(4_990, "bob", "phone", "c3", "g/team", "three"))
    history.got.append(got(5_020, "carol", "g/team", mid_at(5_000), 5, "three", sender="bob", connection=12))
    assert {"disagreeing", "out of order"} == rules_of(history)

    history = good()
    history.got[2] = replace(history.got[2], body="altered")

    assert {"disagreeing", "unexpected"} == rules_of(history)


def test_gap():
    """One of two devices never got a message that the other got."""
    history = good()
    history.online.append(h.Online(20, 19, "bob", "laptop", 12))
    assert {"gap"} == rules_of(history)

    history.got.append(got(5_000, "bob", "u/alice", PAIR, 1, "one", device="laptop", connection=12))

    assert set() == rules_of(history)


def test_what_vanished_while_its_sender_was_blocked():
    """Read, and blocked when it disappeared: the sender is told nothing, and who comes later does not get it."""
    for age, unblocked_at, expected in ((60, 0, set()), (60, 23_000, {"gap"}), (0, 0, {"gap"})):
        history = good()  # bob reads alice's message at 3 000
        history.sent = [replace(one, age=age) if one.to == "u/bob" else one for one in history.sent]
        history.online.append(h.Online(20, 19, "bob", "laptop", 12))
        history.changes.append(h.Change(22_000, 22_010, h.BLOCKED, "bob", "alice"))
        if unblocked_at:
            history.changes.append(h.Change(unblocked_at, unblocked_at + 10, h.UNBLOCKED, "bob", "alice"))

        assert expected == rules_of(history)


def test_legal_gaps():
    """No cursor of QoS 1, no filter for it, came later, left, blocked the sender, expired: nothing is missing."""
    for online in (
        h.Online(20, 19, "carol", "laptop", 12, qos=0),
        h.Online(20, 19, "carol", "laptop", 12, filters=("u/#",)),
        h.Online(5_000, 4_999, "carol", "laptop", 12),
    ):
        history = good()
        history.online.append(online)
        assert set() == rules_of(history)
    for change in (h.LEFT, h.BLOCKED):
        history = good()
        history.online.append(h.Online(20, 19, "carol", "laptop", 12))
        history.changes.append(h.Change(1_990, 2_500, change, "carol", "team" if change == h.LEFT else "bob"))
        assert set() == rules_of(history), change
    history = good()
    history.online.append(h.Online(20, 19, "carol", "laptop", 12))
    history.kept[1] = replace(history.kept[1], expires_at=EPOCH_MS + 3_000)

    assert set() == rules_of(history)
