"""How a refusal looks over HTTP: its status code, and a body as RFC 9457 has it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

# The codes of operations and statuses (contract section 4) that do not follow from their name.
STATUS: dict[str, int] = {
    "blocked": 403,
    "busy": 503,
    "cid-reused": 409,
    "cannot-grant": 403,
    "closed": 409,
    "configured": 409,
    "denied": 403,
    "exists": 409,
    "expired": 410,
    "failed": 502,
    "forbidden": 403,
    "from-settings": 409,
    "group-full": 409,
    "group-paused": 409,
    "id-mismatch": 400,
    "idempotency-key-reused": 422,
    "in-use": 409,
    "inbox-full": 507,
    "internal": 500,
    "invalid-destination": 404,
    "last-owner": 409,
    "no-server": 503,
    "not-allowed": 403,
    "not-member": 403,
    "rate-limited": 429,
    "not-running": 503,
    "offline": 409,
    "search-off": 501,
    "store": 507,
    "too-many": 409,
    "too-many-groups": 409,
    "too-many-pins": 409,
    "unauthorized": 401,
    "user-disabled": 409,
    "user-offline": 409,
}
# What a code's beginning or end says, for all others.
_BEGINNINGS = {"bad-": 400, "no-such-": 404}
_ENDINGS = {"-exists": 409}
UNKNOWN = 400  # of a code that is in neither table: the caller's business, as every refusal of an operation


def status_of(code: str) -> int:
    """Return the HTTP status of a refusal's code."""
    found = known_status(code)
    return UNKNOWN if found is None else found


def known_status(code: str) -> int | None:
    """Return the HTTP status of a code, None for one that nothing here names."""
    if code in STATUS:
        return STATUS[code]
    for beginning, status in _BEGINNINGS.items():
        if code.startswith(beginning):
            return status
    return next((status for ending, status in _ENDINGS.items() if code.endswith(ending)), None)


def problem(status: int, code: str, detail: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON is any of its types
    """Return the body of a refusal: `code` is for a program, `detail` for a person."""
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail, **more}


class ProblemError(Exception):
    """A request that is refused before an operation is asked."""

    def __init__(self, status: int, code: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.headers = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
