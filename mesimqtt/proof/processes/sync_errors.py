"""A disk that cannot sync: from then on nothing is acknowledged, and the server ends with one sentence (P12)."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING, Final

from mesimqtt.proof.processes.eras import Era, in_eras
from mesimqtt.proof.processes.link import LinkError
from mesimqtt.proof.processes.stage import Stage, play
from mesimqtt.proof.trial import Outcome
from mesimqtt.testing.process import Server, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ERA: Final = 5  # failing servers on one data folder
FIRST: Final = (1, 50)  # which sync of a thread is the first to fail
MESSAGES: Final = 2_000
END_S: Final = 30.0  # strace makes everything slow
EXIT: Final = 2
SENTENCES: Final = (
    "three times in a row; check the disk, then start the server again",
    "cannot open",
    "cannot write",
    "or the disk fails; look at both",
)


class SyncErrors:
    """Failing fsync and fdatasync, injected by strace, as a trial."""

    name = "sync-errors"
    title = "every fsync from the n-th on fails: nothing is acknowledged any more, and the server ends after three"
    promises = ("P12",)
    unit = "servers"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Let the syncs of `count` servers fail. Skipped where there is no strace."""
        if shutil.which("strace") is None:
            return Outcome(0, "", skipped="failing syncs are injected by strace: apt-get install strace")
        return in_eras(self.name, era, count, seed=seed, size=ERA, folder=folder, progress=progress)


def era(seed: int, count: int, folder: Path, done: Callable[[], None]) -> Era:
    """Let the syncs of `count` servers on one folder fail, then read everything back from a healthy one."""

    async def story(stage: Stage) -> None:
        await asyncio.to_thread(stage.server.stop)
        for _ in range(count):
            await _fail(stage)
            done()

    return play(Stage(seed, folder), story)


async def _fail(stage: Stage) -> None:
    ledger = stage.cast.ledger
    when = stage.chance.randint(*FIRST)
    inject = [part for call in ("fsync", "fdatasync") for part in ("-e", f"inject={call}:error=EIO:when={when}+")]
    strace = ["strace", "-f", "-D", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", *inject]
    server = Server(stage.server.data, config=stage.config, wrapper=strace)
    ledger.excused, ledger.is_final = "store", True
    try:
        await asyncio.to_thread(server.start)
        stage.count("failing_under_load")
        await stage.cast.come(server.port, MESSAGES)
        await _send_on(stage, server)
        await stage.cast.lost()
    except ServerError:
        stage.count("failing_at_start")
    except (LinkError, OSError):
        stage.count("failing_at_greeting")
    finally:
        code = await asyncio.to_thread(server.wait, END_S)
        await stage.cast.close()
        for one in stage.cast.senders:
            one.enough()
        ledger.excused, ledger.is_final = "", False
        ledger.ended.clear()
    if code != EXIT or not any(each in server.printed for each in SENTENCES) or "Traceback" in server.printed:
        stage.complain(f"with every sync from the {when}. on failing: exit code {code}, and {server.printed}")


async def _send_on(stage: Stage, server: Server) -> None:
    """Come back and send again, as clients do, for as long as there is a server."""
    while server.is_running:
        for one in stage.cast.senders:
            if one.lost.is_set():
                with contextlib.suppress(LinkError, OSError, TimeoutError):
                    await one.connect(server.port)
                    one.again()
        await asyncio.sleep(0.02)
