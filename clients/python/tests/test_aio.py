"""The asyncio client against a scripted peer on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json

import pytest

from mesimqtt_client import (
    AsyncClient,
    ClientClosed,
    ConnectionDenied,
    ConnectionLost,
    MessageFailed,
    OutboxFull,
    RpcError,
    State,
    Status,
)

MID = "00000000000000a1"
FAST = {"reconnect_base_s": 0.01, "reconnect_max_s": 0.05}


def in_loop(function):
    """Run a coroutine test in a loop of its own, and see that it leaves no task behind."""

    @functools.wraps(function)
    def run(*arguments, **named):
        async def body():
            await function(*arguments, **named)
            return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("mesimqtt-")}

        left = asyncio.run(asyncio.wait_for(body(), 30), debug=True)
        gc.collect()

        assert set() == left

    return run


async def seen(peer, is_so):
    """Wait for something that the peer sees, without stopping the loop."""
    return await asyncio.to_thread(peer.wait, is_so)


@pytest.fixture
def make(peer, token):
    def start(**options):
        return AsyncClient(
            options.pop("url", peer.url), **{"token": token("alice"), "device": "phone", **FAST, **options}
        )

    return start


@in_loop
async def test_send_and_wait_go_through_the_steps(peer, make):
    """await send, await wait: SENT, DELIVERED, READ, and a failure with its verdict."""
    async with make() as client:
        message = await client.send("bob", "hi", type=2)
        assert await seen(peer, lambda: len(peer.messages()) == 1)
        waiter = asyncio.create_task(message.wait("read", timeout=20))
        for code in (1, 2, 3):
            peer.status(message.cid, code)
        assert await waiter is Status.READ
        failing = await client.send_group("team", b"")
        assert await seen(peer, lambda: len(peer.messages()) == 2)
        peer.status(failing.cid, 0x91, group="team")
        with pytest.raises(MessageFailed, match="not-member for 'team'"):
            await failing.wait("sent", timeout=20)

    assert f"m/alice/out/u/bob/{message.cid}/type=2" == peer.messages()[0].topic
    assert await seen(peer, lambda: peer.goodbyes == 1)


@in_loop
async def test_an_edit_and_a_recall_name_the_message(peer, make):
    """As the blocking client's."""
    peer.answers = (1,)
    async with make() as alice:
        first = await alice.send("bob", "helo")
        await first.wait("sent", timeout=20)
        second = await first.edit("hello")
        third = await first.recall(stub=False)

        assert await seen(peer, lambda: len(peer.messages()) == 3)
        assert [
            f"m/alice/out/u/bob/{second.cid}/edit={first.mid}",
            f"m/alice/out/u/bob/{third.cid}/recall={first.mid}&stub=0",
        ] == [message.topic for message in peer.messages()[1:]]
        assert [b"hello", b""] == [message.payload for message in peer.messages()[1:]]


@in_loop
async def test_wait_times_out_and_a_cancelled_wait_changes_nothing(peer, make):
    """TimeoutError says how far it is; after a cancelled wait another one still succeeds."""
    peer.answers = (1,)
    async with make() as client:
        message = await client.send("bob", "hi")
        waiter = asyncio.create_task(message.wait("delivered"))
        await message.wait("sent", timeout=20)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        with pytest.raises(TimeoutError, match="'sent' so far"):
            await message.wait("delivered", timeout=0.02)
        peer.status(message.cid, 2)

        assert await message.wait("delivered", timeout=20) is Status.DELIVERED


@in_loop
async def test_messages_are_acknowledged_when_the_next_is_asked_for(peer, make):
    """The body of `async for` is the handler: PUBACK leaves when it is through, the last one when the loop is left."""
    async with make() as client:
        stream = client.messages()
        await client.wait_online(20)
        for number in (1, 2):
            peer.push(f"m/alice/in/u/bob/{MID[:-1]}{number}/seq={number}", b"hi")
        assert (await anext(stream)).seq == 1
        marker = peer.push("m/alice/in/status/x", b'{"status":1}')
        assert await seen(peer, lambda: marker in peer.acked)
        assert [marker] == peer.acked
        async for message in stream:
            assert (message.sender, message.seq) == ("bob", 2)
            assert await seen(peer, lambda: len(peer.acked) == 2)
            await message.mark_read()
            break
        del stream
        assert await seen(peer, lambda: len(peer.acked) == 3)
        assert await seen(peer, lambda: len(peer.published) == 1)

    assert [marker, 1, 2] == peer.acked
    assert {"m/alice/in/u/#", "m/alice/in/g/#"} <= set(peer.subscribed)


