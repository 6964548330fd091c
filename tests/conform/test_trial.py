"""The trial `conformance`: what of a run against our own server is a failure."""

from __future__ import annotations

import pytest

from conform.broken.between import Broken, with_password
from conform.virtual import Hall
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.proof.conform.runner import State
from mesimqtt.proof.conform.stage import Options
from mesimqtt.proof.conform.trial import wrongs

# No check; of a status; of a group; of 5.0; eleven seconds.
ONLY = ("C1.12", "C4.6", "C2.21", "C3.14", "C4.15")


class Deaf(Broken):
    """Delivers nothing."""

    def told(self, link, publish, raw):
        return []


class Powerless(Broken):
    """Its operator can make no groups."""

    async def perform(self, op, **arguments):
        if op.startswith("group_"):
            raise MesimqttError("no such command")
        return await super().perform(op, **arguments)


class Old(Broken):
    """Lets nobody in who speaks MQTT 5.0."""

    def greeted(self, link, raw):
        return with_password(raw, link.password, "no") if link.five else raw


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (Broken, {}),
        (Deaf, dict.fromkeys(("C2.21", "C3.14", "C4.6"), State.UNREACHED)),
        (Powerless, {"C2.21": State.UNCHECKED}),
        (Old, {"C3.14": State.UNCHECKED}),
    ],
)
def test_what_our_own_could_not_do_is_a_failure(tmp_path, broken, expected):
    """Left out may be only what has no check or takes longer than asked for: everything else our own server can do."""
    hall = Hall(tmp_path)
    results = hall.play(*ONLY, broken=broken(hall))
    hall.close()

    found = {each.statement.number: each.state for each in wrongs(results, Options(only=ONLY))}

    assert expected == found
