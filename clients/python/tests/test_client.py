"""The blocking client against a scripted peer on a real socket."""

from __future__ import annotations

import json
import threading

import pytest

from mesimqtt_client import (
    ConnectionLost,
    Flag,
    GroupEvent,
    Message,
    MessageFailed,
    OutboxFull,
    Presence,
    ReadMark,
    RpcError,
    SessionNews,
    Status,
    StatusUpdate,
)

MID = "00000000000000a1"


@pytest.fixture
def alice(make):
    with make() as client:
        client.wait_online(20)
        yield client


def test_it_connects_as_its_device_and_its_user_with_a_session_that_lasts(peer, make, token):
    """CONNECT carries the device as client id, the address as user name, the token as password, clean session 0."""
    with make("bob", device="door", keep_alive_s=17) as client:
        client.wait_online(20)

    connect = peer.connects[0]
    assert ("door", "bob", token("bob"), False, 17) == (
        connect.client_id,
        connect.user,
        connect.password,
        connect.clean_session,
        connect.keep_alive_s,
    )
    assert peer.wait(lambda: peer.goodbyes == 1)


def test_a_message_is_published_as_the_contract_spells_it(peer, alice):
    """The topic holds the encoded address, a fresh cid and the parameters in one last level; the payload is as is."""
    peer.answers = (1,)
    first = alice.send("+1 4/5", b"\x00\xff", type=7, expiry=60, flags=Flag.READ_RECEIPT, ref=MID, params={"a b": "ü"})
    second = alice.send_group("team", "grüß")

    assert peer.wait(lambda: len(peer.messages()) == 2)
    topics = [message.topic for message in peer.messages()]
    level = f"type=7&expiry=60&flags=2&ref={MID}&a%20b=%C3%BC"
    assert [f"m/alice/out/u/%2B1%204%2F5/{first.cid}/{level}", f"m/alice/out/g/team/{second.cid}"] == topics
    assert [b"\x00\xff", "grüß".encode()] == [message.payload for message in peer.messages()]
    assert first.cid != second.cid


def test_wait_returns_the_step_and_the_message_shows_it(peer, alice):
    """Statuses arrive one by one; wait returns when its step or a later one is there, and mid comes with SENT."""
    message = alice.send("bob", "hi")
    assert message.status is None
    assert peer.wait(lambda: len(peer.messages()) == 1)
    peer.status(message.cid, 1, peer="bob")

    assert message.wait("sent", timeout=20) is Status.SENT
    assert message.mid == "0000000000000001"
    peer.status(message.cid, 2, peer="bob")
    peer.status(message.cid, 3, peer="bob")
    assert message.wait("read", timeout=20) is Status.READ
    assert message.wait("delivered", timeout=0) is Status.READ
    assert {"bob": Status.READ} == message.recipients
    assert "read" == str(message.status)


def test_an_edit_and_a_recall_name_the_message(peer, alice):
    """To the same place; before SENT there is no mid to name."""
    peer.answers = (1,)
    first = alice.send_group("team", "helo")
    first.wait("sent", timeout=20)
    second = first.edit("hello", type=2)
    third = first.recall()
    fourth = first.recall(stub=False)

    assert peer.wait(lambda: len(peer.messages()) == 4)
    assert [
        f"m/alice/out/g/team/{second.cid}/type=2&edit={first.mid}",
        f"m/alice/out/g/team/{third.cid}/recall={first.mid}",
        f"m/alice/out/g/team/{fourth.cid}/recall={first.mid}&stub=0",
    ] == [message.topic for message in peer.messages()[1:]]
    assert [b"hello", b"", b""] == [message.payload for message in peer.messages()[1:]]
    peer.answers = ()
    with pytest.raises(ValueError, match="wait for 'sent' first"):
        alice.send("bob", "x").recall()


