"""Fuzz targets on a whole server in virtual time: what a client publishes, and what a backend posts."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mesimqtt.api.mesibo import Backend
from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.status import Status
from mesimqtt.domain.strict_json import read_json
from mesimqtt.messaging import operations
from mesimqtt.messaging.operations import Caller
from mesimqtt.messaging.operations_base import ArgumentError
from mesimqtt.proof.fuzz.target import Target, check_equal, check_that, fields_of, unicode_of
from mesimqtt.testing.world import World

if TYPE_CHECKING:
    from typing import Any

    from mesimqtt.testing.peer import Peer

_MADE_MAX = 300  # inputs for one server: then it has seen enough


class _House:
    """A server with alice, bob and the group team, both of them online and listening."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mesimqtt-fuzz-")
        self.world = World(Path(self._folder.name) / "data")
        self.world.user("alice", "bob")
        self.world.group("team", "alice", "bob")
        self.tried = 0
        self.peers: dict[str, Peer] = {}
        self.look()

    def look(self) -> dict[str, Peer]:
        """Let everybody who was cut come back, and forget what came."""
        for user in ("alice", "bob"):
            if user not in self.peers or self.peers[user].is_closed:
                self.peers[user] = self.world.listener(user, f"{user}-fuzz")
            self.peers[user].inbox.clear()
            self.peers[user].other.clear()
        return self.peers

    def close(self) -> None:
        """Let go of it."""
        self.world.close()
        self._folder.cleanup()


@cache
def _houses() -> dict[str, _House]:
    return {}


def _house(street: str) -> _House:
    """Return the server of one target; a new one after a while, so that none is judged by a far too full one."""
    houses = _houses()
    if street in houses and houses[street].tried >= _MADE_MAX:
        houses.pop(street).close()
    if street not in houses:
        houses[street] = _House()
    houses[street].tried += 1
    return houses[street]


def check_router(data: bytes) -> None:
    """Whatever is published under `out/`: PUBACK, and a verdict or an answer; a message reaches its peer whole."""
    level, payload = fields_of(data, 2)
    rest = unicode_of(level)
    topic = f"m/alice/out/{rest}"
    if not rest or set(rest) & set("+#") or not rest.isprintable() or len(topic.encode()) > 4_000:
        return  # the engine's affair: target `stream`
    house = _house("router")
    alice, bob = house.look()["alice"], house.look()["bob"]
    is_acked = alice.publish(topic, payload)
    check_that(is_acked and not alice.is_closed and not bob.is_closed, f"{topic!r} is answered by PUBACK")
    told = [json.loads(message.payload)["status"] for message in alice.inbox if message.topic.split("/")[3] == "status"]
    answers = [json.loads(message.payload) for message in alice.inbox if message.topic.split("/")[3] == "rpc"]
    got = [message for message in bob.inbox if message.topic.split("/")[3] in ("u", "g")]
    for answer in answers:
        check_that(answer.get("code") != "internal", f"{topic!r} {payload!r:.200}: {answer}")
    for message in got:
        check_equal(payload, message.payload, "what bob got")
        check_that(Status.SENT in told or Status.DELIVERED in told, f"delivered without a status: {told}")
    if rest.startswith(("u/", "g/")):
        check_that(bool(told), f"{topic!r} has no verdict")
    check_that(house.world.fatal == [], "the store failed")


def check_operation(data: bytes) -> None:
    """Whatever arguments an operation is given, by an operator who may do all: an answer in JSON, or a refusal."""
    name, raw = fields_of(data, 2)
    try:
        arguments = read_json(raw)
    except ValueError:
        return
    if not isinstance(arguments, dict) or name.decode("latin-1") in _REACHING_OUT:
        return
    world = _house("operations").world
    try:
        answer = world.run(operations.perform(world.messaging, name.decode("latin-1"), arguments))
    finally:
        world.turn()
    json.dumps(answer)


def check_backend(data: bytes) -> None:
    """Whatever is posted to /backend: one answer, true or with a code, and never a mistake of ours."""
    world = _house("backend").world

    async def perform(op: str, arguments: dict[str, Any], caller: Caller) -> dict[str, Any]:
        return await operations.perform(world.messaging, op, arguments, caller=caller)

    backend = Backend(world.messaging, perform, lambda _token, _address: Caller("", "backend"))
    try:
        body = read_json(data)
    except ValueError:
        body = None
    if isinstance(body, dict):
        answer = world.run(backend.answer({**body, "token": "ours"}, "192.0.2.1"))
    else:
        answer = world.run(backend.reply(data, "192.0.2.1"))
    check_equal("error" not in answer, answer["result"], f"{data!r}")
    json.dumps(answer)


