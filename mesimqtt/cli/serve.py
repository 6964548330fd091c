"""`mesimqtt serve`: run the server until it is told to stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesimqtt.cli.options import NOT_GIVEN, Data, Json, UsageError, bound_address
from mesimqtt.cli.output import emit, line, tell
from mesimqtt.domain.errors import InUseError, MesimqttError
from mesimqtt.store.layout import APPS_NAME

if TYPE_CHECKING:
    import asyncio
    from contextlib import AbstractAsyncContextManager

    from mesimqtt.cli.log_file import WritingHandler
    from mesimqtt.cli.systemd import Supervisor
    from mesimqtt.record.served import Served
    from mesimqtt.settings import Settings

WAIT_S = 5.0  # for a command that has the data folder for a moment
INSIST_S = 1.0  # after a stop in good order, for what does not heed that it was cancelled

Place = tuple[str, "Settings", Path, Path | None]  # name ('' is the main one), settings, data, configuration
OnReady = Callable[["Served"], Awaitable[None]]
Mqtt = Annotated[
    str | None,
    typer.Option(
        "--mqtt",
        metavar="ADDR:PORT",
        help="Where MQTT listens, 127.0.0.1:1883 by default; port 0: a free one; off: nowhere.",
    ),
]
Ws = Annotated[
    str | None,
    typer.Option(
        "--ws", metavar="ADDR:PORT", help="Where MQTT over WebSocket listens, 127.0.0.1:8083 by default; off: nowhere."
    ),
]
Http = Annotated[
    str | None,
    typer.Option(
        "--http",
        metavar="ADDR:PORT",
        help="Where the HTTP API listens, and MQTT over WebSocket at /mqtt; 127.0.0.1:8080 by default; off: nowhere.",
    ),
]


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command("serve", epilog="Example: mesimqtt serve --data /var/lib/mesimqtt --mqtt 127.0.0.1:1883")(serve)


def serve(
    *,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="See config/default.yaml.")] = None,
    mqtt: Mqtt = None,
    ws: Ws = None,
    http: Http = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Free topics without a token, for clients on this machine only.")
    ] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond loopback without TLS.")] = False,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE", help="Write down all that comes in, for `replay`; holds secrets."),
    ] = None,
    data: Data = NOT_GIVEN,
    json: Json = False,
) -> None:
    """Run the server. It prints a line `ready mqtt ADDR:PORT` per listener and ends in order on SIGTERM or Ctrl-C.

    TLS, client certificates, Unix sockets (`bind: unix:/run/mesimqtt.sock`) and the PROXY protocol are set in the
    configuration. SIGHUP opens the log again and reads certificates, keys of others and files of rules.
    """
    from dataclasses import replace

    settings = server_settings(config, mqtt=mqtt, ws=ws, http=http, open_=open_, insecure=insecure)
    if record is not None:
        settings = replace(settings, record=replace(settings.record, file=str(record)))
    others = app_settings(settings, config, insecure=insecure)

    async def ready(app: Served) -> None:
        announce(app, as_json=json)

    run_server(settings, data, config=config, on_ready=ready, others=others)


def announce(app: Served, *, as_json: bool) -> None:
    """Print one line per listener, at once, so that a script can wait for it."""
    from mesimqtt.app import ready_line, spoken

    for scheme, host, port in app.bound:
        kind = spoken(scheme)
        if as_json:
            name = {"app": app.name} if app.name else {}
            emit({"ready": kind, "host": host, "port": port, "tls": kind != scheme, **name})
        else:
            line(ready_line(scheme, host, port) + (f" app={app.name}" if app.name else ""))


def server_settings(
    config: Path | None,
    *,
    mqtt: str | None,
    open_: bool,
    insecure: bool,
    ws: str | None = None,
    http: str | None = None,
) -> Settings:
    """Return the settings of a server: the file's, changed by the options; refuse what would be unsafe.

    Raises:
        MesimqttError: the configuration cannot be used, or would open to the network what must not be.

    """
    from dataclasses import replace

    from mesimqtt.configuration import load_settings
    from mesimqtt.listening import OFF, choose

    settings = load_settings(config)
    listeners = settings.broker.get("listeners")
    if not isinstance(listeners, dict) or not isinstance(listeners.get("default"), dict):
        raise MesimqttError(f"{config}: broker.listeners needs a listener named default; see config/default.yaml")
    for bind in filter(None, (mqtt, ws, http)):
        if bind != OFF and not bind.startswith("unix:"):
            bound_address(bind)
    if ws is None and config is None and _is_taken(listeners["ws"]["bind"], "WebSocket", "--ws"):
        ws = OFF
    if http is None and settings.http.bind == type(settings.http)().bind:
        http = OFF if _is_taken(settings.http.bind, "HTTP", "--http") else None
    settings = replace(choose(settings, mqtt=mqtt, ws=ws, http=http), open=settings.open or open_)
    if mqtt == OFF and len(settings.broker["listeners"]) == 1 and settings.http.bind == OFF:
        raise UsageError("--mqtt off would leave nothing that listens.")
    _check_reach(settings, insecure=insecure)
    return settings


def _check_reach(settings: Settings, *, insecure: bool) -> None:
    from mesimqtt.listening import reachable

    for each in reachable(settings):
        if each.has_tls:
            continue
        if not insecure:
            way = "configure ssl, or say --insecure if a VPN or a TLS proxy stands in front"
            raise MesimqttError(f"{each.danger}; {way}")
        tell(f"mesimqtt: {each.danger}; --insecure allows it")


def app_settings(settings: Settings, config: Path | None, *, insecure: bool) -> dict[str, tuple[Settings, Path]]:
    """Return settings and file of each further application that a configuration names.

    Raises:
        MesimqttError: a file cannot be used, or would open to the network what must not be.

    """
    from dataclasses import replace

    from mesimqtt.configuration import load_settings
    from mesimqtt.settings import default_broker

    found = {}
    for name, file in settings.apps.items():
        path = (config.parent if config is not None else Path()) / file
        loaded = load_settings(path, is_app=True)
        listeners = loaded.broker.get("listeners")
        if not isinstance(listeners, dict) or listeners == default_broker()["listeners"] or "default" not in listeners:
            raise MesimqttError(f"{path}: an application names listeners of its own: broker.listeners.default and more")
        if loaded.apps:
            raise MesimqttError(f"{path}: apps stand in the main configuration, {config}")
        if loaded.http.bind == type(loaded.http)().bind:  # the main one's
            loaded = replace(loaded, http=replace(loaded.http, bind="off"))
        _check_reach(loaded, insecure=insecure)
        found[name] = (loaded, path)
    return found


def _is_taken(bind: str, what: str, option: str) -> bool:
    """Tell, and say, that somebody else listens there; nobody asked for it: a second server for a try goes without."""
    if is_free(*bound_address(bind)):
        return False
    tell(f"mesimqtt: {bind} is in use, so there is no {what}; choose another: {option} ADDR:PORT")
    return True


def is_free(host: str, port: int) -> bool:
    """Tell whether nobody listens there."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def run_server(
    settings: Settings,
    data: Path,
    *,
    config: Path | None,
    on_ready: OnReady,
    others: Mapping[str, tuple[Settings, Path]] | None = None,
) -> None:
    """Serve until a signal comes; raise MesimqttError if the server cannot start or cannot go on.

    `others` are further applications by name: each is a server of its own in the same process, with data, users,
    tokens, secret and listeners that no other has.
    """
    import logging
    import os
    import threading

    from mesimqtt.broker.compiled import is_compiled
    from mesimqtt.broker.loop import run
    from mesimqtt.cli.logs import start_logging
    from mesimqtt.cli.systemd import Supervisor
    from mesimqtt.configuration import supervision

    os.umask(0o077)
    log = start_logging(settings.log_level, as_json=settings.log_format == "json", settings=settings.log)
    logging.getLogger(__name__).info("compiled: %s", "yes" if is_compiled() else "no")
    _raise_file_limit()
    served = [("", settings, data, config)]
    served += [(name, each, data / APPS_NAME / name, file) for name, (each, file) in (others or {}).items()]

    def end() -> None:
        """End now: all is committed and closed, and what is left is a plugin that does not let go of the event loop."""
        log.flush()
        os._exit(0)

    insisting = threading.Timer(INSIST_S, end)
    insisting.daemon = True
    try:
        run(
            _serve(served, on_ready=on_ready, on_stopped=insisting.start, log=log, supervisor=Supervisor(supervision()))
        )
    finally:
        insisting.cancel()
        log.flush()


