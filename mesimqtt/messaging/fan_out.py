"""A message in a group: may it be sent, who gets it now, and whose inbox is full (contract sections 2 to 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.groups import GroupFlag, MemberFlag
from mesimqtt.domain.messages import Change, MessageKind
from mesimqtt.domain.status import Status
from mesimqtt.messaging.model import Thread

if TYPE_CHECKING:
    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.delivery import Delivery
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.inboxes import Inboxes
    from mesimqtt.messaging.model import Accepted, Group, User
    from mesimqtt.messaging.round_robin import RoundRobin
    from mesimqtt.store.committer import Health

_RECV = int(MemberFlag.RECV)  # a member's look-up in its class is slow
_SEND = int(MemberFlag.SEND)


class FanOut:
    """Gives what is said in a group to its members. Who is offline costs a look-up, and nothing of the store."""

    def __init__(self, hub: Hub, delivery: Delivery, inboxes: Inboxes, round_robin: RoundRobin) -> None:
        self._hub = hub
        self._delivery = delivery
        self.inboxes = inboxes
        self._round_robin = round_robin
        self.tell_full = inboxes.tell_full

    def refusal(self, sender: User, group: Group) -> tuple[Status, str | None] | None:
        """Return why nothing may be sent to a group, with the rule; None if it may.

        Who may not know of the group is told nothing but that there is no such destination.
        """
        rights = group.members.get(sender.id)
        if group.expires_at is not None and group.expires_at <= self._hub.now_ms():
            return Status.INVALID_DESTINATION, None
        if rights is None and not group.flags & GroupFlag.SEND_BY_ANYONE:
            return Status.NOT_MEMBER if group.is_open else Status.INVALID_DESTINATION, None
        if not group.active:
            return Status.GROUP_PAUSED, None
        if rights is not None and not rights & _SEND:
            return Status.DENIED, "group.send"
        if group.flags & GroupFlag.RECV_ROUND_ROBIN and self._round_robin.is_full(group):
            return Status.INBOX_FULL, None
        return None

    def is_transient(self, message: Accepted, group: Group) -> bool:
        """Tell whether a group keeps nothing; mark what is work for one member."""
        if group.flags & GroupFlag.NO_STORAGE:
            return True
        if group.flags & GroupFlag.RECV_ROUND_ROBIN:
            message.kind = MessageKind.WORK
            message.deadline = message.expires_at  # the sweep of old messages looks for plain ones alone
        return False

    def committed(self, message: Accepted, sender: User, group: Group, thread: Thread) -> None:
        """Hand a committed message to the members who are online; judge the inboxes of all."""
        if message.kind:
            self._pass(message, sender, group, thread)
            return
        known = self._hub.directory.known_user
        settings = self._hub.settings.messaging
        size = len(message.payload)
        recipients = []
        held = message.target.held  # who blocks the sender
        for number, rights in group.members.items():
            if not rights & _RECV or number == sender.id:
                continue
            member = known(number)
            if member is None:
                continue  # offline: judged by `Inboxes`
            if member.inbox_messages >= 0:
                member.inbox_messages += 1
                member.inbox_bytes += size
                if member.inbox_messages > settings.inbox_messages_max or member.inbox_bytes > settings.inbox_bytes_max:
                    self.inboxes.refuse(member, thread, message)
            if member.devices and number not in held:
                recipients.append(member)
        if held:
            blocking = [self._hub.directory.user_by_id(number) for number in held if group.may(number, MemberFlag.RECV)]
            self._delivery.hold(thread, message, [user for user in blocking if user is not None])
        self._delivery.committed(thread, message, recipients, sender)
        self.inboxes.handed(group, message)

    def _pass(self, message: Accepted, sender: User, group: Group, thread: Thread) -> None:
        """Pass work over for all who are online, and offer it to one of them."""
        online = [user for user in map(self._hub.directory.known_user, group.members) if user and user.devices]
        self._delivery.committed(thread, message, online, sender)
        self._round_robin.committed(group, message)

    def event(self, message: Message, *extra: User) -> None:
        """Hand a group's event to its members, and to who is none any more because of it; it raises no status."""
        if isinstance(message, Change) and message.settled is not None:
            settled, message.settled = message.settled, None
            settled("")
            return
        thread = message.conversation
        if isinstance(thread, Thread) and thread.group is not None:
            if self._hub.observers.group:
                self._hub.observers.changed(thread.group.address, message.payload)
            members = [self._hub.directory.known_user(number) for number in thread.group.members]
            recipients = [*members, *(user for user in extra if user.id not in thread.group.members)]
            self._delivery.committed(thread, message, [user for user in recipients if user and user.devices], None)

    @staticmethod
    def failed(message: Message, health: Health) -> None:
        """Tell who waits for a change that it could not be committed."""
        if isinstance(message, Change) and message.settled is not None:
            settled, message.settled = message.settled, None
            settled(str(health))
