"""The configuration files say exactly what the code does."""

from __future__ import annotations

from pathlib import Path

from mesimqtt.configuration import load_settings
from mesimqtt.settings import Settings

CONFIG = Path(__file__).parents[3] / "config"


def test_default_yaml_is_the_defaults():
    """config/default.yaml holds every key of settings.py with its default."""
    assert Settings() == load_settings(CONFIG / "default.yaml")


def test_every_key_of_default_yaml_is_explained():
    """Each setting stands below a comment line of its own."""
    lines = (CONFIG / "default.yaml").read_text().splitlines()
    groups = ("broker:", "  listeners:", "  plugins:", "    default:")
    unexplained = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if line and not line.lstrip().startswith("#") and not line.startswith(groups)
        if not before.lstrip().startswith("#")
    ]

    assert [] == unexplained


def test_default_yaml_names_every_setting():
    """No key of settings.py is missing from the file, so that the file can be read as the list of settings."""
    text = (CONFIG / "default.yaml").read_text()
    groups = [getattr(Settings(), name) for name in ("limits", "messaging", "rates", "plugins", "tokens", "store")]
    names = [name for group in groups for name in type(group).__slots__]

    assert [] == [name for name in names if f"\n  {name}: " not in text]


def test_production_yaml_sets_rates_and_connections_per_address():
    """config/production.yaml turns on the bounds that are off by default."""
    settings = load_settings(CONFIG / "production.yaml")

    assert ("3.3333:200", 100, True) == (
        settings.rates.messages, settings.limits.connections_per_address, settings.rates.loopback,
    )  # fmt: skip
