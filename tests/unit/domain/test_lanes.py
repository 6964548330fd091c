"""A lane: what one member of a conversation has acknowledged, been delivered and read."""

from __future__ import annotations

import pytest

from mesimqtt.domain.messages import NO_SEQ, PAIR, RUNS_MAX, Conversation, Lane
from mesimqtt.domain.seqset import SeqSet


def lane_of(pieces: int) -> Lane:
    """Return the lane of somebody who wrote every second message and marked nothing as read."""
    lane = Lane(Conversation(1, PAIR, 1, 2, 2 * pieces), 1)
    lane.acked.fill(2 * pieces)
    lane.delivered.fill(2 * pieces)
    lane.read = SeqSet(0, ",".join(str(seq) for seq in range(2, 2 * pieces + 1, 2)))
    return lane


def test_of_what_was_never_read_the_oldest_is_forgotten() -> None:
    """In too many pieces: from the front a tenth of the bound at once, so that it is not done for each message."""
    lane = lane_of(RUNS_MAX + 1)
    lane.narrow()
    left = lane.read.missing(2 * RUNS_MAX)

    assert RUNS_MAX - RUNS_MAX // 10 == lane.read.run_count
    assert [True, False] == [seq in lane.read for seq in (left[0][0] - 2, left[0][0])]
    assert (RUNS_MAX + RUNS_MAX // 10) - RUNS_MAX // 10 == lane.narrow_at


def test_within_the_bound_nothing_is_forgotten() -> None:
    """What fits stays to the last message."""
    lane = lane_of(RUNS_MAX)
    before = lane.read.above
    lane.narrow()

    assert before == lane.read.above


def test_what_has_its_verdict_or_waits_is_left_as_it_is() -> None:
    """A message that failed is not read by that, and what nobody has acknowledged is not delivered."""
    lane = lane_of(RUNS_MAX + 1)
    lane.failed = SeqSet(NO_SEQ, "1,5")
    lane.acked = SeqSet(100)
    lane.delivered = SeqSet(0, ",".join(str(seq) for seq in range(2, 2 * RUNS_MAX + 3, 2)))
    lane.narrow()

    for seqs in (lane.read, lane.delivered):
        assert [False, True, False, True, False] == [seq in seqs for seq in (1, 3, 5, 99, 101)]


def test_where_nothing_can_be_forgotten_it_is_not_tried_each_time() -> None:
    """With everything waiting the next try comes a tenth of the bound later."""
    lane = lane_of(RUNS_MAX + 1)
    lane.acked = SeqSet(0)
    lane.narrow()

    assert RUNS_MAX + 1 == lane.read.run_count
    assert lane.narrow_at > lane.runs_most + RUNS_MAX // 20


@pytest.mark.parametrize("which", ["read", "delivered"])
def test_the_largest_counts(which: str) -> None:
    """Either set may be the one in many pieces: who takes messages at QoS 0 confirms none."""
    lane = Lane(Conversation(1, PAIR, 1, 2, 20), 1)
    setattr(lane, which, SeqSet(0, "2,4,6"))

    assert 3 == lane.runs_most
