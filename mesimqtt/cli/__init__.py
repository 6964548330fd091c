"""The command line (contract section 7): one file per noun, nothing heavy imported before a command runs."""

from mesimqtt.cli.main import app

__all__ = ["app"]
