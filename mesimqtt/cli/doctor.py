"""`mesimqtt doctor`: what keeps a server from doing its work, and the command that mends it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesimqtt import __version__
from mesimqtt.cli.check import as_dict, show
from mesimqtt.cli.link import Control, NoServerError, remembered_settings
from mesimqtt.cli.options import NOT_GIVEN, Data, Json
from mesimqtt.cli.output import emit
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from mesimqtt.domain.findings import Findings
    from mesimqtt.settings import Settings


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command(
        "doctor",
        short_help="Find what keeps a server from working.",
        epilog="Example: mesimqtt doctor --data /srv/chat",
    )(doctor)


def doctor(
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The server's configuration; that of its last start."),
    ] = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Look at versions, data folder, disk, limits, clock, listeners and certificates, and at the server if one runs.

    Each finding names the command that mends it. Exit code 1: something keeps the server from working as it should.
    """
    from mesimqtt.domain.findings import Level

    found = list(_all(data, config))
    if json:
        emit({"findings": [as_dict(each) for each in found]})
    else:
        show(found)
    if any(each.level is Level.FAILURE for each in found):
        raise typer.Exit(1)


def _all(data: Path, config: Path | None) -> Findings:
    import time

    from mesimqtt.cli import checks
    from mesimqtt.domain.findings import Finding, Level

    yield from checks.versions()
    yield from checks.folder(data)
    try:
        settings = _settings(data, config)
    except MesimqttError as error:
        yield Finding("configuration", Level.FAILURE, str(error), "see config/default.yaml")
        return
    yield from checks.disk(data, settings.store.ballast_bytes)
    yield from checks.files()
    yield from checks.clock(data, int(time.time() * 1000))
    yield from checks.listeners(_as_it_runs(data, settings))
    yield from _server(data, settings)


def _settings(data: Path, config: Path | None) -> Settings:
    from mesimqtt.configuration import load_settings

    settings: Settings = load_settings(config) if config is not None else remembered_settings(data)
    return settings


def _as_it_runs(data: Path, settings: Settings) -> Settings:
    """Return the settings with what options of `serve` opened, which only a running server knows."""
    from mesimqtt.listening import choose

    if not isinstance((settings.broker.get("listeners") or {}).get("default"), dict):
        return settings
    try:
        control = Control(data)
    except NoServerError:
        return settings
    try:
        bound = control.ask("server_info", {})["listeners"]
    except OSError:
        return settings
    finally:
        control.close()
    options: dict[str, str | None] = dict.fromkeys(("mqtt", "ws", "http"))
    for each in bound:
        host, port = str(each["host"]), each["port"]
        if each["kind"] in options and not host.startswith("unix:") and not _is_configured(settings, host, port):
            options[each["kind"]] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return choose(settings, mqtt=options["mqtt"], ws=options["ws"], http=options["http"])


def _is_configured(settings: Settings, host: str, port: int) -> bool:
    """Tell whether the configuration itself has a listener there; a name may stand for any address."""
    listeners = (settings.broker.get("listeners") or {}).values()
    for bind in (settings.http.bind, *(str((each or {}).get("bind") or "") for each in listeners)):
        where, _, number = bind.rpartition(":")
        is_address = where.strip("[]").replace(".", "").isdigit() or ":" in where
        if number == str(port) and (where.strip("[]") == host or not is_address):
            return True
    return False


def _server(data: Path, settings: Settings) -> Findings:
    from mesimqtt.domain.findings import Finding, Level

    try:
        control = Control(data)
    except NoServerError:
        yield from _ports(settings)
        return
    try:
        running = str(control.ask("ping", {}).get("version"))
        health = control.ask("health", {})
    except OSError as error:
        yield Finding("server", Level.FAILURE, f"the server does not answer: {error}", "look at its log; restart it")
        return
    finally:
        control.close()
    if running != __version__:
        why = f"version {running} runs, this command is {__version__}"
        yield Finding("server", Level.WARNING, why, "restart the server")
    if not health["store"]["ok"]:
        why = health["store"].get("why") or health["store"]["health"]
        yield Finding("server", Level.FAILURE, f"the store cannot commit: {why}", "make room on the disk; see its log")
    for each in health["listeners"]:
        if not each["ok"]:
            where = f"{each['kind']} {each['host']}:{each['port']}"
            yield Finding("server", Level.FAILURE, f"{where}: {each['why']}", "look at the server's log; restart it")
    if health["status"] == "ok":
        what = f"runs; a commit took {health['store']['commit_ms']} ms, {len(health['listeners'])} listeners answer"
        yield Finding("server", Level.OK, what)


def _ports(settings: Settings) -> Findings:
    from mesimqtt.cli.options import bound_address
    from mesimqtt.cli.serve import is_free
    from mesimqtt.domain.findings import Finding, Level

    taken = []
    for name, listener in (settings.broker.get("listeners") or {}).items():
        bind = str((listener or {}).get("bind") or "")
        if not bind or bind == "off" or bind.startswith(("unix:", "[")):
            continue
        host, port = bound_address(bind)
        if port and not is_free(host, port):
            taken.append((name, bind))
    for name, bind in taken:
        find = f"ss -ltnp 'sport = :{bind.rpartition(':')[2]}' shows who; stop it, or choose another bind"
        yield Finding("ports", Level.FAILURE, f"listener {name!r}: {bind} is in use by another program", find)
    yield Finding("server", Level.OK, "none runs on this folder" + ("" if taken else "; its ports are free"))
