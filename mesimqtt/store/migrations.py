"""The schema, version by version. A migration is frozen once released; each runs in one transaction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mesimqtt.domain.errors import StoreError
from mesimqtt.store import integrity, seals
from mesimqtt.store.transaction import transaction

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

log = logging.getLogger(__name__)


def _statements(script: str) -> tuple[str, ...]:
    return tuple(statement for statement in script.split(";") if statement.strip())


_VERSION_1 = """
CREATE TABLE cid (sender_id INTEGER NOT NULL, cid TEXT NOT NULL, message_id INTEGER NOT NULL, digest BLOB
    NOT NULL, PRIMARY KEY (sender_id, cid)) WITHOUT ROWID;
CREATE TABLE conversation (id INTEGER NOT NULL PRIMARY KEY, kind INTEGER NOT NULL, a INTEGER NOT NULL, b
    INTEGER NOT NULL, last_seq INTEGER NOT NULL);
CREATE UNIQUE INDEX conversation_kind_a_b ON conversation (kind, a, b);
CREATE INDEX conversation_b ON conversation (b);
CREATE TABLE cursor (device_id INTEGER NOT NULL, conversation_id INTEGER NOT NULL, acked INTEGER NOT NULL,
    acked_above TEXT NOT NULL, PRIMARY KEY (device_id, conversation_id)) WITHOUT ROWID;
CREATE TABLE device (id INTEGER NOT NULL PRIMARY KEY, user_id INTEGER NOT NULL, client_id TEXT NOT NULL,
    ceiling INTEGER NOT NULL, status_change INTEGER NOT NULL, read_change INTEGER NOT NULL, wants_status
    INTEGER NOT NULL, packet_max INTEGER NOT NULL, filters TEXT NOT NULL, online INTEGER NOT NULL, seen_at
    INTEGER NOT NULL);
CREATE UNIQUE INDEX device_user_id_client_id ON device (user_id, client_id);
CREATE TABLE "group" (id INTEGER NOT NULL PRIMARY KEY, address TEXT NOT NULL, active INTEGER NOT NULL,
    created_at INTEGER NOT NULL, profile TEXT NOT NULL);
CREATE UNIQUE INDEX group_address ON "group" (address);
CREATE TABLE incoming (session_id INTEGER NOT NULL, packet_id INTEGER NOT NULL, PRIMARY KEY (session_id,
    packet_id)) WITHOUT ROWID;
CREATE TABLE lane (conversation_id INTEGER NOT NULL, user_id INTEGER NOT NULL, floor INTEGER NOT NULL, until
    INTEGER, acked INTEGER NOT NULL, acked_above TEXT NOT NULL, delivered INTEGER NOT NULL, delivered_above
    TEXT NOT NULL, read INTEGER NOT NULL, read_above TEXT NOT NULL, failed TEXT NOT NULL, read_payload TEXT
    NOT NULL, read_change INTEGER NOT NULL, PRIMARY KEY (conversation_id, user_id)) WITHOUT ROWID;
CREATE INDEX lane_user_id ON lane (user_id);
CREATE TABLE member (group_id INTEGER NOT NULL, user_id INTEGER NOT NULL, role TEXT NOT NULL, send INTEGER
    NOT NULL, receive INTEGER NOT NULL, joined_at INTEGER NOT NULL, PRIMARY KEY (group_id, user_id)) WITHOUT
    ROWID;
CREATE INDEX member_user_id ON member (user_id);
CREATE TABLE message (id INTEGER NOT NULL PRIMARY KEY, conversation_id INTEGER NOT NULL, seq INTEGER NOT
    NULL, kind INTEGER NOT NULL, sender_id INTEGER NOT NULL, device TEXT NOT NULL, cid TEXT NOT NULL, ts
    INTEGER NOT NULL, expires_at INTEGER NOT NULL, deadline INTEGER, flags INTEGER NOT NULL, params TEXT NOT
    NULL, payload BLOB NOT NULL);
CREATE UNIQUE INDEX message_conversation_id_seq ON message (conversation_id, seq);
CREATE TABLE queued (session_id INTEGER NOT NULL, n INTEGER NOT NULL, topic BLOB NOT NULL, payload BLOB NOT
    NULL, qos INTEGER NOT NULL, released INTEGER NOT NULL, PRIMARY KEY (session_id, n));
CREATE TABLE retained (topic TEXT NOT NULL PRIMARY KEY, payload BLOB NOT NULL, qos INTEGER NOT NULL) WITHOUT
    ROWID;
CREATE TABLE session (id INTEGER NOT NULL PRIMARY KEY, "user" TEXT NOT NULL, client_id TEXT NOT NULL, next_n
    INTEGER NOT NULL, seen_at INTEGER NOT NULL);
