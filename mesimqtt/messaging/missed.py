"""What was committed and could not be handed over, because the store could not be read just then, is read once more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesimqtt.domain.messages import Message
    from mesimqtt.messaging.delivery import Delivery
    from mesimqtt.messaging.devices import Device
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import Thread

log = logging.getLogger(__name__)


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
            try:
                _read_on(delivery, device, thread, message.seq)
            except Exception:  # the other devices read on, and the other messages of this commit have their answers
                log.exception("accept: a device of %r cannot read on now", user.address)


def _read_on(delivery: Delivery, device: Device, thread: Thread, seq: int) -> None:
    feed = device.feeds.get(thread.id)
    if feed is None:
        device.is_loading = True
        delivery.begin(device)
    elif not feed.behind and feed.sent < seq:
        feed.behind = True
        device.behind[thread.id] = feed
        delivery.page(device)