async def _serve(
    served: list[Place],
    *,
    on_ready: OnReady,
    on_stopped: Callable[[], None],
    log: WritingHandler,
    supervisor: Supervisor,
) -> None:
    import asyncio
    import logging
    from contextlib import AsyncExitStack

    from mesimqtt.cli.link import remember_config

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    apps: list[Served] = []

    _heed_signals(loop, stop, apps, log, supervisor)
    deadline = loop.time() + WAIT_S
    while not stop.is_set():
        try:
            async with AsyncExitStack() as stack:
                apps.clear()
                for name, settings, data, config in served:
                    if name:
                        data.mkdir(mode=0o700, parents=True, exist_ok=True)
                    app = await stack.enter_async_context(_opened(settings, data))
                    app.name = name
                    apps.append(app)
                    remember_config(data, config)
                for app in apps:
                    await on_ready(app)
                supervisor.ready(loop, f"serving on {', '.join(_where(each) for app in apps for each in app.bound)}")
                await _stopped(apps, stop)
                await asyncio.gather(*(app.leave() for app in apps))
        except InUseError:
            # A command may have the folder for a moment; a server answers, and will not go away.
            is_taken = [await asyncio.to_thread(_has_server, data) for _name, _settings, data, _config in served]
            if loop.time() >= deadline or any(is_taken):
                raise
            await asyncio.sleep(0.05)
        else:
            logging.getLogger(__name__).info("stopped")
            on_stopped()
            return


