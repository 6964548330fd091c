"""One conversation as one device gets it: how far it was handed over, and what of it is acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.topics import PRIORITY_DEFAULT

if TYPE_CHECKING:
    from mesimqtt.domain.messages import Lane
    from mesimqtt.domain.seqset import SeqSet
    from mesimqtt.messaging.model import Thread

ABOVE_MAX = 64  # acknowledged above the cursor before hand-over of that conversation pauses


class Feed:
    """One conversation as one device gets it. `sent` is the last seq handed over or passed over, in order.

    `live` caches the topic up to the mid, the QoS and the Subscription Identifiers of the peer's messages; None: to
    be found (again).
    """

    __slots__ = ("acked", "behind", "lane", "live", "priority", "resent_upto", "sent", "thread")

    def __init__(self, thread: Thread, lane: Lane, acked: SeqSet) -> None:
        self.thread = thread
        self.lane = lane
        self.acked = acked
        self.sent = acked.upto
        self.behind = False
        self.resent_upto = 0
        self.priority = PRIORITY_DEFAULT
        self.live: tuple[bytes, int, bytes] | None = None

    def is_far(self, seq: int) -> bool:
        """Tell whether to hand over `seq` would let too much be acknowledged above the cursor.

        What lies below something acknowledged never is: to give it is the only way in which the cursor moves on. A
        member of a group who writes much himself has that (his own counts as acknowledged).
        """
        acked = self.acked
        return acked.above_count >= ABOVE_MAX and seq > acked.highest
