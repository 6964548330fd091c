"""A disk that fails: the trial finds nothing wrong with the server, and would find what is."""

from __future__ import annotations

import random
import sqlite3

import pytest

from mesimqtt.proof.powercut.disk import Disk
from mesimqtt.proof.powercut.faults import FAULTS, DiskFaults, Failing, endure, whatever_the_disk_says


def test_every_fault_at_the_first_places(tmp_path):
    """The trial itself, in its short form: each fault once, each of them happens, and what lasts stops the server."""
    outcome = DiskFaults().run(24, seed=1, folder=tmp_path, progress=lambda _: None)

    assert (24, 0, ()) == (outcome.tried, outcome.failed, outcome.failures)
    assert 24 == outcome.figures["faults_that_happened"]
    assert outcome.figures["stopped_by_itself"] >= 4


def test_a_sync_that_failed_is_never_made_good(tmp_path):
    """What a sync failed with is gone at the cut, though it was seen until then, unless it is written again."""
    disk = Disk()
    file = disk.open("a", create=True, is_log=True)
    disk.write(file, b"old.old.", 0)
    disk.sync(file)
    disk.write(file, b"lost", 0)
    file.fail_sync()
    disk.write(file, b"XY", 2)
    disk.sync(file)
    assert b"loXYold." == bytes(file.data)
    found = {bytes(copy.files["a"].data) for copy in cuts_of(disk)}
    disk.write(file, b"again", 8)
    disk.sync(file)

    assert {b"olXYold."} == found
    assert {b"olXYold.again"} == {bytes(copy.files["a"].data) for copy in cuts_of(disk)}


def cuts_of(disk):
    """Return what several cuts leave of a disk."""
    for seed in range(10):
        copy = disk.fork()
        copy.cut(random.Random(seed))
        yield copy


def test_a_lost_write_that_made_the_file_longer_is_a_hole():
    """Where a later write stands behind it the lost one reads as zeros."""
    disk = Disk()
    file = disk.open("a", create=True, is_log=True)
    disk.sync(file)
    disk.write(file, b"lost", 0)
    file.fail_sync()
    disk.write(file, b"kept", 4)
    disk.sync(file)

    assert {b"\0\0\0\0kept"} == {bytes(copy.files["a"].data) for copy in cuts_of(disk)}


@pytest.mark.parametrize("fault", FAULTS[:2], ids=lambda fault: fault.name)
def test_faults_are_where_they_are_said_to_be(fault):
    """The n-th operation of its kind fails, and no other."""
    failing = Failing(fault, 3)
    happened = []
    for _ in range(5):
        try:
            failing("other", "", 0)
            failing(fault.what, "", 0)
        except Exception as error:  # noqa: BLE001 - SQLite's, whatever it is
            happened.append(error.extendedresult)
        else:
            happened.append(0)

    assert [0, 0, fault.code, 0, 0] == happened
    assert 1 == failing.fired


def test_the_same_number_is_the_same_fault(tmp_path):
    """A number repeats what it found."""
    assert endure(7, tmp_path, FAULTS[6], 4) == endure(7, tmp_path, FAULTS[6], 4)


def test_what_the_disk_says_is_passed_over_and_nothing_else():
    """Also where several periodic tasks of one tick fail by it; a mistake of ours among them is none of the disk's."""
    broken, mistake = sqlite3.OperationalError("disk I/O error"), TypeError("ours")
    for error in (broken, ExceptionGroup("two", [broken, broken])):
        with whatever_the_disk_says():
            raise error
    for error in (mistake, ExceptionGroup("two", [broken, mistake])):
        with pytest.raises(type(error)), whatever_the_disk_says():
            raise error
