"""A mistake in the broker's configuration is one line that names the place and says what to do."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
from amqtt.contexts import BaseContext
from amqtt.plugins.base import BasePlugin

from mesimqtt.broker.broker import Broker
from mesimqtt.broker.services import BareServices
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.settings import ListenerOptions, Settings

TOKEN_AUTH = "mesimqtt_plugins.auth.TokenAuth"
ACCESS = "mesimqtt_plugins.acl.FolderAccess"
HTTP_AUTH = "mesimqtt_plugins.http_auth.HttpAuth"
PLAIN = {"type": "tcp", "bind": "127.0.0.1:0"}


class Broken(BasePlugin[BaseContext]):
    """Fails as somebody else's plugin may."""

    def __init__(self, context):
        super().__init__(context)
        raise ValueError("of no use\nat all")


class Quitter(BasePlugin[BaseContext]):
    """Ends the program, which is not its to end."""

    def __init__(self, context):
        super().__init__(context)
        raise SystemExit(9)


class Claimless(BareServices):
    """Services of a server whose messaging runs."""

    claim = object()


def start(plugins=None, listeners=None, options=None, services=None):
    """Start a broker and stop it."""
    settings = replace(
        Settings(),
        broker={"listeners": listeners or {"default": PLAIN}, "plugins": plugins or {}},
        listeners=options or {},
    )

    async def story():
        broker = Broker(settings, services=services)
        await broker.start()
        await broker.shutdown()

    asyncio.run(story())


def refusal(**configuration):
    """Return what stops the start."""
    with pytest.raises(MesimqttError) as caught:
        start(**configuration)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("plugin", "options", "words"),
    [
        (TOKEN_AUTH, {"mixd": True}, 'TokenAuth: can not match "mixd"'),
        (HTTP_AUTH, {}, 'HttpAuth: missing value for field "url"'),
        (TOKEN_AUTH, "mixed", "auth.TokenAuth: "),
        (ACCESS, {"rules": {"allow": "all", "topic": "x"}}, "FolderAccess: rules: rules are a list: - {allow: all"),
        (ACCESS, {"rules": "home"}, "FolderAccess: rules: rules are a list: "),
        (ACCESS, {"rules": ["allow all home"]}, "FolderAccess: rules[0]: a rule is {allow: "),
        (ACCESS, {"rules": [{"allow": "all", "topic": "m/#"}]}, "rules[0]: topic: no rule reaches m/"),
        (
            ACCESS,
            {"rules": [{"allow": "all", "topic": "a/%x"}]},
            "rules[0]: topic: %x stands for nothing",
        ),
        (ACCESS, {"rules_files": "x"}, 'FolderAccess: can not match "rules_files"'),
        (f"{__name__}.Broken", {}, f"broker.plugins: {__name__}.Broken: "),
        (f"{__name__}.Broken", {}, "of no use at all"),
        ("no.such.Plugin", {}, "broker.plugins: no.such.Plugin: "),
        (f"{__name__}.Quitter", {}, f"broker.plugins: {__name__}.Quitter: it ends the program (exit 9)"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_named(plugin, options, words):
    """Whatever is wrong: an option, its type, the rules, the class, the plugin itself."""
    assert words in refusal(plugins={plugin: options})


@pytest.mark.parametrize("listener", ["default", "far"])
def test_a_wrong_key_of_a_listener_names_the_listener(listener):
    """A misspelt key, and a value that cannot be one."""
    listeners = {"default": PLAIN, "far": dict(PLAIN)}
    unknown = refusal(listeners={**listeners, listener: {"type": "tcp", "bnd": "127.0.0.1:0"}})
    wrong = refusal(listeners={**listeners, listener: {**PLAIN, "certfile": "/nowhere.pem", "keyfile": "/nowhere.pem"}})

    assert f"broker.listeners.{listener}: unknown key 'bnd'; known are type, bind," in unknown
    assert f"broker.listeners.{listener}: 'certfile' does not exist : /nowhere.pem" in wrong


def test_an_option_of_ours_among_amqtts_keys_is_shown_its_place():
    """What amqtt has no key for stands in the section `listeners`, under the same name."""
    told = refusal(listeners={"default": PLAIN, "doors": {**PLAIN, "client_certificate": "required"}})

    assert "broker.listeners.doors: client_certificate has its place in `listeners: {doors: {client_cert" in told


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"client_certificate": "required"}, "client_certificate: required needs TLS: set ssl: true"),
        ({"certificate_user": "cn"}, "certificate_user: cn needs TLS: set ssl: true"),
        ({"origins": ("https://a.example",)}, "origins is for WebSocket; set type: ws under broker.listeners.default"),
        ({"paths": ("/mqtt",)}, "paths is for WebSocket"),
        ({"mode": "0660"}, "mode is for Unix sockets"),
    ],
)
def test_an_option_without_effect_stops_the_start(option, words):
    """Somebody who writes it believes that it protects."""
    assert f"listener 'default': {words}" in refusal(options={"default": ListenerOptions(**option)})


def test_options_of_other_listeners_stop_the_start():
    """What a Unix socket, an external listener and the section http cannot have; the name http is that section's."""
    unix, outside = {"type": "tcp", "bind": "unix:/tmp/none.sock"}, {"type": "external"}
    listed = ListenerOptions(origins=("https://a.example",))
    proxied = ListenerOptions(proxy_from=("10.0.0.0/8",))

    assert "'local': proxy_from is for TCP" in refusal(
        listeners={"default": PLAIN, "local": unix}, options={"local": proxied}
    )
    assert "'app': type external has none of these" in refusal(
        listeners={"default": PLAIN, "app": outside}, options={"app": listed}
    )
    assert "broker.listeners.http: that name is the section http's" in refusal(
        listeners={"default": PLAIN, "http": dict(PLAIN)}
    )


def test_what_nobody_can_use_is_warned_of(caplog):
    """A server that lets nobody in, and one whose root is nobody's, start and say so."""
    caplog.set_level(logging.WARNING)
    start(plugins={ACCESS: {}}, services=Claimless())

    assert "no auth plugin is configured, so nobody can connect" in caplog.text
    assert "m/ is closed: add mesimqtt_plugins.routing.MessageRouting under broker.plugins" in caplog.text
    caplog.clear()
    start(plugins={TOKEN_AUTH: {}})
    assert [] == [each for each in caplog.records if each.name.startswith("mesimqtt")]
