"""Where each operation stands over HTTP: one table, and the tree in which a request finds its line."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from mesimqtt.messaging.operations import OPERATIONS

if TYPE_CHECKING:
    from mesimqtt.messaging.operations import Operation

# operation: "METHOD /path success". A name in braces is an argument; `{user}` also fills `users` with one element.
# The other arguments come in the query of GET, in the JSON body of every other method.
# An operation that is not named here is at POST /v1/op/{name}, as all others are, too.
TABLE: dict[str, str] = {
    # users
    "user_add": "POST /v1/users 200",
    "user_import": "POST /v1/imports 200",
    "user_list": "GET /v1/users 200",
    "user_show": "GET /v1/users/{address} 200",
    "user_set": "PATCH /v1/users/{address} 200",
    "user_delete": "DELETE /v1/users/{address} 200",
    "user_disable": "POST /v1/users/{address}/disable 200",
    "user_enable": "POST /v1/users/{address}/enable 200",
    "inbox": "GET /v1/users/{address}/inbox 200",
    "guest_add": "POST /v1/guests 201",
    # people
    "profile": "GET /v1/users/{address}/profile 200",
    "profile_set": "PATCH /v1/users/{user}/profile 200",
    "privacy": "GET /v1/users/{user}/privacy 200",
    "privacy_set": "PATCH /v1/users/{user}/privacy 200",
    "contact_list": "GET /v1/users/{user}/contacts 200",
    "contact_add": "POST /v1/users/{user}/contacts 200",
    "contact_remove": "DELETE /v1/users/{user}/contacts/{contact} 200",
    "block_list": "GET /v1/users/{user}/blocks 200",
    "block_add": "POST /v1/users/{user}/blocks 200",
    "block_remove": "DELETE /v1/users/{user}/blocks/{peer} 200",
    "pair_list": "GET /v1/users/{address}/pairs 200",
    "pair_add": "POST /v1/users/{address}/pairs 200",
    "pair_remove": "DELETE /v1/users/{address}/pairs/{peer} 200",
    "presence": "GET /v1/presence 200",
    "presence_following": "GET /v1/users/{user}/following 200",
    "presence_follow": "POST /v1/users/{user}/following 200",
    "presence_unfollow": "DELETE /v1/users/{user}/following/{address} 200",
    # policies
    "policy_list": "GET /v1/policies 200",
    "policy_show": "GET /v1/policies/{name} 200",
    "policy_set": "PATCH /v1/policies/{name} 200",
    "policy_delete": "DELETE /v1/policies/{name} 200",
    # tokens
    "token_issue": "POST /v1/tokens 201",
    "token_list": "GET /v1/users/{address}/tokens 200",
    "token_show": "POST /v1/token-info 200",
    "token_revoke": "DELETE /v1/tokens/{what} 200",
    # groups
    "group_add": "POST /v1/groups 201",
    "group_list": "GET /v1/groups 200",
    "group_show": "GET /v1/groups/{address} 200",
    "group_set": "PATCH /v1/groups/{address} 200",
    "group_delete": "DELETE /v1/groups/{address} 200",
    "group_join": "POST /v1/groups/{address}/members 200",
    "group_leave": "DELETE /v1/groups/{address}/members/{user} 200",
    "group_members": "GET /v1/groups/{address}/members 200",
    "group_enter": "POST /v1/groups/{address}/entries 200",
    "group_pin_add": "POST /v1/groups/{address}/pins 201",
    "group_pin_list": "GET /v1/groups/{address}/pins 200",
    "group_pin_remove": "DELETE /v1/groups/{address}/pins/{id} 200",
    # messages
    "send": "POST /v1/messages 201",
    "message_send": "POST /v1/sends 200",
    "message_delete": "POST /v1/users/{address}/deletions 200",
    "status": "GET /v1/messages/{mid} 200",
    "history": "GET /v1/users/{address}/history 200",
    "sync": "GET /v1/users/{address}/sync 200",
    "search": "GET /v1/users/{address}/search 200",
    "retention_list": "GET /v1/retention 200",
    "retention_set": "POST /v1/retention 200",
    "purge": "POST /v1/purge 200",
    "trace": "GET /v1/messages/{mid}/trace 200",
    "message_scheduled": "GET /v1/users/{address}/scheduled 200",
    "message_cancel": "DELETE /v1/users/{address}/scheduled/{mid} 200",
    # webhooks
    "webhook_add": "POST /v1/webhooks 201",
    "webhook_list": "GET /v1/webhooks 200",
    "webhook_show": "GET /v1/webhooks/{name} 200",
    "webhook_set": "PATCH /v1/webhooks/{name} 200",
    "webhook_delete": "DELETE /v1/webhooks/{name} 200",
    "webhook_rotate": "POST /v1/webhooks/{name}/rotate 200",
    "webhook_test": "POST /v1/webhooks/{name}/test 200",
    "webhook_dead_list": "GET /v1/webhooks/{name}/dead 200",
    "webhook_dead_retry": "POST /v1/webhooks/{name}/dead/retry 200",
    # bots
    "bot_dead_list": "GET /v1/bots/{address}/dead 200",
    # access
    "acl_list": "GET /v1/acl 200",
    "acl_explain": "POST /v1/acl 200",
    # the server
    "stats": "GET /v1/stats 200",
    "server_info": "GET /v1/server 200",
    "health": "GET /v1/health 200",
    "metrics": "GET /v1/metrics 200",
    "ping": "GET /v1/ping 200",
}
PLAIN = (
    "POST /v1/send/{to} 201",
    "PUT /v1/send/{to} 201",
    "POST /v1/groups/{group}/send 201",
    "PUT /v1/groups/{group}/send 201",
)
GENERIC = "/v1/op/"
ME = "me"  # in the path, the caller's own address


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table. `bound` are the arguments that the path fills, `lists` those of them that are lists.

    `users` are those where `me` stands for the caller. `is_plain`: the body is a message and no JSON.
    """

    operation: Operation
    method: str
    path: str
    success: int = 200
    bound: tuple[str, ...] = ()
    lists: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    is_plain: bool = False
    is_text: bool = False

    @property
    def has_body(self) -> bool:
        """Tell whether arguments come in a body and not in the query."""
        return self.method != "GET"


