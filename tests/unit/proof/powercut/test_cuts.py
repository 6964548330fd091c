"""Power cuts on a busy server: nothing accepted is lost; and a server that promised too early would be found out."""

from __future__ import annotations

import pytest

from mesimqtt.proof.powercut.cuts import CHAIN, Cuts, live
from mesimqtt.proof.powercut.template import Template
from mesimqtt.proof.powercut.vfs import PowerCutDisk
from mesimqtt.proof.powercut.world import PowerWorld


class NormalWorld(PowerWorld):
    """A server whose store syncs as SQLite's NORMAL does: not at every commit."""

    synchronous = "NORMAL"


class LateConnection:
    """A connection that says COMMIT is done, and does it before its next statement."""

    def __init__(self, connection):
        self._connection = connection
        self._owes = False

    def execute(self, sql, *values):
        self.pay()
        if sql == "COMMIT":
            self._owes = True
            return None
        return self._connection.execute(sql, *values)

    def executemany(self, sql, rows):
        self.pay()
        return self._connection.executemany(sql, rows)

    def pay(self):
        if self._owes:
            self._owes = False
            self._connection.execute("COMMIT")

    @property
    def in_transaction(self):
        return self._connection.in_transaction and not self._owes

    def __getattr__(self, name):
        return getattr(self._connection, name)


class LateDisk(PowerCutDisk):
    """A disk below a store that acknowledges before COMMIT."""

    def connect(self, path):
        return LateConnection(super().connect(path))


def test_nothing_accepted_is_lost(tmp_path):
    """The trial itself, in its short form: every message that was accepted is read back, in order, once."""
    told = []
    outcome = Cuts().run(50, seed=1, folder=tmp_path, progress=told.append)

    assert (50, 0, ()) == (outcome.tried, outcome.failed, outcome.failures)
    assert [25, 50] == told
    assert 40 <= outcome.figures["accepted_messages"]


def test_the_same_seed_is_the_same_life(tmp_path):
    """A seed repeats what it found: the same messages, deliveries and changes of the disk."""
    template = Template(tmp_path)
    lives = [live(template, 3, 10) for _ in range(2)]

    assert lives[0] == lives[1]
    assert lives[0].figures != live(template, 4, 10).figures


@pytest.mark.parametrize(("world_type", "power_type"), [(NormalWorld, PowerCutDisk), (PowerWorld, LateDisk)])
def test_it_is_not_blind(tmp_path, world_type, power_type):
    """With synchronous=NORMAL, or with an acknowledgement before COMMIT, the same lives lose what was accepted."""
    template = Template(tmp_path, world_type, power_type)
    found = []
    for seed in range(1, 30):
        found += live(template, seed, CHAIN).failures
        if any(each.startswith("lost") for each in found):
            break

    assert any(each.startswith("lost") for each in found)
