"""Every form of a topic under the root, beside what the router knows of it: the table that AsyncAPI is made from."""

from __future__ import annotations

from typing import NamedTuple

from mesimqtt.topics import Kind

# What may stand in a level, by its name between braces.
LEVELS: dict[str, tuple[str, str]] = {
    "me": ("[^/+#]+", "The authenticated user's own address, percent-encoded (contract section 1)."),
    "peer": ("[^/+#=]+", "A user's address, percent-encoded."),
    "group": ("[^/+#=]+", "A group's address, percent-encoded."),
    "sender": ("[^/+#=]+", "The address of the member who sent it, percent-encoded."),
    "cid": ("[A-Za-z0-9_-]{1,64}", "The sender's own id of the message: makes a resend safe for 7 days."),
    "mid": ("[0-9a-f]{16}", "The server's id of the message."),
    "params": ("[^/+#=]+=[^/+#]*", "Parameters, `key=value&key=value`, each percent-encoded."),
    "op": ("[^/+#]+", "The name of an operation; the same by HTTP and on the command line."),
    "r": ("[A-Za-z0-9_-]{1,64}", "The asker's own id of the question."),
}


class Channel(NamedTuple):
    """One kind of topic.

    `forms` are all its spellings after `ROOT/{me}/`, the usual one first; `schema` names what its payload is;
    `source` is the router's own word for it: a Kind of `out/`, a class of `in/`.
    """

    name: str
    source: str
    forms: tuple[str, ...]
    schema: str
    summary: str


def _message(place: str) -> tuple[str, ...]:
    return (f"{place}/{{cid}}", f"{place}/{{cid}}/{{params}}", place, f"{place}/{{params}}")


def _arrival(place: str) -> tuple[str, ...]:
    return (f"{place}/{{mid}}/{{params}}", f"{place}/{{mid}}")


OUT: tuple[Channel, ...] = (
    Channel(
        "sendToUser", Kind.USER, _message("out/u/{peer}"), "bytes",
        "Send a message to a user. PUBACK and SENT come once it is on disk.",
    ),
    Channel(
        "sendToGroup", Kind.GROUP, _message("out/g/{group}"), "bytes",
        "Send a message to the other members of a group.",
    ),
    Channel(
        "readUser", Kind.READ_USER, ("out/read/u/{peer}",), "readMark",
        "Say that a message of a user, or all up to it, was read.",
    ),
    Channel(
        "readGroup", Kind.READ_GROUP, ("out/read/g/{group}",), "readMark",
        "Say that a message of a group, or all up to it, was read.",
    ),
    Channel(
        "presenceToUser", Kind.PRESENCE_USER, ("out/presence/u/{peer}",), "bytes",
        "Tell a user something that is never stored, such as typing.",
    ),
    Channel(
        "presenceToGroup", Kind.PRESENCE_GROUP, ("out/presence/g/{group}",), "bytes",
        "Tell the members of a group something that is never stored.",
    ),
    Channel(
        "ask", Kind.RPC, ("out/rpc/{op}/{r}",), "question",
        "Do an operation in one's own name; the answer comes on `in/rpc/{r}` and is never stored.",
    ),
)  # fmt: skip

IN: tuple[Channel, ...] = (
    Channel("messageFromUser", "u", _arrival("in/u/{peer}"), "bytes", "A message from a user."),
    Channel("messageFromGroup", "g", _arrival("in/g/{group}/{sender}"), "bytes", "A message of a group's member."),
    Channel(
        "sentToUser", "sent", _arrival("in/sent/u/{peer}"), "bytes",
        "What another device of one's own sent to a user.",
    ),
    Channel(
        "sentToGroup", "sent", _arrival("in/sent/g/{group}"), "bytes",
        "What another device of one's own sent to a group.",
    ),
    Channel("status", "status", ("in/status/{cid}",), "status", "What became of a message of one's own."),
    Channel("statusCode", "s", ("in/s/{cid}",), "statusCode", "The same as a decimal number alone."),
    Channel(
        "readByMeUser", "read", ("in/read/u/{peer}",), "readMark",
        "Another device of one's own has read a conversation so far.",
    ),
    Channel(
        "readByMeGroup", "read", ("in/read/g/{group}",), "readMark",
        "Another device of one's own has read a group so far.",
    ),
    Channel("presenceOfUser", "presence", ("in/presence/u/{peer}",), "bytes", "A user's presence; never stored."),
    Channel(
        "presenceInGroup", "presence", ("in/presence/g/{group}/{sender}",), "bytes",
        "A member's presence in a group; never stored.",
    ),
    Channel("answer", "rpc", ("in/rpc/{r}",), "answer", "The answer to a question."),
    Channel("groupEvent", "event", _arrival("in/event/g/{group}"), "groupEvent", "A change of a group or its members."),
    Channel("session", "session", ("in/session",), "news", "News of this session."),
)  # fmt: skip
