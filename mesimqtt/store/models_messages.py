"""Models of what can happen to a message beside delivery: hidden for one user, to vanish, or still to be sent."""

from __future__ import annotations

from peewee import BlobField, CompositeKey, IntegerField, TextField

from mesimqtt.store.model_base import Table


class GivenUp(Table):
    """A message that a bot could not handle, and why, as far as the last ones of each bot are kept."""

    user_id = IntegerField()
    device = TextField()
    message_id = IntegerField()
    tries = IntegerField()
    ts = IntegerField()
    error = TextField()

    class Meta:
        table_name = "given_up"
        indexes = ((("user_id", "device", "message_id"), True),)


class Hidden(Table):
    """A message that one user is not to see any more. `state` 1: he deleted it for himself; 0x22: it was wiped."""

    user_id = IntegerField()
    message_id = IntegerField(index=True)
    state = IntegerField()
    ts = IntegerField()

    class Meta:
        primary_key = CompositeKey("user_id", "message_id")
        without_rowid = True


class Vanishing(Table):
    """A message that is to be wiped for one user (0: for everybody) at `due`, milliseconds since 1970."""

    message_id = IntegerField()
    user_id = IntegerField()
    due = IntegerField(index=True)

    class Meta:
        primary_key = CompositeKey("message_id", "user_id")
        without_rowid = True


class Scheduled(Table):
    """A message that waits for its time, or (with `amends`) an edit or recall of one; the rowid is the mid.

    `target_id` is a user (kind 0) or a group (kind 1). `due` is set while it waits, then `state` is the status in
    which it ended; one that was sent is a row of `message` instead. Its steps name conversation 0 and its mid as seq;
    `change` is that of its SENT.
    """

    id = IntegerField(primary_key=True)
    sender_id = IntegerField(index=True)
    kind = IntegerField()
    target_id = IntegerField()
    device = TextField()
    cid = TextField()
    ts = IntegerField()
    due = IntegerField(null=True)
    state = IntegerField(default=0)
    change = IntegerField(default=0)
    flags = IntegerField()
    params = TextField()
    payload = BlobField()
    amends = IntegerField(null=True)
    checksum = IntegerField(default=0)
