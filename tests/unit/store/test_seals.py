"""Who somebody is and what he may do: a row that damage has altered counts for nothing, and one bit is turned back."""

from __future__ import annotations

import contextlib
import logging
import sqlite3

import pytest

from mesimqtt.store import database, groups, members, mending, outbox, pins, policies, seals, ties, tokens, users
from mesimqtt.store.integrity import of_row
from mesimqtt.store.pins import PinRow
from mesimqtt.store.ties import Tie
from mesimqtt.store.tokens import TokenRow
from mesimqtt.store.transaction import transaction
from unit.store.rows import unsealed

SHORT, JWT = b"\x01" * 32, None


@pytest.fixture
def store(tmp_path):
    """An open database with one row of each table at least: alice, bob and what they may do."""
    opened = database.Database(tmp_path / "data")
    opened.open()
    connection = opened.connection()
    for name in ("alice", "bob", "carol"):
        users.add(connection, name, 5)
    for jti, user, digest in (("one", 1, SHORT), ("two", 2, JWT)):
        tokens.add(connection, TokenRow(jti, user, 1, None, "user", 0, 10, 10**10), digest)
    group, conversation = members.make_group(connection, "team", 5)
    members.enter(connection, group, conversation, [1, 2], members.NewMember("owner"), 1, 5)
    ties.put(connection, 1, Tie.BLOCK, {"bob": "1"}, 5)
    ties.put(connection, 1, Tie.CONTACT, {"bob": "Bobby"}, 5)
    policies.save(connection, "staff", {"outgoing": "off"})
    pins.add(connection, group, SHORT, PinRow(0, "member", 0, 0, 3, 1, 5, None))
    outbox.add(connection, "crm", 5, salt=b"salt")
    outbox.change(connection, 1, {"url": "https://crm.example.org/", "events": "message.*"})
    connection.execute("INSERT INTO session VALUES (1, 'alice', 'lock', 0, 0, 60, 0)")
    connection.execute("INSERT INTO subscription VALUES (1, 'free/#', 1, 0)")
    yield opened
    opened.close()


def altered(store, statement, *words, values=()):
    """Change rows as a failing disk does."""
    statement = statement.format(*words) if words else statement
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        unsealed(connection)
        assert connection.execute(statement, values).rowcount > 0


def selected(connection, table, columns="*"):
    statement = 'SELECT {} FROM "{}"'
    return connection.execute(statement.format(columns, table)).fetchall()


def unsound(connection):
    return [(table, row) for table in seals.SEALED for row in seals.damaged(connection, table)]


def test_every_row_has_its_checksum(store):
    """Whatever is inserted or changed: it holds, and there is a row of each table in this test."""
    connection = store.connection()
    users.set_policy(connection, 2, "staff", {"peers": "paired"})
    users.set_active(connection, 2, active=False)
    tokens.revoke_all(connection, 2, 20)
    members.set_rights(connection, 1, 1, 2, 1, 2, 3)
    members.set_role(connection, 1, 1, 2, "admin", 3, 4)
    groups.set_flags(connection, 1, 8)
    pins.use(connection, 1)
    ties.put(connection, 1, Tie.BLOCK, {"bob": "3"}, 9)
    outbox.change(connection, 1, {"active": 0})
    connection.execute("UPDATE user SET seen_at = 9, profile = 'x' WHERE id = 1")

    assert [] == unsound(connection)
    assert {} == {table: 0 for table in seals.SEALED if not selected(connection, table)}


def test_the_checksum_is_frozen():
    """What is in databases was made by it: neither the function nor its columns change."""
    row = ("jti", 1, "X'01FF'", None, "user", 0, 10, 20, None)

    assert 3_046_501_988 == of_row(row)
    assert len(row) == len(seals.SEALED["token"])


