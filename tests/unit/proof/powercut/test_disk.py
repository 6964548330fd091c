"""The disk that loses power: what was synced is there, and of the rest whatever chance leaves."""

from __future__ import annotations

import random

import pytest

from mesimqtt.proof.powercut.disk import Disk, File, PowerCut, survivor


def disk_with(data=b"durable"):
    """Return a disk with one file that is durable."""
    disk = Disk()
    file = disk.open("a", create=True, is_log=True)
    disk.write(file, data, 0)
    disk.sync(file)
    return disk, file


def after_cut(disk, seed):
    """Return what is in each file after a cut."""
    copy = disk.fork()
    copy.cut(random.Random(seed))
    return {name: bytes(file.data) for name, file in copy.files.items()}


def test_what_was_synced_stays():
    """No cut touches it, whatever the seed."""
    disk, _ = disk_with()

    assert [{"a": b"durable"}] * 50 == [after_cut(disk, seed) for seed in range(50)]


def test_what_was_not_synced_may_be_anything_in_between():
    """Of two unsynced writes each is there or not, in any combination, and one alone may be torn in its sectors."""
    disk, file = disk_with(bytes(2048))
    disk.write(file, b"x" * 1024, 0)
    disk.write(file, b"y" * 512, 1024)
    found = {
        tuple(data[start : start + 1] for start in range(0, 1536, 512))
        for data in (after_cut(disk, seed)["a"] for seed in range(400))
    }

    assert {(a, b, c) for a in (b"\0", b"x") for b in (b"\0", b"x") for c in (b"\0", b"y")} == found


def test_bytes_beside_a_write_are_never_harmed():
    """A torn write harms no byte that it did not write."""
    disk, file = disk_with(b"." * 600)
    disk.write(file, b"x" * 10, 100)
    for seed in range(50):
        data = after_cut(disk, seed)["a"]

        assert {b"." * 10, b"x" * 10} >= {data[100:110]}
        assert b"." * 590 == data[:100] + data[110:]


def test_a_new_file_may_be_absent():
    """A file whose name was not synced is there or not; a log's name is durable with its first sync."""
    disk, _ = disk_with()
    file = disk.open("b", create=True, is_log=False)
    disk.write(file, b"new", 0)
    disk.sync(file)
    assert {True, False} == {"b" in after_cut(disk, seed) for seed in range(50)}
    log = disk.open("log", create=True, is_log=True)
    disk.sync(log)

    assert [(True, True)] * 50 == [("b" in found, "log" in found) for found in (after_cut(disk, n) for n in range(50))]


def test_a_removed_file_may_come_back():
    """A name that was removed and not synced is gone or not, with its durable bytes."""
    disk, _ = disk_with()
    disk.delete("a", sync=False)
    assert "a" not in disk.files
    assert [{}, {"a": b"durable"}] == sorted((after_cut(disk, seed) for seed in (1, 2, 3, 4, 5, 6)), key=len)[::5]
    disk.delete("a", sync=True)
    disk.names = dict(disk.files)

    assert {} == after_cut(disk, 1)


def test_a_truncation_is_not_durable_either():
    """A file that was cut off may be as long as before; one that grew may show zeros or junk, never shrink."""
    disk, file = disk_with(b"x" * 1000)
    disk.truncate(file, 10)
    assert {10, 1000} == {len(after_cut(disk, seed)["a"]) for seed in range(50)}
    disk.sync(file)
    disk.truncate(file, 5000)
    lengths = {len(after_cut(disk, seed)["a"]) for seed in range(200)}

    assert {10, 5000} <= lengths
    assert min(lengths) == 10


def test_the_durable_bytes_are_those_of_the_last_sync():
    """Undoing every unsynced change in turn leads back, whatever they were."""
    chance = random.Random(1)
    for _ in range(200):
        file = File(bytearray(chance.randbytes(chance.randrange(3000))))
        before = bytes(file.data)
        for _ in range(chance.randrange(6)):
            if chance.random() < 0.3:
                file.truncate(chance.randrange(4000))
            else:
                file.write(chance.randbytes(chance.randrange(1, 900)), chance.randrange(4000))

        assert before == bytes(file.durable())
        assert isinstance(survivor(file, chance), bytearray)


def test_the_change_that_cuts():
    """The chosen change raises, and everything after it, until there is power again; the same seed leaves the same."""
    disk, file = disk_with()
    disk.cut_at = disk.changes + 2
    disk.write(file, b"1", 0)
    with pytest.raises(PowerCut):
        disk.write(file, b"2", 1)
    for call in (lambda: disk.sync(file), lambda: disk.open("b", create=True, is_log=False), disk.check):
        with pytest.raises(PowerCut):
            call()
    twin = disk.fork()
    disk.cut(random.Random(7))
    twin.cut(random.Random(7))
    disk.check()

    assert bytes(disk.files["a"].data) == bytes(twin.files["a"].data)
    assert b"rable" == bytes(disk.files["a"].data[2:])


def test_a_machine_left_alone_keeps_everything():
    """Settled, everything is durable."""
    disk, file = disk_with()
    disk.write(file, b"more", 7)
    disk.open("b", create=True, is_log=False)
    disk.settle()

    assert [{"a": b"durablemore", "b": b""}] * 20 == [after_cut(disk, seed) for seed in range(20)]
