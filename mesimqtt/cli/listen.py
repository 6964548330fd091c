"""`mesimqtt bench`: our figures beside mosquitto's, on this machine."""

from __future__ import annotations

import typer


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