@in_loop
async def test_an_exception_out_of_the_client_leaves_the_message_pending(peer, make):
    """What broke the program comes again to this device; what was handled before does not."""

    async def program():
        async with make() as client:
            client.messages()
            await client.wait_online(20)
            for number in (1, 2):
                peer.push(f"m/alice/in/u/bob/{MID[:-1]}{number}/seq={number}", b"hi")
            async for message in client.messages():
                1 / (2 - message.seq)

    with pytest.raises(ZeroDivisionError):
        await program()
    assert await seen(peer, lambda: peer.goodbyes == 1)

    assert [1] == peer.acked


@in_loop
async def test_messages_end_with_the_client_and_have_one_consumer(peer, make):
    """A second waiting consumer is an error, close ends the stream, and on_message excludes it."""
    client = make()
    client.start()
    first = asyncio.create_task(anext(client.messages(), None))
    await client.wait_online(20)
    with pytest.raises(RuntimeError, match="one consumer"):
        await anext(client.messages())
    with pytest.raises(RuntimeError, match="use one of the two"):
        client.on_message(print)
    await client.close()

    assert await first is None
    with pytest.raises(ClientClosed):
        await client.send("bob", "late")


@in_loop
async def test_handlers_may_be_coroutines_and_run_in_order(peer, make, caplog):
    """Plain and coroutine handlers have their turn one after another; one that raises stops nobody."""
    client = make()
    order = []

    @client.on_message
    async def slow(message):
        await asyncio.sleep(0.01)
        order.append(("slow", message.seq))

    @client.on_message
    def bad(message):
        order.append(("bad", message.seq))
        raise RuntimeError("cannot cope")

    states = []
    client.on_state(lambda state, reason: states.append(state))
    with pytest.raises(RuntimeError, match="use one of the two"):
        client.messages()
    async with client:
        await client.wait_online(20)
        for number in (1, 2):
            peer.push(f"m/alice/in/u/bob/{MID[:-1]}{number}/seq={number}", b"hi")
        assert await seen(peer, lambda: len(peer.acked) == 2)

    assert [("slow", 1), ("bad", 1), ("slow", 2), ("bad", 2)] == order
    assert [State.CONNECTING, State.ONLINE] == states[:2]
    assert 2 == caplog.text.count("a handler of on_message failed")


@in_loop
async def test_a_handler_that_hangs_is_cancelled_at_close(peer, make, caplog):
    """close ends in its time; the message is not acknowledged and comes again."""
    client = make()
    entered = asyncio.Event()

    @client.on_message
    async def hang(message):
        entered.set()
        await asyncio.Event().wait()

    client.start()
    await client.wait_online(20)
    peer.push(f"m/alice/in/u/bob/{MID}/seq=1", b"hi")
    await entered.wait()
    await client.close(timeout=0.05)

    assert "its message will come again" in caplog.text
    assert [] == peer.acked


@in_loop
async def test_a_cut_resends_with_the_same_cid_and_repeats_are_dropped(peer, make):
    """The shells share one core: outbox and memory of mids work as in the blocking client."""
    got = []
    client = make()
    client.on_message(lambda message: got.append(message.mid))
    async with client:
        message = await client.send("bob", b"hi")
        assert await seen(peer, lambda: len(peer.messages()) == 1)
        first = peer.push(f"m/alice/in/u/bob/{MID}/seq=1", b"hi")
        assert await seen(peer, lambda: first in peer.acked)
        peer.answers = (1, 2)
        peer.cut()
        assert await message.wait("delivered", timeout=20) is Status.DELIVERED
        again = peer.push(f"m/alice/in/u/bob/{MID}/seq=1", b"hi", dup=True)
        assert await seen(peer, lambda: again in peer.acked)

    assert [message.cid] * 2 == [each.cid for each in peer.messages()]
    assert [MID] == got