def test_wait_raises_the_verdict_with_all_that_the_server_says(peer, alice):
    """A failure ends the wait at once as MessageFailed with status, reason and the numbers."""
    message = alice.send("bob", "hi")
    peer.wait(lambda: len(peer.messages()) == 1)
    peer.status(message.cid, 0x8C, peer="bob", reason="too fast", retry_after=5)

    with pytest.raises(MessageFailed, match="rate-limited for 'bob': too fast, retry after 5 s") as caught:
        message.wait("delivered", timeout=20)
    assert (Status.RATE_LIMITED, "too fast", 5) == (caught.value.status, caught.value.reason, caught.value.retry_after)
    assert "too fast" == message.reason


def test_wait_times_out_and_says_how_far_it_is(peer, alice):
    """TimeoutError names the recipient, the step that is missing and the newest one."""
    peer.answers = (1,)
    message = alice.send("bob", "hi")
    message.wait("sent", timeout=20)

    with pytest.raises(TimeoutError, match=r"no 'delivered' for 'bob' within 0\.05 s, 'sent' so far \(online\)"):
        message.wait("delivered", timeout=0.05)


def test_waiting_in_a_handler_behind_64_messages_says_why_it_fails(peer, make, until):
    """No status can pass what the device does not acknowledge, so the time-out names the cause."""
    client = make()
    caught = []

    @client.on_message
    def wait_in_vain(message: Message) -> None:
        if not caught:
            assert until(lambda: client._core.unhandled == 64)
            with pytest.raises(TimeoutError) as error:
                client.send("bob", "reply").wait("sent", timeout=0.05)
            caught.append(str(error.value))

    with client:
        client.wait_online(20)
        for number in range(64):
            peer.push(f"m/alice/in/u/bob/{number:016x}/seq={number + 1}", b"")
        assert peer.wait(lambda: len(peer.acked) == 64)
        peer.status(peer.messages()[0].cid, 1)

    assert "64 messages wait for their handler" in caught[0]


def test_a_group_message_has_a_status_per_member(peer, alice):
    """SENT is the message's own, each member has his steps, and one waits for a member."""
    message = alice.send_group("team", "hi")
    peer.wait(lambda: len(peer.messages()) == 1)
    peer.status(message.cid, 1, group="team")
    peer.status(message.cid, 2, group="team", peer="bob")
    peer.status(message.cid, 0x84, group="team", peer="carol")

    assert message.wait("delivered", member="bob", timeout=20) is Status.DELIVERED
    with pytest.raises(MessageFailed, match="expired for 'carol'"):
        message.wait("read", member="carol", timeout=20)
    with pytest.raises(ValueError, match="say whose"):
        message.wait("delivered", timeout=20)
    assert message.wait("sent", timeout=0) is Status.SENT
    assert {"bob": Status.DELIVERED, "carol": Status.EXPIRED} == message.recipients


def test_a_received_message_tells_all_of_the_contract(peer, make):
    """Sender, group, mid, seq, parameters and payload reach the handler decoded."""
    client = make()
    got = []
    client.on_message(got.append)
    with client:
        client.wait_online(20)
        peer.push(f"m/alice/in/u/%2B1%204/{MID}/seq=7&type=9&expiry=59&ref={MID}&k=v%20w", b"hi")
        peer.push(f"m/alice/in/g/team/bob/{MID[:-1]}2/seq=8", b"all")
        assert peer.wait(lambda: len(peer.acked) == 2)

    first, second = got
    assert ("+1 4", None, MID, 7, b"hi", "hi") == (
        first.sender,
        first.group,
        first.mid,
        first.seq,
        first.payload,
        first.text,
    )
    assert (9, 59, 3, MID, {"k": "v w"}) == (first.type, first.expiry, first.flags, first.ref, first.params)
    assert ("bob", "team", 8, b"all") == (second.sender, second.group, second.seq, second.payload)


