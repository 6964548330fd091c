"""The AsyncAPI document says what the router knows: no more, no less."""

from __future__ import annotations

from dataclasses import fields

import pytest

from mesimqtt.api.asyncapi import document
from mesimqtt.api.channels import IN, OUT
from mesimqtt.domain.status import Status
from mesimqtt.messaging.operations import OPERATIONS
from mesimqtt.topics import IN_CLASSES, NATIVE_PARAMS, Kind, Params, parse_in_filter, parse_out
from spoken import channels_of

LEVELS = {
    "peer": "bob%2F7",
    "group": "team",
    "sender": "carol",
    "cid": "a-1",
    "mid": "0123456789abcdef",
    "params": "seq=1",
    "op": "status",
    "r": "1",
}
FORMS = [(channel, form) for channel in (*OUT, *IN) for form in channel.forms]


def test_every_kind_of_topic_has_a_channel():
    """Each kind that the router takes under `out/` and each class that a filter under `in/` can select, no other."""
    assert set(Kind) == {channel.source for channel in OUT}
    assert IN_CLASSES | {"session"} == {channel.source for channel in IN}


@pytest.mark.parametrize(("channel", "form"), FORMS)
def test_a_channel_is_the_routers(channel, form):
    """A topic of a channel's form is taken by the router as that kind, and it belongs to that channel alone."""
    topic = form.format(**{**LEVELS, "params": "type=1" if channel in OUT else "seq=1"})
    names = channels_of(f"m/al%40ice/{topic}")

    assert 1 == len(names)
    assert names[0].rstrip("234") == channel.name
    side, _, rest = topic.partition("/")
    if side == "out":
        assert channel.source == parse_out(rest).kind
    else:
        assert parse_in_filter("session" if rest == "session" else f"{channel.source}/#") is not None


def test_every_operation_is_a_question_with_its_arguments():
    """Each operation stands in the channel of questions, with a schema that its example fits in names."""
    made = document()
    questions = made["channels"]["ask"]["messages"]

    assert {f"question.{name}" for name in OPERATIONS} == set(questions)
    for name, operation in OPERATIONS.items():
        schema = made["components"]["messages"][f"question.{name}"]["payload"]
        assert set(operation.parameters) == set(schema["properties"])
        assert set(operation.example) <= set(schema["properties"])


def test_every_parameter_and_status_is_described():
    """The keys of a parameter level and the codes of a status are those of the code."""
    schemas = document()["components"]["schemas"]

    own = {"age_from": "age-from", "has_stub": "stub"}
    keys = {own.get(each.name, each.name) for each in fields(Params)} - {"raw"} | {"seq"} | NATIVE_PARAMS
    assert keys == set(schemas["parameters"]["properties"])
    assert [int(each) for each in Status] == schemas["status"]["properties"]["status"]["enum"]


def test_the_root_and_the_host_are_the_askers():
    """A server with another root has its own addresses."""
    made = document(root="chat", host="example.org:8883")

    assert {"chat"} == {channel["address"].partition("/")[0] for channel in made["channels"].values()}
    assert "example.org:8883" == made["servers"]["mqtt"]["host"]


@pytest.mark.parametrize(
    "topic", ["m/alice/out/x/bob", "m/alice/in/u/bob", "m/alice/in/u/bob/xyz", "n/alice/in/session", "m/in/session"]
)
def test_what_the_contract_does_not_know_is_in_no_channel(topic):
    """The document is not so wide that anything fits."""
    assert [] == channels_of(topic)
