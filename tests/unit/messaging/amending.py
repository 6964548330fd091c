"""What tests of edits, recalls and forwards say and look at."""

from __future__ import annotations


def send(peer, rest, payload="hi"):
    """Publish a message and return the mid that its SENT names."""
    peer.statuses()
    peer.publish(rest, payload)
    return next(status["mid"] for status in peer.statuses() if status["status"] == 1)


def refusal(peer):
    """Return code and rule of the one status since the last look."""
    (status,) = peer.statuses()
    return status["status"], status.get("rule")


def levels(peer, part="u/"):
    """Return parameters and payload of what came since the last look."""
    return [(message.topic.rpartition("/")[2], message.payload.decode()) for message in peer.received(part)]
