"""A small server's random life, third part: messages that are edited, taken back, sent later, or die at their time."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from unit.messaging.chat_base import DEVICE, PICK, ChatBase
from unit.messaging.chat_model import Send


class Changes(ChatBase):
    """What becomes of messages after they were sent."""

    def amend(self, key, pick, *, is_recall):
        """Edit or take back one of the own accepted messages; return whether one was tried."""
        found = [
            send for send in self.checker.sends.values()
            if send.sender == key[0] and send.is_accepted and not send.amends
            and send.payload not in self.checker.recalled
            and (is_recall or (not send.when_s))
        ]  # fmt: skip
        peer = self.here(key) if found else None
        if peer is None:
            return
        first = pick.choice(found)
        self.number += 1
        cid = f"c{self.number}"
        payload = f"recall {first.mid}" if is_recall else f"text {self.number}"
        verb = "recall" if is_recall else "edit"
        place = "/".join(first.topic.split("/")[:2])
        recipients = self.members - {key[0]} if first.is_group else first.recipients
        change = Send(
            key[0], f"{place}/{cid}/{verb}={first.mid}", cid, payload, frozenset(recipients), frozenset(self.enrolled),
            amends=first.payload,
        )  # fmt: skip
        if payload in self.checker.sends:
            return
        self.checker.sends[payload] = change
        if is_recall and first.when_s and self.world.ms < first.due_ms + 1000:
            self.checker.left.add(payload)  # a cancellation, perhaps: nobody hears of it
        self.attempt(peer, change)

    @rule(key=DEVICE, pick=PICK)
    def edit(self, key, pick):
        self.amend(key, pick, is_recall=False)

    @rule(key=DEVICE, pick=PICK)
    def recall(self, key, pick):
        self.amend(key, pick, is_recall=True)

    @precondition(lambda self: not self.is_held)
    @rule(key=DEVICE, sender=DEVICE, seconds=st.integers(2, 5), delta_ms=st.sampled_from([-1, 0, 1]))
    def come_at_the_deadline(self, key, sender, seconds, delta_ms):
        """A device that was away comes a millisecond before a message's deadline, or at it, or after it (P7)."""
        if key[0] == sender[0] or key[0] in self.disabled:
            return
        if key not in self.enrolled:
            self.connect(key, clean=False)
        self.lose(key)
        send = self.say(sender, f"u/{key[0]}", f"/expiry={seconds}")
        if send is None or not send.is_accepted or key not in send.devices:
            return
        self.pass_time(send.deadline_ms + delta_ms - self.world.ms)
        self.connect(key, clean=False)
        assert (delta_ms < 0) == (send.payload in self.checker.devices[key].payloads), f"{delta_ms} ms: {send}"
