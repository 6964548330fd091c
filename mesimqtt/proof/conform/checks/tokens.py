"""Tokens: who may enter, until when, and what is lost with him (contract section 5)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.conform.people import NotCheckedError
from mesimqtt.proof.conform.table import Need, check

if TYPE_CHECKING:
    from mesimqtt.proof.conform.people import Person
    from mesimqtt.proof.conform.stage import Stage

REFUSED = {4, 5, 0x86, 0x87}
FAILED = 0x80
OUT_S = 1.5  # a second, and the way of the news


async def refused(stage: Stage, person: Person, what: str, **options: Any) -> None:  # noqa: ANN401 - options of CONNECT
    """Hold that a CONNECT is refused as one of somebody else."""
    client = await person.connect("stranger", refused=True, clean=True, **options)
    stage.that(
        client.connack.code in REFUSED, f"CONNACK 4 or 5 (5.0: 0x86, 0x87) for {what}", f"{client.connack.code:#04x}"
    )


@check("C5.2", on_road=False)
async def address_as_user_name(stage: Stage) -> None:
    """CONNECT with the address and the token is accepted, with another user's address and the same token refused."""
    alice, bob = await stage.people(2)
    await alice.connect()
    await refused(stage, alice, "another's name", user=bob.address)


@check("C5.3", on_road=False)
async def no_user_name(stage: Stage) -> None:
    """CONNECT with the token alone is accepted: with an empty name on 3.1.1, with none on 5.0."""
    [alice] = await stage.people(1)
    client = await alice.connect(user="")
    stage.same("SUBACK for the own folder", (1,), await client.subscribe("#"))
    if stage.venue.speaks_five:
        client = await alice.connect("five", five=True, anonymous=True)
        stage.same("SUBACK for the own folder", (1,), await client.subscribe("#"))


@check("C5.4", on_road=False)
async def token_as_password(stage: Stage) -> None:
    """CONNECT with the token is accepted; with its beginning, a letter changed, nonsense and nothing it is refused."""
    [alice] = await stage.people(1)
    await alice.connect()
    token = alice.token
    changed = token[: len(token) // 2] + ("A" if token[len(token) // 2] != "A" else "B") + token[len(token) // 2 + 1 :]
    for wrong in (token[:-8], changed, "wrong", ""):
        await refused(stage, alice, f"the password {wrong[:12]!r}…", token=wrong)


@check("C5.5", needs=(Need.WEBSOCKET,), on_road=False)
async def over_websocket(stage: Stage) -> None:
    """The same CONNECT in a WebSocket with the subprotocol `mqtt` is accepted, and a message goes each way."""
    alice, bob = await stage.people(2)
    browser, phone = await alice.device(websocket=True), await bob.device()
    await browser.say(f"u/{bob.level}/{stage.cid()}", b"from a browser")
    await phone.hear(f"u/{alice.level}/", b"from a browser")
    await phone.say(f"u/{alice.level}/{stage.cid()}", b"x" * 70_000)
    await browser.hear(f"u/{bob.level}/", b"x" * 70_000)


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a JWT. Raises NotCheckedError if it is none."""
    try:
        head, claims, _ = token.split(".")
        header, body = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (head, claims))
    except ValueError:
        raise NotCheckedError("the tokens of this run are no JWTs") from None
    return header, body


def forged(header: dict[str, Any], claims: dict[str, Any], key: bytes | None) -> str:
    """Return a JWT of one's own making; without a key it has no signature."""
    text = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)
    )
    mark = hmac.digest(key, text.encode(), hashlib.sha256) if key is not None else b""
    return f"{text}.{base64.urlsafe_b64encode(mark).rstrip(b'=').decode()}"


@check("C5.6", on_road=False)
async def signed(stage: Stage) -> None:
    """The token's header names one of these algorithms; with the same claims signed by another key it is refused."""
    [alice] = await stage.people(1)
    header, claims = parts_of(alice.token)
    stage.that(header.get("alg") in {"HS256", "EdDSA", "RS256", "ES256"}, "one of the algorithms", header)
    for key in (b"", b"secret", b"0" * 32):
        await refused(stage, alice, f"a token signed with {key!r}", token=forged(header, claims, key))


