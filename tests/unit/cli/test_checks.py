"""What the doctor finds, and the command that mends each."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from integration.certificates import Authority
from mesimqtt.cli import checks
from mesimqtt.cli.checks import FIRST_DAY_MS, Finding, Level
from mesimqtt.domain.ids import first_mid_at
from mesimqtt.settings import Rates, Settings
from unit.store.rows import memory

if TYPE_CHECKING:
    from pathlib import Path

NOW_MS = 1_800_000_000_000


def troubles(findings) -> list[Finding]:
    """Return what is not in order; each must say how to mend it."""
    found = [each for each in findings if each.level is not Level.OK]

    assert [] == [each for each in found if not each.mend]
    return found


def test_a_good_machine_has_nothing_to_mend(tmp_path):
    """Versions, a private folder, a local disk and a clock that goes forward."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)

    assert [] == troubles(checks.versions())
    assert [] == troubles(checks.folder(data))
    assert [] == troubles(checks.files(1))
    assert [] == troubles(checks.clock(data, NOW_MS))


def test_what_others_can_read_is_named_with_its_chmod(tmp_path):
    """The folder and each file in it."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "mesimqtt.db").touch(0o600)
    (data / "mesimqtt.db").chmod(0o640)
    data.chmod(0o755)

    assert [f"chmod 700 {data}", f"chmod 600 {data}/mesimqtt.db"] == [
        each.mend for each in troubles(checks.folder(data))
    ]


def test_a_folder_that_is_not_there_yet(tmp_path):
    """No failure: the command that begins one."""
    (only,) = troubles(checks.folder(tmp_path / "none"))

    assert (Level.WARNING, True) == (only.level, only.mend.startswith("mesimqtt user add alice --data "))


@pytest.mark.parametrize(("kind", "word"), [("nfs4", "network"), ("tmpfs", "lost with the power"), ("cifs", "network")])
def test_a_disk_that_is_none(tmp_path, kind, word):
    """A network file system under SQLite's log, or memory, is a failure."""
    found = troubles(checks.disk(tmp_path, 0, f"server:/x / {kind} rw 0 0\n"))

    assert Level.FAILURE is found[0].level
    assert word in found[0].what


def test_a_full_disk(tmp_path):
    """Less room than the reserve needs is a failure."""
    free = shutil.disk_usage(tmp_path).free
    found = troubles(checks.disk(tmp_path, free, "/dev/x / ext4 rw 0 0\n"))

    assert Level.FAILURE in [each.level for each in found if "MiB are free" in each.what]


def test_few_files():
    """A hard limit below what is wanted is told with the way to raise it."""
    (only,) = troubles(checks.files(2**60)) or [None]

    assert only is None or "LimitNOFILE" in only.mend


@pytest.mark.parametrize(("now_ms", "word"), [(FIRST_DAY_MS - 1, "the clock says"), (NOW_MS, "the clock went back")])
def test_a_clock_that_is_wrong(tmp_path, now_ms, word):
    """Before this program was written, or before the newest message of the store."""
    path = tmp_path / "mesimqtt.db"
    database = memory()
    database.execute(
        "INSERT INTO message (id, conversation_id, seq, kind, sender_id, device, cid, ts, expires_at, flags, params,"
        " payload) VALUES (?, 1, 1, 0, 1, '', 'c', 0, 0, 0, '', x'')",
        (first_mid_at(NOW_MS + 3_600_000),),
    )
    database.commit()
    database.execute("VACUUM INTO ?", (str(path),))

    (only,) = troubles(checks.clock(tmp_path, now_ms))

    assert (Level.FAILURE, True) == (only.level, word in only.what)


def with_listener(**listener):
    """Return settings with one listener."""
    broker = Settings().broker
    return replace(Settings(), broker={**broker, "listeners": {"default": {"type": "tcp", **listener}}})


def test_a_listener_open_to_the_network():
    """Without TLS and without limits each is a warning; on loopback neither is."""
    assert 2 == len(troubles(checks.listeners(with_listener(bind="0.0.0.0:1883"))))
    assert [] == troubles(checks.listeners(with_listener(bind="127.0.0.1:1883")))
    limited = replace(with_listener(bind="[::]:8883", ssl=True), rates=Rates(messages="60:30"))
    assert [] == troubles(checks.listeners(limited))


def test_every_listener_that_others_reach_is_looked_at():
    """HTTP is one, too; TLS of the listener default holds for those that say nothing of it; without it none can be."""
    limited = replace(with_listener(bind="127.0.0.1:1883", ssl=True), rates=Rates(messages="60:30"))
    others = {**limited.broker["listeners"], "far": {"bind": "0.0.0.0:8883"}}
    inherited = replace(limited, broker={**limited.broker, "listeners": others})
    plain = replace(with_listener(bind="127.0.0.1:1883"), rates=limited.rates)
    http = replace(plain, http=replace(plain.http, bind="0.0.0.0:8080"))

    assert [] == troubles(checks.listeners(inherited))
    assert [True] == ["'http' is open" in each.what for each in troubles(checks.listeners(http))]
    assert [Level.FAILURE] == [each.level for each in troubles(checks.listeners(replace(inherited, open=True)))]
    none = replace(limited, broker={"listeners": {"far": {"bind": "0.0.0.0:8883"}}})
    assert [Level.FAILURE] == [each.level for each in troubles(checks.listeners(none))]


@pytest.mark.parametrize(("days", "level"), [(400, Level.OK), (5, Level.WARNING), (-3, Level.FAILURE)])
def test_a_certificate_that_ends(tmp_path, days, level):
    """Renewed in time it is fine; two weeks before its end it is a warning, afterwards a failure."""
    certificate = Authority(tmp_path).issue("server", "localhost").with_suffix(".pem")
    ends_at = checks_end(certificate)

    (only,) = checks._certificate("tls", certificate, ends_at - days * 86_400)

    assert level is only.level


def checks_end(certificate: Path) -> float:
    """Return when a certificate ends."""
    from mesimqtt.broker.tls import certificate_ends_at

    ends_at = certificate_ends_at(certificate)
    assert ends_at > time.time()
    return ends_at


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_certificate_that_cannot_be_read(tmp_path, text):
    """Missing or something else: named, not raised."""
    path = tmp_path / "x.pem"
    if text is not None:
        path.write_text(text)

    (only,) = checks._certificate("tls", path, 0.0)

    assert Level.FAILURE is only.level
    assert os.fspath(path) in only.what