READS = (
    ("UPDATE token SET user_id = 2 WHERE jti = 'one'", lambda c: tokens.find_short(c, SHORT)),
    ("UPDATE token SET scope = 'admin' WHERE jti = 'one'", lambda c: tokens.find(c, "one")),
    ("UPDATE token SET user_id = 1 WHERE jti = 'two'", lambda c: tokens.arrival(c, "two")),
    ("UPDATE token SET expires_at = 20000000000 WHERE jti = 'two'", lambda c: tokens.ahead(c, 0, 9, 50)),
    ("UPDATE user SET address = 'dora' WHERE id = 2", lambda c: tokens.arrival(c, "two")),
    ("UPDATE user SET address = 'dora' WHERE id = 2", lambda c: users.find(c, "dora")),
    ("UPDATE user SET rules = '{ }' WHERE id = 2", lambda c: users.by_id(c, 2)),
    ("UPDATE user SET address = 'dora' WHERE id = 2", lambda c: users.addresses(c, [2])),
    ("UPDATE user SET active = -1 WHERE id = 2", lambda c: users.former(c, 2)),
    ('UPDATE "group" SET flags = 255', lambda c: groups.find(c, "team")),
    ('UPDATE "group" SET active = 7', lambda c: groups.by_id(c, 1)),
    ('UPDATE "group" SET flags = 255', lambda c: groups.public_page(c, 8, "", 9)),
    ("UPDATE member SET user_id = 3 WHERE user_id = 2", lambda c: groups.page_of(c, 3, "", 9)),
    ("UPDATE member SET user_id = 3 WHERE user_id = 2", lambda c: members.find(c, 1, 3)),
    ("UPDATE member SET granted = 4095", lambda c: members.rights(c, 1)),
    ("UPDATE member SET granted = 4095", lambda c: members.owners(c, 1)),
    ("UPDATE member SET granted = 4095", lambda c: members.page(c, 1, "", 9)),
    ("UPDATE tie SET peer = 'carol' WHERE kind = 1", lambda c: ties.has(c, 1, Tie.CONTACT, "carol")),
    ("UPDATE tie SET value = 'Rob' WHERE kind = 1", lambda c: ties.page(c, 1, Tie.CONTACT, "", 9)),
    ("UPDATE tie SET value = 'Rob' WHERE kind = 1", lambda c: ties.towards(c, Tie.CONTACT, "bob", 1)),
    ("UPDATE policy SET rules = '{\"a\":\"b\"}'", lambda c: policies.load(c)["staff"]),
    ("UPDATE pin SET role = 'owner'", lambda c: pins.find(c, 1, SHORT, 9)),
    ("UPDATE webhook SET url = 'https://evil.example.org/'", lambda c: outbox.find(c, "crm").url),
    ("UPDATE webhook SET salt = 'salt'", lambda c: outbox.webhooks(c)[0].active),
)  # fmt: skip


@pytest.mark.parametrize(("statement", "read"), READS, ids=[f"{number}" for number in range(len(READS))])
def test_what_is_altered_is_passed_over(store, caplog, statement, read):
    """Whoever looks for it finds nothing, and the log says so once; changed on purpose the same row counts."""
    altered(store, statement)
    with caplog.at_level(logging.ERROR):
        found = [read(store.connection()) for _ in range(2)]
    said = [record.getMessage() for record in caplog.records if "is damaged" in record.getMessage()]

    assert not any(found), found
    assert len(store.odd.rows) == len(said) == len(set(said)) > 0


@pytest.mark.parametrize(("statement", "read"), READS, ids=[f"{number}" for number in range(len(READS))])
def test_what_is_changed_on_purpose_counts(store, statement, read):
    """The same statements by the store itself: what was read is read again."""
    store.connection().execute(statement)

    assert read(store.connection())
    assert [] == unsound(store.connection())


def test_a_damaged_block_is_of_everything(store):
    """What protects somebody is not lost by damage to how far it goes."""
    altered(store, "UPDATE tie SET value = '0' WHERE kind = 3")
    connection = store.connection()

    assert [("bob", str(2**31 - 1), 5)] == ties.page(connection, 1, Tie.BLOCK, "", 9)
    assert [(1, str(2**31 - 1))] == ties.towards(connection, Tie.BLOCK, "bob", 1)


def test_a_damaged_row_is_not_made_good_by_a_change(store):
    """An operation that touches it leaves it damaged: what it said is not what was stored."""
    altered(store, "UPDATE user SET address = 'dora' WHERE id = 2")
    connection = store.connection()
    users.set_active(connection, 2, active=False)
    users.set_privacy(connection, 2, {"presence": "nobody"})

    assert [("user", 2)] == [(table, row[0]) for table, row in unsound(connection)]


def test_made_again_it_counts(store):
    """A member who is added, a tie, a policy that is made again, an endpoint of the settings: whole from then on."""
    for table, columns in (("member", "admin = 1"), ("tie", "since = 1"), ("policy", "rules = '1'"),
                           ("webhook", "salt = ''")):  # fmt: skip
        altered(store, "UPDATE {} SET {}", table, columns)
    connection = store.connection()
    members.enter(connection, 1, 1, [1, 2], members.MEMBER, 9, 9)
    ties.put(connection, 1, Tie.BLOCK, {"bob": "3"}, 9)
    ties.put(connection, 1, Tie.CONTACT, {"bob": "B"}, 9)
    policies.save(connection, "staff", {})
    outbox.renew(connection, 1)

    assert [] == unsound(connection)
    assert [("bob", "3", 9)] == ties.page(connection, 1, Tie.BLOCK, "", 9)


