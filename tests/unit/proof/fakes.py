"""Trials in a few lines: one that holds, one that finds, one that breaks, one that lacks a tool."""

from __future__ import annotations

from mesimqtt.proof.trial import Failure, Outcome, keeping


class Fake:
    """Does nothing as often as it is asked."""

    name, title, promises, unit = "fake", "nothing is done; nothing must break", ("P1",), "tries"

    def __init__(self):
        self.runs = []

    def run(self, count, *, seed, folder, progress):
        self.runs.append((count, seed, folder.is_dir()))
        for done in range(count):
            progress(done + 1)
        return self.outcome(count, seed)

    def outcome(self, count, seed):
        return Outcome(count, f"{seed}..{seed + count - 1}", figures={"messages": 10 * count, "worst_ms": float(seed)})


class Finding(Fake):
    """Finds what is broken, each time."""

    name = "finding"

    def outcome(self, count, seed):
        return Outcome(count, str(seed), (Failure("lost: 1 of alice", "python -m mesimqtt.proof finding"),), count)


class Breaking(Fake):
    """Has a mistake of its own."""

    name = "breaking"

    def outcome(self, count, seed):
        raise RuntimeError("no such thing")


class Lacking(Fake):
    """Needs a tool that is not there."""

    name = "lacking"

    def outcome(self, count, seed):
        return Outcome(0, "", skipped="strace is not installed")


class Interrupted(Fake):
    """Somebody presses Ctrl-C."""

    name = "interrupted"

    def outcome(self, count, seed):
        raise KeyboardInterrupt


class Halfway(Fake):
    """Somebody presses Ctrl-C after the first try."""

    name = "halfway"

    def run(self, count, *, seed, folder, progress):
        with keeping(lambda: self.outcome(1, seed)):
            progress(1)
            raise KeyboardInterrupt


class Quiet:
    """Shows nothing, but writes down what it was told."""

    def __init__(self):
        self.told = []

    def begin(self, chosen, count):
        return lambda done: self.told.append((chosen.name, done, count))

    def end(self, chosen, outcome):
        self.told.append((chosen.name, outcome.failed))
