"""Keeps `--help` quick: typer imports pydantic to convert the first option that is no plain flag.

That import alone costs a third of the 0.3 s that help may take, and typer does it for its own flags too, because
their default is None instead of False.
"""

from __future__ import annotations

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