CREATE UNIQUE INDEX session_user_client_id ON session ("user", client_id);
CREATE TABLE step (sender_id INTEGER NOT NULL, change INTEGER NOT NULL, conversation_id INTEGER NOT NULL,
    recipient_id INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, status INTEGER NOT
    NULL, ts INTEGER NOT NULL, device TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (sender_id, change))
    WITHOUT ROWID;
CREATE INDEX step_conversation_id_last_seq ON step (conversation_id, last_seq);
CREATE TABLE subscription (session_id INTEGER NOT NULL, topic_filter TEXT NOT NULL, qos INTEGER NOT NULL,
    PRIMARY KEY (session_id, topic_filter)) WITHOUT ROWID;
CREATE TABLE token (jti TEXT NOT NULL PRIMARY KEY, user_id INTEGER NOT NULL, digest BLOB, device TEXT, scope
    TEXT NOT NULL, packet_max INTEGER NOT NULL, acl TEXT NOT NULL, issued_at INTEGER NOT NULL, expires_at
    INTEGER NOT NULL, revoked_at INTEGER);
CREATE INDEX token_user_id ON token (user_id);
CREATE UNIQUE INDEX token_digest ON token (digest);
CREATE TABLE user (id INTEGER NOT NULL PRIMARY KEY, address TEXT NOT NULL, active INTEGER NOT NULL,
    created_at INTEGER NOT NULL, profile TEXT NOT NULL);
CREATE UNIQUE INDEX user_address ON user (address);
CREATE INDEX message_deadline ON message (deadline) WHERE deadline IS NOT NULL;
"""

_VERSION_2 = """
CREATE TABLE failed_login ("user" TEXT NOT NULL, address TEXT NOT NULL, free_at TEXT NOT NULL, until INTEGER
    NOT NULL, PRIMARY KEY ("user", address)) WITHOUT ROWID;
ALTER TABLE session ADD COLUMN expiry_s INTEGER NOT NULL DEFAULT 7776000;
ALTER TABLE queued ADD COLUMN properties BLOB NOT NULL DEFAULT x'';
ALTER TABLE queued ADD COLUMN expires_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE retained ADD COLUMN properties BLOB NOT NULL DEFAULT x'';
ALTER TABLE retained ADD COLUMN expires_at INTEGER NOT NULL DEFAULT 0;
"""

# Version 3, by what it is for. A migration is a tuple of statements, so that a trigger may hold a semicolon.
_MESSAGES_3 = _statements("""
ALTER TABLE message ADD COLUMN state INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN traceless INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN edits INTEGER;
ALTER TABLE message ADD COLUMN edited_by INTEGER;
ALTER TABLE message ADD COLUMN recalls INTEGER;
ALTER TABLE message ADD COLUMN age INTEGER;
ALTER TABLE message ADD COLUMN priority INTEGER;
CREATE INDEX message_edits ON message (edits) WHERE edits IS NOT NULL;
CREATE INDEX message_age ON message (conversation_id, seq) WHERE age IS NOT NULL;
CREATE INDEX message_priority ON message (conversation_id, seq) WHERE priority IS NOT NULL;
CREATE TABLE hidden (user_id INTEGER NOT NULL, message_id INTEGER NOT NULL, state INTEGER NOT NULL, ts INTEGER
    NOT NULL, PRIMARY KEY (user_id, message_id)) WITHOUT ROWID;
CREATE INDEX hidden_message_id ON hidden (message_id);
CREATE TABLE vanishing (message_id INTEGER NOT NULL, user_id INTEGER NOT NULL, due INTEGER NOT NULL, PRIMARY KEY
    (message_id, user_id)) WITHOUT ROWID;
CREATE INDEX vanishing_due ON vanishing (due);
CREATE TABLE scheduled (id INTEGER NOT NULL PRIMARY KEY, sender_id INTEGER NOT NULL, kind INTEGER NOT NULL,
    target_id INTEGER NOT NULL, device TEXT NOT NULL, cid TEXT NOT NULL, ts INTEGER NOT NULL, due INTEGER, state
    INTEGER NOT NULL, change INTEGER NOT NULL, flags INTEGER NOT NULL, params TEXT NOT NULL, payload BLOB NOT
    NULL, amends INTEGER);