_PUBLISHED = (
    b"u/bob/c1\0hi",
    b"g/team/c2/expiry=60&type=3\0hello",
    b"u/bob\0x",
    b"u/bob/c3/expiry=0\0now",
    b"u/nobody/c4\0x",
    b"read/u/bob\0<=0000000000000001",
    b"presence/u/bob\0typing",
    b"presence/g/team\0x",
    b'rpc/history/1\0{"peer":"bob"}',
    b'rpc/inbox/2\0{"limit":5}',
    b"u/bob/c5/when=5\0later",
    b"u/bob/c6/edit=0123456789abcdef\0new",
    b"u/bob/c7/recall=0123456789abcdef\0",
    b"u/bob/c8/age=3&flags=3\0x",
    b"rpc/ping/3\0",
    b"rpc/sync/4\0{}",
    b'rpc/search/5\0{"text":"hi"}',
    b'rpc/group_show/6\0{"address":"team"}',
    b"u/bob/c9/age=1&age-from=sent&priority=0\0x",
)
_PUBLISH_WORDS = (
    b"\0",
    b"/",
    b"u/",
    b"g/",
    b"rpc/",
    b"read/",
    b"bob",
    b"team",
    b"alice",
    b"c1",
    b"%",
    b"%2F",
    b"=",
    b"&",
    b"expiry=",
    b"type=",
    b"when=",
    b"edit=",
    b"recall=",
    b"age=",
    b"flags=",
    b"ref=",
    b"priority=",
    b"<=",
    b"0123456789abcdef",
    b'{"',
    b'":',
    b'"limit":',
    b'"cursor":"e30"',
    b'"peer":',
    b"null",
    b"[]",
    b"-1",
    b"9" * 20,
    b"1e400",
    b"\\ud800",
    b'"before":',
    b'"text":"',
    b'"*"',
    b"NEAR(",
    b'" OR "',
    b"users",
    b"history",
    b"message_send",
    b"presence",
    b"contact_add",
    b"profile_set",
    b"block_add",
    b"status",
    b"message_delete",
    b'"mids":["',
    b'"user":"',
    b'"to":["bob"]',
)
_POSTED = (
    b'{"op":"useradd","user":{"address":"x1","expiry":5,"active":"1","token":{"expiry":60}}}',
    b'{"op":"userset","user":{"uid":1,"name":"n"}}',
    b'{"op":"groupadd","group":{"name":"g","flag":0,"expiry":60}}',
    b'{"op":"groupeditmembers","group":{"gid":1,"m":"alice,bob","cs":1}}',
    b'{"op":"message","message":{"from":"alice","to":"bob","message":"hi"}}',
    b'{"op":"otp","otp":{"address":"x1","expiry":60,"tries":3}}',
    b'{"op":"usersget","user":{"address":"*","count":5}}',
    b'{"op":"groupgetmembers","group":{"gid":"1"}}',
    b'{"op":"userdel","user":{"uid":"99"}}',
)
_POST_WORDS = (
    b'{"',
    b'"}',
    b'":',
    b'","',
    b"null",
    b"true",
    b"-1",
    b"0",
    b"[]",
    b"{}",
    b"1.5",
    b"9007199254740991",
    b'"op":"',
    b'"user":{',
    b'"group":{',
    b'"message":{',
    b'"gid":',
    b'"uid":',
    b'"address":"',
    b'"m":"',
    b'"delete":1',
    b'"flag":',
    b'"expiry":',
    b'"otp":"1"',
    b'"permissions":{"peers":1}',
    b'"from":"',
    b'"to":',
    b"\\ud800",
    b"\\u0000",
    "\u0663".encode(),
    b'"id":',
    b'"type":',
    b'"refid":',
    b'"expire":',
    b'"after":"',
    b'"count":',
    b'"active":',
)

_REACHING_OUT = frozenset({"webhook_test"})  # to other hosts
_OPERATED = tuple(
    f"{operation.name}\0{json.dumps(dict(operation.example))}".encode() for operation in operations.OPERATIONS.values()
)

TARGETS = (
    Target(
        "router",
        "whatever is published under out/ has its PUBACK and its verdict",
        check_router,
        _PUBLISHED,
        _PUBLISH_WORDS,
        is_slow=True,
        has_json=True,
    ),
    Target(
        "operation",
        "whatever an operation is asked, it answers or refuses",
        check_operation,
        _OPERATED,
        _PUBLISH_WORDS,
        (OperationError, ArgumentError),
        is_slow=True,
        has_json=True,
    ),
    Target(
        "backend",
        "whatever is posted to /backend has one answer",
        check_backend,
        _POSTED,
        _POST_WORDS,
        is_slow=True,
        has_json=True,
    ),
)
