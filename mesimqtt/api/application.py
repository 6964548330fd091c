"""What answers a request: who asks, which operation, its answer or refusal as JSON (ASGI)."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.api.arguments import from_request, read_query
from mesimqtt.api.cors import Cors
from mesimqtt.api.idempotency import Idempotency, cid_of, digest_of, read_key
from mesimqtt.api.mesibo import Backend
from mesimqtt.api.problems import ProblemError, problem, status_of
from mesimqtt.api.routes import GENERIC, Router, all_routes, generic, plain_routes, text_routes
from mesimqtt.domain.errors import MesimqttError, OperationError
from mesimqtt.domain.hosts import is_loopback
from mesimqtt.domain.rates import RateLimit, parse_windows
from mesimqtt.hooks import ConnectRequest, Refusal
from mesimqtt.messaging.operations import OPERATIONS, Caller
from mesimqtt.tokens import claimed_subject

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from mesimqtt.api.routes import Route
    from mesimqtt.messaging.messaging import Messaging

    Message = MutableMapping[str, Any]
    Perform = Callable[[str, dict[str, Any], Caller], Awaitable[dict[str, Any]]]
    Page = Callable[[], Awaitable["Response"]]

TOKENS_KNOWN_MAX = 10_000
PATH_SHOWN_MAX = 200
BACKEND = "/backend"
NAME_MAX = 64
JSON = b"application/json"
PROBLEM = b"application/problem+json"
FIGURES = b"text/plain; version=0.0.4; charset=utf-8"  # as Prometheus names it

log = logging.getLogger(__name__)


class Response(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    kind: bytes = JSON
    headers: list[tuple[bytes, bytes]] = []  # noqa: RUF012 - never changed


class Application:
    """The ASGI application. `pages` answers GET of what stands outside of /v1, by its path, without a token."""

    def __init__(
        self,
        messaging: Messaging,
        perform: Perform,
        *,
        counted_as: Callable[[str], str],
    ) -> None:
        settings = messaging.settings
        self._messaging = messaging
        self._perform = perform
        self._counted_as = counted_as
        self._settings = settings.http
        self._router = Router(
            [*(generic(each) for each in OPERATIONS.values()), *all_routes(), *plain_routes(), *text_routes()]
        )
        self._backend = Backend(messaging, perform, self._backend_caller)
        self._cors = Cors(settings.http.origins)
        self._rate = RateLimit(parse_windows(settings.rates.http))
        self._failed = RateLimit(parse_windows(settings.rates.failed_logins))
        self._counts_loopback = settings.rates.loopback
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self.keys = Idempotency(messaging, settings.http.idempotency_kept_s)
        self.pages: dict[str, Page] = {}
        self.retry_after_s = 0  # of a server that stops; 0: it does not

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        began = self._messaging.now()
        try:
            answer = await self._answer(scope, receive)
        except ProblemError as error:
            answer = _refused(error.status, error.code, str(error), error.headers)
        except OperationError as error:
            answer = self._told(error)
        except MesimqttError as error:  # above all the store's: nothing was changed
            answer = _refused(self._store_status(), "store", str(error))
        except Exception:  # the edge: a mistake of ours is told without its insides
            log.exception("http: %s %s failed", scope["method"], scope["path"][:PATH_SHOWN_MAX])
            answer = _refused(500, "internal", "the server met an unexpected error; its log has the details")
        if answer is None:  # who asked is gone
            return
        if self._settings.access_log:
            log.info(
                "http: %s %s %s %d %.1f ms", scope["client"][0], scope["method"],
                scope["raw_path"].decode("ascii", "replace")[:PATH_SHOWN_MAX], answer.status,
                (self._messaging.now() - began) * 1000,
            )  # fmt: skip
        headers = [(b"content-type", answer.kind), (b"content-length", b"%d" % len(answer.body)), *answer.headers]
        if self._cors:
            headers += self._cors.fields(dict(scope["headers"]).get(b"origin", b""))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Message, receive: Callable[[], Awaitable[Message]]) -> Response | None:
        if self.retry_after_s:
            after = {"Retry-After": str(self.retry_after_s), "Connection": "close"}
            raise ProblemError(503, "stopping", "the server is stopping; ask again in a moment", **after)
        path = scope["raw_path"].decode("ascii")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        is_backend = path in (BACKEND, f"{BACKEND}/")
        if is_backend and method not in ("POST", "OPTIONS"):
            why = "this is for POST: a JSON object with op and token, in the body; see docs/mesibo.md"
            raise ProblemError(405, "no-such-method", why, Allow="POST")
        pairs = read_query(scope["query_string"])
        if is_backend and method == "POST":
            return await self._backend_answer(scope, receive)
        page = self.pages.get(path)
        if page is not None:
            if method != "GET":
                raise ProblemError(405, "no-such-method", "this is for GET", Allow="GET, HEAD")
            return await page()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if method == "OPTIONS" and b"access-control-request-method" in headers and self._cors:
            allowed = self._cors.preflight(headers.get(b"origin", b""))
            if allowed is None:
                raise ProblemError(403, "forbidden", "pages of this Origin may not ask; see http.origins")
            return Response(204, b"", JSON, allowed)
        caller = self._caller(scope, headers)
        route, values = self._route(method, path)
        self._count(caller)
        body = await self._body(headers, receive)
        if body is None:
            return None
        if body or b"transfer-encoding" in headers:  # it may have taken a while: who lost his rights meanwhile has none
            caller = self._caller(scope, headers)
        arguments = from_request(route, values, pairs, body, headers.get(b"content-type", b""), caller.user)
        key = read_key(headers.get(b"idempotency-key")) if route.has_body else ""
        if not key:
            return Response(*await self._do(route, arguments, caller), FIGURES if route.is_text else JSON)
        digest = digest_of(route.operation.name, arguments)
        if "cid" in route.operation.parameters:
            arguments.setdefault("cid", cid_of(key))
        return Response(*await self.keys.once(caller.user, key, digest, lambda: self._do(route, arguments, caller)))

    async def _backend_answer(self, scope: Message, receive: Callable[[], Awaitable[Message]]) -> Response | None:
        """Answer one of Mesibo's requests, whose token is in its body; a refusal is status 200, too, as it is there."""
        raw = await self._body(dict(scope["headers"]), receive)
        if raw is None:
            return None
        answer = await self._backend.reply(raw, scope["client"][0])
        return Response(200, json.dumps(answer, separators=(",", ":")).encode())  # it echoes what may be no Unicode

    async def _do(self, route: Route, arguments: dict[str, Any], caller: Caller) -> tuple[int, bytes]:
        answer = await self._perform(route.operation.name, arguments, caller)
        if route.is_text:
            return route.success, answer["text"].encode()
        return route.success, json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()

    # ---- who asks ----------------------------------------------------------------------------------------------

    def _caller(self, scope: Message, headers: dict[bytes, bytes]) -> Caller:
        """Return whose token the request shows; raise OperationError."""
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            raise _unauthorized("say who you are: Authorization: Bearer TOKEN, from mesimqtt token issue")
        return self._caller_of(token, scope["client"][0])

    def _backend_caller(self, token: bytes, address: str) -> Caller:
        """Return whose app token this is; raise OperationError, also where he asks too often."""
        caller = self._caller_of(token, address)
        self._count(caller)
        return caller

    def _count(self, caller: Caller) -> None:
        """Count a request; raise OperationError where its user asks too often."""
        if self._rate and (wait := self._rate.take(caller.user, self._messaging.now())):
            raise OperationError(
                "rate-limited", f"too many requests; ask again in {ceil(wait)} s", retry_after=ceil(wait)
            )

    def _caller_of(self, token: bytes, address: str) -> Caller:
        """Return whose token this is; raise OperationError."""
        pair = "" if token in self._good else self._pair(address, token)
        now = self._messaging.now()
        if pair and (wait := self._failed.wait_s(pair, now)):
            raise OperationError("rate-limited", "too many tokens that are not good", retry_after=ceil(wait))
        request = ConnectRequest("", None, token, True, 0, address, "http")
        found = self._messaging.check_connect(request)
        if isinstance(found, Refusal):
            self._good.pop(token, None)
            self._messaging.count("http.unauthorized")
            if pair:
                self._failed.charge(pair, now, 1)
            raise _unauthorized("the token is not good: it is misspelt, expired or revoked, or its user is disabled")
        if token not in self._good:
            if len(self._good) >= TOKENS_KNOWN_MAX:
                self._good.popitem(last=False)
            self._good[token] = None
        return Caller(found.user, found.scope)

    def _pair(self, address: str, token: bytes) -> str:
        """Return what failures are counted by: where from, and whom the token claims; '' where nothing is counted."""
        if not self._failed or (not self._counts_loopback and is_loopback(address)):
            return ""
        return f"{self._counted_as(address)} {claimed_subject(token)[:NAME_MAX]}"

    # ---- what is asked -----------------------------------------------------------------------------------------

    def _route(self, method: str, path: str) -> tuple[Route, list[str]]:
        try:
            found = self._router.find(path)
        except ValueError:
            raise ProblemError(400, "bad-request", "the path is no percent-encoded UTF-8") from None
        if found is None:
            hint = f"; all operations are at POST {GENERIC}NAME" if path.startswith(GENERIC) else ""
            raise ProblemError(404, "no-such-path", f"nothing is here{hint}; see /docs")
        routes, values = found
        route = routes.get(method)
        if route is None:
            allowed = ", ".join([*routes, *(["HEAD"] if "GET" in routes else [])])
            raise ProblemError(405, "no-such-method", f"this path takes {allowed}", Allow=allowed)
        return route, values

    async def _body(self, headers: dict[bytes, bytes], receive: Callable[[], Awaitable[Message]]) -> bytes | None:
        """Return the body; None: the client went away within it."""
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ProblemError(415, "bad-encoding", "a body is sent as it is: without Content-Encoding")
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message["body"]
            size += len(part)
            if size > self._settings.body_max:
                raise ProblemError(
                    413, "too-large", f"a body has at most {self._settings.body_max} bytes", Connection="close"
                )
            parts.append(part)
            if not message["more_body"]:
                return parts[0] if len(parts) == 1 else b"".join(parts)

    # ---- refusals ----------------------------------------------------------------------------------------------

    def _told(self, error: OperationError) -> Response:
        status = self._store_status() if error.code == "store" else status_of(error.code)
        headers = [(b"retry-after", b"%d" % error.retry_after)] if error.retry_after else []
        if status == HTTPStatus.UNAUTHORIZED:
            headers.append((b"www-authenticate", b"Bearer"))
        return _refused(status, error.code, str(error), headers)

    def _store_status(self) -> int:
        """Return 507 for a full disk, 503 for a store that cannot write for another reason."""
        return 507 if self._messaging.store.health == "disk-full" else 503


def _unauthorized(detail: str) -> OperationError:
    return OperationError("unauthorized", detail)


def _refused(status: int, code: str, detail: str, headers: list[tuple[bytes, bytes]] | None = None) -> Response:
    return Response(status, json.dumps(problem(status, code, detail)).encode(), PROBLEM, headers or [])
