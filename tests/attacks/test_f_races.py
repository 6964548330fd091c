"""Section F, row 106: what may happen once happens once, however many ask at the same moment."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mesimqtt.app import running
from mesimqtt.domain.errors import OperationError
from mesimqtt.settings import Settings

AT_ONCE = 100
GUESTS = 24  # of a PIN: to verify one is dear on purpose


def settings():
    """Return settings of a server on free ports, whose commits run in a thread of their own."""
    broker = {**Settings().broker, "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0"}}}
    return replace(Settings(), broker=broker, http=replace(Settings().http, bind="off"))


def played(folder, story):
    """Run a story on a server of its own."""

    async def run():
        async with running(settings(), folder) as app:
            return await story(app)

    return asyncio.run(run())


async def outcome(app, op, **arguments):
    """Return the answer of one operation, or the code of its refusal."""
    try:
        return await app.perform(op, arguments)
    except OperationError as error:
        return error.code


def test_one_name_is_registered_once(tmp_path):
    """Row 106: of a hundred who register the same name, one makes it, and the others are told that it exists."""

    async def story(app):
        users = await asyncio.gather(*(outcome(app, "user_add", addresses=["mallory"]) for _ in range(AT_ONCE)))
        groups = await asyncio.gather(*(outcome(app, "group_add", address="team") for _ in range(AT_ONCE)))
        return users, groups, await app.perform("user_list", {}), await app.perform("group_list", {})

    users, groups, listed, rooms = played(tmp_path, story)

    assert 1 == sum(answer["added"] == ["mallory"] for answer in users)
    assert AT_ONCE - 1 == sum(answer["existed"] == ["mallory"] for answer in users)
    assert 1 == sum(isinstance(answer, dict) for answer in groups)
    assert {"group-exists"} == {answer for answer in groups if isinstance(answer, str)}
    assert (1, 1) == (len(listed["users"]), len(rooms["groups"]))


def test_a_pin_for_one_lets_one_in(tmp_path):
    """Row 106: a PIN that may be used once is used once, whoever else has it at the same moment."""
    names = [f"u{number}" for number in range(GUESTS)]

    async def story(app):
        await app.perform("user_add", {"addresses": ["alice", *names]})
        await app.perform("group_add", {"address": "team", "owner": "alice"})
        pin = (await app.perform("group_pin_add", {"address": "team", "uses": 1}))["pin"]
        answers = await asyncio.gather(*(outcome(app, "group_enter", address="team", user=n, pin=pin) for n in names))
        return answers, await app.perform("group_show", {"address": "team"})

    answers, group = played(tmp_path, story)

    assert 1 == sum(isinstance(answer, dict) for answer in answers), answers[:3]
    assert 2 == len(group["members"])


@pytest.mark.parametrize("first", ["token_issue", "user_disable"])
def test_a_token_never_outlives_its_end(tmp_path, first):
    """Row 106: a token that is issued while its user is disabled or revoked is good or refused, never both."""

    async def story(app):
        await app.perform("user_add", {"addresses": ["bob"]})
        calls = [
            ("token_issue", {"addresses": ["bob"]}) if (number % 2 == 0) == (first == "token_issue")
            else ("user_disable", {"addresses": ["bob"]})
            for number in range(AT_ONCE)
        ]  # fmt: skip
        answers = await asyncio.gather(*(outcome(app, op, **arguments) for op, arguments in calls))
        issued = [answer["tokens"][0]["token"] for answer in answers if isinstance(answer, dict) and "tokens" in answer]
        good = [(await app.perform("token_show", {"token": token}))["state"] for token in issued]
        shown = await app.perform("user_show", {"address": "bob"})
        return answers, good, shown["state"]

    answers, good, state = played(tmp_path, story)

    assert "disabled" == state
    assert "valid" not in good
    assert {"user-disabled"} >= {answer for answer in answers if isinstance(answer, str)}
