"""Who may write to whom, who blocks whom, receipts that are not given, what others see of a user (docs/people.md)."""

from __future__ import annotations

import pytest

from mesimqtt.domain.errors import OperationError


def refusals(peer):
    return [(status["cid"], status["status"], status.get("rule")) for status in peer.statuses()]


def silently(world, user):
    """Let a user block without a word."""
    world.do("user_set", address=user, rules={"silent_blocks": "on"})


# ---- blocks ----------------------------------------------------------------------------------------------------


def test_a_blocked_sender_is_told(world):
    """0x88, and nothing is kept; unblocked, he gets through again."""
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1", "before")
    world.do("block_add", user="bob", peers=["alice"])
    alice.publish("u/bob/2", "blocked")
    world.do("block_remove", user="bob", peers=["alice"])
    alice.publish("u/bob/3", "after")

    assert ["before", "after"] == bob.payloads()
    assert [("1", 1), ("1", 2), ("2", 0x88), ("3", 1), ("3", 2)] == alice.steps()


def test_the_other_way_stays_open(world):
    """Bob, who blocks alice, may write to her; she may write to others."""
    alice, bob = world.listener("alice"), world.listener("bob")
    world.do("block_add", user="bob", peers=["alice"])
    bob.publish("u/alice/1")
    alice.publish("u/carol/1")

    assert (["hi"], [("1", 1)]) == (alice.payloads(), alice.steps())


def test_a_silent_block_looks_like_absence(world):
    """SENT and no more, never delivered, counted in no inbox, 0x84 at the deadline, as for somebody who stays away."""
    silently(world, "bob")
    alice, bob = world.listener("alice"), world.listener("bob")
    bob.publish("u/alice/0", "hello")
    world.do("block_add", user="bob", peers=["alice"])
    for cid in ("1", "2"):
        alice.publish(f"u/bob/{cid}/expiry=60", "secret")
    alice.publish("u/carol/3/expiry=60", "to somebody who is away")
    bob.lose()
    again = world.listener("bob", "new device")
    inbox = world.do("inbox", address="bob")
    assert ([], []) == (bob.payloads(), again.payloads())
    assert (0, 0, "hello") == (inbox["messages"], inbox["unread"], inbox["conversations"][0]["last"]["text"])
    assert ["hello"] == [each["text"] for each in world.do("history", address="bob", peer="alice")["messages"]]
    found = world.do("search", address="bob", text="secret")
    assert [] == found["messages"]
    assert [("1", 1), ("2", 1), ("3", 1)] == alice.steps()
    world.advance(62)

    assert [("1", 0x84), ("2", 0x84), ("3", 0x84)] == sorted(alice.steps())
    assert [] == again.payloads()
    assert ["hello"] == [each["text"] for each in world.do("history", address="bob", peer="alice")["messages"]]


def test_who_wrote_to_somebody_who_blocked_him_and_is_deleted_is_told(world):
    """Like everybody else: 0x80 `user-deleted`."""
    silently(world, "bob")
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    world.do("block_add", user="bob", peers=["alice"])
    alice.publish("u/bob/2", "held")
    bob.lose()
    world.do("user_delete", addresses=["bob"])

    assert [("1", 1), ("1", 2), ("2", 1), ("2", 0x80)] == alice.steps()


def test_after_a_silent_block_the_rest_goes_on(world):
    """A long one leaves no hole in which later messages would get stuck; what was held stays away for ever."""
    silently(world, "bob")
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/0", "0")
    world.do("block_add", user="bob", peers=["alice"])
    for number in range(1, 101):
        alice.publish(f"u/bob/{number}", str(number))
    world.do("block_remove", user="bob", peers=["alice"])
    for number in range(101, 181):
        alice.publish(f"u/bob/{number}", str(number))

    wanted = ["0", *map(str, range(101, 181))]
    assert wanted == bob.payloads()
    bob.lose()
    world.restart()
    assert [] == world.listener("bob").payloads()