@check("C5.7", on_road=False)
async def claims(stage: Stage) -> None:
    """The token has sub, aud, iss, iat, exp and jti; sub is the user, aud `mesimqtt`, and exp lies ahead."""
    [alice] = await stage.people(1)
    _, body = parts_of(alice.token)
    wanted = {"sub", "aud", "iss", "iat", "exp", "jti"}
    stage.that(wanted <= body.keys(), f"the claims {', '.join(sorted(wanted))}", sorted(body))
    stage.same("sub", alice.address, body["sub"])
    stage.that(body["aud"] in ("mesimqtt", ["mesimqtt"]), "aud mesimqtt", body["aud"])
    stage.that(body["exp"] > stage.venue.now_ms() / 1000, "exp ahead", body["exp"])


@check("C5.8", needs=(Need.TOKENS,), on_road=False)
async def bound_device(stage: Stage) -> None:
    """A token for the device `phone` is accepted with that client id and refused with another, and with none."""
    [alice] = await stage.people(1)
    token = await stage.issue(alice, device="phone")
    await alice.connect("phone", token=token, exact=True)
    for name in ("tablet", ""):
        client = await alice.connect(name, token=token, exact=True, clean=True, refused=True)
        stage.that(client.connack.code in REFUSED | {2}, f"a refusal for {name!r}", f"{client.connack.code:#04x}")


@check("C5.11", on_road=False)
async def algorithm_of_the_server(stage: Stage) -> None:
    """Tokens with `alg` none, with a key of their own in the header, with an unknown algorithm are refused."""
    [alice] = await stage.people(1)
    header, body = parts_of(alice.token)
    own = {"kty": "oct", "k": base64.urlsafe_b64encode(b"0" * 32).decode()}
    for change in ({"alg": "none"}, {"alg": "NONE"}, {"alg": "HS256", "jwk": own}, {"alg": "HS384"}, {"alg": ""}):
        key = None if "none" in str(change["alg"]).lower() else b"0" * 32
        await refused(stage, alice, f"a header with {change}", token=forged({**header, **change}, body, key))


@check("C5.13", needs=(Need.POWER,), lasts_s=3.5, on_road=False)
async def ends_with_its_token(stage: Stage) -> None:
    """A connection whose token expires after 2 seconds, and one whose token is revoked, end within a second of it."""
    alice, bob = await stage.people(2)
    brief = await alice.connect(token=await stage.issue(alice, ttl=2))
    other = await bob.connect()
    await stage.perform("token_revoke", what=bob.address)
    await other.closed("the connection ends within a second of the revocation", OUT_S)
    await refused(stage, bob, "a revoked token")
    await brief.closed("the connection ends within a second of the token's end", 2 + OUT_S)
    [first] = [each for each in (brief,) if each.is_closed]
    stage.same("it ends", True, first.is_closed)


@check("C5.14", needs=(Need.POWER,), on_road=False)
async def ends_with_its_user(stage: Stage) -> None:
    """The connections of a user who is disabled, and of one who is deleted, end within a second, for good."""
    alice, bob = await stage.people(2)
    for person, op in ((alice, "user_disable"), (bob, "user_delete")):
        client = await person.connect()
        await stage.perform(op, addresses=[person.address])
        await client.closed(f"the connection ends within a second of {op}", OUT_S)
        await refused(stage, person, f"a token after {op}")


@check("C5.16", needs=(Need.TOKENS,), lasts_s=5.0, on_road=False)
async def warned(stage: Stage) -> None:
    """A device with a token of 62 seconds has news on `in/session` after two."""
    [alice] = await stage.people(1)
    reader = await alice.device("session", token=await stage.issue(alice, ttl=62))
    await stage.quiet(reader)
    reader.nothing("session", "no warning before its time")
    await reader.hear("session", within_s=4.0)


@check("C5.17", needs=(Need.POWER,))
async def the_inbox_stays(stage: Stage) -> None:
    """Bob is disabled while a message waits: when he is enabled again he receives it."""
    alice, bob = await stage.people(2)
    sender = await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"waits")
    await stage.perform("user_disable", addresses=[bob.address])
    await stage.perform("user_enable", addresses=[bob.address])
    bob.token = await stage.issue(bob)
    await (await bob.device()).hear(f"u/{alice.level}/", b"waits")


