"""Devices, their cursors and what is pending for them; members and the bounds of what they may see."""

from __future__ import annotations

import pytest

from mesimqtt.domain.messages import Conversation
from mesimqtt.domain.seqset import SeqSet
from mesimqtt.store import conversations, devices, members
from mesimqtt.store.members import MEMBER, NewMember
from unit.store.desk import ALICE, BOB, CAROL, NOW_MS, pair

PHONE, TABLET = 7, 8


@pytest.fixture
def chat(desk):
    """Five messages of alice to bob, of which no device has acknowledged the last three."""
    conversation = pair()
    desk.accept(*"12345", conversation=conversation)
    desk.all("UPDATE lane SET acked = 2, acked_above = '4' WHERE user_id = ?", BOB)
    return conversation


def enrol(desk, number, client_id, user=BOB):
    desk.committer.row(devices.INSERT, number, user, client_id, 64, 5, 6, 0, 128, "{}", NOW_MS)
    desk.committer.row(devices.COPY_CURSORS, number, user)
    desk.commit()


def pending(desk, device, user=BOB):
    found = devices.pending(desk.database.connection(), user, device)
    return [(row.conversation_id, row.acked, row.acked_above, row.last_seq) for row in found]


def test_a_device_is_found_as_it_was_kept(desk):
    """Everything about a device survives; another user's device of the same client id is another."""
    enrol(desk, PHONE, "phone")
    enrol(desk, TABLET, "phone", user=ALICE)
    desk.committer.row(devices.UPDATE, 128, 9, 8, 1, 256, '{"in/#":1}', 0, NOW_MS + 1, PHONE)
    desk.committer.row(devices.RAISE_CEILING, 100, PHONE)
    desk.commit()
    connection = desk.database.connection()

    assert (PHONE, "phone", 128, 9, 8, 1, 256, '{"in/#":1}', 0, NOW_MS + 1) == devices.find(connection, BOB, "phone")
    assert (TABLET, "phone", 64, 5, 6, 0, 128, "{}", 1, NOW_MS) == devices.find(connection, ALICE, "phone")
    assert devices.find(connection, BOB, "laptop") is None


def test_a_new_device_starts_at_what_no_device_acknowledged(desk, chat):
    """Its cursor is a copy of the user's lane; what another acknowledges later is still pending for it."""
    enrol(desk, PHONE, "phone")
    desk.all("UPDATE lane SET acked = 5, acked_above = '' WHERE user_id = ?", BOB)

    assert [(chat.id, 2, "4", 5)] == pending(desk, PHONE)
    assert [] == pending(desk, 0)


def test_the_copied_cursor_sees_the_lane_of_its_own_commit(desk, chat):
    """A lane that is written in the same transaction is copied as it then is."""
    desk.batch.lanes[chat.id, BOB] = (chat.id, BOB, 0, None, 5, "", 0, "", 0, "", "", "", 0)
    enrol(desk, PHONE, "phone")

    assert [] == pending(desk, PHONE)


def test_without_a_cursor_the_lane_counts(desk, chat):
    """A device without a row gets what no device has acknowledged."""
    assert [(chat.id, 2, "4", 5)] == pending(desk, 0)


def test_a_conversation_that_began_later_is_pending_from_its_floor(desk, chat):
    """Where a device has no cursor yet it has acknowledged nothing of its user's time in the conversation."""
    enrol(desk, PHONE, "phone")
    other = pair(BOB, CAROL)
    desk.accept("1", conversation=other, sender=CAROL)
    desk.all("UPDATE lane SET acked = 1 WHERE conversation_id = ?", other.id)

    assert (other.id, 0, "", 1) == pending(desk, PHONE)[1]


def test_a_cursor_that_is_complete_is_not_pending(desk, chat):
    """Nothing is read for a conversation in which the device has everything."""
    enrol(desk, PHONE, "phone")
    desk.batch.cursors[PHONE, chat.id] = (PHONE, chat.id, 5, "")
    desk.commit()

    assert [] == pending(desk, PHONE)
    assert 5 == devices.cursor(desk.database.connection(), PHONE, chat.id).upto


def test_a_dropped_device_leaves_no_cursor(desk, chat):
    """Device and cursors go together, and its number goes to no other while a cursor bears it."""
    enrol(desk, PHONE, "phone")
    desk.committer.row(devices.DELETE_CURSORS, PHONE)
    desk.committer.row(devices.DELETE, PHONE)
    desk.commit()
    connection = desk.database.connection()

    assert ([], []) == (desk.all("SELECT * FROM device"), desk.all("SELECT * FROM cursor"))
    assert 0 == devices.last_id(connection)
    desk.batch.cursors[TABLET, chat.id] = (TABLET, chat.id, 5, "")
    desk.commit()

    assert TABLET == devices.last_id(connection)
    enrol(desk, PHONE, "phone")
    assert TABLET == devices.last_id(connection)


def test_the_longest_unseen_comes_first(desk):
    """Devices are listed so that the first is the one to go; unseen ones are found by time."""
    for number, client_id, seen in ((1, "b", 30), (2, "a", 10), (3, "c", 20)):
        enrol(desk, number, client_id)
        desk.all("UPDATE device SET seen_at = ?, online = 0 WHERE id = ?", seen, number)
    connection = desk.database.connection()

    assert ["a", "c", "b"] == [row.client_id for row in devices.of_user(connection, BOB)]
    assert [2] == devices.unseen_since(connection, 20)


