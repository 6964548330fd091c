"""The gate: opinions of fast and of amqtt's own plugins combined, cached, and never in each other's way."""

from __future__ import annotations

import asyncio
import logging

import pytest
from amqtt.contexts import Action as AmqttAction

from mesimqtt.broker import foreign
from mesimqtt.broker.foreign import Fault
from mesimqtt.broker.gate import DECISIONS_MAX
from mesimqtt.hooks import Action, ConnectRequest, Decision, Identity, Refusal
from mesimqtt.messaging.audit import LINES_PER_USER_S
from unit.broker.gate_world import Connection, Fast, Slow, World

ALICE = Identity(user="alice", jti="t")
REQUEST = ConnectRequest("phone", "alice", b"secret-password", True, 4, "127.0.0.1", "default")
YES = Decision(allow=True, rule="rules[0]")
NO = Decision(allow=False, rule="rules[1]")


NONSENSE = [
    True,
    "alice",
    {"user": "alice"},
    Identity(user=""),
    Identity(user=7),
    Identity(user="alice", expires_at=float("nan")),
    Identity(user="alice", packet_max="128"),
    Identity(user="alice", acl=[["publish", "#"]]),
    Identity(user="alice", acl=(("publish",),)),
    Identity(user="alice", device=4),
    Refusal("5", "no"),
    Refusal(0, "accepted, as a refusal"),
]


async def settled(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("nothing happened")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([ALICE], ALICE),
        ([None, ALICE], ALICE),
        ([ALICE, Identity(user="alice")], ALICE),
        ([ALICE, Refusal(4, "no")], Refusal(4, "no")),
        ([None], Refusal(5, "no auth plugin accepted it")),
        ([], Refusal(5, "no auth plugin accepted it")),
        ([ALICE, Identity(user="bob")], Fault(5, "auth plugins name different users")),
        ([ValueError("broken")], Fault(5, "plugin Fast failed")),
        ([SystemExit("mine to end")], Fault(5, "plugin Fast failed")),
        ([BaseException("what no program expects")], Fault(5, "plugin Fast failed")),
        *(([nonsense], Fault(5, "plugin Fast answered nonsense")) for nonsense in NONSENSE),
    ],
)
def test_all_opinions_must_be_positive_and_one_must_be_there(answers, expected):
    """The verdict of fast plugins is amqtt's rule: all opinions positive, at least one; an exception refuses."""
    world = World(auth=[Fast(answer) for answer in answers])

    assert expected == world.gate.authenticate(Connection(), REQUEST)


@pytest.mark.parametrize(
    ("fast", "slow", "expected"),
    [
        ([], [True], Identity(user="alice")),
        ([], [True, None], Identity(user="alice")),
        ([ALICE], [True], ALICE),
        ([ALICE], [None], ALICE),
        ([ALICE], [False], Refusal(5, "plugin Slow said no")),
        ([None], [None], Refusal(5, "no auth plugin accepted it")),
        ([None], [KeyError("broken")], Fault(5, "plugin Slow failed")),
        ([None], [SystemExit("mine to end")], Fault(5, "plugin Slow failed")),
        ([None], [asyncio.CancelledError()], Fault(5, "plugin Slow failed")),
        ([None], [BaseExceptionGroup("two", [KeyboardInterrupt()])], Fault(5, "plugin Slow failed")),
        ([ALICE], [TimeoutError("its own")], Fault(5, "plugin Slow failed")),
        *(
            ([ALICE], [nonsense], Fault(5, "plugin Slow answered nonsense"))
            for nonsense in ("yes", 1, 0.0, float("nan"))
        ),
    ],
)
def test_amqtts_auth_plugins_are_asked_by_their_coroutine(fast, slow, expected):
    """The engine waits for plugins that only have amqtt's coroutine; the answer comes through the connection."""

    async def story():
        world = World(auth=[Fast(answer) for answer in fast] + [Slow(answer) for answer in slow])
        connection = Connection()
        assert world.gate.authenticate(connection, REQUEST) is None
        await settled(lambda: connection.verdicts)
        await world.gate.close()

        assert [expected] == connection.verdicts
        assert 1 == world.woken

    asyncio.run(story())


def test_amqtts_plugin_sees_what_the_client_claims():
    """The session that an amqtt plugin gets carries client id, user name, password and address."""

    async def story():
        plugin = Slow(True)
        world = World(auth=[plugin])
        connection = Connection()
        world.gate.authenticate(connection, REQUEST)
        await settled(lambda: connection.verdicts)
        seen = plugin.asked[0]

        assert ("phone", "secret-password", "127.0.0.1", True) == (
            seen.client_id, seen.password, seen.remote_address, seen.clean_session,
        )  # fmt: skip

    asyncio.run(story())


