"""The tables of people beside the user: ties to others, policies, counters."""

from __future__ import annotations

from peewee import CompositeKey, IntegerField, TextField

from mesimqtt.store.model_base import Table


class Tie(Table):
    """A tie from a user to an address: contact, pair, block or follow (store/ties.py)."""

    user_id = IntegerField()
    kind = IntegerField()
    peer = TextField()
    value = TextField(default="")
    since = IntegerField()
    checksum = IntegerField(default=0)

    class Meta:
        primary_key = CompositeKey("user_id", "kind", "peer")
        without_rowid = True
        indexes = ((("peer", "kind"), False),)


class Policy(Table):
    """A policy that an operation has made; `rules` is JSON, each rule as a person writes it."""

    name = TextField(primary_key=True)
    rules = TextField(default="{}")
    checksum = IntegerField(default=0)

    class Meta:
        without_rowid = True


class Counter(Table):
    """A number that only grows, also over a restart."""

    name = TextField(primary_key=True)
    value = IntegerField()

    class Meta:
        without_rowid = True