def test_a_statement_from_outside_is_refused(store):
    """Another program that would change such a row, and leave it without checksum, is told that it cannot."""
    with (
        contextlib.closing(sqlite3.connect(store.path)) as connection,
        pytest.raises(sqlite3.OperationalError, match="no such function: row_checksum"),
    ):
        connection.execute("UPDATE user SET address = 'eve' WHERE id = 1")


def pieces(connection, table):
    """Return every column of the first row of a table with its type and its bytes, beside its key."""
    names = seals.SEALED[table]
    raw = ", ".join(f"typeof({name}), {name}" for name in names)
    row = selected(connection, table, raw)[0]
    return [(name, row[2 * at], row[2 * at + 1]) for at, name in enumerate(names)]


@pytest.mark.parametrize("table", list(seals.SEALED))
def test_one_flipped_bit_is_turned_back(store, caplog, table):
    """In any column: afterwards every row is as it was, and the log says what was mended."""
    connection = store.connection()
    whole = selected(connection, table)
    place = " AND ".join(f"{name} = ?" for name in seals.key_names(table))
    flipped = 0
    for name, kind, value in pieces(connection, table):
        if kind == "null" or value in {"", b""}:
            continue
        other = value ^ 4 if kind == "integer" else value[:-1] + (chr(ord(value[-1]) ^ 1) if kind == "text" else b"!")
        if kind == "blob":
            other = value[:-1] + bytes([value[-1] ^ 8])
        key = selected(connection, table, ", ".join(seals.key_names(table)))[0]
        altered(store, 'UPDATE "{}" SET {} = ? WHERE {}', table, name, place, values=(other, *key))
        flipped += 1
        assert 1 == len(unsound(connection)), name
        assert store.put_right(lambda: False)

    assert [] == unsound(connection)
    assert whole == selected(connection, table)
    assert flipped == caplog.text.count("is put right")


def test_bytes_that_damage_has_made_a_number_of_are_no_size(store, caplog):
    """It is not so many bytes that are asked for: the row stays as it is, and is said."""
    altered(store, "UPDATE token SET digest = ? WHERE jti = 'one'", values=(1 << 40,))
    assert store.put_right(lambda: False)

    assert [("token", "one")] == [(table, row[0]) for table, row in unsound(store.connection())]
    assert "is put right" not in caplog.text


def test_a_flipped_bit_of_a_checksum_is_turned_back(store):
    """It is known, too: no flipped bit of the row itself leaves a checksum so near."""
    for bit in (1, 128, 1 << 31):
        altered(store, "UPDATE token SET checksum = (checksum | {0}) - (checksum & {0}) WHERE jti = 'one'", bit)
        assert store.put_right(lambda: False)

    assert [] == unsound(store.connection())


def test_more_than_one_bit_stays_and_is_said(store, caplog):
    """What cannot be told for certain is left as it is; the log says what to do."""
    altered(store, "UPDATE user SET address = 'dave' WHERE id = 2")
    assert store.put_right(lambda: False)

    assert [("user", 2)] == [(table, row[0]) for table, row in unsound(store.connection())]
    assert "user 2 ('dave') is damaged" in caplog.text
    assert "is put right" not in caplog.text


def test_a_place_that_was_taken_meanwhile_is_not_mended(store, caplog):
    """Where another one has the name by now, the damaged row stays, and nothing else of the mending is lost."""
    altered(store, "UPDATE user SET address = 'boc' WHERE id = 2")
    altered(store, "UPDATE token SET user_id = 3 WHERE jti = 'two'")
    connection = store.connection()
    users.add(connection, "bob", 9)
    assert store.put_right(lambda: False)

    assert [("user", 2)] == [(table, row[0]) for table, row in unsound(connection)]
    assert "user 2 ('boc') is damaged" in caplog.text


def test_what_a_read_found_is_mended_by_the_next_look(store):
    """A server that has not looked at everything mends what it stumbles upon; a table that is whole costs nothing."""
    altered(store, "UPDATE token SET user_id = 3 WHERE jti = 'one'")
    connection = store.connection()
    first = tokens.find_short(connection, SHORT)
    with transaction(connection):
        mended = mending.put_right(connection, list(store.odd.rows))
        again = mending.put_right(connection, list(store.odd.rows))

    assert first is None
    assert [("token", 1)] == [(table, row[1]) for table, row in mended]
    assert [] == [table for table, row in again if row != mended[0][1]]
    assert 1 == tokens.find_short(connection, SHORT).user_id