def all_routes() -> list[Route]:
    """Return the route of every operation, in the order of the table, then those without a line."""
    named = [_route(OPERATIONS[name], line) for name, line in TABLE.items() if name in OPERATIONS]
    others = [generic(each) for name, each in OPERATIONS.items() if name not in TABLE]
    return [*named, *others]


def plain_routes() -> list[Route]:
    """Return the routes for which a message is the body, as it is, and its parameters stand in the query."""
    return [_route(OPERATIONS["send"], line, is_plain=True) for line in PLAIN]


def text_routes() -> list[Route]:
    """Return the routes whose answer is the operation's `text` alone: `/metrics`, where Prometheus looks."""
    return [replace(_route(OPERATIONS["metrics"], "GET /metrics 200"), is_text=True)]


def generic(operation: Operation) -> Route:
    """Return the route that every operation has; its answer has the same status as by the operation's own path."""
    _, _, success = TABLE.get(operation.name, "POST - 200").split()
    return Route(operation, "POST", f"{GENERIC}{operation.name}", int(success))


def _route(operation: Operation, line: str, *, is_plain: bool = False) -> Route:
    method, path, success = line.split()
    bound, lists, users = [], set(), set()
    before = ""
    for part in path.split("/"):
        if part.startswith("{"):
            name = part[1:-1]
            argument = next(each for each in (name, f"{name}s", f"{name}es") if each in operation.parameters)
            bound.append(argument)
            if operation.parameters[argument].annotation.startswith("list[str]"):
                lists.add(argument)
            if before == "users" or name == "user":
                users.add(argument)
        before = part
    return Route(operation, method, path, int(success), tuple(bound), frozenset(lists), frozenset(users), is_plain)


@dataclass(slots=True)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    any: _Node | None = None
    routes: dict[str, Route] = field(default_factory=dict)


class Router:
    """Finds the route of a path, one dict look-up per segment. A segment is decoded after the path is split."""

    def __init__(self, routes: list[Route]) -> None:
        self._root = _Node()
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        """Add a route."""
        node = self._root
        for part in route.path.split("/")[1:]:
            if part.startswith("{"):
                node.any = node = node.any or _Node()
            else:
                node = node.children.setdefault(part, _Node())
        node.routes[route.method] = route

    def find(self, raw_path: str) -> tuple[dict[str, Route], list[str]] | None:
        """Return the routes of a path by method, and what stands for its names; None: there is no such path.

        Raises:
            ValueError: a segment is no percent-encoded UTF-8.

        """
        node = self._root
        values: list[str] = []
        for part in raw_path.split("/")[1:]:
            child = node.children.get(part)
            if child is None:
                child = node.any
                if child is None or not part:
                    return None
                values.append(unquote_to_bytes(part).decode() if "%" in part else part)
            node = child
        return (node.routes, values) if node.routes else None
