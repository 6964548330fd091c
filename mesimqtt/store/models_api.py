"""The tables of the HTTP API as peewee models."""

from __future__ import annotations

from peewee import BlobField, CompositeKey, IntegerField, TextField

from mesimqtt.store.model_base import Table


class Idempotency(Table):
    """The answer to a request with an Idempotency-Key: sealed, and the key itself only as a hash."""

    owner = TextField()
    key_hash = BlobField()
    digest = BlobField()
    status = IntegerField()
    answer = BlobField()
    created_at = IntegerField(index=True)

    class Meta:
        primary_key = CompositeKey("owner", "key_hash")
        without_rowid = True


TABLES = [Idempotency]
