"""A pytest plugin for what is built on mesimqtt: `pytest_plugins = ["mesimqtt.testing"]` (docs/testing.md)."""

from mesimqtt.testing.fixtures import mesimqtt_server, mesimqtt_world

__all__ = ["mesimqtt_server", "mesimqtt_world"]
