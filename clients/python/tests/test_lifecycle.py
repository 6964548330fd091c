"""The blocking client from start to close: its states, and what is left behind."""

from __future__ import annotations

import threading
import time

import pytest

from mesimqtt_client import ClientClosed, State, Status

MID = "00000000000000a1"


def test_close_waits_for_the_outbox_and_then_says_no(peer, make):
    """close returns whether all was settled; afterwards every verb raises ClientClosed."""
    peer.answers = (1,)
    client = make()
    client.start()
    message = client.send("bob", "hi")

    assert client.close(timeout=20)
    assert message.status is Status.SENT
    for act in (
        lambda: client.send("bob", "x"),
        lambda: client.rpc("ping"),
        lambda: message.wait("read"),
        client.start,
    ):
        with pytest.raises(ClientClosed):
            act()


def test_close_gives_up_what_nobody_answers(peer, make, caplog):
    """With a peer that never tells SENT, close ends in time, returns False and says how much is lost."""
    client = make()
    client.start()
    message = client.send("bob", "hi")
    begun = time.monotonic()

    assert not client.close(timeout=0.1)
    assert time.monotonic() - begun < 5
    assert "closed with 1 unacknowledged" in caplog.text
    assert message.status is None


def test_states_are_told_in_order(peer, make, until):
    """From start to close: connecting, online, offline, connecting, online."""
    client = make()
    states = []
    client.on_state(lambda state, reason: states.append(state))
    with client:
        client.wait_online(20)
        peer.cut()
        assert peer.wait(lambda: len(peer.connects) == 2)
        client.wait_online(20)
        assert until(lambda: len(states) >= 5)

    assert [State.CONNECTING, State.ONLINE, State.OFFLINE, State.CONNECTING, State.ONLINE] == states[:5]
    assert State.OFFLINE is client.state


def test_what_was_not_handled_at_close_is_not_acknowledged(peer, make):
    """It stays pending on the server and comes again to this device."""
    client = make()
    entered, release = threading.Event(), threading.Event()

    @client.on_message
    def slow(message):
        entered.set()
        release.wait(60)

    with client:
        client.wait_online(20)
        handled = peer.push(f"m/alice/in/u/bob/{MID}/seq=1", b"")
        waiting = peer.push(f"m/alice/in/u/bob/{MID[:-1]}2/seq=2", b"")
        assert entered.wait(20)
        closer = threading.Thread(target=client.close)
        closer.start()
        release.set()
        closer.join()

    assert peer.wait(lambda: peer.goodbyes == 1)
    assert [handled] == peer.acked
    assert waiting not in peer.acked


def test_a_handler_may_close_its_client(peer, make, until):
    """close from inside a handler ends the network at once and the handlers' thread when the handler returns."""
    client = make()
    client.on_message(lambda message: client.close())
    client.start()
    client.wait_online(20)
    peer.push(f"m/alice/in/u/bob/{MID}/seq=1", b"")

    assert peer.wait(lambda: peer.goodbyes == 1)
    assert until(lambda: client.state is State.OFFLINE)
