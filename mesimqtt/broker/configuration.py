"""amqtt's configuration and plugins, loaded: what is wrong with them is one line that names the place to mend."""

from __future__ import annotations

import copy
import logging
import warnings
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from amqtt.contexts import BrokerConfig, ListenerConfig
from amqtt.errors import PluginError, PluginLoadError
from amqtt.plugins.manager import PluginManager

from mesimqtt.broker.context import Context
from mesimqtt.broker.isolated import isolate, take_isolated
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.settings import ListenerOptions

if TYPE_CHECKING:
    import asyncio

    from amqtt.plugins.base import BasePlugin

NAMESPACE = "mesimqtt.broker.plugins"
TOKEN_AUTH = "mesimqtt_plugins.auth.TokenAuth"  # noqa: S105 - a plugin's name
ROUTING = "mesimqtt_plugins.routing.MessageRouting"
_LISTENER_KEYS = tuple(key.name for key in fields(ListenerConfig))
_LISTENER_OPTIONS = frozenset(key.name for key in fields(ListenerOptions))

logger = logging.getLogger(__name__)


class _Plugins(PluginManager[Context]):
    """amqtt's manager, which says which plugin it is that cannot be loaded."""

    def _load_str_plugin(self, plugin_path: str, plugin_cfg: dict[str, Any] | None = None) -> BasePlugin[Context]:
        try:
            return super()._load_str_plugin(plugin_path, plugin_cfg)
        except SystemExit as error:
            raise MesimqttError(f"broker.plugins: {plugin_path}: it ends the program (exit {error.code})") from None
        except Exception as error:  # noqa: BLE001 - whatever a plugin finds wrong in a person's file becomes one line
            cause = error.__cause__ if isinstance(error, PluginError | PluginLoadError) else None
            if isinstance(cause, MesimqttError):
                raise cause from None  # it names its plugin itself
            told = (str(error) if error is not cause else "", str(cause or ""))
            reason = ": ".join(text for text in told if text and text != plugin_path) or type(error).__name__
            raise MesimqttError(f"broker.plugins: {plugin_path}: {one_line(reason)}") from None


def broker_config(written: dict[str, Any]) -> tuple[BrokerConfig, set[str]]:
    """Return amqtt's configuration, and the names of the plugins that are to run in threads of their own."""
    values = copy.deepcopy(written)
    isolated = take_isolated(values.get("plugins"))
    _check_listeners(values.get("listeners"))
    try:
        return BrokerConfig.from_dict(values), isolated
    except KeyError as error:
        raise MesimqttError(f"broker: {error} is missing; amqtt needs a listener named 'default'") from None
    except Exception as error:  # noqa: BLE001 - whatever amqtt finds wrong in a person's file becomes one line
        raise MesimqttError(f"broker: {one_line(error)}; see config/default.yaml") from None


def _check_listeners(listeners: object) -> None:
    """Look at each listener by itself: amqtt's own errors name none."""
    for name, listener in listeners.items() if isinstance(listeners, dict) else ():
        where = f"broker.listeners.{name}"
        if not isinstance(listener, dict):
            continue
        for key in listener:
            if key in _LISTENER_OPTIONS:
                raise MesimqttError(f"{where}: {key} has its place in `listeners: {{{name}: {{{key}: …}}}}`")
            if key not in _LISTENER_KEYS:
                raise MesimqttError(f"{where}: unknown key {str(key)!r}; known are {', '.join(_LISTENER_KEYS)}")
        try:
            BrokerConfig.from_dict({"listeners": {"default": copy.deepcopy(listener)}})
        except Exception as error:  # noqa: BLE001 - as below
            raise MesimqttError(f"{where}: {one_line(error)}; see config/default.yaml") from None


def load_plugins(
    context: Context, config: BrokerConfig, isolated: set[str], loop: asyncio.AbstractEventLoop
) -> PluginManager[Context]:
    """Load the plugins of the configuration. Raises MesimqttError, which names the plugin."""
    context.config = config
    try:
        with warnings.catch_warnings():
            # amqtt announces changes of its own packaging here; an operator can do nothing about them.
            warnings.simplefilter("ignore", DeprecationWarning)
            manager = _Plugins(NAMESPACE, context, loop)
    except (PluginError, PluginLoadError) as error:
        reason = ": ".join(text for text in (str(error), str(error.__cause__ or "")) if text)
        raise MesimqttError(f"broker.plugins: {one_line(reason)}") from None
    isolate(manager, config.plugins or (), isolated, loop)
    return manager


def warn_of_gaps(manager: PluginManager[Context], *, root: str, is_claimed: bool) -> None:
    """Tell what nobody can use because a plugin is missing: a client would see no more than a refusal."""
    if not manager._auth_plugins:  # noqa: SLF001 - no public way; held by the contract test
        logger.warning("no auth plugin is configured, so nobody can connect: add %s under broker.plugins", TOKEN_AUTH)
    if not is_claimed:
        logger.warning("%s/ is closed: add %s under broker.plugins to open messaging", root, ROUTING)


def one_line(error: object) -> str:
    """Return an error's text without line breaks."""
    return " ".join(str(error).split())