@in_loop
async def test_a_wrong_token_is_said_once(peer, make):
    """CONNACK 5 ends it: every verb raises ConnectionDenied, nothing is tried again."""
    peer.connack = 5
    async with make() as client:
        stream = client.messages()
        for waiting in (client.wait_online(20), anext(stream), client.rpc("ping")):
            with pytest.raises(ConnectionDenied):
                await waiting
        with pytest.raises(ConnectionDenied):
            await client.send("bob", "hi")

    assert State.DENIED is client.state
    assert 1 == len(peer.connects)


@in_loop
async def test_rpc_answers_refusals_and_losses(peer, make):
    """As in the blocking client: result, RpcError, ConnectionLost, TimeoutError."""

    def answer(published):
        _, _, _, _, operation, request = published.topic.split("/")
        replies = {"good": {"ok": True, "result": 7}, "bad": {"ok": False, "code": "no", "message": "not you"}}
        if operation in replies:
            peer.push(f"m/alice/in/rpc/{request}", json.dumps(replies[operation]).encode())
        elif operation == "cut":
            peer.cut()

    peer.on_publish = answer
    async with make() as client:
        assert 7 == await client.rpc("good")
        with pytest.raises(RpcError, match="not you"):
            await client.rpc("bad")
        with pytest.raises(ConnectionLost):
            await client.rpc("cut")
        with pytest.raises(TimeoutError, match="no answer to rpc 'silence'"):
            await client.rpc("silence", timeout=0.05)


@in_loop
async def test_bounds_presence_and_upto(peer, make):
    """OutboxFull at the bound, presence only online, flush and mark_read_upto as in the blocking client."""
    async with make(outbox_max=1) as client:
        assert not await client.presence("bob", "too early")
        await client.wait_online(20)
        assert await client.presence_group("team", "typing")
        message = await client.send("bob", "1")
        with pytest.raises(OutboxFull):
            await client.send("bob", "2")
        assert not await client.flush(0.02)
        assert await seen(peer, lambda: len(peer.messages()) == 1)
        peer.status(message.cid, 1)
        assert await client.flush(20)
        stream = client.messages()
        peer.push(f"m/alice/in/g/team/bob/{MID}/seq=1", b"")
        await client.mark_read_upto(await anext(stream))
        assert await seen(peer, lambda: len(peer.published) == 3)

    assert ("m/alice/out/read/g/team", f"<={MID}".encode()) == (peer.published[-1].topic, peer.published[-1].payload)


@in_loop
async def test_a_thousand_messages_flow_both_ways(peer, make):
    """Nothing is lost or doubled when both directions are busy and the socket's buffers fill."""
    peer.answers = (1,)
    payload = bytes(4096)
    async with make() as client:
        stream = client.messages()
        await client.wait_online(20)
        sent = [await client.send("bob", payload) for _ in range(500)]
        pushing = asyncio.create_task(asyncio.to_thread(push_many, peer, 500))
        got = [(await anext(stream)).seq for _ in range(500)]
        del stream
        await pushing
        for message in sent:
            await message.wait("sent", timeout=60)

    assert list(range(500)) == got
    assert [message.cid for message in sent] == [each.cid for each in peer.messages()]


def push_many(peer, count):
    for number in range(count):
        peer.push(f"m/alice/in/u/bob/{number:016x}/seq={number}", bytes(4096))


@in_loop
async def test_closing_while_it_connects_leaves_nothing_open(peer, make):
    """A close in any early moment ends the tasks and closes the socket that may still open."""
    for turns in range(6):
        client = make(url=f"mqtt://localhost:{peer.port}")
        client.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.close()
        assert State.OFFLINE is client.state
    async with make() as last:
        await last.wait_online(20)

    assert await seen(peer, lambda: 1 < peer.accepted == peer.ended)


@in_loop
async def test_cancelling_the_program_closes_the_client(peer, make):
    """A task that is cancelled inside `async with` still says DISCONNECT."""
    ready = asyncio.Event()

    async def program():
        async with make() as client:
            await client.wait_online(20)
            ready.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(program())
    await ready.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert task.cancelled()
    assert await seen(peer, lambda: peer.goodbyes == 1)
