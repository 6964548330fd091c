"""Pages of other hosts: none may ask, until the configuration names them."""

from __future__ import annotations

PAGE = "https://chat.example.org"
ASKS = {"origin": PAGE, "access_control_request_method": "POST"}


def cors(reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith("access-control")}


def test_closed_by_default(ask) -> None:
    """No answer names an Origin, and a preflight is like any other method that there is not."""
    for origin in (PAGE, "null", "https://evil.example"):
        assert {} == cors(ask("GET", "/v1/ping", user="alice", origin=origin))
        assert {} == cors(ask("OPTIONS", "/v1/ping", **ASKS | {"origin": origin}))
        assert 401 == ask("OPTIONS", "/v1/ping", **ASKS | {"origin": origin}).status


def test_a_named_page_may_ask(make_asker) -> None:
    """It is named back, never reflected; every other page is not; cookies are never asked for."""
    ask = make_asker(http={"origins": (f"{PAGE}:443",)})  # as a browser never writes it
    first = ask("OPTIONS", "/v1/messages", **ASKS)
    reply = ask("GET", "/v1/ping", user="alice", origin=PAGE)

    assert (204, PAGE) == (first.status, first.headers["access-control-allow-origin"])
    assert "authorization" in first.headers["access-control-allow-headers"]
    assert (PAGE, "origin") == (reply.headers["access-control-allow-origin"], reply.headers["vary"])
    assert not [name for name in {**first.headers, **reply.headers} if "credentials" in name]
    for origin in ("https://evil.example", "null", f"{PAGE}.evil", f"{PAGE}:444", "http://chat.example.org"):
        assert 403 == ask("OPTIONS", "/v1/messages", **ASKS | {"origin": origin}).status
        assert {} == cors(ask("GET", "/v1/ping", user="alice", origin=origin))


def test_all_pages_may_be_named(make_asker) -> None:
    """`*` is for a public API: the token is still asked for."""
    ask = make_asker(http={"origins": ("*",)})

    assert "*" == ask("GET", "/v1/ping", origin="null").headers["access-control-allow-origin"]
    assert 401 == ask("GET", "/v1/ping", origin="null").status