def test_a_kill_does_not_let_a_held_message_through(world):
    """Committed, and the server died before it could take note that it is not for bob: he does not get it."""
    silently(world, "bob")
    alice = world.listener("alice")
    alice.publish("u/bob/0", "before the block")
    world.advance(2)
    world.do("block_add", user="bob", peers=["alice"])
    world.advance(0.25)
    alice.publish("u/bob/1", "held")
    world.store.read.execute("UPDATE lane SET acked_above = '', failed = '', read_above = '' WHERE user_id = 2")
    world.restart()

    assert ["before the block"] == world.listener("bob").payloads()


def test_a_silently_blocked_sender_is_told_that_bob_is_offline(world):
    """Expiry 0: 0x81, as of anybody who is away."""
    silently(world, "bob")
    alice, bob = world.listener("alice"), world.listener("bob")
    world.do("block_add", user="bob", peers=["alice"])
    alice.publish("u/bob/1/expiry=0")

    assert ([("1", 0x81)], []) == (alice.steps(), bob.payloads())


def test_messages_in_groups_are_a_kind_of_their_own(world):
    """Kind `group` keeps them off in groups alone, silently; the others get them, and so does bob from others."""
    world.group("team", "alice", "bob", "carol")
    alice, bob, carol = (world.listener(name) for name in ("alice", "bob", "carol"))
    world.do("block_add", user="bob", peers=["alice"], kinds="group")
    alice.publish("g/team/1/expiry=30", "to all")
    carol.publish("g/team/2", "from carol")
    alice.publish("u/bob/3", "to bob alone")

    assert (["from carol"], ["to all"]) == (bob.payloads("g/"), carol.payloads("g/"))
    assert ["to bob alone"] == bob.payloads()
    told = [(each["cid"], each.get("peer"), each["status"]) for each in alice.statuses()]
    assert [("1", None, 1), ("1", "carol", 2), ("3", "bob", 1), ("3", "bob", 2)] == told
    world.advance(32)
    assert [("1", "bob", 0x84)] == [(each["cid"], each["peer"], each["status"]) for each in alice.statuses()]


def test_who_is_blocked_adds_nobody_to_a_group(world):
    """Blocked silently, or for groups: the words are those for somebody who was added often enough; nobody is added."""
    silently(world, "bob")
    world.do("block_add", user="bob", peers=["alice"])
    world.do("block_add", user="carol", peers=["alice"], kinds="group")
    alice = world.listener("alice")
    assert alice.rpc("group_add", address="team")[0]["ok"]
    answers = [alice.rpc("group_join", address="team", users=[name])[0] for name in ("bob", "carol")]
    world.do("user_set", address="carol", rules={"peers": "paired"})
    answers += [alice.rpc("group_join", address="team", users=[name])[0] for name in ("carol", "nobody")]

    assert ["rate-limited", "rate-limited", "no-such-user", "no-such-user"] == [each["code"] for each in answers]
    assert answers[0]["message"] == answers[1]["message"].replace("carol", "bob")
    assert answers[2]["message"] == answers[3]["message"].replace("nobody", "carol")
    assert ["alice"] == [each["address"] for each in world.do("group_show", address="team")["members"]]


def test_a_blocked_sender_gets_no_receipts(world):
    """What came before the block is delivered and read, but its sender learns nothing of it."""
    alice = world.listener("alice")
    alice.publish("u/bob/1")
    world.do("block_add", user="bob", peers=["alice"])
    bob = world.listener("bob")
    (message,) = bob.received("u/")
    bob.publish("read/u/alice", message.topic.split("/")[5])

    assert [("1", 1)] == alice.steps()


def test_typing_of_who_is_blocked_is_dropped(world):
    """Whichever kind: nothing comes of it, and nobody is told."""
    alice, bob = world.listener("alice"), world.listener("bob")
    for kinds in ("all", "messages", "presence"):
        world.do("block_add", user="bob", peers=["alice"], kinds=kinds)
        alice.publish("presence/u/bob", "typing")

    assert ([], []) == (bob.received("presence/"), alice.statuses())


