"""The trial `backups`: one after the other under load, some of them killed; each is restored, checked and served."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesimqtt.app import running
from mesimqtt.proof.backups.load import ABSENT, Load, drain, people
from mesimqtt.proof.trial import FAILURES_KEPT_MAX, Failure, Outcome, keeping
from mesimqtt.settings import Settings
from mesimqtt.store.database import FILE_NAME
from mesimqtt.testing.process import Server

if TYPE_CHECKING:
    from collections.abc import Callable

_COMMAND = (sys.executable, "-m", "mesimqtt")
_QUIET_S = 1.0  # of load alone, before each backup
_DEADLINE_S = 300.0
_SERVED_ONE_IN = 5  # of the restored ones, so many are served to a client
_KILLED_SHARE = 0.3


class Backups:
    """Backups of a busy server at seeded moments; about a third of them are killed while they are made."""

    name = "backups"
    title = (
        "a busy server is backed up again and again, also with kill -9 in it: each backup restores, whole and complete"
    )
    promises = ("P16", "P3", "P5")
    unit = "backups"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Make `count` backups."""
        server = Server(folder / "data")
        tokens = server.add_users(*people())
        tried = 0

        def outcome() -> Outcome:
            again = f"python -m mesimqtt.proof {self.name} --count {count} --seed {seed}"
            failures = tuple(Failure(what, again) for what in life.wrong[:FAILURES_KEPT_MAX])
            return Outcome(tried, str(seed), failures, len(life.wrong), life.figures() if tried else {})

        with server:
            with Load((server.host, server.port), tokens) as load:
                life = Life(server, load, tokens, folder, random.Random(seed))
                with keeping(outcome):
                    for number in range(count):
                        life.step(number)
                        tried += 1
                        progress(tried)
            life.judge_load()
        return outcome()