@pytest.mark.parametrize(
    ("username", "change", "expected"),
    [
        ("bob", lambda session: setattr(session, "is_anonymous", True), Identity(user="anonymous")),
        (None, None, Identity(user="phone")),
        (None, lambda session: setattr(session, "username", "from-certificate"), Identity(user="from-certificate")),
    ],
)
def test_the_identity_of_a_client_that_only_amqtts_plugins_know(username, change, expected):
    """Its user is the session's user name, else the client id; an anonymous client is nobody whom it names."""

    async def story():
        world = World(auth=[Slow(True, change)])
        connection = Connection()
        request = ConnectRequest("phone", username, None, True, 4, "127.0.0.1", "default")
        world.gate.authenticate(connection, request)
        await settled(lambda: connection.verdicts)

        assert [expected] == connection.verdicts

    asyncio.run(story())


@pytest.mark.parametrize(
    ("certificate", "user", "expected"),
    [
        (None, "alice", Identity(user="alice")),
        ("alice", "alice", Identity(user="alice")),
        ("bob", "alice", Refusal(5, "the certificate belongs to another user")),
        (None, "carol", Refusal(5, "the user is disabled")),
        ("carol", "carol", Refusal(5, "the user is disabled")),
    ],
)
@pytest.mark.parametrize("plugin", [Slow, Fast])
def test_whoever_lets_a_client_in_certificates_and_disabled_users_count(plugin, certificate, user, expected):
    """A certificate and what another plugin says must name the same user; whom an operator disabled stays out."""

    async def story():
        answer = True if plugin is Slow else Identity(user=user)
        world = World([plugin(answer)], is_disabled=lambda address: address == "carol")
        request = REQUEST._replace(username=user, certificate_user=certificate)
        connection = Connection()
        verdict = world.gate.authenticate(connection, request)
        if verdict is None:
            await asyncio.wait_for(connection.told.wait(), 20)
            (verdict,) = connection.verdicts

        assert expected == verdict

    asyncio.run(story())


def test_an_auth_plugin_that_never_answers_is_a_refusal():
    """After its time a silent plugin has refused."""

    async def story():
        world = World(auth=[Slow("never")], answer_s=0.01)
        connection = Connection()
        world.gate.authenticate(connection, REQUEST)
        await asyncio.wait_for(connection.told.wait(), 20)

        assert [Fault(5, "plugin Slow did not answer")] == connection.verdicts

    asyncio.run(story())


def test_waiting_clients_are_bounded(monkeypatch):
    """A plugin that is too slow for a flood of clients refuses the flood; who has gone meanwhile makes room."""
    monkeypatch.setattr(foreign, "CONNECTS_ASKED_MAX", 2)

    async def story():
        world = World(auth=[Slow("never")])
        first = Connection()
        verdicts = [world.gate.authenticate(each, REQUEST) for each in (first, Connection(), Connection())]
        await asyncio.sleep(0)
        first.closing = True
        again = [world.gate.authenticate(Connection(), REQUEST) for _ in range(2)]
        await world.gate.close()

        full = Fault(5, "too many clients wait for an auth plugin")
        assert ([None, None, full], [None, full]) == (verdicts, again)
        assert {} == world.sessions._sessions

    asyncio.run(story())


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([YES], YES),
        ([None, YES], YES),
        ([YES, NO], NO),
        ([None], Decision(allow=False, rule="default")),
        ([], Decision(allow=False, rule="default")),
        ([YES, RuntimeError("broken")], Decision(allow=False, rule="Fast")),
        ([YES, True], Decision(allow=False, rule="Fast")),
        ([Decision(allow="yes", rule="x")], Decision(allow=False, rule="Fast")),
        ([Decision(allow=True, rule=7)], Decision(allow=False, rule="Fast")),
    ],
)
def test_access_is_denied_unless_somebody_allows_and_nobody_denies(answers, expected):
    """No opinion at all denies; one denial denies; a broken plugin denies and is named as the rule."""
    world = World(access=[Fast(answer) for answer in answers])

    assert expected == world.gate.decide(Connection(ALICE), Action.PUBLISH, "x")


def test_decisions_are_cached_until_permissions_change():
    """The same question is asked once; every change of permissions makes it be asked again."""
    plugin = Fast(YES)
    world = World(access=[plugin])
    for _ in range(3):
        world.gate.decide(Connection(ALICE), Action.PUBLISH, "x")
    world.gate.permissions_changed()
    world.gate.decide(Connection(ALICE), Action.PUBLISH, "x")
    world.gate.decide(Connection(ALICE, client_id="other"), Action.PUBLISH, "x")

    assert 3 == plugin.asked
    assert 1 == world.gate.epoch


def test_the_cache_is_bounded():
    """A client that tries many topics does not grow the broker."""
    world = World(access=[Fast(YES)])
    connection = Connection(ALICE)
    for number in range(DECISIONS_MAX + 50):
        world.gate.decide(connection, Action.PUBLISH, f"x/{number}")

    assert len(world.gate._decisions) == DECISIONS_MAX