def test_a_block_changes_nothing_for_others(world):
    """Who blocks and unblocks all day makes nobody else's destinations be looked up again."""
    world.listener("carol").publish("u/bob/1")
    epoch = world.messaging._hub.directory.epoch
    world.do("block_add", user="alice", peers=["bob", "carol"])
    world.do("contact_add", user="alice", contacts={"bob": ""})
    world.do("privacy_set", user="alice", privacy={"presence": "all"})

    assert epoch == world.messaging._hub.directory.epoch


def test_blocks_say_nothing_of_who_exists(world):
    """An address that nobody has can be blocked, and stands in the list like any other."""
    answer = world.do("block_add", user="bob", peers=["nobody", "alice"], kinds="messages,presence")

    assert {"user": "bob", "blocked": ["nobody", "alice"], "kinds": ["messages", "presence"]} == answer
    assert ["alice", "nobody"] == [row["address"] for row in world.do("block_list", user="bob")["blocked"]]
    with pytest.raises(OperationError, match="nobody blocks himself"):
        world.do("block_add", user="bob", peers=["bob"])
    with pytest.raises(OperationError, match="kinds are"):
        world.do("block_add", user="bob", peers=["alice"], kinds="calls!")


# ---- who may write to whom ---------------------------------------------------------------------------------------


def test_paired_users_write_to_each_other_alone(world):
    """Whoever has `peers: paired` is nobody to all whom the backend has not paired with him, both ways."""
    world.do("user_set", address="bob", rules={"peers": "paired"})
    world.do("pair_add", address="bob", peers=["carol"])
    alice, bob, carol = (world.listener(name) for name in ("alice", "bob", "carol"))
    alice.publish("u/bob/1")
    carol.publish("u/bob/2")
    bob.publish("u/alice/3")
    bob.publish("u/carol/4")
    world.do("pair_remove", address="bob", peers=["carol"])
    carol.publish("u/bob/5")

    assert [("1", 0x83)] == alice.steps()
    assert [("2", 1), ("2", 2), ("5", 0x83)] == carol.steps()
    assert [("3", 0x83), ("4", 1), ("4", 2)] == bob.steps()


def test_contacts_write_to_each_other_alone(world):
    """`peers: contacts`: with those in one's own contacts; taken out, they are nobody again, at once."""
    world.do("user_set", address="bob", rules={"peers": "contacts"})
    alice = world.listener("alice")
    alice.publish("u/bob/1")
    world.do("contact_add", user="bob", contacts={"alice": "Al"})
    alice.publish("u/bob/2")
    world.do("contact_remove", user="bob", contacts=["alice"])
    alice.publish("u/bob/3")

    assert [("1", 0x83), ("2", 1), ("3", 0x83)] == alice.steps()


def test_whom_one_may_not_know_is_nobody(world):
    """Status, rpc, profile and presence are those of an address that nobody has, but for the address."""
    world.do("user_set", address="bob", rules={"peers": "paired"})
    alice = world.listener("alice")
    told = []
    for name in ("bob", "none"):
        alice.publish(f"u/{name}/1")
        alice.publish(f"presence/u/{name}")
        alice.publish(f"read/u/{name}", "0" * 16)
        (status, *others) = alice.statuses()
        answers = [
            alice.rpc("profile", address=name),
            alice.rpc("presence", addresses=[name]),
            alice.rpc("send", to=name, text="x", cid=f"c{name}"),
        ]
        told.append(repr((status | {"mid": 0}, [each | {"mid": 0, "cid": 0} for each in others], answers)))
        alice.statuses()

    assert told[0].replace("bob", "none") == told[1]


def test_who_may_not_send_or_receive(world):
    """Policies close one way: 0x8D with the rule."""
    world.do("user_set", address="alice", rules={"outgoing": "off"})
    world.do("user_set", address="bob", rules={"incoming": "off"})
    alice, carol = world.listener("alice"), world.listener("carol")
    for name in ("carol", "none"):
        alice.publish(f"u/{name}/1")
    carol.publish("u/bob/1")

    assert [("1", 0x8D, "policy.outgoing")] * 2 == refusals(alice)
    assert [("1", 0x8D, "policy.incoming")] == refusals(carol)


