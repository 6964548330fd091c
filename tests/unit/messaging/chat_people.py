"""A small server's random life, second part: members who go, tokens that are revoked, users who are locked out."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from mesimqtt.testing.world import YEAR_S
from unit.messaging.chat_base import USERS, ChatBase

REFUSED = (4, 5, 0x86, 0x87)  # CONNACK: bad credentials, not authorized, in the words of both versions


class People(ChatBase):
    """Who may enter and who belongs to the group changes, by an operator or by themselves."""

    @precondition(lambda self: not self.is_held)
    @rule(name=st.sampled_from(["bob", "carol"]), himself=st.booleans())
    def come_or_go(self, name, himself):
        if name in self.members:
            peer = next((peer for key, peer in self.peers.items() if key[0] == name), None)
            if himself and peer is not None:
                peer.publish("rpc/group_leave/1", '{"address":"team"}')
            else:
                self.world.do("group_leave", address="team", users=[name])
            self.members.discard(name)
        else:
            self.world.do("group_join", address="team", users=[name])
            self.members.add(name)
        self.checker.left |= {send.payload for send in self.checker.sends.values() if send.is_group}
        self.look()

    @precondition(lambda self: not self.is_held)
    @rule(user=st.sampled_from(USERS))
    def revoke(self, user):
        """Revoke all tokens of a user: his connections end, and what waits for him stays."""
        if user in self.disabled:
            return
        self.look()
        token = self.world.tokens[user]
        mine = {key: peer for key, peer in self.peers.items() if key[0] == user}
        self.world.do("token_revoke", what=user)
        self.gone(mine)
        self.refused(user, token)
        issued = self.world.do("token_issue", addresses=[user], ttl=YEAR_S)["tokens"]
        self.world.tokens[user] = issued[0]["token"]

    @precondition(lambda self: not self.is_held)
    @rule(user=st.sampled_from(USERS))
    def disable_or_enable(self, user):
        """Lock a user out, or let him in again; what waits for him stays."""
        self.look()
        if user in self.disabled:
            self.world.do("user_enable", addresses=[user])
            self.disabled.discard(user)
            return
        mine = {key: peer for key, peer in self.peers.items() if key[0] == user}
        self.world.do("user_disable", addresses=[user])
        self.disabled.add(user)
        self.gone(mine)
        self.checker.left |= {  # nothing that waits for its time is sent in the name of who is disabled
            send.payload for send in self.checker.sends.values() if send.sender == user and send.when_s
        }
        self.refused(user, self.world.tokens[user])

    def gone(self, mine):
        """Check that connections were ended; what came before their end was heard."""
        assert [] == [key for key, peer in mine.items() if not peer.is_closed], "still connected"
        for key, peer in mine.items():
            self.checker.told(peer, self.checker.heard(peer))
            self.peers.pop(key, None)
            self.unacked.pop(key, None)
        self.look()

    def refused(self, user, token):
        """Check that a token lets nobody in any more."""
        peer = self.world.connect(user, "z9", token=token)
        assert peer.is_closed
        assert peer.connack[2] in REFUSED

    def settle(self):
        """Let everybody in again first."""
        if self.is_held:
            self.release()
        for user in sorted(self.disabled):
            self.disable_or_enable(user)
        super().settle()