def _heed_signals(
    loop: asyncio.AbstractEventLoop,
    stop: asyncio.Event,
    apps: list[Served],
    log: WritingHandler,
    supervisor: Supervisor,
) -> None:
    import logging
    import signal
    import sys

    logger = logging.getLogger(__name__)

    def end() -> None:
        """Take leave in order; asked again, at once."""
        for app in apps if stop.is_set() else ():
            app.hurry()
        logger.info("stopping: %s", "at once" if stop.is_set() else "clients are told, and what is under way ends")
        supervisor.stopping()
        stop.set()

    def reload() -> None:
        """Open the log again, read files again."""
        supervisor.reloading()
        log.reopen()
        _reload(apps)
        supervisor.reloaded()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    # A terminal that closes ends its server in order; any other SIGHUP reads files again.
    loop.add_signal_handler(signal.SIGHUP, end if sys.stdin and sys.stdin.isatty() else reload)


def _opened(settings: Settings, data: Path) -> AbstractAsyncContextManager[Served]:
    """Return the server, recorded if the settings say so."""
    from mesimqtt.app import running

    if not settings.record.file:
        return running(settings, data)
    from mesimqtt.record.served import recorded

    return recorded(Path(settings.record.file), settings, data, lambda world: running(settings, data, outside=world))


def _where(bound: tuple[str, str, int]) -> str:
    kind, host, port = bound
    return f"{kind} {host}:{port}" if port else f"{kind} {host}"


def _reload(apps: list[Served]) -> None:
    import logging

    for app in apps:
        app.reload()
    logging.getLogger(__name__).warning(
        "SIGHUP: the log is opened again, certificates, keys of others and files of rules are read again; "
        "all else is read at start only"
    )


async def _stopped(apps: list[Served], stop: Any) -> None:  # noqa: ANN401 - asyncio.Event, which is not imported at the top
    import asyncio

    waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(app.wait_failed()) for app in apps]
    waiting.append(asyncio.ensure_future(stop.wait()))
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def _has_server(data: Path) -> bool:
    from mesimqtt.cli.link import Control, NoServerError

    try:
        Control(data).close()
    except NoServerError:
        return False
    return True


def _raise_file_limit() -> None:
    """Allow as many connections as the system lets us have; each is an open file."""
    import contextlib
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
