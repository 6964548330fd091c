"""Models of groups: their flags, members and their rights, PINs, and work that waits for one of them."""

from __future__ import annotations

from peewee import BlobField, CompositeKey, IntegerField, TextField

from mesimqtt.store.model_base import Table


class Group(Table):
    """A group; its address lives in a namespace of its own. `flags` are Mesibo's bits (domain/groups.py).

    `expires_at` is milliseconds since 1970, null for never.
    """

    address = TextField(unique=True)
    active = IntegerField(default=1)
    created_at = IntegerField()
    profile = TextField(default="{}")
    flags = IntegerField(default=0)
    expires_at = IntegerField(null=True)
    checksum = IntegerField(default=0)


class Member(Table):
    """Who belongs to a group. What he may do follows from group and role; `granted` and `denied` differ from it.

    `admin` are the bits of an admin; an owner has them all.
    """

    group_id = IntegerField()
    user_id = IntegerField(index=True)
    role = TextField(default="member")
    joined_at = IntegerField()
    granted = IntegerField(default=0)
    denied = IntegerField(default=0)
    admin = IntegerField(default=0)
    checksum = IntegerField(default=0)

    class Meta:
        primary_key = CompositeKey("group_id", "user_id")
        without_rowid = True


class Pin(Table):
    """A PIN that lets its user join, as a hash. `uses` counts down, null for any number; times in milliseconds."""

    group_id = IntegerField()
    digest = BlobField()
    role = TextField()
    granted = IntegerField()
    admin = IntegerField()
    uses = IntegerField(null=True)
    created_by = IntegerField()
    created_at = IntegerField()
    expires_at = IntegerField(null=True)
    checksum = IntegerField(default=0)

    class Meta:
        indexes = ((("group_id", "digest"), True),)


class Work(Table):
    """A message of a round-robin group that no member has taken yet."""

    conversation_id = IntegerField()
    seq = IntegerField()
    message_id = IntegerField()

    class Meta:
        primary_key = CompositeKey("conversation_id", "seq")
        without_rowid = True
