"""Endpoints: made, changed and deleted by operations or by the settings, their secrets, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesimqtt.domain.errors import MesimqttError, OperationError
from mesimqtt.services.webhooks.ports import Reply
from unit.services.hooked import SECRET, URL, cids, sender_of, signers

ACCEPTED = {"events": ("message.accepted",)}


def test_two_secrets_sign_while_one_is_rotated(hooked):
    """After a rotation both sign until the overlap is over; the new secret is shown once."""
    world = hooked(webhooks={"secret_overlap_s": 3_600})
    first = world.do("webhook_add", name="ops", url=URL, events=["message.accepted"])["secret"]
    alice = sender_of(world)
    second = world.do("webhook_rotate", name="ops")["secret"]
    alice.publish("u/bob/1", "x")
    both = signers(world.receivers.sent[-1], first, second)
    world.jump(3_700)
    alice.publish("u/bob/2", "x")
    one = signers(world.receivers.sent[-1], first, second)

    assert first != second
    assert ([first, second], [second]) == (both, one)
    assert "secret" not in world.do("webhook_show", name="ops")
    secrets = world.rows("SELECT * FROM webhook")
    assert first.removeprefix("whsec_") not in repr(secrets)


def test_endpoints_are_made_changed_and_deleted_while_it_runs(hooked):
    """Add, list, set and delete take effect with the next event."""
    world = hooked()
    alice = sender_of(world)
    world.do("webhook_add", name="ops", url=URL, events=["message.accepted"])
    alice.publish("u/bob/1", "x")
    world.do("webhook_set", name="ops", payload=True, batch_max=7)
    alice.publish("u/bob/2", "hello")
    world.advance(2)
    listed = world.do("webhook_list")["webhooks"]
    world.do("webhook_delete", name="ops")
    alice.publish("u/bob/3", "x")
    world.advance(2)
    bodies = world.receivers.take()

    assert [["1"], ["2"]] == cids(bodies)
    assert ("hello", 7, 2) == (bodies[1]["data"]["events"][0]["text"], listed[0]["batch_max"], listed[0]["sent"])
    assert [] == world.do("webhook_list")["webhooks"]
    assert world.store.committer._writer.recorder is None


def test_a_test_event_goes_at_once_and_wakes_what_waits(hooked):
    """webhook_test tells what was answered; when it is taken, the back-off is over."""
    world = hooked(ACCEPTED, webhooks={"retries_s": (3_600,)})
    world.receivers.answers[URL] = [Reply(503), Reply(500), Reply(200)]
    sender_of(world).publish("u/bob/1", "x")
    assert {"name": "crm", "delivered": False, "status": 500, "error": "it answered 500"} == world.do(
        "webhook_test", name="crm"
    )
    assert world.do("webhook_test", name="crm")["delivered"]
    world.advance(1)

    assert ["message.accepted", "webhook.test", "webhook.test", "message.accepted"] == [
        event["type"] for event in world.receivers.events()
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "a b", "url": URL}, "letters, digits"),
        ({"name": "x", "url": "http://example.org/"}, "https://"),
        ({"name": "x", "url": "https://10.0.0.1/"}, "private address"),
        ({"name": "x", "url": "https://example.org:22/"}, "port"),
        ({"name": "x", "url": URL, "events": ["message.sent"]}, "no event"),
        ({"name": "x", "url": URL, "format": "xml"}, "format is one of"),
        ({"name": "x", "url": URL, "batch_max": 0}, "batch_max must be"),
        ({"name": "x", "url": URL, "batch_age_ms": -5}, "batch_age_ms must be"),
    ],
)
def test_what_cannot_be_an_endpoint_is_refused_with_a_reason(hooked, arguments, words):
    """Nothing is made of a wrong argument, and the text says what is wrong."""
    world = hooked()
    with pytest.raises(OperationError, match=words):
        world.do("webhook_add", **arguments)

    assert [] == world.do("webhook_list")["webhooks"]


def test_endpoints_have_a_bound_and_a_name_each(hooked):
    """A name is given once, and webhooks.endpoints_max bounds them all."""
    world = hooked(webhooks={"endpoints_max": 1})
    world.do("webhook_add", name="one", url=URL)
    for name, code in (("one", "too-many"), ("two", "too-many")):
        with pytest.raises(OperationError) as caught:
            world.do("webhook_add", name=name, url=URL)
        assert code == caught.value.code


def test_an_endpoint_of_the_settings_is_theirs(hooked):
    """It cannot be changed, deleted or rotated by an operation, only switched."""
    world = hooked(ACCEPTED)
    for op, arguments in (("webhook_set", {"payload": True}), ("webhook_delete", {}), ("webhook_rotate", {})):
        with pytest.raises(OperationError, match="configuration"):
            world.do(op, name="crm", **arguments)
    world.do("webhook_set", name="crm", active=False)
    sender_of(world).publish("u/bob/1", "x")
    world.advance(2)

    assert [] == world.receivers.sent


def test_a_file_of_secrets_is_read_again_when_asked_to(tmp_path, hooked):
    """A new secret is written before the old one: both sign. A file that cannot be used changes nothing."""
    path = tmp_path / "crm.secret"
    path.write_text(SECRET + "\n")
    world = hooked({**ACCEPTED, "secret": "", "secret_file": str(path)})
    alice = sender_of(world)
    new = "whsec_" + "A" * 32
    path.write_text(f"{new}\n{SECRET}")
    world.messaging.webhooks.reload()
    alice.publish("u/bob/1", "x")
    path.write_text("nonsense")
    world.messaging.webhooks.reload()
    alice.publish("u/bob/2", "x")

    assert [[new, SECRET], [new, SECRET]] == [signers(sent, new, SECRET) for sent in world.receivers.sent]
    assert [["1"], ["2"]] == cids(world.receivers.take())


@pytest.mark.parametrize(
    ("endpoints", "words"),
    [
        ([{"secret": ""}], "secret"),
        ([{"secret": "whsec_c2hvcnQ="}], "24 to 64 bytes"),
        ([{"secret": "", "secret_file": "/nowhere/at/all"}], "cannot read"),
        ([{"url": "ftp://example.org/"}], "https://"),
        ([{"events": ("nothing",)}], "no event"),
        ([{}, {}], "same name"),
    ],
)
def test_a_mistake_in_the_settings_is_named(hooked, endpoints, words):
    """The server does not start, and the text names the endpoint and what is wrong."""
    with pytest.raises(MesimqttError, match=words):
        hooked(*endpoints)


def test_an_endpoint_that_left_the_settings_records_nothing(hooked):
    """Its row and what waits stay, switched off with the reason; back in the settings it goes on."""
    world = hooked(ACCEPTED)
    world.receivers.answers[URL] = [Reply(500)]
    alice = sender_of(world)
    alice.publish("u/bob/1", "x")
    settings = world.settings
    world.settings = replace(settings, webhooks=replace(settings.webhooks, endpoints=()))
    world.restart(kill=False)
    shown = world.do("webhook_show", name="crm")
    assert (False, 1, "it is no longer in the settings") == (shown["active"], shown["waiting"], shown["error"])
    world.settings = settings
    world.restart(kill=False)
    world.advance(10)

    assert [["1"], ["1"]] == cids(world.receivers.take())
    assert SECRET == world.settings.webhooks.endpoints[0].secret
