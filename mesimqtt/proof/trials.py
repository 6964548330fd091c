"""Every trial by its name: the one list that `mesimqtt selftest`, `make proof` and the suite go through."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from mesimqtt.proof.trial import Trial


class Listed(NamedTuple):
    """Where a trial stands, and how often it is tried."""

    where: str  # module:class, loaded when it is wanted: some are heavy
    short: int  # in CI: seconds for all trials together, a few each
    usual: int  # by `mesimqtt selftest`: some minutes for all
    long: int  # by `make proof`: what PROOF.md shows


# In the order in which they are run.
TRIALS: dict[str, Listed] = {
    "seeds": Listed("mesimqtt.proof.sim.seeds:Seeds", 2, 100, 1_000),
    "receipts": Listed("mesimqtt.proof.sim.seeds:Receipts", 2_000, 20_000, 100_000),
    "wills": Listed("mesimqtt.proof.sim.wills:Wills", 50, 1_000, 20_000),
    "kills": Listed("mesimqtt.proof.processes.kills:Kills", short=4, usual=100, long=1_000),
    "drains": Listed("mesimqtt.proof.processes.drains:Drains", short=2, usual=20, long=200),
    "freezes": Listed("mesimqtt.proof.processes.freezes:Freezes", short=1, usual=10, long=100),
    "full-disk": Listed("mesimqtt.proof.processes.full_disk:FullDisk", short=1, usual=10, long=50),
    "sync-errors": Listed("mesimqtt.proof.processes.sync_errors:SyncErrors", short=1, usual=10, long=50),
    "descriptors": Listed("mesimqtt.proof.processes.descriptors:Descriptors", short=1, usual=5, long=25),
    "second-server": Listed("mesimqtt.proof.processes.second_server:SecondServer", short=2, usual=10, long=50),
    "clock": Listed("mesimqtt.proof.processes.clock:Clock", short=1, usual=8, long=40),
    "sessions": Listed("mesimqtt.proof.processes.sessions:Sessions", short=200, usual=2_000, long=10_000),
    "links": Listed("mesimqtt.proof.processes.links:Links", short=4, usual=24, long=240),
    "revocations": Listed("mesimqtt.proof.processes.revocations:Revocations", short=2, usual=20, long=200),
    "slow-readers": Listed("mesimqtt.proof.processes.slow_readers:SlowReaders", short=20, usual=100, long=1_000),
    "cuts": Listed("mesimqtt.proof.powercut.cuts:Cuts", 50, 2_000, 10_000),
    "every-write": Listed("mesimqtt.proof.powercut.every_write:EveryWrite", 25, 500, 4_000),
    "disk-faults": Listed("mesimqtt.proof.powercut.faults:DiskFaults", 24, 480, 4_800),
    "upgrades": Listed("mesimqtt.proof.powercut.upgrades:Upgrades", 60, 634, 6_340),
    "flips": Listed("mesimqtt.proof.powercut.flips:Flips", 12, 300, 2_000),
    "conformance": Listed("mesimqtt.proof.conform.trial:Conformance", 12, 199, 1_000),
    "replays": Listed("mesimqtt.proof.replays.trial:Replays", 1, 10, 200),
    "backups": Listed("mesimqtt.proof.backups.trial:Backups", 2, 12, 120),
    "parsers": Listed("mesimqtt.proof.fuzz.trial:Parsers", 3_000, 60_000, 1_000_000),
    "grammar": Listed("mesimqtt.proof.grammar.trial:Grammar", 20, 400, 5_000),
}


def trial(name: str) -> Trial:
    """Return a trial by its name. Raises KeyError."""
    module, _, cls = TRIALS[name].where.partition(":")
    return cast("Trial", getattr(import_module(module), cls)())
