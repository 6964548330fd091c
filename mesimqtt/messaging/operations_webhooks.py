"""Operations on webhooks: endpoints made while the server runs, their secrets, and dead letters (docs/webhooks.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.events import FORMATS, chosen_events
from mesimqtt.messaging.operations_base import Answer, ArgumentError, Desk, Scope, checked_limit, operation
from mesimqtt.messaging.webhooks import Endpoint, Webhooks, check_name, shown
from mesimqtt.store import outbox

if TYPE_CHECKING:
    import sqlite3

    from mesimqtt.store.outbox import WebhookRow

BATCH_MAX = 10_000
BATCH_AGE_MS_MAX = 3_600_000
_URL = "https://crm.example.org/hooks/mesimqtt"


@operation(Scope.ADMIN, example={"name": "crm", "url": _URL, "events": ["message.*", "inbox.full"]})
async def webhook_add(
    desk: Desk,
    *,
    name: str,
    url: str,
    events: list[str] | None = None,
    payload: bool = False,
    format: str = "standard",  # noqa: A002 - the setting's word
    batch_max: int | None = None,
    batch_age_ms: int | None = None,
) -> Answer:
    """Make an endpoint that is told what happens, and return its secret, which is shown this once.

    `events` are names such as `user.online` or whole kinds such as `message.*`, none for all. `payload` adds what
    messages say. `format` is standard or mesibo.
    """
    webhooks, settings = desk.messaging.webhooks, desk.messaging.settings.webhooks
    values = _checked(
        webhooks,
        {"url": url, "events": events or [], "payload": payload, "format": format, "batch_max": batch_max,
         "batch_age_ms": batch_age_ms},
    )  # fmt: skip
    try:
        check_name(name)
    except ValueError as error:
        raise ArgumentError(str(error)) from None
    if len(webhooks.endpoints) >= settings.endpoints_max:
        raise OperationError(
            "too-many", f"there are at most webhooks.endpoints_max endpoints, {settings.endpoints_max}"
        )
    salt, now_ms = webhooks.draw_salt(), desk.now_ms

    def add(connection: sqlite3.Connection) -> bool:
        if not outbox.add(connection, name, now_ms, salt=salt):
            return False
        row = outbox.find(connection, name)
        outbox.change(connection, row.id if row else 0, values)
        return True

    if not await desk.messaging.store.committer.run(add):
        raise OperationError("exists", f"there is a webhook {name!r}; change it with: mesimqtt webhook set {name}")
    webhooks.refresh()
    return {**_shown(desk, name), "secret": webhooks.secret(salt)}


@operation(Scope.BACKEND, is_lookup=True)
async def webhook_list(desk: Desk) -> Answer:
    """List all endpoints with what waits for each, their dead letters and their last error."""
    return {"webhooks": [_shown(desk, row.name) for row in outbox.webhooks(desk.read)]}


@operation(Scope.BACKEND, example={"name": "crm"}, is_lookup=True)
async def webhook_show(desk: Desk, *, name: str) -> Answer:
    """Show one endpoint; its secret is never shown again."""
    return _shown(desk, name)


@operation(Scope.ADMIN, example={"name": "crm", "payload": True})
async def webhook_set(
    desk: Desk,
    *,
    name: str,
    url: str | None = None,
    events: list[str] | None = None,
    payload: bool | None = None,
    format: str | None = None,  # noqa: A002 - the setting's word
    batch_max: int | None = None,
    batch_age_ms: int | None = None,
    active: bool | None = None,
) -> Answer:
    """Change an endpoint; what is left out stays. While it is not active nothing is recorded for it, what waits stays.

    Switched on again it is tried at once. Of an endpoint of the configuration only `active` can be changed.
    """
    webhooks, row = desk.messaging.webhooks, _known(desk, name)
    given = {"url": url, "events": events, "payload": payload, "format": format, "batch_max": batch_max,
             "batch_age_ms": batch_age_ms}  # fmt: skip
    values = _checked(webhooks, {key: value for key, value in given.items() if value is not None})
    if values and row.is_fixed:
        raise OperationError("from-settings", f"{name!r} is set in the configuration, under webhooks.endpoints")
    if active is not None:
        values |= {"active": int(active), "error": "", "attempts": 0, "next_at": 0}
    if values:
        await desk.messaging.store.committer.run(lambda connection: outbox.change(connection, row.id, values))
        webhooks.refresh()
    return _shown(desk, name)


@operation(Scope.ADMIN, example={"name": "crm"})
async def webhook_delete(desk: Desk, *, name: str) -> Answer:
    """Remove an endpoint with all that waits for it and its dead letters."""
    webhooks, row = desk.messaging.webhooks, _known(desk, name)
    if row.is_fixed and webhooks.is_of_settings(name):
        raise OperationError("from-settings", f"{name!r} is set in the configuration: remove it there, then start anew")
    if row.active:  # before anything else is recorded for it
        await desk.messaging.store.committer.run(lambda connection: outbox.change(connection, row.id, {"active": 0}))
        webhooks.refresh()
    waiting = _waiting(desk, row.id)[0]
    while await desk.messaging.store.committer.run(lambda connection: outbox.delete(connection, row.id)):
        pass  # a page of what waits is gone; others commit in between
    webhooks.refresh()
    return {"name": name, "dropped": waiting}


@operation(Scope.ADMIN, example={"name": "crm"})
async def webhook_rotate(desk: Desk, *, name: str) -> Answer:
    """Give an endpoint a new secret, shown this once. The former one signs beside it for webhooks.secret_overlap_s."""
    webhooks, row = desk.messaging.webhooks, _known(desk, name)
    if row.is_fixed:
        raise OperationError(
            "from-settings",
            f"the secret of {name!r} is in the configuration: write the new one before the old one there",
        )
    salt = webhooks.draw_salt()
    until = desk.now_ms + desk.messaging.settings.webhooks.secret_overlap_s * 1000
    values: dict[str, object] = {"salt": salt, "former_salt": row.salt, "former_until": until}
    await desk.messaging.store.committer.run(lambda connection: outbox.change(connection, row.id, values))
    webhooks.refresh()
    return {"name": name, "secret": webhooks.secret(salt), "former_until": until}


@operation(Scope.BACKEND, example={"name": "crm"})
async def webhook_test(desk: Desk, *, name: str) -> Answer:
    """Send an event `webhook.test` now and tell what was answered; if it is taken, what waits is tried again, too."""
    endpoint = _endpoint(desk, name)
    sender = desk.messaging.webhooks.sender
    if sender is None:
        raise OperationError("not-running", "only a running server sends: start it with: mesimqtt serve")
    return {"name": name, **await sender.test(endpoint)}


@operation(Scope.BACKEND, example={"name": "crm"}, is_lookup=True)
async def webhook_dead_list(desk: Desk, *, name: str, after: int = 0, limit: int = 100) -> Answer:
    """List dead letters of an endpoint, the oldest first: batches that were given up. `next` goes on as `after`."""
    row = _known(desk, name)
    found = outbox.letters(desk.read, row.id, after, checked_limit(limit))
    return {
        "name": name,
        "letters": [
            {
                "id": str(each.id),
                "webhook_id": each.letter_key,
                "events": each.events,
                "created_at": each.created_at,
                "died_at": each.died_at,
                "attempts": each.attempts,
                "reason": each.reason,
            }
            for each in found
        ],
        "next": found[-1].id if len(found) == limit else None,
    }


@operation(Scope.BACKEND, example={"name": "crm"})
async def webhook_dead_retry(desk: Desk, *, name: str, ids: list[str] | None = None, limit: int = 100) -> Answer:
    """Send dead letters again, each under its former webhook-id, behind what waits; without `ids` the oldest ones."""
    endpoint, webhooks = _endpoint(desk, name), desk.messaging.webhooks
    if not all(each.isascii() and each.isdigit() and len(each) < 19 for each in ids or ()):
        raise ArgumentError("ids are numbers, as webhook_dead_list shows them")
    wanted = [int(each) for each in ids or ()]
    if ids is not None and not wanted:
        raise ArgumentError("name at least one letter, or leave ids out")
    most = checked_limit(limit)
    found = await desk.messaging.store.committer.run(
        lambda connection: webhooks.revive(connection, endpoint.id, wanted, most)
    )
    if webhooks.sender is not None:
        webhooks.sender.recorded([(endpoint.id, events, size) for _, events, size in found])
        webhooks.sender.retried(endpoint)
    return {"name": name, "retried": [str(number) for number, _, _ in found], "events": sum(each[1] for each in found)}


def _checked(webhooks: Webhooks, given: dict[str, object]) -> dict[str, object]:
    """Return the columns of what was given; raise ArgumentError for what cannot be."""
    values = dict(given)
    try:
        if "url" in given:
            webhooks.check_target(str(given["url"]))
        if isinstance(events := given.get("events"), list):
            chosen_events(events)
            values["events"] = " ".join(events)
    except ValueError as error:
        raise ArgumentError(str(error)) from None
    if "format" in given and given["format"] not in FORMATS:
        raise ArgumentError(f"format is one of {', '.join(FORMATS)}")
    for key, least, most, default in (("batch_max", 1, BATCH_MAX, 0), ("batch_age_ms", 0, BATCH_AGE_MS_MAX, -1)):
        value = given.get(key)
        if isinstance(value, int) and not least <= value <= most:
            raise ArgumentError(f"{key} must be from {least} to {most}")
        if key in given and value is None:
            values[key] = default
    if "payload" in given:
        values["payload"] = int(bool(given["payload"]))
    return values


def _known(desk: Desk, name: str) -> WebhookRow:
    row = outbox.find(desk.read, name)
    if row is None:
        raise OperationError(
            "no-such-webhook", f"no webhook {name[:64]!r}; make it with: mesimqtt webhook add {name[:64]} URL"
        )
    return row


def _endpoint(desk: Desk, name: str) -> Endpoint:
    return desk.messaging.webhooks.endpoints[_known(desk, name).name]


def _shown(desk: Desk, name: str) -> Answer:
    row = _known(desk, name)
    return dict(shown(row, waiting=_waiting(desk, row.id), dead=outbox.dead_of(desk.read, row.id)))


def _waiting(desk: Desk, number: int) -> tuple[int, int]:
    """Return (events, bytes) that wait: a server that runs has counted them, a million rows or not."""
    sender = desk.messaging.webhooks.sender
    found = sender.waiting(number) if sender is not None else None
    return found or outbox.waiting_for(desk.read, number)
