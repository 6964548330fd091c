"""The blocking client when the link is cut, the server is away, or it says no."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mesimqtt_client import ConnectionDenied, MessageFailed, State, Status

MID = "00000000000000a1"


def test_a_cut_before_the_puback_resends_with_the_same_cid(peer, make):
    """What the server may not have is published again on the next connection: same topic, same bytes."""
    peer.swallows_pubacks = True
    with make() as client:
        message = client.send("bob", b"hi", type=3)
        assert peer.wait(lambda: len(peer.messages()) == 1)
        peer.swallows_pubacks = False
        peer.answers = (1,)
        peer.cut()

        assert message.wait("sent", timeout=20) is Status.SENT
    first, second = peer.messages()
    assert (0, 1) == (first.connection, second.connection)
    assert (first.topic, first.payload) == (second.topic, second.payload)


def test_a_puback_alone_settles_nothing(peer, make):
    """Without SENT or a refusal the message is sent again despite its PUBACK: 3.1.1 acknowledges refusals too."""
    with make() as client:
        message = client.send("bob", "hi")
        assert peer.wait(lambda: len(peer.messages()) == 1)
        peer.cut()
        assert peer.wait(lambda: len(peer.messages()) == 2)
        peer.status(message.cid, 0x83)
        with pytest.raises(MessageFailed):
            message.wait("sent", timeout=20)
        peer.cut()
        assert peer.wait(lambda: len(peer.connects) == 3)
        client.wait_online(20)
        client.presence("bob", "after the outbox")
        assert peer.wait(lambda: len(peer.published) == 3)

    assert [message.cid] * 2 == [each.cid for each in peer.messages()]


def test_order_and_count_survive_many_cuts(peer, make):
    """Of 300 messages through a link that is cut again and again each arrives, and first copies are in order."""

    def cut_now_and_then(published):
        if len(peer.published) % 97 == 0:
            peer.cut()

    peer.on_publish = cut_now_and_then
    peer.answers = (1,)
    with make() as client:
        sent = [client.send("bob", str(number)) for number in range(300)]
        for message in sent:
            message.wait("sent", timeout=60)

    first_copies = list(dict.fromkeys(each.cid for each in peer.messages()))
    assert [message.cid for message in sent] == first_copies
    assert len(peer.connects) > 2


def test_many_threads_may_send_at_once(peer, make):
    """Eight threads with one client: every message is sent once, with a cid of its own, and answered."""
    peer.answers = (1, 2)
    done = []

    def run(client, name):
        texts = [f"{name} {number}" for number in range(25)]
        done.extend(client.send("bob", text).wait("delivered", timeout=60) for text in texts)

    with make() as client:
        threads = [threading.Thread(target=run, args=(client, name)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [Status.DELIVERED] * 200 == done
    assert 200 == len({each.cid for each in peer.messages()}) == len(peer.messages())


def test_a_repeat_is_dropped_by_its_mid_and_acknowledged(peer, make):
    """The handler sees a message once, over reconnects too; each repeat gets its own PUBACK."""
    client = make()
    got = []
    client.on_message(lambda message: got.append(message.mid))
    topic = f"m/alice/in/u/bob/{MID}/seq=1"
    with client:
        client.wait_online(20)
        first = peer.push(topic, b"hi")
        assert peer.wait(lambda: first in peer.acked)
        again = peer.push(topic, b"hi", dup=True)
        assert peer.wait(lambda: again in peer.acked)
        peer.cut()
        assert peer.wait(lambda: len(peer.connects) == 2)
        client.wait_online(20)
        third = peer.push(topic, b"hi", dup=True)
        assert peer.wait(lambda: third in peer.acked)

    assert [MID] == got


def test_a_message_cut_off_while_it_is_handled_is_acknowledged_on_the_new_connection(peer, make):
    """Its repeat waits for the running handler, is not handled again, and takes the PUBACK that the old link cannot."""
    client = make()
    entered, release, got = threading.Event(), threading.Event(), []

    @client.on_message
    def slow(message):
        got.append(message.mid)
        entered.set()
        release.wait(60)

    topic = f"m/alice/in/u/bob/{MID}/seq=1"
    with client:
        client.wait_online(20)
        old = peer.push(topic, b"hi")
        assert entered.wait(20)
        peer.cut()
        assert peer.wait(lambda: len(peer.connects) == 2)
        client.wait_online(20)
        new = peer.push(topic, b"hi", dup=True)
        marker = peer.push("m/alice/in/status/x", b'{"status":1}')
        assert peer.wait(lambda: marker in peer.acked)
        assert [marker] == peer.acked
        release.set()
        assert peer.wait(lambda: new in peer.acked)

    assert [MID] == got
    assert old not in peer.acked


@pytest.mark.parametrize("code", [2, 4, 5])
def test_a_wrong_token_is_said_once_and_not_tried_again(peer, make, until, code):
    """CONNACK 2, 4 or 5 is final: state denied with the reason, waiters and senders are told, no more connects."""
    peer.connack = code
    client = make()
    states = []
    client.on_state(lambda state, reason: states.append((state, reason)))
    early = client.send("bob", "queued before the verdict")
    with client:
        with pytest.raises(ConnectionDenied, match="check the token"):
            client.wait_online(20)
        with pytest.raises(ConnectionDenied):
            early.wait("sent", timeout=20)
        with pytest.raises(ConnectionDenied):
            client.send("bob", "now")
        assert until(lambda: len(states) == 2)
        assert peer.wait(lambda: peer.ended == 1)

    assert [State.CONNECTING, State.DENIED] == [state for state, _ in states]
    assert states[1][1] == client.state_reason != ""
    assert 1 == len(peer.connects)


def test_a_refused_subscription_is_final_too(peer, make):
    """A token whose user is somebody else gets 0x80 for the folder: that will not change by trying."""
    peer.suback = 0x80
    with make() as client, pytest.raises(ConnectionDenied, match="no subscription"):
        client.wait_online(20)

    assert 1 == len(peer.connects)


def test_a_busy_server_is_tried_again(peer, make):
    """CONNACK 3 (server unavailable) is a bad moment, not a verdict."""
    peer.connack = 3
    with make() as client:
        assert peer.wait(lambda: len(peer.connects) >= 3)
        peer.connack = 0
        client.wait_online(20)

        assert client.state is State.ONLINE


def test_a_server_that_is_down_is_tried_until_it_is_up(peer, make):
    """Refused connects leave the client offline with the reason; what was sent meanwhile goes out later."""
    reserved = socket.socket()  # it listens on nothing, and nobody else is given its port
    reserved.bind(("127.0.0.1", 0))
    client = make(url=f"mqtt://127.0.0.1:{reserved.getsockname()[1]}")
    tries = threading.Semaphore(0)
    client.on_state(lambda state, reason: tries.release() if state is State.OFFLINE and "refused" in reason else None)
    with client:
        message = client.send("bob", "later")
        assert all(tries.acquire(timeout=20) for _ in range(3))
        with pytest.raises(TimeoutError, match=r"nothing so far .*refused"):
            message.wait("sent", timeout=0)

        assert not client.close(timeout=0.01)
    reserved.close()


def test_a_peer_that_never_answers_connect_is_given_up(peer, make):
    """After connect_timeout_s without SUBACK the link is dropped and tried again."""
    peer.swallows_connects = True
    with make(connect_timeout_s=0.1) as client:
        assert peer.wait(lambda: len(peer.connects) == 1)
        peer.swallows_connects = False
        client.wait_online(20)

        assert 2 <= len(peer.connects)


def test_a_dead_link_is_noticed_by_its_silence(peer, make):
    """When nobody answers the ping within keep_alive_s, the link is dropped and a new one made."""
    peer.swallows_pings = True
    with make(keep_alive_s=1) as client:
        client.wait_online(20)

        assert peer.wait(lambda: len(peer.connects) == 2)


def test_each_connection_asks_for_a_fresh_token(peer, make, token):
    """A callable token is read anew for every connect, so one that expires can be replaced."""
    tokens = iter([token("alice", jti=str(number)) for number in range(3)])
    with make(token=lambda: next(tokens)) as client:
        client.wait_online(20)
        peer.cut()
        assert peer.wait(lambda: len(peer.connects) == 2)
        client.wait_online(20)

    assert [token("alice", jti="1"), token("alice", jti="2")] == [connect.password for connect in peer.connects]


def test_a_fault_in_the_tokens_callable_is_logged_and_tried_again(peer, make, token, caplog):
    """The network thread outlives it."""
    answers = iter([token("alice"), None, token("alice")])

    def fetch():
        answer = next(answers)
        if answer is None:
            raise RuntimeError("vault is sealed")
        return answer

    with make(token=fetch) as client:
        client.wait_online(20)

    assert "vault is sealed" in caplog.text
    assert 1 == len(peer.connects)


def test_a_full_store_is_no_verdict(peer, make):
    """Status `store` comes before the server hangs up, so that the client sends again: it does, with the same cid."""
    with make() as client:
        message = client.send("bob", "hi")
        assert peer.wait(lambda: len(peer.messages()) == 1)
        told = peer.status(message.cid, 0x80, reason="store")
        assert peer.wait(lambda: told in peer.acked)
        peer.answers = (1,)
        peer.cut()
        assert message.wait("sent", timeout=20) is Status.SENT

    assert [message.cid] * 2 == [each.cid for each in peer.messages()]


def test_a_kept_session_forgets_what_has_no_handler_any_more(peer, make):
    """With session present, the classes that an earlier run of the device subscribed to are given up."""
    peer.session_present = True
    client = make()
    client.on_message(print)
    with client:
        client.wait_online(20)
        assert peer.wait(lambda: peer.unsubscribed)

    kinds = ("sent", "read", "presence", "event")
    assert [f"m/alice/in/{kind}/#" for kind in kinds] == peer.unsubscribed


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate of 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    encoding, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no_password)
    path.write_bytes(made.public_bytes(encoding) + private)
    return path


def test_it_speaks_tls_with_an_authority_of_ones_own(make, tls_peer, certificate, until):
    """mqtts:// with tls= works both ways, also for a payload of many TLS records; the default context refuses."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    peer = tls_peer(server)
    peer.answers = (1,)
    url = f"mqtts://127.0.0.1:{peer.port}"
    client = make(url=url, tls=ssl.create_default_context(cafile=certificate))
    got = []
    client.on_message(lambda message: got.append(message.payload))
    big = bytes(range(256)) * 1000
    with client:
        client.send("bob", big).wait("sent", timeout=20)
        peer.push(f"m/alice/in/u/bob/{MID}/seq=1", big)
        assert peer.wait(lambda: len(peer.acked) == 2)
    assert [big] == got == [each.payload for each in peer.messages()]

    stranger = make(url=url)
    reasons = []
    stranger.on_state(lambda state, reason: reasons.append(reason.lower()))
    stranger.start()

    assert until(lambda: any("certificate" in reason for reason in reasons))
