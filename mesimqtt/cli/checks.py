"""What `mesimqtt doctor` looks at: each check returns findings, each finding says what mends it."""

from __future__ import annotations

import os
import resource
import shlex
import sqlite3
import stat
import statistics
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesimqtt.bench.machine import MEMORY_FILE_SYSTEMS, file_system
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.domain.findings import Finding, Findings, Level
from mesimqtt.files import irregular
from mesimqtt.store.database import FILE_NAME, newest_mid
from mesimqtt.store.layout import MOVE_AWAY, irregular_files

if TYPE_CHECKING:
    from mesimqtt.settings import Settings

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs"}
)
SYNCS = 20
SYNC_MS_MIN, SYNC_MS_MAX = 0.02, 50.0  # below: nothing is flushed; above: every single message feels it
FREE_SHARE_MIN = 0.05
FILES_MIN = 4_096
CERTIFICATE_DAYS = 14
SQLITE_MIN = (3, 35, 0)  # UPSERT and RETURNING as the store uses them
FIRST_DAY_MS = 1_767_225_600_000  # 2026-01-01: no clock of a machine that runs this is before it


def versions() -> Findings:
    """Look at Python, SQLite and what the server is built on."""
    found = [f"Python {sys.version.split()[0]}", f"SQLite {sqlite3.sqlite_version}"]
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        wanted = ".".join(map(str, SQLITE_MIN))
        yield Finding(
            "versions", Level.FAILURE, f"SQLite {sqlite3.sqlite_version} is too old: {wanted} or newer is needed",
            "use a newer Python, which brings its own SQLite",
        )  # fmt: skip
    for name in ("mesimqtt", "amqtt", "peewee", "uvloop"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            if name == "uvloop" and sys.platform != "win32":
                yield Finding(
                    "versions", Level.WARNING, "uvloop is missing: the server runs slower", "pip install uvloop"
                )
    yield Finding("versions", Level.OK, ", ".join(found))


def folder(data: Path) -> Findings:
    """Look at who may read the data folder and what is in it."""
    if not data.exists():
        begin = f"mesimqtt user add alice --data {shlex.quote(str(data))}"
        yield Finding("data", Level.WARNING, f"there is no data folder {data.absolute()} yet", begin)
        return
    found = irregular_files(data)
    irregular_ones = {path for path, _ in found}  # they are to go, whoever may read them
    open_ones = [
        path for path in (data, *data.iterdir()) if path.lstat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        and not path.is_symlink() and path not in irregular_ones
    ]  # fmt: skip
    for path in open_ones:
        mode = "700" if path.is_dir() else "600"
        yield Finding(
            "data", Level.FAILURE, f"{path} can be read by other users of this machine",
            f"chmod {mode} {shlex.quote(str(path))}",
        )  # fmt: skip
    for path, kind in found:
        what = f"{path.parent}: {irregular(path, kind)}"
        yield Finding("data", Level.FAILURE, what, MOVE_AWAY, "no server can start")
    if not os.access(data, os.W_OK):
        owner = f"chown -R $(id -u) {shlex.quote(str(data))}"
        yield Finding("data", Level.FAILURE, f"{data} cannot be written by this user", owner)
    elif not open_ones and not found:
        yield Finding("data", Level.OK, f"{data.absolute()}, private")


def disk(data: Path, ballast_bytes: int, mounts: str | None = None) -> Findings:
    """Look at the disk under the data: local, not memory, flushing for real, with room."""
    here = next(path for path in (data.absolute(), *data.absolute().parents) if path.exists())
    kind, point = file_system(here, mounts)
    elsewhere = "choose a folder on a local disk: --data DIR"
    if kind in NETWORK_FILE_SYSTEMS:
        why = f"{point} is {kind}, a network file system: SQLite's log needs a local disk, and data may be destroyed"
        yield Finding("disk", Level.FAILURE, why, elsewhere)
    if kind in MEMORY_FILE_SYSTEMS:
        yield Finding("disk", Level.FAILURE, f"{point} is {kind}: all is lost with the power", elsewhere)
    yield from room(here, point, ballast_bytes)
    if not os.access(here, os.W_OK):
        return
    took_ms = _sync_ms(here)
    if took_ms < SYNC_MS_MIN and kind not in MEMORY_FILE_SYSTEMS:
        why = f"a flush takes {took_ms:.3f} ms: this disk only says that it flushes, and a power cut loses messages"
        yield Finding("disk", Level.WARNING, why, "switch off the disk's volatile write cache, or the hypervisor's")
    elif took_ms > SYNC_MS_MAX:
        yield Finding("disk", Level.WARNING, f"a flush takes {took_ms:.0f} ms: each message waits for one", elsewhere)
    else:
        yield Finding("disk", Level.OK, f"{kind}, a flush takes {took_ms:.2f} ms, {free_bytes(here) // 2**20} MiB free")


def room(here: Path, point: str, ballast_bytes: int) -> list[Finding]:
    """Look whether the disk is nearly full."""
    space, free = os.statvfs(here), free_bytes(here)
    if free >= 2 * ballast_bytes and space.f_bavail >= FREE_SHARE_MIN * space.f_blocks:
        return []
    level = Level.FAILURE if free < 2 * ballast_bytes else Level.WARNING
    what, means = f"only {free // 2**20} MiB are free on {point}", "a full disk accepts no messages"
    return [Finding("disk", level, what, "make room, or move the data", means)]


def free_bytes(here: Path) -> int:
    """Return how much room the disk under a folder has for us."""
    space = os.statvfs(here)
    return space.f_bavail * space.f_frsize


def _sync_ms(here: Path) -> float:
    """Return the median time of a small write with its flush."""
    times = []
    with tempfile.TemporaryFile(dir=here) as file:
        for _ in range(SYNCS):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def files(needed: int = FILES_MIN) -> Findings:
    """Look at how many connections the system lets the server have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        why = f"this user may open {hard} files, so the server takes fewer than {hard} connections"
        yield Finding(
            "limits", Level.WARNING, why, "ulimit -Hn 65536 as root, or LimitNOFILE=65536 in the systemd unit"
        )
    else:
        yield Finding("limits", Level.OK, "as many open files as the server may want" if hard < 0 else f"{hard} files")


def clock(data: Path, now_ms: int) -> Findings:
    """Look whether the clock can be right: after what the store has seen."""
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_ms / 1000))
    sync = "timedatectl set-ntp true"
    if now_ms < FIRST_DAY_MS:
        yield Finding("clock", Level.FAILURE, f"the clock says {at}: tokens and expiries would be wrong", sync)
        return
    newest_ms = newest_mid(data / FILE_NAME) if (data / FILE_NAME).exists() else 0
    if newest_ms > now_ms + 60_000:
        ahead = (newest_ms - now_ms) // 1000
        yield Finding(
            "clock", Level.FAILURE, f"the store holds a message of {ahead} s from now: the clock went back", sync
        )
    else:
        yield Finding("clock", Level.OK, at)


def listeners(settings: Settings) -> Findings:
    """Look at where the server would listen: reach, TLS, and limits that belong to it."""
    from mesimqtt.listening import reachable

    found: dict[str, Any] = settings.broker.get("listeners") or {}
    if not isinstance(found.get("default"), dict):
        why = "broker.listeners needs a listener named default"
        yield Finding("listeners", Level.FAILURE, why, "see config/default.yaml")
        return
    try:
        reach = reachable(settings)
    except MesimqttError as error:
        yield Finding("listeners", Level.FAILURE, str(error), "see config/default.yaml")
        return
    for each in reach:
        if not each.has_tls:
            what = f"listener {each.name!r} is open to the network at {each.bind} without TLS"
            mend = "set ssl, certfile and keyfile; see config/production.yaml"
            yield Finding("listeners", Level.WARNING, f"{what}: tokens and messages can be read", mend)
    if reach and not settings.rates.messages:
        why = "the server is open to the network and has no rate limits"
        yield Finding("listeners", Level.WARNING, why, "take the limits of config/production.yaml")
    for name, listener in found.items():
        if (listener or {}).get("certfile"):
            yield from _certificate(name, Path(str(listener["certfile"])), time.time())


def _certificate(name: str, path: Path, now_s: float) -> Findings:
    from mesimqtt.broker.tls import certificate_ends_at

    try:
        left_days = (certificate_ends_at(path) - now_s) / 86_400
    except (OSError, ValueError) as error:
        yield Finding("tls", Level.FAILURE, f"listener {name!r}: {path}: {error}", "put a PEM certificate there")
        return
    renew = "renew it, then: kill -HUP of the server (connections stay)"
    if left_days < 0:
        yield Finding("tls", Level.FAILURE, f"listener {name!r}: {path} ended {-left_days:.0f} days ago", renew)
    elif left_days < CERTIFICATE_DAYS:
        yield Finding("tls", Level.WARNING, f"listener {name!r}: {path} ends in {left_days:.0f} days", renew)
    else:
        yield Finding("tls", Level.OK, f"listener {name!r}: {path} is good for {left_days:.0f} days")
