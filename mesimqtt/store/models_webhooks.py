"""The tables of webhooks as peewee models."""

from __future__ import annotations

from peewee import BlobField, IntegerField, TextField

from mesimqtt.store.model_base import Table


class Webhook(Table):
    """An endpoint and how far it is; outbox.py says what the columns mean. No secret: it is derived from `salt`."""

    name = TextField(unique=True)
    is_fixed = IntegerField()
    url = TextField()
    events = TextField()
    payload = IntegerField()
    format = TextField()
    batch_max = IntegerField()
    batch_age_ms = IntegerField()
    salt = BlobField()
    former_salt = BlobField()
    former_until = IntegerField()
    active = IntegerField()
    batch_last = IntegerField()
    attempts = IntegerField()
    next_at = IntegerField()
    error = TextField()
    succeeded_at = IntegerField()
    sent = IntegerField()
    created_at = IntegerField()
    checksum = IntegerField(default=0)


class Outbox(Table):
    """A page of events that waits for one endpoint; one row for each commit and endpoint."""

    webhook_id = IntegerField(index=True)
    letter_key = TextField()
    created_at = IntegerField()
    count = IntegerField()
    body = BlobField()


class DeadLetter(Table):
    """A batch that was given up; it can be sent again."""

    webhook_id = IntegerField(index=True)
    letter_key = TextField()
    created_at = IntegerField()
    died_at = IntegerField(index=True)
    count = IntegerField()
    attempts = IntegerField()
    reason = TextField()
    body = BlobField()


TABLES = [Webhook, Outbox, DeadLetter]
