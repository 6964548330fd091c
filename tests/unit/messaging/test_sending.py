"""A message from one user to another: acceptance, commit, delivery, receipts (contract sections 2 to 4)."""

from __future__ import annotations

from unit.messaging.world import mid_of


def test_a_message_is_delivered_byte_for_byte_and_its_sender_told(world):
    """bob's device receives the same bytes, alice SENT and then DELIVERED with the device that took it."""
    alice, bob = world.listener("alice"), world.listener("bob")
    payload = bytes(range(256))

    assert alice.publish("u/bob/42", payload)

    (message,) = bob.received()
    mid = mid_of(message)
    ts = world.ms
    assert (f"m/bob/in/u/alice/{mid}/seq=1", payload, 1, False) == (
        message.topic,
        message.payload,
        message.qos,
        message.dup,
    )
    assert [
        f'{{"cid":"42","mid":"{mid}","peer":"bob","status":1,"name":"sent","ts":{ts}}}',
        f'{{"cid":"42","mid":"{mid}","peer":"bob","status":2,"name":"delivered","ts":{ts},"device":"phone"}}',
    ] == [each.payload.decode() for each in alice.received()]


def test_nothing_is_answered_before_the_commit(world):
    """PUBACK, SENT and delivery all wait for the commit."""
    alice, bob = world.listener("alice"), world.listener("bob")
    world.commits.hold()

    acknowledged_before = alice.publish("u/bob/1", packet_id=77)
    before = alice.received() + bob.received()
    world.commits.release()
    world.turn()

    assert (False, []) == (acknowledged_before, before)
    assert alice.took("PUBACK", 77)
    assert ([("1", 1), ("1", 2)], ["hi"]) == (alice.steps(), bob.payloads())


def test_sent_means_that_the_message_is_in_the_store(world):
    """When SENT is told, the row is there: a server killed right then delivers after its restart."""
    alice = world.listener("alice")
    alice.publish("u/bob/1", "keep me")

    assert [("1", 1)] == alice.steps()
    world.restart()
    assert ["keep me"] == world.listener("bob").payloads()


def test_a_message_not_committed_at_a_crash_was_never_acknowledged(world):
    """A kill before the commit loses the message, and its sender has neither PUBACK nor SENT."""
    alice = world.listener("alice")
    world.commits.hold()
    acknowledged = alice.publish("u/bob/1")
    told = alice.steps()

    world.restart()

    assert (False, [], []) == (acknowledged, told, world.listener("bob").payloads())


def test_qos_2_is_acknowledged_after_the_commit(world):
    """PUBREC waits for the commit, and the same packet id again is not a second message."""
    alice, bob = world.listener("alice"), world.listener("bob")

    assert alice.publish("u/bob/1", qos=2, packet_id=5)
    assert alice.publish("u/bob/1", qos=2, packet_id=5)
    assert ["hi"] == bob.payloads()


def test_a_qos_0_publish_is_a_whole_message(world):
    """Accepted, committed and told SENT, though there is no PUBACK."""
    alice = world.listener("alice")
    alice.publish("u/bob/1", qos=0)

    assert [("1", 1)] == alice.steps()
    assert ["hi"] == world.listener("bob").payloads()


def test_without_a_cid_the_mid_stands_for_it(world):
    """A client that cannot promise unique ids leaves the cid out: the status names the mid."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob")
    alice.publish("u/bob")

    mids = [mid_of(message) for message in bob.received()]
    assert 2 == len(set(mids))
    assert [(mids[0], 1), (mids[0], 2), (mids[1], 1), (mids[1], 2)] == alice.steps()


def test_parameters_are_carried_in_the_senders_order_after_seq(world):
    """`seq` comes first, then what the sender gave, unknown keys too, in his order and spelling."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1/x-b=2&type=7&x%20a=%C3%A9&flags=3&ref=0123456789abcdef")

    (message,) = bob.received()
    level = message.topic.rpartition("/")[2]
    assert "seq=1&x-b=2&type=7&x%20a=%C3%A9&flags=3&ref=0123456789abcdef" == level


def test_what_the_sender_did_not_give_is_left_out(world):
    """A message without parameters has `seq` alone."""
    world.listener("alice").publish("u/bob/1")

    (message,) = world.listener("bob").received()
    assert "seq=1" == message.topic.rpartition("/")[2]


def test_expiry_counts_down_rounded_up(world):
    """On `in/`, `expiry` is the seconds that remain, rounded up."""
    world.listener("alice").publish("u/bob/1/expiry=10&k=v")
    world.advance(3.25)

    (message,) = world.listener("bob").received()
    assert "seq=1&expiry=7&k=v" == message.topic.rpartition("/")[2]


def test_a_user_who_never_connected_gets_his_message(world):
    """No subscription is needed beforehand."""
    alice = world.listener("alice")
    alice.publish("u/bob/1")
    assert [("1", 1)] == alice.steps()

    bob = world.listener("bob")

    assert ["hi"] == bob.payloads()
    assert [("1", 2)] == alice.steps()