class Life:
    """One server's life under load, and what was seen in it."""

    def __init__(self, server: Server, load: Load, tokens: dict[str, str], folder: Path, chance: random.Random) -> None:
        self.wrong: list[str] = []
        self._server, self._load, self._tokens, self._chance = server, load, tokens, chance
        self._folder, self._shelf = folder, folder / "shelf"
        self._alone: list[float] = []
        self._beside: list[float] = []
        self._took: list[float] = []
        self._counts = {"killed": 0, "whole_though_killed": 0, "restored": 0, "served": 0, "messages_restored": 0}
        self._log_max = 0

    def step(self, number: int) -> None:
        """Make one backup, or kill it; restore what came of it."""
        marks = self._load.marks()
        time.sleep(_QUIET_S * self._chance.uniform(0.5, 1.5))
        self._alone += self._load.since(marks)
        before, marks, began = self._load.acknowledged(), self._load.marks(), time.monotonic()
        known = self._names()
        process = self._begin_backup()
        if self._took and self._chance.random() < _KILLED_SHARE:
            self._kill(process, known, before)
            return
        made = self._made(process, f"backup {number}")
        self._took.append(time.monotonic() - began)
        self._beside += self._load.since(marks)
        log = self._server.data / f"{FILE_NAME}-wal"
        self._log_max = max(self._log_max, log.stat().st_size if log.exists() else 0)
        if made is None:
            return
        left = [each.name for each in self._shelf.iterdir() if each.name.startswith(".") and each.name != ".lock"]
        if left:
            self.wrong.append(f"backup {number}: what a killed one left is still there: {left}")
        self.restore(made, before, is_served=self._counts["restored"] % _SERVED_ONE_IN == 0)

    def back_up(self, what: str) -> Path | None:
        """Make a backup; return where it is, None if it failed."""
        return self._made(self._begin_backup(), what)

    def _begin_backup(self) -> subprocess.Popen[str]:
        return self._begin("backup", str(self._shelf), "--keep", "3", "--data", str(self._server.data))

    def _made(self, process: subprocess.Popen[str], what: str) -> Path | None:
        said = self._end(process, what)
        return Path(said["path"]) if said is not None else None

    def _kill(self, process: subprocess.Popen[str], known: set[str], before: dict[str, int]) -> None:
        if self._chance.random() < 0.7:  # while it writes, else at any time, before and after it too
            while process.poll() is None and not any(self._shelf.glob(".partial-*")):
                time.sleep(0.002)
            time.sleep(self._chance.uniform(0.0, 0.3) * self._chance.random())
        else:
            time.sleep(self._chance.uniform(0.0, 1.1) * statistics.median(self._took))
        process.kill()
        process.communicate()
        self._counts["killed"] += 1
        for name in self._names() - known:  # it was done, or looks so: then it must be as good as any
            self._counts["whole_though_killed"] += 1
            self.restore(self._shelf / name, before, is_served=False)

    def _names(self) -> set[str]:
        found = self._shelf.iterdir() if self._shelf.exists() else ()
        return {each.name for each in found if not each.name.startswith(".")}

    # ---- what came of it -----------------------------------------------------------------------------------------

    def restore(self, backup: Path, before: dict[str, int], *, is_served: bool) -> None:
        """Put a backup into a new folder and look whether everything accepted before it began is there."""
        place = self._folder / "restored"
        shutil.rmtree(place, ignore_errors=True)
        if self._end(self._begin("restore", str(backup), "--data", str(place)), f"restore of {backup.name}") is None:
            return
        self._counts["restored"] += 1
        found = self._end(self._begin("check", "--data", str(place)), f"check of {backup.name}")
        for each in (found or {"findings": []})["findings"]:
            if each["level"] != "ok":
                self.wrong.append(f"{backup.name}: {each['check']}: {each['what']}")
        seqs = asyncio.run(_last_seqs(place, list(before)))
        self._counts["messages_restored"] += sum(seqs.values())
        for name, count in before.items():
            if seqs[name] < count:
                missing = count - seqs[name]
                self.wrong.append(
                    f"{backup.name}: {missing} messages to {name} were accepted before it and are not in it"
                )
        if is_served:
            self._serve(place, backup.name, before[ABSENT], seqs[ABSENT])
        shutil.rmtree(place, ignore_errors=True)

    def _serve(self, place: Path, name: str, accepted: int, stored: int) -> None:
        """Serve a restored folder: who was away gets what waited, once and in order, and messages are accepted."""
        with Server(place) as server:
            chat = drain((server.host, server.port), self._tokens, self._load.tag, stored, sent=self._load.absent.sent)
            if chat.received < accepted:
                self.wrong.append(f"{name}: {accepted - chat.received} of {accepted} messages that waited did not come")
            odd = {"doubled": chat.duplicates, "out of order": chat.misordered, "strange": chat.strange}
            self.wrong += [f"{name}: {count} messages that waited were {what}" for what, count in odd.items() if count]
            server.run("send", "--from", "a0", "--to", ABSENT, "after the restore")
        self._counts["served"] += 1

    def judge_load(self) -> None:
        """Look whether the load itself went well: a backup may cost nobody his connection or a message."""
        if self._load.failed:
            self.wrong.append(self._load.failed)
        for chat in self._load.chats:
            if chat.refusals:
                self.wrong.append(f"{len(chat.refusals)} messages were refused beside backups: {chat.refusals[0]}")
            if chat.acknowledged < chat.sent:
                self.wrong.append(f"{chat.sent - chat.acknowledged} messages to {chat.receiver} were never answered")

    def figures(self) -> dict[str, float]:
        """Return what was counted and measured."""
        found = {name: float(count) for name, count in self._counts.items()}
        found["messages"] = float(sum(chat.acknowledged for chat in self._load.chats))
        if self._took:
            found |= {"backup_s": statistics.median(self._took), "log_mib": self._log_max / 2**20}
        if len(self._alone) >= 100 and len(self._beside) >= 100:
            alone, beside = _p99(self._alone), _p99(self._beside)
            found |= {"p99_alone_ms": alone * 1000, "p99_beside_ms": beside * 1000, "p99_ratio": beside / alone}
        return found

    # ---- commands ------------------------------------------------------------------------------------------------

    @staticmethod
    def _begin(*arguments: str) -> subprocess.Popen[str]:
        command = [*_COMMAND, *arguments, "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _end(self, process: subprocess.Popen[str], what: str) -> dict[str, Any] | None:
        """Return what a command said; None if it failed, which is a promise broken."""
        try:
            said, complaint = process.communicate(timeout=_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self.wrong.append(f"{what}: not done within {_DEADLINE_S:.0f} s")
            return None
        if process.returncode and not said:
            self.wrong.append(f"{what}: {complaint.strip()[:300]}")
            return None
        answer: dict[str, Any] = json.loads(said)
        return answer


async def _last_seqs(place: Path, recipients: list[str]) -> dict[str, int]:
    """Return the last seq of each recipient's conversation: dense, so that it says how many messages there are."""
    found = {}
    async with running(Settings(), place, listen=False) as app:
        for name in recipients:
            listed = (await app.perform("inbox", {"address": name}))["conversations"]
            found[name] = max((each["last_seq"] for each in listed), default=0)
    return found


def _p99(samples: list[float]) -> float:
    return statistics.quantiles(samples, n=100)[-1]
