"""What was committed and could not be handed over, because the store could not be read just then, is read once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.delivery import Delivery
    from mesimqtt.messaging.hub import Hub


def catch_up(hub: Hub, delivery: Delivery, message: Message) -> None:
    """Let the devices of a conversation that are online read on from the store where they are.

    Without this the next message would count as the first that one of them is to get, and this one as passed over.
    """
    thread = hub.directory.thread_of(message.conversation)
    if thread is None:
        return
    numbers = thread.group.members if thread.group is not None else [user.id for user in thread.users]
    for user in filter(None, map(hub.directory.known_user, numbers)):
        for device in user.devices:
            feed = device.feeds.get(thread.id)
            if feed is None:
                device.is_loading = True
                delivery.begin(device)
            elif not feed.behind and feed.sent < message.seq:
                feed.behind = True
                device.behind[thread.id] = feed
                delivery.page(device)