def test_who_subscribed_to_nothing_receives_nothing(world):
    """A connection without filters gets nothing, and its message stays pending."""
    bob = world.connect("bob")
    world.listener("alice").publish("u/bob/1")

    assert [] == bob.received()
    assert [1] == bob.subscribe("#")
    assert ["hi"] == bob.payloads()


def test_retain_is_ignored(world):
    """A retained PUBLISH under the root is a message like any other, delivered without RETAIN and once."""
    from unit.engine import both_ends as wire

    alice, bob = world.listener("alice"), world.listener("bob")
    alice.send(wire.publish("m/alice/out/u/bob/1", b"x", qos=1, packet_id=9, retain=True))

    assert [False] == [message.retain for message in bob.received("u/")]
    assert [] == world.listener("bob", "tablet").payloads()


# ---- resending ---------------------------------------------------------------------------------------------


def test_a_resend_is_never_a_second_message(world):
    """The same cid with the same content again: acknowledged, told the current status, delivered once."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    first = alice.received()

    assert alice.publish("u/bob/1")

    assert ["hi"] == bob.payloads()
    assert [first[-1].payload] == [message.payload for message in alice.received()]


def test_a_resend_in_the_same_commit_is_one_message(world):
    """Two equal sends in one batch, also over two connections: one row, two acknowledgements."""
    alice, other, bob = world.listener("alice"), world.connect("alice", "laptop"), world.listener("bob")
    world.commits.hold()
    alice.publish("u/bob/0", "opens the batch that is held")
    alice.publish("u/bob/1", packet_id=11)
    alice.publish("u/bob/1", packet_id=12)
    other.publish("u/bob/1", packet_id=13)
    world.commits.release()
    world.turn()

    assert [True, True, True] == [alice.took("PUBACK", 11), alice.took("PUBACK", 12), other.took("PUBACK", 13)]
    assert ["opens the batch that is held", "hi"] == bob.payloads()


def test_a_resend_after_a_crash_between_commit_and_puback_is_recognised(world):
    """The commit was done but its answer never left: the resend after the restart is the same message."""
    alice = world.listener("alice")
    world.commits.hold_answers()
    assert not alice.publish("u/bob/1")
    world.restart()

    alice = world.listener("alice")
    assert alice.publish("u/bob/1")
    assert [("1", 1)] == list(dict.fromkeys(alice.steps()))
    assert ["hi"] == world.listener("bob").payloads()


def test_a_resend_after_a_crash_before_the_commit_is_judged_afresh(world):
    """Nothing was kept, so the resend is the first."""
    alice = world.listener("alice")
    world.commits.hold()
    alice.publish("u/bob/1")
    world.restart()

    assert world.listener("alice").publish("u/bob/1")
    assert ["hi"] == world.listener("bob").payloads()


def test_a_resend_after_delivery_tells_delivered(world):
    """The current status is sent again, byte for byte, also after a restart."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    told = alice.received()[-1].payload
    world.advance(5)
    world.restart()
    alice, bob = world.listener("alice"), world.listener("bob")

    alice.publish("u/bob/1")

    assert ([told], []) == ([message.payload for message in alice.received()], bob.payloads())


def test_every_repeat_is_equal_byte_for_byte(world):
    """Also the SENT of messages that shared one commit but came at different times."""
    alice = world.listener("alice")
    world.commits.hold()
    for number in range(3):
        alice.publish(f"u/bob/{number}")
        world.ms += 7
    world.commits.release()
    world.turn()
    told = [message.payload for message in alice.received()]
    assert 3 == len(told)

    for number in range(3):
        alice.publish(f"u/bob/{number}")

    assert told == [message.payload for message in alice.received()]


def test_a_cid_with_other_content_is_refused(world):
    """Another payload, destination or parameter under a used cid: 0x85 `cid-reused`, and nothing is sent."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    alice.statuses()
    bob.payloads()

    for topic, payload in (("u/bob/1", "other"), ("u/carol/1", "hi"), ("u/bob/1/type=1", "hi")):
        assert alice.publish(topic, payload)

    assert [(0x85, "cid-reused")] * 3 == [(each["status"], each["reason"]) for each in alice.statuses()]
    assert ([], []) == (bob.payloads(), world.listener("carol").payloads())


def test_cids_of_two_senders_are_apart(world):
    """The same cid from another user is another message; neither learns of the other's."""
    alice, carol, bob = world.listener("alice"), world.listener("carol"), world.listener("bob")
    alice.publish("u/bob/1", "from alice")
    carol.publish("u/bob/1", "from carol")

    assert ["from alice", "from carol"] == bob.payloads()
    assert ([("1", 1), ("1", 2)], [("1", 1), ("1", 2)]) == (alice.steps(), carol.steps())


