"""Keeps the command line quick: typer imports pydantic for the first option that is no flag, and builds all commands.

That import alone costs a third of the 0.3 s that help may take, and typer does it for its own flags too, because
their default is None instead of False. To build 60 commands when one is asked for costs 0.15 s at each start.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from mesimqtt.cli.options import UsageError, data_folder

_FLAGS = ("install_completion", "show_completion")


class QuickCommand(TyperCommand):
    """A command whose `--help` is a plain flag."""

    def get_help_option(self, ctx: Any) -> Any:  # noqa: ANN401 - click's types, or those that typer brings along
        """Return the help option with a default that needs no conversion."""
        return _plain(super().get_help_option(ctx))


class QuickGroup(TyperGroup):
    """A group of commands whose `--help` is a plain flag, and which shows it when no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - as above
        """Show the help if nothing was said: it names what could be. Wrong usage all the same, exit code 2."""
        if not args and not ctx.resilient_parsing:
            print(ctx.get_help(), file=sys.stderr)
            ctx.exit(2)
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def get_help_option(self, ctx: Any) -> Any:  # noqa: ANN401 - as above
        """Return the help option with a default that needs no conversion."""
        return _plain(super().get_help_option(ctx))


class Root(QuickGroup):
    """The group of all: takes `--data DIR` before a command, which as a declared option would have to be converted."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - as above
        """Keep the folder as the context's object, where the commands' own `--data` looks for it."""
        for parameter in self.params:
            if parameter.name in _FLAGS:
                _plain(parameter)
        rest: list[str] = []
        left = list(args)
        while left and left[0].startswith("-") and left[0] != "--":
            name, equals, value = left.pop(0).partition("=")
            if name != "--data":
                rest.append(f"{name}{equals}{value}")
            elif equals or left:
                text = value if equals else left.pop(0)
                ctx.obj = Path(text) if ctx.resilient_parsing else data_folder(text)  # the shell completes: no errors
            else:
                raise UsageError("--data needs a folder")
        return super().parse_args(ctx, rest + left)


def only(app: typer.Typer, arguments: list[str]) -> typer.Typer:
    """Return an `app` of nothing but the command that is asked for, or all of it where it takes a look at all."""
    left = list(arguments)
    while left and left[0].startswith("-"):
        if left.pop(0) == "--data":
            del left[:1]
    name = left[0] if left else ""
    commands = [each for each in app.registered_commands if name == _name(each)]
    groups = [each for each in app.registered_groups if name == each.name]
    if len(commands) + len(groups) != 1:
        return app
    one = copy.copy(app)
    one.registered_commands, one.registered_groups = commands, groups
    return one


def _name(command: Any) -> str:  # noqa: ANN401 - typer's CommandInfo, which is not public
    return str(command.name or command.callback.__name__)


def quicken(app: typer.Typer) -> None:
    """Let every command and group below `app` be a quick one."""
    for command in app.registered_commands:
        command.cls = QuickCommand
    for group in app.registered_groups:
        group.cls = QuickGroup
        if group.typer_instance is not None:
            quicken(group.typer_instance)


def _plain(option: Any) -> Any:  # noqa: ANN401 - as above
    if option is not None:
        option.default = False
    return option
