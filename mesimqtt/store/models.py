"""The tables as peewee models. Hot statements are written out in SQL in the file of their aggregate."""

from __future__ import annotations

from peewee import (
    BlobField,
    CompositeKey,
    IntegerField,
    TextField,
)

from mesimqtt.store import models_api, models_webhooks
from mesimqtt.store.model_base import Table
from mesimqtt.store.models_groups import Group, Member, Pin, Work
from mesimqtt.store.models_history import Gap, Progress, Retention, SearchChange
from mesimqtt.store.models_messages import GivenUp, Hidden, Scheduled, Vanishing
from mesimqtt.store.models_people import Counter, Policy, Tie


class User(Table):
    """A user. `active` 0 means disabled. Times are milliseconds since 1970.

    `policy` names his policy ('': the default one), `rules` what differs from it for him, `privacy` what he decides
    himself. `expires_at` is his own end, `seen_at` when his last connection ended.
    """

    address = TextField(unique=True)
    active = IntegerField(default=1)
    created_at = IntegerField()
    profile = TextField(default="{}")
    policy = TextField(default="")
    rules = TextField(default="{}")
    privacy = TextField(default="{}")
    expires_at = IntegerField(null=True)
    seen_at = IntegerField(default=0)
    checksum = IntegerField(default=0)

    class Meta:
        indexes = ((("policy", "created_at"), False),)


class Token(Table):
    """An issued token. A short token's text is not kept, only its SHA-256. Times are seconds since 1970."""

    jti = TextField(primary_key=True)
    user_id = IntegerField(index=True)
    digest = BlobField(null=True, unique=True)
    device = TextField(null=True)
    scope = TextField(default="user")
    packet_max = IntegerField(default=0)
    acl = TextField(default="[]")
    issued_at = IntegerField()
    expires_at = IntegerField()
    revoked_at = IntegerField(null=True)
    checksum = IntegerField(default=0)


class Conversation(Table):
    """A pair of users (kind 0: `a` <= `b`) or a group (kind 1: `a` is the group, `b` 0).

    `last_at` is when its newest message was accepted, in milliseconds since 1970; `checksum` says between whom it is.
    """

    kind = IntegerField()
    a = IntegerField()
    b = IntegerField()
    last_seq = IntegerField(default=0)
    last_at = IntegerField(default=0)
    checksum = IntegerField(default=0)

    class Meta:
        indexes = ((("kind", "a", "b"), True), (("b",), False))


class Message(Table):
    """One message, (kind 1) event or (kind 2) work for one member of a group. The rowid is the mid: inserts append.

    `deadline` is set (milliseconds) only while a sweep must judge the message; the default expiry
    of a year is found by mid instead. `state` 0x21 (taken back by its sender) or 0x22 (wiped by age or policy): nobody
    gets it any more, and its payload and parameters are gone; `traceless` 1: nothing is to be seen of it, not even
    that there was one. An edit names the message it replaces in `edits`, which names the newest one in `edited_by`;
    a recall the one it takes back in `recalls`. `age` and `priority` are the sender's parameters, where he gave them.
    `checksum` is what integrity.py makes of it; `state` 0x80: what stands here is not what was stored.
    """

    id = IntegerField(primary_key=True)
    conversation_id = IntegerField()
    seq = IntegerField()
    kind = IntegerField(default=0)
    sender_id = IntegerField()
    device = TextField(default="")
    cid = TextField()
    ts = IntegerField()
    expires_at = IntegerField()
    deadline = IntegerField(null=True)
    flags = IntegerField()
    params = TextField(default="")
    payload = BlobField()
    state = IntegerField(default=0)
    traceless = IntegerField(default=0)
    edits = IntegerField(null=True)
    edited_by = IntegerField(null=True)
    recalls = IntegerField(null=True)
    age = IntegerField(null=True)
    priority = IntegerField(null=True)
    checksum = IntegerField(default=0)

    class Meta:
        indexes = ((("conversation_id", "seq"), True),)


class Cid(Table):
    """The sender's ids of the last 7 days and what they stood for."""

    sender_id = IntegerField()
    cid = TextField()
    message_id = IntegerField()
    digest = BlobField()

    class Meta:
        primary_key = CompositeKey("sender_id", "cid")
        without_rowid = True


class Lane(Table):
    """What one user has of one conversation: watermarks plus exceptions (contract section 4).

    `floor` is the seq before the user's time in it, `until` the last seq he may see (after leaving, or while he has
    no right to receive); `gaps` are seqs of his time that he had no right to receive; `checksum` is of these and of
    whose it is.
    """

    conversation_id = IntegerField()
    user_id = IntegerField()
    floor = IntegerField(default=0)
    until = IntegerField(null=True)
    acked = IntegerField(default=0)
    acked_above = TextField(default="")
    delivered = IntegerField(default=0)
    delivered_above = TextField(default="")
    read = IntegerField(default=0)
    read_above = TextField(default="")
    failed = TextField(default="")
    read_payload = TextField(default="")
    read_change = IntegerField(default=0)
    gaps = TextField(default="")
    checksum = IntegerField(default=0)

    class Meta:
        primary_key = CompositeKey("conversation_id", "user_id")
        without_rowid = True
        indexes = ((("user_id",), False),)


