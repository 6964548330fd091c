"""What schemathesis cannot know of the API: formats, and rules that no schema says. It loads this file itself."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

from mesimqtt.domain.addresses import check_address
from mesimqtt.domain.errors import AddressError

# Refusals of what the document allows, by their words: a rule about two arguments at once, or about what there is.
RULES = (
    "must be a whole number",  # JSON Schema takes 1.0 for one
    "has unknown bits",
    "bits that no group knows",
    "name at least one KEY=VALUE",
    "name one conversation",
    "name at most one conversation",
    "recipients in to and groups together",
    "printable characters",
    "a user sets name, about, avatar",
    "there are presence, last_seen, profile, receipts",
    "nobody blocks himself",
    "this is neither a JWT",
    "this is no JWT",
    "this is no topic filter",
    "a topic has 1 to 65535 bytes",
    "is text without control characters",
    "nobody can publish to a filter",
    "url: ",
    "cursor is the `next` of an answer",
    "choose another PIN",
    "with this PIN",
    "edit and recall exclude each other",
    "name one destination: to (a user) or group",
    "give text, or payload in base64",
    "only a JWT has rules of its own",
    "packet goes with short",
)
# Whether something is there, allowed, in the way, used already, too often asked or switched off, no schema knows.
STATES = frozenset({401, 403, 404, 409, 410, 422, 429, 501, 507})
ANY_OPERATION = "/v1/op/{operation}"  # its document says nothing of the arguments


def is_address(text: str) -> bool:
    try:
        check_address(text)
    except AddressError:
        return False
    return True


known = st.sampled_from(["bob", "carol", "team", "nobody"])
schemathesis.openapi.format("address", known | st.text(min_size=1, max_size=20).filter(is_address))


@schemathesis.check
def what_the_document_allows_is_taken(ctx, response, case) -> None:
    """Fail where good data is refused as bad."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code in STATES:
        return
    if 400 <= response.status_code < 500 and case.operation.path != ANY_OPERATION:
        detail = response.json()["detail"]
        assert any(rule in detail for rule in RULES), f"the document allows this, the server says: {detail}"
