"""Every configuration that docs/access.md shows is one that the plugins take."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from amqtt.utils import import_string
from dacite import Config, from_dict

from mesimqtt.configuration import load_settings
from mesimqtt.domain.access_rules import parse_rules

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "access.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)]
PLUGINS = {path: options for block in BLOCKS for path, options in block.items() if "." in path}


@pytest.fixture
def ldap(monkeypatch):
    """Stand for python-ldap, which needs a C library to be built."""
    monkeypatch.setitem(sys.modules, "ldap", ModuleType("ldap"))
    yield
    sys.modules.pop("amqtt.contrib.ldap", None)


@pytest.mark.parametrize("path", PLUGINS)
def test_a_plugin_takes_the_options_that_are_shown(path, ldap):
    """They are what amqtt reads into the plugin's own options, strictly."""
    options = {key: value for key, value in PLUGINS[path].items() if key != "isolate"}
    taken = from_dict(import_string(path).Config, options, config=Config(strict=True))

    assert options == {key: getattr(taken, key) for key in options}


def test_the_rules_that_are_shown_are_rules():
    """All of them, denials and groups among them."""
    rules = parse_rules(PLUGINS["mesimqtt_plugins.acl.FolderAccess"]["rules"], "rules")

    assert [False, True, True, True, True] == [rule.is_allowing for rule in rules]


def test_the_token_settings_that_are_shown_are_settings(tmp_path):
    """The block under `tokens` loads as a configuration of its own."""
    (block,) = [block for block in BLOCKS if "tokens" in block]
    file = tmp_path / "mesimqtt.yaml"
    file.write_text(yaml.safe_dump(block))

    assert block["tokens"]["jwks_url"] == load_settings(file).tokens.jwks_url


def test_what_the_text_names_is_there(ldap):
    """Plugins that are named outside of a block exist, too."""
    modules = [import_module(f"amqtt.contrib.{name}") for name in ("http", "auth_db", "jwt", "ldap", "cert")]
    named = set(re.findall(r"`(TopicAuth\w+Plugin)`", TEXT))

    assert 4 == len(named)
    assert [] == [name for name in named if not any(hasattr(module, name) for module in modules)]