CREATE INDEX scheduled_sender_id ON scheduled (sender_id);
CREATE INDEX scheduled_due ON scheduled (due) WHERE due IS NOT NULL;
""")  # edits, recalls, scheduled and disappearing messages
_HISTORY_3: tuple[str, ...] = (  # history, search, retention
    "ALTER TABLE conversation ADD COLUMN last_at INTEGER NOT NULL DEFAULT 0",
    """UPDATE conversation SET last_at = coalesce((SELECT ts FROM message m
    WHERE m.conversation_id = conversation.id AND m.seq = conversation.last_seq), 0)""",
    """CREATE INDEX message_aside ON message (conversation_id, seq)
    WHERE kind <> 0 OR edits IS NOT NULL OR recalls IS NOT NULL OR state <> 0""",
    """CREATE TABLE gap (conversation_id INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
    PRIMARY KEY (conversation_id, first_seq)) WITHOUT ROWID""",
    """CREATE TABLE retention (group_id INTEGER NOT NULL, type INTEGER NOT NULL, keep_s INTEGER NOT NULL,
    PRIMARY KEY (group_id, type)) WITHOUT ROWID""",
    "CREATE TABLE progress (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE search_change (id INTEGER NOT NULL PRIMARY KEY, message_id INTEGER NOT NULL)",
    """CREATE TRIGGER message_rewritten AFTER UPDATE OF payload, state, edited_by ON message BEGIN
    INSERT INTO search_change (message_id) VALUES (old.id); END""",
    """CREATE TRIGGER message_removed AFTER DELETE ON message BEGIN
    INSERT INTO search_change (message_id) VALUES (old.id); END""",
)
_GROUPS_3 = _statements("""
ALTER TABLE "group" ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;
ALTER TABLE "group" ADD COLUMN expires_at INTEGER;
CREATE INDEX group_expires_at ON "group" (expires_at) WHERE expires_at IS NOT NULL;
ALTER TABLE member ADD COLUMN granted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE member ADD COLUMN denied INTEGER NOT NULL DEFAULT 0;
ALTER TABLE member ADD COLUMN admin INTEGER NOT NULL DEFAULT 0;
UPDATE member SET denied = (1 - send) + 2 * (1 - receive);
ALTER TABLE lane ADD COLUMN gaps TEXT NOT NULL DEFAULT '';
UPDATE lane SET until = (SELECT last_seq FROM conversation c WHERE c.id = conversation_id) WHERE until IS NULL
    AND EXISTS (SELECT 1 FROM conversation c JOIN member m ON m.group_id = c.a WHERE c.id = conversation_id
    AND c.kind = 1 AND m.user_id = lane.user_id AND m.receive = 0);
CREATE INDEX lane_ended ON lane (conversation_id, user_id) WHERE until IS NOT NULL AND acked < until - 1;
ALTER TABLE member DROP COLUMN send;
ALTER TABLE member DROP COLUMN receive;
CREATE TABLE pin (id INTEGER NOT NULL PRIMARY KEY, group_id INTEGER NOT NULL, digest BLOB NOT NULL, role TEXT NOT
    NULL, granted INTEGER NOT NULL, admin INTEGER NOT NULL, uses INTEGER, created_by INTEGER NOT NULL, created_at
    INTEGER NOT NULL, expires_at INTEGER);
CREATE UNIQUE INDEX pin_group_id_digest ON pin (group_id, digest);
CREATE TABLE work (conversation_id INTEGER NOT NULL, seq INTEGER NOT NULL, message_id INTEGER NOT NULL, PRIMARY KEY
    (conversation_id, seq)) WITHOUT ROWID;
