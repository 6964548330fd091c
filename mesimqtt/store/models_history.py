"""The tables of history: what retention removed and for how long it keeps, and what the search index must look at."""

from __future__ import annotations

from peewee import CompositeKey, IntegerField, TextField

from mesimqtt.store.model_base import Table


class Gap(Table):
    """A run of seqs that retention removed from a conversation: history and sync are not complete there."""

    conversation_id = IntegerField()
    first_seq = IntegerField()
    last_seq = IntegerField()

    class Meta:
        primary_key = CompositeKey("conversation_id", "first_seq")
        without_rowid = True


class Retention(Table):
    """How many seconds messages are kept. `group_id` 0: in every conversation; `type` -1: of every type.

    `keep_s` 0: for ever.
    """

    group_id = IntegerField()
    type = IntegerField()
    keep_s = IntegerField()

    class Meta:
        primary_key = CompositeKey("group_id", "type")
        without_rowid = True


class Progress(Table):
    """How far work that goes on over restarts has come, by its name."""

    name = TextField(primary_key=True)
    value = IntegerField()

    class Meta:
        without_rowid = True


class SearchChange(Table):
    """A message that was rewritten or removed since the search index took it. Triggers fill it."""

    message_id = IntegerField()