# ---- receipts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("receipts", "steps"), [("all", [1, 2, 3]), ("delivered", [1, 2]), ("none", [1])])
def test_receipts_are_given_as_the_recipient_likes(world, receipts, steps):
    """All, delivered alone, or none; declared in the profile; a failure is told all the same."""
    world.do("privacy_set", user="bob", privacy={"receipts": receipts})
    alice, bob = world.listener("alice"), world.listener("bob")
    alice.publish("u/bob/1")
    (message,) = bob.received("u/")
    bob.publish("read/u/alice", message.topic.split("/")[5])
    assert [("1", step) for step in steps] == alice.steps()
    assert receipts == world.do("profile", user="alice", address="bob")["receipts"]
    bob.lose()
    alice.publish("u/bob/2/expiry=1")
    world.advance(3)

    assert [("2", 1), ("2", 0x84)] == alice.steps()


# ---- contacts, profiles ------------------------------------------------------------------------------------------


def test_contacts_have_ones_own_names(world):
    """Added, renamed, listed in pages, removed; an address that nobody has is as good as another."""
    world.do("contact_add", user="alice", contacts={"bob": "Bobby", "zoe": "", "carol": ""})
    world.do("contact_add", user="alice", contacts={"bob": "Bob"})
    first = world.do("contact_list", user="alice", limit=2)
    rest = world.do("contact_list", user="alice", after=first["next"], limit=2)

    assert [("bob", "Bob"), ("carol", "")] == [(row["address"], row["name"]) for row in first["contacts"]]
    assert (["zoe"], None) == ([row["address"] for row in rest["contacts"]], rest["next"])
    assert ["zoe"] == world.do("contact_remove", user="alice", contacts=["zoe", "nobody"])["removed"]


def test_contacts_are_bounded_by_the_policy(world):
    """What would be too many is refused as a whole."""
    world.do("user_set", address="alice", rules={"contacts_max": "1", "blocks_max": "1"})
    with pytest.raises(OperationError, match="at most 1"):
        world.do("contact_add", user="alice", contacts={"bob": "", "carol": ""})
    with pytest.raises(OperationError, match="at most 1"):
        world.do("block_add", user="alice", peers=["bob", "carol"])

    assert [] == world.do("contact_list", user="alice")["contacts"]


def test_a_profile_shows_what_is_for_others(world):
    """Name, about, avatar and public keys; the backend's own keys never, and nothing to who may not see it."""
    world.do("user_set", address="bob", profile={"crm": "42", "public.team": "blue"})
    world.do("profile_set", user="bob", profile={"name": "Bob", "avatar": "https://example.org/bob.png"})
    shown = {"name": "Bob", "avatar": "https://example.org/bob.png", "public.team": "blue"}
    assert {"address": "bob", "receipts": "all", "profile": shown} == world.do("profile", user="alice", address="bob")
    world.do("privacy_set", user="bob", privacy={"profile": "contacts"})
    assert {"address": "bob", "receipts": "all"} == world.do("profile", user="alice", address="bob")
    world.do("contact_add", user="bob", contacts={"alice": ""})
    assert shown == world.do("profile", user="alice", address="bob")["profile"]
    world.do("block_add", user="bob", peers=["alice"])

    assert {"address": "bob", "receipts": "all"} == world.do("profile", user="alice", address="bob")


@pytest.mark.parametrize(
    "profile",
    [{"crm": "1"}, {"avatar": "javascript:x"}, {"avatar": "https://"}, {"about": "x" * 1_025}, {"public.": "x"}, {}],
)
def test_a_user_sets_only_what_is_his(world, profile):
    """Other keys are the backend's, and an avatar is a web address."""
    with pytest.raises(OperationError):
        world.do("profile_set", user="bob", profile=profile)


def test_who_is_deleted_leaves_no_ties(world):
    """The next one of that address is a stranger: no contact, not blocked, not followed."""
    world.do("contact_add", user="bob", contacts={"alice": ""})
    world.do("block_add", user="carol", peers=["alice"])
    world.do("contact_add", user="alice", contacts={"bob": ""})
    world.do("user_delete", addresses=["alice"])

    assert [] == world.rows("SELECT * FROM tie")