""")  # kinds, roles, rights, pins, work that waits for a member
_PEOPLE_3 = _statements("""
ALTER TABLE user ADD COLUMN policy TEXT NOT NULL DEFAULT '';
ALTER TABLE user ADD COLUMN rules TEXT NOT NULL DEFAULT '{}';
ALTER TABLE user ADD COLUMN privacy TEXT NOT NULL DEFAULT '{}';
ALTER TABLE user ADD COLUMN expires_at INTEGER;
ALTER TABLE user ADD COLUMN seen_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX user_policy_created_at ON user (policy, created_at);
CREATE INDEX user_expires_at ON user (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE tie (user_id INTEGER NOT NULL, kind INTEGER NOT NULL, peer TEXT NOT NULL, value TEXT NOT NULL, since
    INTEGER NOT NULL, PRIMARY KEY (user_id, kind, peer)) WITHOUT ROWID;
CREATE INDEX tie_peer_kind ON tie (peer, kind);
CREATE TABLE policy (name TEXT NOT NULL PRIMARY KEY, rules TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE counter (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID
""")  # policies, blocks, contacts, presence
_API_3 = _statements("""
CREATE TABLE idempotency (owner TEXT NOT NULL, key_hash BLOB NOT NULL, digest BLOB NOT NULL, status INTEGER NOT NULL,
    answer BLOB NOT NULL, created_at INTEGER NOT NULL, PRIMARY KEY (owner, key_hash)) WITHOUT ROWID;
CREATE INDEX idempotency_created_at ON idempotency (created_at);
""")
_WEBHOOKS_3 = _statements("""
CREATE TABLE webhook (id INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, is_fixed INTEGER NOT NULL, url TEXT NOT
    NULL, events TEXT NOT NULL, payload INTEGER NOT NULL, format TEXT NOT NULL, batch_max INTEGER NOT NULL,
    batch_age_ms INTEGER NOT NULL, salt BLOB NOT NULL, former_salt BLOB NOT NULL, former_until INTEGER NOT NULL,
    active INTEGER NOT NULL, batch_last INTEGER NOT NULL, attempts INTEGER NOT NULL, next_at INTEGER NOT NULL, error
    TEXT NOT NULL, succeeded_at INTEGER NOT NULL, sent INTEGER NOT NULL, created_at INTEGER NOT NULL);
CREATE UNIQUE INDEX webhook_name ON webhook (name);
CREATE TABLE outbox (id INTEGER NOT NULL PRIMARY KEY, webhook_id INTEGER NOT NULL, letter_key TEXT NOT NULL,
    created_at INTEGER NOT NULL, count INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX outbox_webhook_id ON outbox (webhook_id);
CREATE TABLE dead_letter (id INTEGER NOT NULL PRIMARY KEY, webhook_id INTEGER NOT NULL, letter_key TEXT NOT NULL,
    created_at INTEGER NOT NULL, died_at INTEGER NOT NULL, count INTEGER NOT NULL, attempts INTEGER NOT NULL, reason
    TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX dead_letter_webhook_id ON dead_letter (webhook_id);
CREATE INDEX dead_letter_died_at ON dead_letter (died_at);
""")
_SERVER_3: tuple[str, ...] = (
    "CREATE TABLE heartbeat (id INTEGER NOT NULL PRIMARY KEY, beat_at INTEGER NOT NULL)",  # what a health check commits
)

_INTEGRITY_3: tuple[str, ...] = (  # checksums (integrity.py); behind all else that touches these tables
    "ALTER TABLE message ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE scheduled ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE queued ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE retained ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0",
    """UPDATE message SET checksum = message_checksum(id, conversation_id, seq, kind, sender_id, device, cid, ts,
    expires_at, flags, params, payload)""",
    """UPDATE queued SET checksum = letter_checksum(topic, payload, properties, qos, expires_at, session_id, n)
    WHERE released = 0""",
    "UPDATE retained SET checksum = letter_checksum(topic, payload, properties, qos, expires_at, 0, 0)",
    "ALTER TABLE conversation ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE lane ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0",
    "UPDATE conversation SET checksum = conversation_checksum(id, kind, a, b)",
    "UPDATE lane SET checksum = lane_checksum(conversation_id, user_id, floor, until, gaps)",
)

# Version 4. The checksums of seals.py stand behind all else that touches their tables.
_WILLS_4 = _statements("""
CREATE TABLE will (id INTEGER NOT NULL PRIMARY KEY, user TEXT NOT NULL, client_id TEXT NOT NULL, jti TEXT NOT NULL,
    identity TEXT NOT NULL, topic BLOB NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL, properties BLOB NOT NULL,
    delay_s INTEGER NOT NULL, due INTEGER NOT NULL DEFAULT 0, checksum INTEGER NOT NULL);
""")

_BOTS_4 = _statements("""
CREATE TABLE given_up (id INTEGER NOT NULL PRIMARY KEY, user_id INTEGER NOT NULL, device TEXT NOT NULL, message_id
    INTEGER NOT NULL, tries INTEGER NOT NULL, ts INTEGER NOT NULL, error TEXT NOT NULL);
CREATE UNIQUE INDEX given_up_user_id_device_message_id ON given_up (user_id, device, message_id);
""")

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _statements(_VERSION_1),
    _statements(_VERSION_2),
    (*_MESSAGES_3, *_HISTORY_3, *_GROUPS_3, *_PEOPLE_3, *_API_3, *_WEBHOOKS_3, *_SERVER_3, *_INTEGRITY_3),
    (*_WILLS_4, *_BOTS_4, *seals.statements()),
)
VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the data to VERSION, one transaction a step.

    Raises:
        StoreError: the data was written by a newer version.

    """
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > VERSION:
        raise StoreError(f"{path} has data of version {found}, this program knows {VERSION}; install a newer mesimqtt")
    if 0 < found < VERSION:
        log.info("store: the data is of version %d and is brought to %d", found, VERSION)
    integrity.prepare(connection)
    for number, statements in enumerate(MIGRATIONS[found:], start=found + 1):
        with transaction(connection):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