def test_a_cid_is_one_over_all_devices_of_its_user(world):
    """A resend from another device of the same user is the same message."""
    phone, laptop, bob = world.listener("alice"), world.listener("alice", "laptop"), world.listener("bob")
    phone.publish("u/bob/1")
    laptop.publish("u/bob/1")

    assert ["hi"] == bob.payloads()


def test_a_refusal_does_not_take_the_cid(world):
    """After a refusal a resend is judged afresh."""
    alice = world.listener("alice")
    alice.publish("u/dave/1")
    assert [("1", 0x83)] == alice.steps()
    world.user("dave")

    alice.publish("u/dave/1")

    assert [("1", 1)] == alice.steps()


def test_a_cid_is_remembered_for_seven_days(world):
    """Within seven days a resend is recognised, after them it is a new message."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    world.jump(6.9 * 86_400)
    alice.publish("u/bob/1")
    assert ["hi"] == bob.payloads()

    world.jump(0.3 * 86_400)
    alice.publish("u/bob/1")

    assert ["hi"] == bob.payloads()


def test_a_resend_to_a_full_inbox_tells_its_status(make_world):
    """An accepted message is not refused when its sender repeats it, however full the inbox is by now."""
    world = make_world(messaging={"inbox_messages_max": 2})
    alice = world.listener("alice")
    alice.publish("u/bob/1")
    alice.publish("u/bob/2")
    told = [message.payload for message in alice.received()]

    alice.publish("u/bob/2")
    alice.publish("u/bob/1", "other")

    repeated, refused = alice.received()
    assert told[1] == repeated.payload
    assert b"cid-reused" in refused.payload


def test_a_resend_to_a_group_left_since_tells_its_status(world):
    """What was accepted keeps its status when the sender is no member any more."""
    world.group("team", "alice", "bob")
    alice = world.listener("alice")
    alice.publish("g/team/1")
    told = alice.received("status/")[0].payload
    world.do("group_leave", address="team", users=["alice"])

    alice.publish("g/team/1")

    assert told in [message.payload for message in alice.received("status/")]


# ---- copies for the sender's own devices -------------------------------------------------------------------


def test_other_devices_of_the_sender_get_a_copy(world):
    """The copy names the recipient and comes to every device of the sender but the sending one."""
    phone, laptop = world.listener("alice"), world.listener("alice", "laptop")
    phone.publish("u/bob/1", "to bob")

    (copy,) = laptop.received("sent/")
    assert (f"m/alice/in/sent/u/bob/{mid_of(copy)}/seq=1", b"to bob") == (copy.topic, copy.payload)
    assert [] == phone.received("sent/")


def test_an_offline_device_of_the_sender_gets_its_copy_later(world):
    """Copies wait like messages, in the same order of seq."""
    laptop = world.listener("alice", "laptop")
    laptop.disconnect()
    phone, bob = world.listener("alice"), world.listener("bob")
    phone.publish("u/bob/1", "question")
    bob.publish("u/alice/1", "answer")
    phone.publish("u/bob/2", "thanks")

    laptop = world.listener("alice", "laptop")

    assert ["question", "answer", "thanks"] == [
        message.payload.decode() for message in laptop.received() if "/status/" not in message.topic
    ]


def test_copies_raise_no_status_and_count_for_no_cap(make_world):
    """Sending much does not fill the sender's own inbox, and his devices' acknowledgements tell nobody anything."""
    world = make_world(messaging={"inbox_messages_max": 3})
    phone, laptop, bob = world.listener("alice"), world.listener("alice", "laptop"), world.listener("bob")
    laptop.disconnect()
    for number in range(6):
        phone.publish(f"u/bob/{number}")
    bob.publish("u/alice/x")

    assert [1, 2] * 6 == [step for _, step in phone.steps()]
    assert [("x", 1), ("x", 2)] == bob.steps()
    assert 0 == world.do("inbox", address="alice")["messages"]


def test_own_messages_stay_a_watermark(world):
    """A long talk leaves no list of exceptions in either lane, whoever wrote what."""
    alice, bob = world.listener("alice"), world.listener("bob")
    for number in range(20):
        alice.publish(f"u/bob/a{number}")
        bob.publish(f"u/alice/b{number}")
    world.advance(2)

    assert [(40, "", 40, ""), (40, "", 40, "")] == world.rows(
        "SELECT acked, acked_above, delivered, delivered_above FROM lane"
    )


def test_a_message_to_oneself_reaches_the_other_devices(world):
    """Notes to oneself come as `in/u/{me}` on the other devices, and the first acknowledgement is DELIVERED."""
    phone, laptop = world.listener("alice"), world.listener("alice", "laptop")
    phone.publish("u/alice/1", "note")

    assert (["note"], []) == (laptop.payloads("u/alice"), phone.payloads("u/alice"))
    assert [("1", 1), ("1", 2)] == phone.steps()