def test_the_puback_leaves_only_after_the_handlers_returned(peer, make):
    """While a handler runs, its message is not acknowledged; handlers run one after another, in order of arrival."""
    client = make()
    entered, release, order = threading.Event(), threading.Event(), []

    @client.on_message
    def slow(message: Message) -> None:
        order.append(("slow", message.seq))
        entered.set()
        release.wait(60)

    @client.on_message
    def second(message: Message) -> None:
        order.append(("second", message.seq))

    with client:
        client.wait_online(20)
        first = peer.push(f"m/alice/in/u/bob/{MID}/seq=1", b"")
        other = peer.push(f"m/alice/in/u/bob/{MID[:-1]}2/seq=2", b"")
        assert entered.wait(20)
        sent = client.send("bob", "the network goes on meanwhile")
        assert peer.wait(lambda: len(peer.messages()) == 1)
        assert ([], [("slow", 1)]) == (peer.acked, order)
        release.set()
        assert peer.wait(lambda: len(peer.acked) == 2)
        peer.status(sent.cid, 1)

    assert [first, other] == peer.acked[:2]
    assert [("slow", 1), ("second", 1), ("slow", 2), ("second", 2)] == order


def test_a_handler_that_raises_is_logged_and_its_message_acknowledged(peer, make, caplog):
    """The other handlers and the next messages still have their turn."""
    client = make()
    seen = []

    @client.on_message
    def bad(message: Message) -> None:
        raise RuntimeError(f"cannot cope with {message.text}")

    client.on_message(lambda message: seen.append(message.text))
    with client:
        client.wait_online(20)
        peer.push(f"m/alice/in/u/bob/{MID}/seq=1", b"one")
        peer.push(f"m/alice/in/u/bob/{MID[:-1]}2/seq=2", b"two")
        assert peer.wait(lambda: len(peer.acked) == 2)

    assert ["one", "two"] == seen
    assert 2 == caplog.text.count("a handler of on_message failed")
    assert "cannot cope with one" in caplog.text


def test_without_a_handler_the_device_takes_no_messages(peer, make):
    """A device confirms what it takes, so one that only sends asks for statuses, answers and news alone."""
    client = make()
    with client:
        client.wait_online(20)
        assert ["m/alice/in/status/#", "m/alice/in/rpc/#", "m/alice/in/session"] == peer.subscribed
        held = peer.push(f"m/alice/in/u/bob/{MID}/seq=1", b"from an older subscription of this device")
        peer.push("m/alice/in/status/x", b'{"status":1}')
        assert peer.wait(lambda: len(peer.acked) == 1)
        assert held not in peer.acked

        got = []
        client.on_message(lambda message: got.append(message.seq))
        assert peer.wait(lambda: len(peer.acked) == 2 and len(peer.subscribed) == 5)

    assert [1] == got
    assert ["m/alice/in/u/#", "m/alice/in/g/#"] == peer.subscribed[3:]


def test_every_other_kind_of_news_has_its_handler(peer, make):
    """Own copies, statuses, read marks, presence, group events and session news arrive as typed values."""
    client = make()
    got = {}
    for kind in ("own", "status", "read", "presence", "event", "session"):
        getattr(client, f"on_{kind}")(lambda value, kind=kind: got.setdefault(kind, value))
    with client:
        client.wait_online(20)
        peer.push(f"m/alice/in/sent/u/bob/{MID}/seq=3", b"from my laptop")
        peer.push("m/alice/in/status/c1", b'{"cid":"c1","status":2,"name":"delivered","ts":5,"device":"pad"}')
        peer.push("m/alice/in/read/g/team", f"<={MID}".encode())
        peer.push("m/alice/in/presence/g/team/bob", b"typing", qos=0)
        peer.push(f"m/alice/in/event/g/team/{MID}/seq=4", b'{"joined":"dave"}')
        peer.push("m/alice/in/session", b'{"event":"token-expires","in":60}')
        assert peer.wait(lambda: len(peer.acked) == 5)

    own = got["own"]
    assert ("alice", "bob", b"from my laptop") == (own.sender, own.to, own.payload)
    assert StatusUpdate(cid="c1", status=Status.DELIVERED, code=2, ts=5, device="pad") == got["status"]
    assert ReadMark(None, "team", MID, is_upto=True) == got["read"]
    assert Presence("bob", "team", b"typing") == got["presence"]
    assert GroupEvent("team", MID, 4, {"joined": "dave"}) == got["event"]
    assert SessionNews("token-expires", {"event": "token-expires", "in": 60}) == got["session"]