def test_root_and_sys_are_settled_before_any_plugin():
    """Without a claim the root is nobody's, and no plugin can open publishing to `$`."""
    plugin = Fast(YES)
    world = World(access=[plugin])
    connection = Connection(ALICE)

    assert Decision(allow=False, rule="root") == world.gate.decide(connection, Action.SUBSCRIBE, "m/alice/in/#")
    assert Decision(allow=False, rule="sys") == world.gate.decide(connection, Action.PUBLISH, "$SYS/x")
    assert YES == world.gate.decide(connection, Action.SUBSCRIBE, "$SYS/#")
    assert 1 == plugin.asked


@pytest.mark.parametrize(
    ("fast", "slow", "expected"),
    [
        ([], [True], Decision(allow=True, rule="Slow")),
        ([YES], [True], YES),
        ([YES], [None], YES),
        ([YES], [False], Decision(allow=False, rule="Slow")),
        ([], [None], Decision(allow=False, rule="default")),
        ([YES], [OSError("broken")], Decision(allow=False, rule="Slow")),
        ([YES], [asyncio.CancelledError()], Decision(allow=False, rule="Slow")),
        ([YES], [BaseException("what no program expects")], Decision(allow=False, rule="Slow")),
        ([YES], ["allowed"], Decision(allow=False, rule="Slow")),
    ],
)
def test_amqtts_topic_plugins_hold_the_connection_until_they_answer(fast, slow, expected):
    """The engine is told to wait, resumed with the answer, and asks again soon."""

    async def story():
        plugins = [Slow(answer) for answer in slow]
        world = World(access=[Fast(answer) for answer in fast] + plugins)
        connection = Connection(ALICE)

        assert world.gate.decide(connection, Action.WILL, "x") is None
        assert world.gate.decide(connection, Action.WILL, "x") is None
        await settled(lambda: connection.resumed)
        assert expected == world.gate.decide(connection, Action.WILL, "x")
        assert 1 == len(plugins[0].asked)
        session, topic, action = plugins[0].asked[0]
        assert ("alice", "x", AmqttAction.PUBLISH) == (session.username, topic, action)

        world.now += 0.6
        assert world.gate.decide(connection, Action.WILL, "x") is None
        await settled(lambda: connection.resumed == 2)
        world.gate.disconnected(connection)

    asyncio.run(story())


def test_a_denial_by_a_fast_plugin_needs_no_slow_one():
    """Where one of ours denies, amqtt's coroutine is not started."""
    slow = Slow(True)
    world = World(access=[Fast(NO), slow])

    assert NO == world.gate.decide(Connection(ALICE), Action.PUBLISH, "x")
    assert [] == slow.asked


def test_a_denial_is_one_escaped_line_and_the_publisher_is_told(caplog):
    """The audit line holds no raw control character, and a denied publish (not a subscribe) is told on in/session."""
    world = World()
    connection = Connection(Identity(user="mallory"), client_id="x\r\nINFO forged")
    with caplog.at_level(logging.WARNING, "mesimqtt.audit"):
        world.gate.audit(connection, Action.PUBLISH, "a\n\x1b[31mdenied user='alice'\u202e", "default")
        world.gate.audit(connection, Action.SUBSCRIBE, "b", "default")
    lines = [record.getMessage() for record in caplog.records]

    assert 2 == len(lines)
    assert all(character.isprintable() for character in "".join(lines))
    assert "user='mallory'" in lines[0]
    assert r"'a\n\x1b[31m" in lines[0] or r'"a\n\x1b[31m' in lines[0]
    assert [(connection, "a\n\x1b[31mdenied user='alice'\u202e", "default")] == world.denied


def test_a_refusal_is_logged_without_the_password(caplog):
    """Nothing of the password reaches the log."""
    world = World(auth=[Fast(Refusal(5, "bad signature"))])
    with caplog.at_level(logging.DEBUG):
        world.gate.authenticate(Connection(), REQUEST)

    assert "bad signature" in caplog.text
    assert "secret" not in caplog.text


def test_a_connect_that_is_refused_before_anybody_asks_who_it_is_is_logged(caplog):
    """Too long a password, no client id: the gate is not asked, so its closing has the line; else there is one."""
    world = World()
    early, late = Connection(client_id=""), Connection(client_id="phone")
    for connection in (early, late):
        connection.version, connection.close_reason = 4, "password too long"
        connection.remote_address = "192.0.2.9"
        with caplog.at_level(logging.WARNING, "mesimqtt.audit"):
            world.gate.closed(connection)

    assert ["closed: address='192.0.2.9' client='' user='' reason='password too long'"] == [
        record.getMessage() for record in caplog.records
    ]


def test_a_flood_of_denials_is_counted_not_written(caplog):
    """One user cannot fill the log; what was left out is told a second later."""
    world = World()
    connection = Connection(ALICE)
    with caplog.at_level(logging.WARNING, "mesimqtt.audit"):
        for number in range(50):
            world.gate.audit(connection, Action.SUBSCRIBE, f"x/{number}", "default")
        world.now += 1
        world.gate.tick(world.now)
    lines = [record.getMessage() for record in caplog.records]

    assert LINES_PER_USER_S + 1 == len(lines)
    assert f"{50 - LINES_PER_USER_S} more denials in the last second" == lines[-1]
