"""A set of sequence numbers as a watermark and runs, against a plain set."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesimqtt.domain.seqset import SeqSet

SEQS = st.lists(st.integers(1, 60), max_size=80)


def members(seqs: SeqSet) -> set[int]:
    return {seq for seq in range(1, 80) if seq in seqs}


@given(st.integers(0, 10), SEQS)
def test_it_holds_what_a_set_holds(upto, added):
    """Adding tells whether a number was new; the watermark stands before the first gap; nothing else is in it."""
    seqs, plain = SeqSet(upto), set(range(1, upto + 1))
    for seq in added:
        assert seqs.add(seq) == (seq not in plain)
        plain.add(seq)

    gap = next(seq for seq in range(1, 100) if seq not in plain)
    assert (plain, gap - 1) == (members(seqs), seqs.upto)
    assert len([seq for seq in plain if seq > seqs.upto]) == seqs.above_count
    assert max(plain, default=0) == seqs.highest


@given(st.integers(0, 10), SEQS)
def test_it_survives_the_store(upto, added):
    """Watermark and text make the same set again, and the text has each run once."""
    seqs = SeqSet(upto)
    for seq in added:
        seqs.add(seq)
    again = SeqSet(seqs.upto, seqs.above)

    assert (members(seqs), seqs.above) == (members(again), again.above)
    assert seqs.add(70)
    assert again.add(70)
    assert members(seqs) == members(again)


@given(
    st.lists(st.tuples(st.sampled_from(["add", "fill", "include"]), st.integers(1, 120), st.booleans()), max_size=60)
)
def test_its_text_is_that_of_its_runs_whenever_it_is_asked(changes):
    """What was made of the text before is used only while it holds."""
    seqs = SeqSet()
    for how, seq, is_asked in changes:
        if how == "add":
            seqs.add(seq)
        elif how == "fill":
            seqs.fill(seq // 8)
        else:
            seqs.include(seq, seq + 3)
        if is_asked:
            runs = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in seqs.runs)
            assert runs == seqs.above


def test_a_long_text_keeps_its_size_while_it_grows():
    """One who writes and reads nothing has a run more each time: the row's size changes every few hundred times."""
    seqs = SeqSet()
    texts = []
    for seq in range(100_002, 112_000, 2):
        seqs.add(seq)
        texts.append(seqs.above)

    long = [text for text in texts if len(text) > 5_000]
    assert len({len(text) for text in long}) < 30
    assert all(len(text.rstrip()) > 0.87 * len(text) for text in long)
    again = SeqSet(0, texts[-1])
    assert (seqs.runs, seqs.above) == (again.runs, again.above)


@given(SEQS, st.integers(0, 70))
def test_filling_adds_all_up_to_a_number(added, upto):
    """`fill` swallows the runs that it reaches."""
    seqs, plain = SeqSet(), set(range(1, upto + 1))
    for seq in added:
        seqs.add(seq)
        plain.add(seq)
    seqs.fill(upto)

    assert plain == members(seqs)
    assert seqs.upto + 1 not in plain


@given(SEQS, SEQS)
def test_a_copy_is_independent(first, second):
    """Adding to a copy leaves the original as it was."""
    seqs = SeqSet()
    for seq in first:
        seqs.add(seq)
    before, copy = members(seqs), seqs.copy()
    for seq in second:
        copy.add(seq)

    assert (before, before | set(second)) == (members(seqs), members(copy))


def test_the_text_names_runs():
    """Single numbers and runs, apart by commas; empty without exceptions."""
    seqs = SeqSet(3)
    for seq in (5, 9, 8, 12):
        seqs.add(seq)

    assert ("5,8-9,12", 4, "") == (seqs.above, seqs.above_count, SeqSet(3).above)
    assert "SeqSet(3, '5,8-9,12')" == repr(seqs)


RUNS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 12)), max_size=20)


@given(st.integers(0, 10), SEQS, RUNS)
def test_whole_runs_go_in_and_what_is_missing_comes_out(upto, added, runs):
    """Adding runs, wherever they lie, is adding their numbers; the missing runs are what a set has not."""
    seqs, plain = SeqSet(upto), set(range(1, upto + 1))
    for seq in added:
        seqs.add(seq)
        plain.add(seq)
    for first, length in runs:
        seqs.include(first, first + length - 1)
        plain.update(range(first, first + length))
    again = SeqSet(seqs.upto, seqs.above)
    missing = seqs.missing(75)
    above = seqs.missing(75, after=30)

    assert (plain, seqs.above) == (members(seqs), again.above)
    assert set(range(31, 76)) - plain == {seq for first, last in above for seq in range(first, last + 1)}
    assert all(first <= last for first, last in above)
    assert set(range(1, 76)) - plain == {seq for first, last in missing for seq in range(first, last + 1)}
    assert all(last < after - 1 for (_, last), (after, _) in pairwise(missing))


@pytest.mark.parametrize(
    ("above", "kept"),
    [
        ("5-7,9", "5-7,9"), ("5-7,x9,12", "5-7,12"), ("5m7,9", "9"), ("7-5,9", "9"), ("9,5-7", "9"),
        ("5-9,7,11", "5-9,11"), ("1,9", "9"), ("-,-9,", ""), (b"5-7", ""), ("\xff", ""),
    ],
)  # fmt: skip
def test_what_damage_has_made_of_its_text(above, kept):
    """What cannot be read, or stands out of order, is left out: such a message is rather given twice than never."""
    assert (3, kept) == (SeqSet(3, above).upto, SeqSet(3, above).above)