def test_read_marks_go_to_the_conversation(peer, make):
    """mark_read names the message, mark_read_upto all before it too; in a group they name the group."""
    client = make()
    client.on_message(lambda message: message.mark_read() if message.group is None else client.mark_read_upto(message))
    with client:
        client.wait_online(20)
        peer.push(f"m/alice/in/u/b%20c/{MID}/seq=1", b"")
        peer.push(f"m/alice/in/g/team/bob/{MID[:-1]}2/seq=2", b"")
        assert peer.wait(lambda: len(peer.published) == 2)

    assert [("m/alice/out/read/u/b%20c", MID.encode()), ("m/alice/out/read/g/team", f"<={MID[:-1]}2".encode())] == [
        (each.topic, each.payload) for each in peer.published
    ]


def test_presence_is_for_the_moment(peer, alice, make):
    """It is published at QoS 0 when online; offline it says False and is forgotten."""
    assert alice.presence("bob", "typing")
    assert alice.presence_group("team", b"here")

    assert peer.wait(lambda: len(peer.published) == 2)
    assert [("m/alice/out/presence/u/bob", 0), ("m/alice/out/presence/g/team", 0)] == [
        (each.topic, each.qos) for each in peer.published
    ]
    assert not make("carol", device="idle").presence("bob", "typing")


def test_rpc_returns_the_result_or_raises_the_servers_word(peer, alice):
    """The answer is matched by the request id; ok gives its result, not ok an RpcError with code and message."""

    def answer(published):
        _, _, _, _, operation, request = published.topic.split("/")
        arguments = json.loads(published.payload)
        reply = (
            {"ok": True, "result": arguments}
            if operation == "echo"
            else {"ok": False, "code": "no", "message": "not you"}
        )
        peer.push(f"m/alice/in/rpc/{request}", json.dumps(reply).encode())

    peer.on_publish = answer

    assert {"a": ["ü"]} == alice.rpc("echo", {"a": ["ü"]}, timeout=20)
    with pytest.raises(RpcError, match="not you") as caught:
        alice.rpc("other")
    assert "no" == caught.value.code


def test_rpc_does_not_ask_twice(peer, alice):
    """Cut while it waits, it raises ConnectionLost at once: the operation may have been done; and it times out."""
    peer.on_publish = lambda published: peer.cut()
    with pytest.raises(ConnectionLost, match="may have been done"):
        alice.rpc("status", timeout=20)
    peer.on_publish = lambda published: None
    alice.wait_online(20)

    with pytest.raises(TimeoutError, match="no answer to rpc 'ping'"):
        alice.rpc("ping", timeout=0.05)
    assert ["status", "ping"] == [each.topic.split("/")[4] for each in peer.published]
    assert alice.flush(0)


def test_the_outbox_is_bounded_and_flush_waits_for_it(peer, make):
    """Above the bound send raises at once; when the statuses are in, there is room again."""
    with make(outbox_max=2) as client:
        client.wait_online(20)
        sent = [client.send("bob", "1"), client.send("bob", "2")]
        with pytest.raises(OutboxFull, match=r"outbox_max.*flush"):
            client.send("bob", "3")
        assert not client.flush(0.05)
        peer.wait(lambda: len(peer.messages()) == 2)
        peer.status(sent[0].cid, 1)
        peer.status(sent[1].cid, 0x83)

        assert client.flush(20)
        peer.answers = (1,)
        assert client.send("bob", "3").wait("sent", timeout=20) is Status.SENT
