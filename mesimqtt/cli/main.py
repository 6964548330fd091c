"""The command line's root: common options, the commands of every file, and what an error looks like."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import Annotated

import typer

from mesimqtt import __version__
from mesimqtt.cli import (
    acl,
    backup,
    bench,
    bot,
    check,
    conform,
    demo,
    doctor,
    group,
    history,
    listen,
    message,
    op,
    policy,
    replay,
    retention,
    selftest,
    serve,
    server,
    spec,
    token,
    up,
    user,
    webhook,
)
from mesimqtt.cli.output import OutputEndedError, clean
from mesimqtt.cli.quick import Root, only, quicken
from mesimqtt.domain.errors import MesimqttError

_HELP = """Self-hosted messaging on MQTT that tells the truth about every message.

First minute: mesimqtt up

--data DIR, the data folder, may stand before a command and after it; it is ./mesimqtt-data by default.
"""

app = typer.Typer(
    name="mesimqtt",
    cls=Root,
    help=_HELP,
    no_args_is_help=False,
    rich_markup_mode=None,  # plain help: rich alone would cost a third of the 0.3 s that help may take
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


_SIGPIPE = 128 + 13
# What typer's converter says of a wrong value -> in plain words.
_PLAIN_WORDS = (
    (r"Invalid value for '(\S+)': Input should be a valid integer.*", r"\1 takes a whole number"),
    (r"Invalid value for '(\S+)': Input should be a valid number.*", r"\1 takes a number"),
    (r"Invalid value for '(\S+)': Input should be greater than or equal to (.*)", r"\1 takes at least \2"),
    (r"Invalid value for '(\S+)': Input should be less than or equal to (.*)", r"\1 takes at most \2"),
)


def _version(value: bool) -> None:
    if value:
        print(f"mesimqtt {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
) -> None:
    """Take the options that stand before a command."""


_PARTS = (
    up,
    serve,
    user,
    policy,
    token,
    group,
    acl,
    message,
    history,
    retention,
    listen,
    server,
    doctor,
    check,
    backup,
    bench,
    conform,
    demo,
    selftest,
    replay,
    spec,
    webhook,
    bot,
    op,
)
for _part in _PARTS:
    _part.register(app)
quicken(app)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code: 0 done, 1 refused, 2 something to mend first, 141 unread."""
    try:
        code = only(app, arguments)(args=arguments, prog_name="mesimqtt", standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, OutputEndedError):
        return _ended()
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except MesimqttError as error:
        return _fail(str(error), error.exit_code, arguments)
    except Exception as error:  # noqa: BLE001 - the edge of the program
        usage = getattr(error, "format_message", None)
        if usage is not None:
            return _fail(_usage(error, str(usage())), 2, arguments)
        return _fail(f"unexpected {type(error).__name__}: {error} (mesimqtt --debug … shows where)", 2, arguments)
    return code if isinstance(code, int) else 0


def _ended() -> int:
    """Say nothing more, because nobody reads it, and return what a program returns that SIGPIPE has ended."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it may be no file
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return _SIGPIPE


def _usage(error: Exception, message: str) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "mesimqtt"
    text = " ".join(message.split()).rstrip(".")
    for pattern, plain in _PLAIN_WORDS:
        text = re.sub(pattern, plain, text)
    return f"{text}{'' if text.endswith(('?', '!')) else '.'} See: {path} --help"


def _fail(message: str, code: int, arguments: list[str]) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exc()
    print(f"mesimqtt: {clean(message)}", file=sys.stderr)
    return code