def test_read_marks_since_a_number(desk, chat):
    """A returning device is told the marks that its user made elsewhere, in their order."""
    connection = desk.database.connection()
    assert (0, []) == (devices.last_read_change(connection, BOB), devices.read_marks(connection, BOB, 0))
    desk.batch.lanes[chat.id, BOB] = (chat.id, BOB, 0, None, 2, "4", 2, "", 1, "", "", "<=mid", 3)
    desk.commit()

    assert [(0, ALICE, BOB, "<=mid", 3)] == devices.read_marks(connection, BOB, 2)
    assert [] == devices.read_marks(connection, BOB, 3)
    assert 3 == devices.last_read_change(connection, BOB)


def test_a_lane_is_read_as_it_was_written(desk, chat):
    """Watermarks, exceptions and marks of a lane survive."""
    row = (chat.id, BOB, 0, None, 2, "4", 3, "5", 1, "3,5", "4", "<=mid", 9)
    desk.batch.lanes[chat.id, BOB] = row
    desk.commit()
    connection = desk.database.connection()
    lane = conversations.load_lane(connection, chat, BOB)

    assert lane is not None
    assert row == lane.row()
    assert conversations.load_lane(connection, chat, CAROL) is None
    assert conversations.load_lane(connection, pair(BOB, CAROL), BOB) is None


# ---- members -----------------------------------------------------------------------------------------------------


@pytest.fixture
def team(desk):
    """The group `team` (1), in which two messages came before bob."""
    connection = desk.database.connection()
    members.make_group(connection, "team", NOW_MS)
    conversation = conversations.find(connection, 1, 1, 0)
    members.enter(connection, 1, conversation.id, [ALICE], NewMember("owner"), 1, NOW_MS)
    desk.accept("1", "2", conversation=conversation)
    members.enter(connection, 1, conversation.id, [BOB], MEMBER, 3, NOW_MS)
    return conversation


def lane(desk, user, *columns):
    return desk.all(f"SELECT {', '.join(columns)} FROM lane WHERE user_id = ?", user)[0]  # noqa: S608 - our own columns


def test_a_member_sees_what_comes_after_he_joined(desk, team):
    """His lane begins at the seq of that moment, for devices with and without a cursor."""
    enrol(desk, PHONE, "phone")
    assert ([], []) == (pending(desk, PHONE), pending(desk, 0))
    desk.accept("3", conversation=team)

    assert [(team.id, 2, "", 3)] == pending(desk, PHONE) == pending(desk, 0)
    assert {ALICE: 0x101F, BOB: 0x1F} == members.rights(desk.database.connection(), 1)


def test_a_former_member_sees_nothing_later(desk, team):
    """What came until he left is still pending, what came later never is."""
    desk.accept("3", conversation=team)
    members.leave(desk.database.connection(), 1, team.id, [BOB], 3)
    desk.accept("4", conversation=team)

    assert [(team.id, 2, "", 4)] == pending(desk, 0)
    assert (2, 3) == lane(desk, BOB, "floor", "until")
    desk.all("UPDATE lane SET acked = 3 WHERE user_id = ?", BOB)

    assert [] == pending(desk, 0)
    assert {ALICE: 0x101F} == members.rights(desk.database.connection(), 1)


def test_who_comes_back_begins_anew(desk, team):
    """What came while he was away is not his, whatever an old cursor says, even one written late."""
    connection = desk.database.connection()
    enrol(desk, PHONE, "phone")
    members.leave(connection, 1, team.id, [BOB], 2)
    desk.accept("3", "4", conversation=team)
    members.enter(connection, 1, team.id, [BOB], MEMBER, 5, NOW_MS)
    desk.batch.cursors[PHONE, team.id] = (PHONE, team.id, 2, "")
    desk.commit()

    assert ([], []) == (pending(desk, PHONE), pending(desk, 0))
    desk.accept("5", conversation=team)

    assert [(team.id, 4, "", 5)] == pending(desk, PHONE)
    assert (4, None, 4) == lane(desk, BOB, "floor", "until", "acked")


def test_a_deleted_group_gives_nobody_more_than_he_had(desk, team):
    """Members may see up to the end; who left before keeps his own end. The address is free again."""
    connection = desk.database.connection()
    members.leave(connection, 1, team.id, [BOB], 2)
    desk.accept("3", conversation=team)
    members.delete_group(connection, 1, team.id, 3)
    desk.accept("4", conversation=team)

    assert ((3,), (2,)) == (lane(desk, ALICE, "until"), lane(desk, BOB, "until"))
    assert {} == members.rights(connection, 1)
    members.make_group(connection, "team", NOW_MS)
    assert [(-1,), (1,)] == desk.all('SELECT active FROM "group" ORDER BY id')


def test_conversations_of_a_user(desk, team):
    """Those he is or was in, with the last seq of each."""
    connection = desk.database.connection()
    members.leave(connection, 1, team.id, [BOB], 2)
    desk.accept("x", conversation=pair(BOB, CAROL), sender=CAROL)
    found = [(each.kind, each.a, each.b, each.last_seq) for each in conversations.of_user(connection, BOB)]

    assert {(1, 1, 0, 2), (0, BOB, CAROL, 1)} == set(found)
    assert BOB == conversations.peer_of(Conversation(9, 0, BOB, CAROL), CAROL)
    assert 0 == conversations.peer_of(team, BOB)


def test_a_cursor_of_nobody_is_empty(desk):
    """A device that never acknowledged anything there has an empty set."""
    found = devices.cursor(desk.database.connection(), PHONE, 1)

    assert (SeqSet().upto, "") == (found.upto, found.above)
