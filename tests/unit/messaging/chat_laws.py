"""What must hold in the store after every step of a random life, whatever the step was."""

from __future__ import annotations

from mesimqtt.domain.seqset import SeqSet

ABOVE_MAX = 64  # acknowledged above a cursor (contract section 3)


class StoreLaws:
    """Looks at the tables; remembers the cursors, which never go back but in a crash."""

    def __init__(self, world) -> None:
        self.world = world
        self.cursors: dict[tuple[int, int], int] = {}
        self.backlog = 0

    def killed(self) -> None:
        """A crash may forget the newest acknowledgements, and nothing else."""
        self.cursors.clear()

    def check(self) -> None:
        """Raise AssertionError at the first broken law."""
        self._sequences()
        self._cursors()
        self._identities()

    def _sequences(self) -> None:
        """The seqs of a conversation are 1, 2, 3 …, and its last one is known."""
        found = self.world.rows(
            "SELECT c.id, c.last_seq, count(m.id), ifnull(min(m.seq), 1), ifnull(max(m.seq), 0)"
            " FROM conversation c LEFT JOIN message m ON m.conversation_id = c.id GROUP BY c.id"
        )
        for conversation, last, count, first, highest in found:
            assert (last, last, 1) == (count, highest, first), f"conversation {conversation}"

    def _cursors(self) -> None:
        """A cursor only grows, is not ahead of its conversation, and has at most 64 acknowledged above it."""
        self.backlog = 0
        found = self.world.rows(
            "SELECT u.device_id, u.conversation_id, u.acked, u.acked_above, c.last_seq"
            " FROM cursor u JOIN conversation c ON c.id = u.conversation_id"
        )
        for device, conversation, acked, above, last in found:
            seqs = SeqSet(acked, above)
            assert acked >= self.cursors.get((device, conversation), 0), f"cursor of {device} goes back"
            assert seqs.highest <= last, f"cursor of {device} is ahead: {seqs!r} of {last}"
            assert seqs.above_count <= ABOVE_MAX, f"cursor of {device}: {seqs!r}"
            self.cursors[device, conversation] = acked
            self.backlog += last - acked

    def _identities(self) -> None:
        """Each cid is of one message, which is there; each lane is within its conversation."""
        lost = self.world.rows(
            "SELECT cid, message_id FROM cid WHERE message_id NOT IN (SELECT id FROM message)"
            " AND message_id NOT IN (SELECT id FROM scheduled)"
        )
        ahead = self.world.rows(
            "SELECT l.user_id, l.acked, c.last_seq FROM lane l JOIN conversation c ON c.id = l.conversation_id"
            " WHERE l.acked > c.last_seq OR l.delivered > c.last_seq OR l.read > c.last_seq"
        )
        assert ([], []) == (lost, ahead)
