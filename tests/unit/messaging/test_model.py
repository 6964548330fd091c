"""Random lives of a small server against what users may rely on (see chat_model.py, chat_laws.py)."""

from __future__ import annotations

from unit.messaging.chat_base import chat_settings
from unit.messaging.chat_changes import Changes
from unit.messaging.chat_people import People


class Chat(People, Changes):
    """Senders, phones that sleep, links that break, a server that is killed, people who go or are locked out."""


TestChat = Chat.TestCase
TestChat.__doc__ = "Nothing accepted is lost, doubled or out of order, and every status is a legal step."
TestChat.settings = chat_settings(max_examples=24, stateful_step_count=30)