@check("C5.18", needs=(Need.POWER, Need.USERS))
async def wiped(stage: Stage) -> None:
    """Bob is deleted and made again: what waited for him is gone, and he is no member of his group."""
    alice, bob, carol = await stage.people(3)
    team = await stage.group(alice, bob, carol)
    sender = await alice.connect()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"wiped")
    await stage.perform("user_delete", addresses=[bob.address])
    bob = await stage.named(bob.address)
    reader = await bob.device()
    await sender.say(f"g/{team}/{stage.cid()}", b"for members")
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"marker")
    first = await reader.hear("")
    stage.same("what comes first", b"marker", first.payload)
    await stage.quiet(reader)
    reader.nothing("g/", "he is no member any more")


@check("C5.19", needs=(Need.POWER,))
async def senders_are_told(stage: Stage) -> None:
    """Bob is deleted while a message waits for him: alice gets 0x80 with the reason `user-deleted`."""
    alice, bob = await stage.people(2)
    sender = await alice.device("status/#")
    cid = stage.cid()
    await sender.say(f"u/{bob.level}/{cid}", b"wiped")
    await stage.perform("user_delete", addresses=[bob.address])
    stage.same("the reason", "user-deleted", (await sender.status(cid, FAILED)).get("reason"))


@check("C5.20", needs=(Need.POWER, Need.USERS), on_road=False)
async def old_tokens(stage: Stage) -> None:
    """Bob is deleted and made again: his new token is accepted, the one from before refused."""
    [bob] = await stage.people(1)
    await stage.perform("user_delete", addresses=[bob.address])
    new = await stage.named(bob.address)
    await new.connect()
    await refused(stage, bob, "a token from before")


@check("C5.21", needs=(Need.TOKENS,), on_road=False)
async def short_token(stage: Stage) -> None:
    """A short token has 32 characters, and is accepted as password."""
    [alice] = await stage.people(1)
    token = await stage.issue(alice, short=True)
    stage.same("its length", 32, len(token))
    await alice.connect(token=token)


@check("C5.22", needs=(Need.POWER,), lasts_s=3.5, on_road=False)
async def same_rules(stage: Stage) -> None:
    """Short tokens end after their 2 seconds, end with their revocation, and are bound to a device as others are."""
    alice, bob = await stage.people(2)
    token = await stage.issue(alice, short=True, device="meter", ttl=2)
    await refused(stage, alice, "another device", token=token)
    client = await alice.connect("meter", token=token, exact=True)
    other = await bob.connect(token=await stage.issue(bob, short=True))
    await stage.perform("token_revoke", what=bob.address)
    await other.closed("the connection ends within a second of the revocation", OUT_S)
    await client.closed("the connection ends within a second of the token's end", 2 + OUT_S)


@check("C5.23", needs=(Need.TOKENS,))
async def a_tiny_client(stage: Stage) -> None:
    """A clean 3.1.1 client publishes a raw payload at QoS 0 to `out/u/bob`: bob receives it, and SENT is told."""
    alice, bob = await stage.people(2)
    tiny = await alice.device("s/#", token=await stage.issue(alice, short=True, packet=128), clean=True)
    reader = await bob.device()
    await tiny.say(f"u/{bob.level}", b"21.5", qos=0)
    await reader.hear(f"u/{alice.level}/", b"21.5")
    await tiny.hear("s/", b"1")


@check("C5.24", needs=(Need.TOKENS,))
async def the_store_redelivers(stage: Stage) -> None:
    """What a clean client has not acknowledged comes again when it returns, and what was sent meanwhile comes, too."""
    alice, bob = await stage.people(2)
    bob.token = await stage.issue(bob, short=True, packet=128)
    sender, tiny = await alice.connect(), await bob.device(clean=True)
    tiny.acks = False
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"on")
    await tiny.hear(f"u/{alice.level}/", b"on")
    await tiny.cut()
    await sender.say(f"u/{bob.level}/{stage.cid()}", b"off")
    tiny = await bob.device(clean=True)
    for payload in (b"on", b"off"):
        await tiny.hear(f"u/{alice.level}/", payload)
