"""The sans-I/O core: outbox, statuses, repeats and acknowledgements, without a socket or a clock."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesimqtt_client import Flag, MessageFailed, OutboxFull, State, Status
from mesimqtt_client._protocol import Core, new_id
from mesimqtt_client._status import may_step, parse_status

MID = "00000000000000a1"
NEXT = "00000000000000a2"


class Wire:
    """A core and what its shell would do with it."""

    def __init__(self, *kinds: str, **bounds: int) -> None:
        numbers = itertools.count(1)
        self.core = Core("alice", make_id=lambda: f"c{next(numbers)}", **bounds)
        self.packet_ids = itertools.count(1)
        for kind in kinds:
            self.core.want(kind)

    def connect(self) -> Wire:
        self.core.connecting()
        self.core.accepted(session_present=False)
        self.core.due_subscriptions.clear()
        self.core.subscribed(is_granted=True)
        return self

    def send(self, *, is_group: bool = False, now: float = 0.0, payload: bytes = b"hi", **options: object):
        return self.core.send("team" if is_group else "bob", payload, is_group=is_group, now=now, options=options)

    def published(self) -> list[str]:
        """Take what is due, as cids."""
        return [entry.key for entry in iter(self.core.outbox.next_due, None)]

    def receive(self, topic: str, payload: bytes = b"") -> int:
        packet_id = next(self.packet_ids)
        self.core.receive(f"m/alice/in/{topic}", payload, packet_id)
        return packet_id

    def status(self, cid: str, code: int, **fields: object) -> int:
        return self.receive(f"status/{cid}", json.dumps({"cid": cid, "status": code, **fields}).encode())

    def acks(self) -> list[int]:
        """Take the PUBACKs that are due."""
        found = list(self.core.due_acks)
        self.core.due_acks.clear()
        return found


def test_ids_are_long_random_and_legal():
    """128 bits in 26 characters that a cid may have."""
    ids = {new_id() for _ in range(1000)}

    assert 1000 == len(ids)
    assert all(len(each) == 26 and set(each) <= set("abcdefghijklmnopqrstuvwxyz234567") for each in ids)


def test_nothing_is_published_before_the_subscription_is_granted():
    """Statuses begin at the first subscription (section 4): a publish before it could have none."""
    wire = Wire()
    wire.send()
    wire.core.connecting()
    wire.core.accepted(session_present=False)
    assert State.CONNECTING is wire.core.state
    wire.core.subscribed(is_granted=True)

    assert State.ONLINE is wire.core.state
    assert ["c1"] == wire.published()


def test_only_a_status_settles_a_message():
    """After PUBACK and reconnect it is due again; after SENT or any refusal it is not."""
    wire = Wire().connect()
    sent, refused, open_ = wire.send(), wire.send(), wire.send()
    assert ["c1", "c2", "c3"] == wire.published()
    for entry in (sent, refused, open_):
        wire.core.outbox.acknowledge(entry)
    wire.status("c1", 1)
    wire.status("c2", 0x85)
    wire.core.lost("cut")
    wire.connect()

    assert ["c3"] == wire.published()
    assert 1 == len(wire.core.outbox)


def test_read_marks_are_settled_by_their_puback():
    """They have no status: published again after a cut until acknowledged."""
    wire = Wire("message").connect()
    wire.receive(f"u/bob/{MID}/seq=1")
    wire.core.mark_read(wire.core.next_delivery(["message"]).event, is_upto=True)
    entry = wire.core.outbox.next_due()
    assert ("m/alice/out/read/u/bob", f"<={MID}".encode()) == (entry.topic, entry.payload)
    wire.core.lost("cut")
    wire.connect()
    assert entry is wire.core.outbox.next_due()
    wire.core.outbox.acknowledge(entry)

    assert 0 == len(wire.core.outbox)


def test_a_transient_message_is_not_resent_once_it_was_handed_over():
    """Its PUBACK follows hand-over, and the server forgets its cid in a minute; its status still arrives."""
    wire = Wire().connect()
    message = wire.send(expiry=0)
    other = wire.send(flags=int(Flag.TRANSIENT))
    wire.published()
    wire.core.outbox.acknowledge(message)
    wire.core.outbox.acknowledge(other)
    assert 0 == len(wire.core.outbox)
    wire.status("c1", 0x81)

    with pytest.raises(MessageFailed, match="user-offline"):
        message.outcome(Status.DELIVERED, None)


def test_what_expires_in_the_outbox_gets_a_verdict():
    """Never sent: expired, reason outbox. Sent and in doubt: only the server can say, but a transient one is over."""
    wire = Wire("status")
    dead, alive = wire.send(expiry=5), wire.send(expiry=50)
    transient = wire.send(expiry=0)
    wire.core.tick(9.0)
    with pytest.raises(MessageFailed, match="expired for 'bob': outbox"):
        dead.outcome(Status.SENT, None)
    wire.connect()
    assert ["c2", "c3"] == wire.published()
    wire.core.lost("cut")
    wire.core.tick(60.0)

    assert alive.outcome(Status.SENT, None) is None
    with pytest.raises(MessageFailed, match="failed for 'bob': unconfirmed"):
        transient.outcome(Status.SENT, None)
    told = [wire.core.next_delivery(["status"]).event for _ in range(2)]
    assert [("c1", "outbox"), ("c3", "unconfirmed")] == [(each.cid, each.reason) for each in told]
    wire.connect()
    assert ["c2"] == wire.published()


def test_the_outbox_is_bounded_in_number_and_bytes():
    """What does not fit is refused, and leaves no trace."""
    wire = Wire(outbox_max=3, outbox_bytes_max=10)
    wire.send(payload=b"12345678")
    with pytest.raises(OutboxFull, match="outbox_bytes_max"):
        wire.send(payload=b"123")
    wire.send(payload=b"12")
    wire.send(payload=b"")
    with pytest.raises(OutboxFull, match="outbox_max"):
        wire.send(payload=b"")
    wire.status("c1", 1)

    assert 2 == len(wire.core.outbox)
    wire.send(payload=b"12345678")


def test_a_limit_that_the_server_tells_is_kept_to():
    """After 0x85 with `limit`, larger payloads are refused at once, with the number."""
    wire = Wire().connect()
    with pytest.raises(ValueError, match="limit is 262144"):
        wire.send(payload=bytes(262_145))
    wire.send(payload=bytes(2000))
    wire.status("c1", 0x85, reason="limit", limit=1024)

    with pytest.raises(ValueError, match=r"has 2000 bytes, the limit is 1024 .*as a file"):
        wire.send(payload=bytes(2000))


def test_a_payload_is_bytes_or_text():
    """A number or a dict is a slip, not an empty payload."""
    for payload in (5, {"a": 1}, None):
        with pytest.raises(TypeError, match="a payload is bytes or str"):
            Wire().send(payload=payload)


def test_a_members_step_implies_that_the_group_message_was_sent():
    """A returning device is told only the newest of each: SENT may be missing."""
    wire = Wire().connect()
    message = wire.send(is_group=True)
    wire.status("c1", 2, peer="bob", group="team", mid=MID)

    assert (Status.SENT, {"bob": Status.DELIVERED}, MID) == (message.progress.status, message.recipients, message.mid)
    assert 0 == len(wire.core.outbox)
    wire.status("c1", 1, group="team", counts={"delivered": 150, "read": 2})
    assert {"delivered": 150, "read": 2} == message.counts


def test_a_refused_group_message_fails_for_every_member():
    """Who waits for a member hears the verdict on the whole."""
    wire = Wire().connect()
    message = wire.send(is_group=True)
    wire.status("c1", 0x91)

    with pytest.raises(MessageFailed, match="not-member"):
        message.outcome(Status.DELIVERED, "bob")


@given(st.lists(st.sampled_from(list(Status)), max_size=12))
def test_statuses_only_grow_whatever_order_they_come_in(codes):
    """Progress never goes back, and a failure is never followed by anything but READ (`unconfirmed`)."""
    wire = Wire().connect()
    message = wire.send()
    before = None
    for code in codes:
        wire.status("c1", int(code))
        now = message.progress.status
        assert now is before or may_step(before, now)
        if before is not None and before.is_failure and now is not before:
            assert (Status.FAILED, Status.READ) == (before, now)
        if before is not None and before.is_success and now.is_success:
            assert before <= now
        before = now


def test_an_unknown_code_counts_as_failed_and_keeps_its_number():
    """A newer server may have more verdicts."""
    wire = Wire("status").connect()
    wire.status("x", 0x9A)

    event = wire.core.next_delivery(["status"]).event
    assert (Status.FAILED, 0x9A) == (event.status, event.code)
    assert Status.FAILED is parse_status(0x9A)


def test_a_repeat_while_the_first_copy_waits_is_acknowledged_with_it():
    """Both packets are acknowledged when the handlers have returned, and the message is handed out once."""
    wire = Wire("message").connect()
    first, second = wire.receive(f"u/bob/{MID}/seq=1"), wire.receive(f"u/bob/{MID}/seq=1")
    delivery = wire.core.next_delivery(["message"])
    third = wire.receive(f"u/bob/{MID}/seq=1")
    assert wire.core.next_delivery(["message"]) is None
    assert [] == wire.acks()
    wire.core.handled(delivery)

    assert [first, second, third] == wire.acks()


def test_a_packet_id_is_never_acknowledged_on_another_connection():
    """After a cut only the repeat that came on the new connection is acknowledged."""
    wire = Wire("message").connect()
    wire.receive(f"u/bob/{MID}/seq=1")
    delivery = wire.core.next_delivery(["message"])
    wire.core.lost("cut")
    wire.connect()
    wire.core.handled(delivery)
    assert [] == wire.acks()
    again = wire.receive(f"u/bob/{MID}/seq=1")

    assert [again] == wire.acks()
    assert wire.core.next_delivery(["message"]) is None


def test_the_memory_of_mids_is_bounded_and_forgets_the_oldest():
    """A repeat of something forgotten is handed out again rather than lost."""
    wire = Wire("message", recent_max=2).connect()
    for mid in (MID, NEXT, "00000000000000a3"):
        wire.receive(f"u/bob/{mid}/seq=1")
        wire.core.handled(wire.core.next_delivery(["message"]))
    wire.receive(f"u/bob/{NEXT}/seq=1")
    assert wire.core.next_delivery(["message"]) is None
    wire.receive(f"u/bob/{MID}/seq=1")

    assert MID == wire.core.next_delivery(["message"]).event.mid


def test_a_message_to_oneself_and_its_own_copy_are_two_things():
    """The same mid as received message and as `sent` copy is no repeat."""
    wire = Wire("message", "own").connect()
    wire.receive(f"u/alice/{MID}/seq=1")
    wire.receive(f"sent/u/alice/{MID}/seq=1")

    kinds = [wire.core.next_delivery(["message", "own"]).kind for _ in range(2)]
    assert ["message", "own"] == kinds


def test_a_status_repeated_byte_for_byte_is_told_once():
    """Statuses come at least once; on_status hears each step once."""
    wire = Wire("status").connect()
    first = wire.status("c1", 1, ts=5)
    delivery = wire.core.next_delivery(["status"])
    second = wire.status("c1", 1, ts=5)
    wire.core.handled(delivery)
    third = wire.status("c1", 1, ts=5)

    assert [first, second, third] == wire.acks()
    assert wire.core.next_delivery(["status"]) is None


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("news/1", b""),
        ("status/c1", b"{"),
        ("status/c1", b"[]"),
        ("rpc/r", b"1"),
        ("session", b"[]"),
        ("event/g/t/1", b"\xff"),
    ],
)
def test_what_it_cannot_read_is_logged_and_acknowledged(topic, payload, caplog):
    """Held back it would take one of the 64 places of this device for ever."""
    wire = Wire("status", "session", "event").connect()
    packet_id = wire.receive(topic, payload)

    assert [packet_id] == wire.acks()
    assert "ignored and acknowledged" in caplog.text


@pytest.mark.parametrize(
    ("said", "asked_s"),
    [
        ({"event": "closing", "retry_after": 1.7}, 1.7),
        ({"event": "closing", "retry_after": 3}, 3.0),
        ({"event": "closing", "retry_after": -1}, 0.0),
        ({"event": "closing", "retry_after": "soon"}, 0.0),
        ({"event": "closing"}, 0.0),
        ({"event": "inbox-full", "retry_after": 5}, 0.0),
    ],
)
def test_a_server_that_stops_says_when_to_come_back(said, asked_s):
    """It counts once, for the connection that comes next; other news leave it alone."""
    wire = Wire().connect()
    wire.receive("session", json.dumps(said).encode())
    wire.receive("session", b'{"event":"denied","topic":"x"}')

    assert [asked_s, 0.0] == [wire.core.take_retry_after() for _ in range(2)]


def test_signals_that_nobody_takes_in_time_are_dropped():
    """Presence at QoS 0 has no window: a flood of it is bounded here."""
    wire = Wire("presence").connect()
    for _ in range(1500):
        wire.core.receive("m/alice/in/presence/u/bob", b"typing", None)

    assert 1000 == sum(1 for _ in iter(lambda: wire.core.next_delivery(["presence"]), None))


def test_marking_an_own_copy_as_read_is_an_error():
    """Only what others sent is read."""
    wire = Wire("own").connect()
    wire.receive(f"sent/u/bob/{MID}/seq=1")
    copy = wire.core.next_delivery(["own"]).event

    with pytest.raises(ValueError, match="own message"):
        wire.core.mark_read(copy, is_upto=False)


def test_a_handler_added_while_connecting_is_subscribed_too():
    """Between CONNACK and SUBACK, and after it."""
    wire = Wire()
    wire.core.connecting()
    wire.core.accepted(session_present=False)
    wire.core.want("message")
    wire.core.subscribed(is_granted=True)
    wire.core.want("presence")
    wire.core.want("presence")

    added = [list(names) for names in wire.core.due_subscriptions][1:]
    assert [["m/alice/in/u/#", "m/alice/in/g/#"], ["m/alice/in/presence/#"]] == added


def test_another_root_is_used_throughout():
    """`root` replaces the first level in both directions."""
    core = Core("al ice", root="chat", make_id=lambda: "c")
    core.send("bob", b"", is_group=False, now=0.0, options={})
    core.connecting()
    core.accepted(session_present=False)
    core.subscribed(is_granted=True)

    assert "chat/al%20ice/in/status/#" == core.due_subscriptions[0][0]
    assert "chat/al%20ice/out/u/bob/c" == core.outbox.next_due().topic
