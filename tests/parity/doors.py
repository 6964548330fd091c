"""The doors of the server, each as one call, in the world of the documentation."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from mesimqtt.api.control import ControlServer
from mesimqtt.api.routes import all_routes, generic
from mesimqtt.app import App
from mesimqtt.domain.errors import OperationError
from mesimqtt.messaging.operations import OPERATIONS
from unit.api.asking import Asker
from unit.messaging.world import World

if TYPE_CHECKING:
    from mesimqtt.api.routes import Route

USERS = ("alice", "bob", "carol", "shop", "root")
SCOPES = {"shop": "backend", "root": "admin"}
ROUTES = {route.operation.name: route for route in all_routes()}


class Documentation:
    """Users alice, bob, carol, shop (backend) and root (admin); group team of alice (owner), bob and carol.

    alice has sent "hello" to bob (cid 42, {mid}) and "hi all" to team (cid 43, {gmid}); "later" to bob waits for an
    hour (cid 44, {later}). {token} is bob's.
    """

    def __init__(self, folder, **settings: Any) -> None:
        self.world = World(folder, **settings)
        world = self.world
        world.user(*USERS)
        self.ask = Asker(world)
        for user, scope in SCOPES.items():
            world.tokens[user] = self.ask.token(user, scope)
        world.do("group_add", address="team", owner="alice")
        world.do("group_join", address="team", users=["bob", "carol"])
        mid = world.do("send", sender="alice", to="bob", text="hello", cid="42")["mid"]
        gmid = world.do("send", sender="alice", group="team", text="hi all", cid="43")["mid"]
        later = world.do("send", sender="alice", to="bob", text="later", cid="44", when=3600)["mid"]
        self._names = {"{mid}": mid, "{gmid}": gmid, "{later}": later, "{token}": world.tokens["bob"]}
        self.app = App(world.settings, folder, world.store, world.messaging, world._asyncio.create_future())
        self._control = ControlServer(folder / "control.sock", self.app.perform)

    def close(self) -> None:
        """Let go of the folder."""
        self.world.close()

    def example(self, operation: str) -> dict[str, Any]:
        """Return the example of an operation, with the ids of this world."""
        found: dict[str, Any] = json.loads(self.filled(json.dumps(dict(OPERATIONS[operation].example))))
        return found

    def filled(self, text: str) -> str:
        """Return a text with the ids of this world in the places of `{mid}` and the like."""
        for name, value in self._names.items():
            text = text.replace(name, value)
        return text

    # ---- the doors: each returns the answer, or {"code", "message"} of a refusal -------------------------------------

    def rpc(self, operation: str, arguments: dict[str, Any], user: str = "root") -> dict[str, Any]:
        """Ask over MQTT, with the user's token."""
        device = self.world.listener(user, "asks", filters=("rpc/#",), clean=True)
        device.publish(f"rpc/{operation}/1", json.dumps(arguments))
        for _ in range(200):
            self.world.run(asyncio.sleep(0))
            self.world.turn()
            if found := device.received("rpc/1"):
                break
        answer = json.loads(found[0].payload)
        return answer["result"] if answer["ok"] else {"code": answer["code"], "message": answer["message"]}

    def http(self, operation: str, arguments: dict[str, Any], user: str = "root") -> dict[str, Any]:
        """Ask over HTTP, at the route of the operation."""
        return self._request(ROUTES[operation], arguments, user)

    def http_generic(self, operation: str, arguments: dict[str, Any], user: str = "root") -> dict[str, Any]:
        """Ask over HTTP, at the path that every operation has."""
        return self._request(generic(OPERATIONS[operation]), arguments, user)

    def _request(self, route: Route, arguments: dict[str, Any], user: str) -> dict[str, Any]:
        method, target, body = request_of(route, arguments)
        reply = self.ask(method, target, body, user=user)
        if reply.status >= 400:
            return {"code": reply.code, "message": reply.json["detail"]}
        assert route.success == reply.status
        return reply.json

    def control(self, operation: str, arguments: dict[str, Any], user: str = "") -> dict[str, Any]:
        """Ask as the command line does, on the control socket."""
        question = {"op": operation, "args": arguments} | ({"as": user} if user else {})
        answer = self.world.run(self._control._answer(json.dumps(question).encode()))
        return answer["result"] if answer["ok"] else {"code": answer["code"], "message": answer["message"]}

    def python(self, operation: str, arguments: dict[str, Any], user: str = "") -> dict[str, Any]:
        """Ask as a program does that holds the server."""
        try:
            return self.world.run(self.app.perform(operation, arguments, user))
        except OperationError as error:
            return {"code": error.code, "message": str(error)}


DOORS = ("rpc", "http", "http_generic", "control", "python")


def request_of(route: Route, arguments: dict[str, Any]) -> tuple[str, str, dict[str, Any] | None]:
    """Return method, target and body of the request that passes `arguments` to a route."""
    rest = dict(arguments)
    parts, names = [], list(route.bound)
    for part in route.path.split("/"):
        if part.startswith("{"):
            name = names.pop(0)
            value = rest.pop(name)
            if name in route.lists:
                (value,) = value
            parts.append(quote(str(value), safe="@"))
        else:
            parts.append(part)
    target = "/".join(parts)
    if route.has_body:
        return route.method, target, rest
    pairs = {key: str(value).lower() if isinstance(value, bool) else value for key, value in rest.items()}
    return route.method, f"{target}?{urlencode(pairs, doseq=True)}" if pairs else target, None
