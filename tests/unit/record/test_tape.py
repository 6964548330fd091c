"""A recording on disk: what is written is read again, a cut is noticed, and no changed byte passes."""

from __future__ import annotations

import pytest

from mesimqtt import __version__
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.record.tape import MAGIC, Kind, Tape, TapeError, decode, encode, frame, from_json, to_json
from mesimqtt.record.writer import Writer

RECORDS = [
    (Kind.TURN, 0),
    (Kind.OPENED, 300, 1, ["default", None, {"peername": ["127.0.0.1", 5]}]),
    (Kind.DATA, 2**40, 1, bytes(range(256))),
    (Kind.DONE, 7, 0, 3, [[0, 3, [b"\x00\xff"]]]),
    (Kind.WROTE, 1, 70_000, b"12345678", b""),
    (Kind.CLOSED, 1, "close"),
    (Kind.ANSWERED, 1, 1, [True, {"a": b"x", "b": [1.5, None, "ü"]}]),
]


def written(path, *records, size_max=10**6, turns=True):
    """Write a recording of one turn a record, and return its bytes."""
    writer = Writer(path, {"version": __version__, "secret": b"\x01"}, size_max=size_max)
    for record in records:
        writer.add(*record)
        if turns:
            writer.flush()
    writer.join()
    return path.read_bytes()


def read(path):
    """Return the records of a file as they were written, and how it ends."""
    tape = Tape(path)
    found = [(each.kind, *each.fields) for each in tape.records()]
    return found, tape.cut


def test_what_is_written_is_read_again(tmp_path):
    """Numbers of any size, bytes, and JSON in which bytes stand; and the file says how it ends."""
    written(tmp_path / "one.rec", *RECORDS)

    assert ([*RECORDS, (Kind.ENDED, 0, "the server was stopped")], "") == read(tmp_path / "one.rec")
    tape = Tape(tmp_path / "one.rec")
    tape.close()
    assert {"version": __version__, "secret": b"\x01"} == tape.header
    assert 0o600 == (tmp_path / "one.rec").stat().st_mode & 0o777


def test_every_cut_is_noticed(tmp_path):
    """At whichever byte it ends: whole turns are there, and no half of one."""
    raw = written(tmp_path / "one.rec", *RECORDS)
    whole, _ = read(tmp_path / "one.rec")
    cut = tmp_path / "cut.rec"
    seen = set()
    for size in range(len(raw) - 400, len(raw)):
        cut.write_bytes(raw[:size])
        found, how = read(cut)
        assert found == whole[: len(found)]
        # Without an end it is a server that was killed; within a chunk it is a file that was cut.
        assert bool(how) or len(found) < len(whole)
        seen.add(len(found))

    assert set(range(2, len(whole))) <= seen


def test_no_changed_byte_passes(tmp_path):
    """Whichever byte of the file is another: it is said to be damaged, or, at its very end, cut."""
    raw = written(tmp_path / "one.rec", *RECORDS)
    bad = tmp_path / "bad.rec"
    for offset in range(len(MAGIC), len(raw)):
        bad.write_bytes(raw[:offset] + bytes((raw[offset] ^ 0x10,)) + raw[offset + 1 :])

        with pytest.raises(TapeError, match="a byte is not what was written"):
            read(bad)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is no recording; make one with"),
        (b"SQLite format 3\0", "is no recording"),
        (b"mesimqtt recording 2\n", "was recorded by another version: its form is"),
        (MAGIC, "ends within its header"),
        (MAGIC + b"\x05", "ends within its header: it is cut"),
        (MAGIC + frame(b"[]"), "its header is none of a recording"),
        (MAGIC + frame(b"\xff no JSON"), "its header is none of a recording"),
        (MAGIC + frame(b"[" * 100_000), "its header is none of a recording"),
        (MAGIC + frame(to_json({})) + frame(b"\x01" + b"\xff" * 100_000 + b"\x01"), "a number is too large"),
        (MAGIC + frame(to_json({})) + frame(b"\x15\xff\x01" + b"[" * 255), "it cannot be read"),
        (MAGIC + frame(to_json({})) + frame(b"\x63"), "it cannot be read"),
        (MAGIC + frame(to_json({})) + frame(b"\x03\x00\x00\x7fshort"), "a record ends outside of its chunk"),
    ],
)
def test_what_is_no_recording_is_told(tmp_path, raw, said):
    """In one sentence."""
    (tmp_path / "file").write_bytes(raw)

    with pytest.raises(TapeError, match=said):
        read(tmp_path / "file")


def test_a_file_that_exists_is_never_written_over(tmp_path):
    """A recording is evidence."""
    (tmp_path / "one.rec").write_text("mine")

    with pytest.raises(MesimqttError, match="is never written over"):
        Writer(tmp_path / "one.rec", {}, size_max=1000)
    with pytest.raises(MesimqttError, match="cannot record to"):
        Writer(tmp_path / "none" / "one.rec", {}, size_max=1000)
    assert "mine" == (tmp_path / "one.rec").read_text()


def test_it_ends_at_its_size(tmp_path):
    """With whole turns and the reason; what comes after it costs nothing."""
    raw = written(tmp_path / "one.rec", *[(Kind.DATA, 1, 1, b"x" * 100)] * 50, size_max=2_000)
    found, _ = read(tmp_path / "one.rec")

    assert len(raw) < 2_200
    assert {Kind.DATA, Kind.ENDED} == {each[0] for each in found}
    assert (Kind.ENDED, 0, "it has reached record.size_max, 2000 bytes") == found[-1]


def test_a_record_is_found_by_its_place():
    """An offset in the file stands with each."""
    chunk = encode(*RECORDS[0]) + encode(*RECORDS[2])

    assert [100, 100 + len(encode(*RECORDS[0]))] == [each.offset for each in decode(chunk, 100)]


def test_json_keeps_bytes_and_refuses_what_it_is_not():
    """Whatever else is told could not be had again."""
    for value in (
        {"a": [b"\x00", "x", 1, 2.5, None, True], "$b": "text"},
        {"$b": "text"},
        {"$o": [["a", 1]]},
        [{"$o": {"$b": b"\xff"}}, {"$b": {"$o": []}}],
    ):
        assert value == from_json(to_json(value))
    with pytest.raises(TypeError, match="of type object cannot be written down"):
        to_json(object())
