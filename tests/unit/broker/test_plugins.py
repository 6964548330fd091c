"""Our plugins as amqtt loads them: tokens, open mode, the claim, and the coroutines that amqtt itself would call."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from amqtt.contexts import Action as AmqttAction
from amqtt.session import Session

from mesimqtt.broker.services import OPEN_USER, BareServices
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.hooks import Authenticator, ConnectRequest, Identity, Refusal
from mesimqtt.settings import Settings
from mesimqtt_plugins.acl import FolderAccess
from mesimqtt_plugins.auth import TokenAuth, is_loopback
from mesimqtt_plugins.routing import MessageRouting


class Tokens:
    """Knows one token."""

    def __init__(self):
        self.asked = []

    def check_connect(self, request):
        self.asked.append(request)
        is_right = request.password == b"the.right.token"
        return Identity(user="alice", jti="t") if is_right else Refusal(5, "unknown token")


def context_of(plugin, tokens=None, **options):
    services = BareServices()
    services.tokens = tokens or Tokens()
    return SimpleNamespace(
        services=services,
        settings=replace(Settings(), **options),
        config=plugin.Config(),
        permissions_changed=lambda: None,
        on_reload=lambda call: None,
    )


def request_of(username=None, password=None, address="127.0.0.1"):
    return ConnectRequest("phone", username, password, True, 4, address, "default")


def test_a_token_decides_who_enters():
    """TokenAuth passes the CONNECT to whoever verifies tokens, and returns its verdict."""
    tokens = Tokens()
    plugin = TokenAuth(context_of(TokenAuth, tokens))
    right, wrong = request_of("alice", b"the.right.token"), request_of("alice", b"wrong")

    assert Identity(user="alice", jti="t") == plugin.check_connect(right)
    assert Refusal(5, "unknown token") == plugin.check_connect(wrong)
    assert Refusal(5, "unknown token") == plugin.check_connect(request_of())
    assert [right, wrong, request_of()] == tokens.asked
    assert isinstance(plugin, Authenticator)


@pytest.mark.parametrize(
    ("username", "password", "address", "expected"),
    [
        (None, None, "127.0.0.1", Identity(user=OPEN_USER)),
        ("", b"", "::1", Identity(user=OPEN_USER)),
        (None, None, "::ffff:127.0.0.1", Identity(user=OPEN_USER)),
        ("alice", b"the.right.token", "127.0.0.1", Identity(user="alice", jti="t")),
        ("", b"the.right.token", "127.0.0.1", Identity(user="alice", jti="t")),
        ("guest", None, "127.0.0.1", Identity(user=OPEN_USER)),
        ("guest", b"secret", "127.0.0.1", Identity(user=OPEN_USER)),
        ("guest", b"a.wrong.token", "127.0.0.1", Refusal(5, "unknown token")),
        ("carol", None, "127.0.0.1", Refusal(5, "unknown token")),
        ("carol", b"wrong", "127.0.0.1", Refusal(5, "unknown token")),
    ],
)
def test_open_mode_is_for_clients_that_bring_no_token(username, password, address, expected):
    """In open mode a client without a token is a user of its own, unless it gives the name of a user who has one."""
    context = context_of(TokenAuth, open=True)
    context.services.is_user = lambda address: address == "carol"
    plugin = TokenAuth(context)

    assert expected == plugin.check_connect(request_of(username, password, address))


@pytest.mark.parametrize("address", ["192.0.2.7", "::ffff:192.0.2.7", "fe80::1", "", "localhost", "127.0.0.1:80"])
def test_open_mode_is_for_this_machine(address):
    """A client of another machine needs a token in open mode, too."""
    plugin = TokenAuth(context_of(TokenAuth, open=True))

    assert not is_loopback(address)
    assert isinstance(plugin.check_connect(request_of(address=address)), Refusal)


def session_of(username, password):
    session = Session()
    session.client_id, session.username, session.password = "phone", username, password
    return session


def test_amqtts_own_questions_get_the_same_answers():
    """`authenticate` and `topic_filtering` answer as the fast path does."""

    async def story():
        auth = TokenAuth(context_of(TokenAuth))
        access = FolderAccess(context_of(FolderAccess, open=True))
        alice, anyone = session_of("alice", "the.right.token"), session_of(OPEN_USER, None)

        assert (True, False) == (
            await auth.authenticate(session=alice), await auth.authenticate(session=session_of("alice", "wrong")),
        )  # fmt: skip
        answers = [
            await access.topic_filtering(session=session, topic=topic, action=AmqttAction.SUBSCRIBE)
            for session, topic in (
                (anyone, "free/#"),
                (anyone, "m/#"),
                (alice, "free/#"),
                (None, "free/#"),
                (anyone, ""),
            )
        ]
        assert [True, False, False, False, False] == answers

    asyncio.run(story())


def test_routing_claims_the_root():
    """MessageRouting hands messaging's claim to the broker, and refuses to start where there is none."""
    context = context_of(MessageRouting)
    claimed = []
    context.claim_root = claimed.append
    with pytest.raises(MesimqttError, match="leave this plugin out"):
        MessageRouting(context)
    context.services.claim = object()
    MessageRouting(context)

    assert [context.services.claim] == claimed


def test_a_broker_that_stands_alone_knows_no_token():
    """BareServices refuses every token."""
    assert isinstance(BareServices().tokens.check_connect(request_of("alice", b"the.right.token")), Refusal)