class Step(Table):
    """A status change of a run of one sender's messages for one recipient (0: the message itself).

    `change` is dense per sender: what a returning device has not seen yet is `change > its own`.
    """

    sender_id = IntegerField()
    change = IntegerField()
    conversation_id = IntegerField()
    recipient_id = IntegerField()
    first_seq = IntegerField()
    last_seq = IntegerField()
    status = IntegerField()
    ts = IntegerField()
    device = TextField(default="")
    reason = TextField(default="")

    class Meta:
        primary_key = CompositeKey("sender_id", "change")
        without_rowid = True
        indexes = ((("conversation_id", "last_seq"), False),)


class Device(Table):
    """A device with cursors. `ceiling` bounds the packet counter in use, `online` is 1 while connected.

    `filters` is the JSON of what a persistent session selected, each filter with its QoS, or with QoS and Subscription
    Identifier; a clean one leaves it empty.
    """

    user_id = IntegerField()
    client_id = TextField()
    ceiling = IntegerField(default=0)
    status_change = IntegerField(default=0)
    read_change = IntegerField(default=0)
    wants_status = IntegerField(default=0)
    packet_max = IntegerField(default=0)
    filters = TextField(default="{}")
    online = IntegerField(default=0)
    seen_at = IntegerField()

    class Meta:
        indexes = ((("user_id", "client_id"), True),)


class Cursor(Table):
    """What one device has acknowledged of one conversation. No row: the lane's floor."""

    device_id = IntegerField()
    conversation_id = IntegerField()
    acked = IntegerField()
    acked_above = TextField(default="")

    class Meta:
        primary_key = CompositeKey("device_id", "conversation_id")
        without_rowid = True


class Session(Table):
    """A persistent session for free topics. `seen_at` 0: its client is connected.

    `expiry_s`: how long it outlives its connection.
    """

    user = TextField()
    client_id = TextField()
    next_n = IntegerField(default=0)
    seen_at = IntegerField()
    expiry_s = IntegerField(default=7_776_000)
    checksum = IntegerField(default=0)

    class Meta:
        indexes = ((("user", "client_id"), True),)


class Subscription(Table):
    """A subscription of a persistent session. `qos` holds the whole grant (engine/grants.py)."""

    session_id = IntegerField()
    topic_filter = TextField()
    qos = IntegerField()
    checksum = IntegerField(default=0)

    class Meta:
        primary_key = CompositeKey("session_id", "topic_filter")
        without_rowid = True


class Queued(Table):
    """A QoS 1 or 2 message of a free topic that waits for a persistent session.

    `properties` are those of MQTT 5.0 as they stand on the wire; `expires_at` is milliseconds since 1970, 0 for never.
    """

    session_id = IntegerField()
    n = IntegerField()
    topic = BlobField()
    payload = BlobField()
    qos = IntegerField()
    released = IntegerField(default=0)
    properties = BlobField(default=b"")
    expires_at = IntegerField(default=0)
    checksum = IntegerField(default=0)

    class Meta:
        primary_key = CompositeKey("session_id", "n")


class Incoming(Table):
    """A packet id of a QoS 2 PUBLISH that awaits PUBREL."""

    session_id = IntegerField()
    packet_id = IntegerField()

    class Meta:
        primary_key = CompositeKey("session_id", "packet_id")
        without_rowid = True


class Retained(Table):
    """A retained message of a free topic; `properties` and `expires_at` as in Queued."""

    topic = TextField(primary_key=True)
    payload = BlobField()
    qos = IntegerField()
    properties = BlobField(default=b"")
    expires_at = IntegerField(default=0)
    checksum = IntegerField(default=0)

    class Meta:
        without_rowid = True


class Will(Table):
    """The will of a connection, from its CONNECT until it is published or called off.

    `due` is milliseconds since 1970, 0 while its client is connected; `identity` is the JSON of what its client was let
    in as, besides user and token; `properties` are those of MQTT 5.0 as they stand on the wire.
    """

    user = TextField()
    client_id = TextField()
    jti = TextField()
    identity = TextField()
    topic = BlobField()
    payload = BlobField()
    qos = IntegerField()
    properties = BlobField()
    delay_s = IntegerField()
    due = IntegerField(default=0)
    checksum = IntegerField()


class FailedLogin(Table):
    """Failed logins of a name from an address. `free_at`: when each window of the limit is free again.

    Times are milliseconds since 1970; `until` is the last of them, after which the row means nothing.
    """

    user = TextField()
    address = TextField()
    free_at = TextField()
    until = IntegerField()

    class Meta:
        primary_key = CompositeKey("user", "address")
        without_rowid = True


class Heartbeat(Table):
    """The one row that a health check writes, to see a commit reach the disk; milliseconds since 1970."""

    id = IntegerField(primary_key=True)
    beat_at = IntegerField()


TABLES = [
    User,
    Token,
    Group,
    Member,
    Conversation,
    Message,
    Cid,
    Lane,
    Step,
    Device,
    Cursor,
    Session,
    Subscription,
    Queued,
    Incoming,
    Retained,
    Will,
    FailedLogin,
    Hidden,
    Vanishing,
    Scheduled,
    Gap,
    Retention,
    Progress,
    SearchChange,
    Heartbeat,
    *models_api.TABLES,
    *models_webhooks.TABLES,
    Tie,
    Policy,
    Counter,
    Pin,
    Work,
    GivenUp,
]
