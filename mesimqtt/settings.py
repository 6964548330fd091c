"""Every default of the server, in one file, and the loading of `mesimqtt.yaml`.

A value comes from the command line, else from the environment (`MESIMQTT_LIMITS__FILTERS_MAX=50`),
else from the file, else from here. Nothing else in the project reads the environment.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mesimqtt.domain.errors import MesimqttError, RateError
from mesimqtt.domain.rates import parse_windows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_NUMBER_MAX = 2**53
_PREFIX = "MESIMQTT_"
# Kubernetes sets these in every container, for a service of our name; COMPILE is the build's (hatch_build.py).
_NOT_OURS = re.compile(r"MESIMQTT_(COMPILE|SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)")
_STRICT = {"extra": "forbid"}  # pydantic's word for: an unknown key is an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the data plane. Every queue and every wait has one, with a name."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    payload_max: int = 256 * 1024
    packet_max: int = 1024 * 1024
    packet_max_before_connect: int = 8 * 1024
    connect_deadline_s: float = 10.0
    topic_max: int = 512
    root_topic_max: int = 4096
    topic_levels_max: int = 32
    filters_max: int = 200
    inflight_max: int = 64
    qos2_incoming_max: int = 1_000
    queue_messages_max: int = 100_000
    queue_bytes_max: int = 8 * 1024 * 1024
    queue_bytes_total: int = 64 * 1024 * 1024
    unwritten_max: int = 512 * 1024
    stalled_s: float = 30.0
    keep_alive_max_s: int = 1200
    password_max: int = 4096
    retained_max: int = 100_000
    connections_per_address: int = 0
    session_expiry_s: int = 90 * 86_400
    sessions_per_user_max: int = 100
    retained_visits_max: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mqtt:
    """What clients of MQTT 5.0 are told at CONNECT, beside the limits."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    topic_aliases_max: int = 16
    topic_aliases_out_max: int = 16
    response_information: str = ""
    server_reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Messaging:
    """Bounds and times of messages, devices and statuses (contract sections 1 to 4)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    expiry_default_s: int = 31_536_000
    inbox_messages_max: int = 100_000
    inbox_bytes_max: int = 1024 * 1024 * 1024
    devices_max: int = 20
    device_unseen_s: int = 90 * 86_400
    status_kept_s: int = 7 * 86_400
    group_members_max: int = 5_000
    group_status_max: int = 100
    read_upto_max: int = 1_000
    offline_answer_s: float = 10.0
    verdict_grace_s: float = 30.0
    ack_delay_s: float = 1.0
    expiry_zero_kept_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How often something may be done: windows `SECONDS:COUNT,…` (domain/rates.py), empty for no bound."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    messages: str = ""
    reads: str = ""
    presence: str = ""
    rpc: str = ""
    publishes: str = ""
    requests: str = ""
    connects: str = ""
    connects_per_address: str = ""
    failed_logins: str = "900:10"
    loopback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """What plugins may take of the server's time."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    answer_s: float = 10.0
    blocked_s: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """How tokens are signed and checked (contract section 5)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    issuer: str = "mesimqtt"
    ttl_default_s: int = 30 * 86_400
    leeway_s: int = 30
    warning_s: int = 60
    public_keys: tuple[str, ...] = ()
    jwks_file: str = ""
    jwks_url: str = ""
    jwks_private_hosts: tuple[str, ...] = ()
    foreign_issuers: tuple[str, ...] = ()
    auto_create: bool = False
    single: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The SQLite file and its committer."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    batch_max: int = 2_000
    pending_max: int = 50_000
    ballast_bytes: int = 16 * 1024 * 1024
    cache_users: int = 50_000
    page_messages: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions:
    """What a listener of `broker.listeners` can do beyond amqtt's own keys; by its name under `listeners`."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    client_certificate: Literal["none", "optional", "required"] = "optional"
    certificate_user: Literal["", "cn", "san"] = ""
    proxy_from: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    paths: tuple[str, ...] = ("/mqtt", "/")
    mode: str = "0600"


def _default_listeners() -> dict[str, ListenerOptions]:
    return {"default": ListenerOptions()}


def _default_broker() -> dict[str, Any]:
    return {
        "listeners": {
            "default": {"type": "tcp", "bind": "127.0.0.1:1883"},
            "ws": {"type": "ws", "bind": "127.0.0.1:8083"},
        },
        "plugins": {
            "mesimqtt_plugins.auth.TokenAuth": {},
            "mesimqtt_plugins.acl.FolderAccess": {},
            "mesimqtt_plugins.routing.MessageRouting": {},
            "mesimqtt_plugins.sys_topics.SysTopics": {},
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. `broker` is amqtt's own configuration, word for word."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    root: str = "m"
    node: int = 0
    open: bool = False
    log_level: str = "INFO"
    limits: Limits = field(default_factory=Limits)
    mqtt: Mqtt = field(default_factory=Mqtt)
    messaging: Messaging = field(default_factory=Messaging)
    rates: Rates = field(default_factory=Rates)
    plugins: Plugins = field(default_factory=Plugins)
    tokens: Tokens = field(default_factory=Tokens)
    store: Store = field(default_factory=Store)
    listeners: dict[str, ListenerOptions] = field(default_factory=_default_listeners)
    broker: dict[str, Any] = field(default_factory=_default_broker)


def load_settings(path: Path | None) -> Settings:
    """Read the YAML file at `path` (None: defaults and environment only).

    Raises:
        MesimqttError: the file cannot be read, is not YAML, or has an unknown key or a wrong value;
            the text names the key.

    """
    # Imported here: pydantic costs 0.3 s, and only `serve` reads a configuration.
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - as said
    from pydantic_settings import BaseSettings, EnvSettingsSource  # noqa: PLC0415 - as said

    class _Environment(BaseSettings):
        limits: dict[str, Any] = {}
        mqtt: dict[str, Any] = {}
        messaging: dict[str, Any] = {}
        rates: dict[str, Any] = {}
        plugins: dict[str, Any] = {}
        tokens: dict[str, Any] = {}
        store: dict[str, Any] = {}
        root: str = "m"
        node: int = 0
        log_level: str = "INFO"

    values = _read_yaml(path) if path is not None else {}
    values = {
        key: value for key, value in values.items() if value is not None
    }  # a section with all lines commented out
    _check_names(_Environment.model_fields)
    source = EnvSettingsSource(_Environment, env_prefix=_PREFIX, env_nested_delimiter="__")
    for key, value in source().items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    try:
        settings = TypeAdapter(Settings).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        where = path or "the environment"
        if first["type"] == "unexpected_keyword_argument":
            raise MesimqttError(f"{where}: unknown key {key!r}; see config/default.yaml for all keys") from None
        hint = ""
        if first["type"] == "string_type":
            hint = '; in quotes: "60:30"' if key.startswith("rates.") else ""
            hint = '; in quotes: "0660"' if key.endswith(".mode") else hint
        raise MesimqttError(f"{where}: {key}: {first['msg']}{hint}") from None
    return _checked(settings, path)


def _check_names(known: Iterable[str]) -> None:
    """Refuse an environment variable of ours that sets nothing: somebody believes that it does."""
    sections = {name for name in known if is_dataclass(getattr(Settings(), name))}
    for name in os.environ:
        if not name.upper().startswith(_PREFIX) or _NOT_OURS.fullmatch(name.upper()):
            continue
        section, delimiter, key = name[len(_PREFIX) :].lower().partition("__")
        if section in sections:
            is_known = not delimiter or key in {each.name for each in fields(getattr(Settings(), section))}
        else:
            is_known = section in known and not delimiter
        if not is_known:
            raise MesimqttError(f"the environment: {name} is no setting; see config/default.yaml for all, or unset it")


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - only `serve` needs it

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise MesimqttError(f"cannot read the configuration {path}: {reason}; check --config") from None
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise MesimqttError(
            f"{path}: line {line} is not YAML{yaml_problem(error)}; compare it with config/default.yaml"
        ) from None
    if not isinstance(values, dict):
        raise MesimqttError(f"{path}: a configuration is `key: value` lines; see config/default.yaml")
    return values


def yaml_problem(error: Exception) -> str:
    """Return what the YAML parser stumbled on, on one line; '' where it does not say."""
    told = (getattr(error, "context", None), getattr(error, "problem", None) or getattr(error, "reason", None))
    text = ", ".join(" ".join(str(part).split()) for part in told if part)
    return f" ({text})" if text else ""


def _checked(settings: Settings, path: Path | None) -> Settings:
    where = path or "the environment"
    if not settings.root or settings.root.startswith("$") or set(settings.root) & set("/+#\0"):
        raise MesimqttError(f"{where}: root: one topic level, without / + # and not starting with $")
    if not 0 <= settings.node <= 255:
        raise MesimqttError(f"{where}: node: a number from 0 to 255")
    for section in ("limits", "mqtt", "messaging", "plugins", "tokens", "store"):
        for key in fields(getattr(settings, section)):
            value = getattr(getattr(settings, section), key.name)
            if isinstance(value, (int, float)) and not 0 <= value < _NUMBER_MAX:
                raise MesimqttError(f"{where}: {section}.{key.name}: a number from 0 up")
    for key in fields(settings.rates):
        if key.name != "loopback":
            try:
                parse_windows(getattr(settings.rates, key.name))
            except RateError as error:
                raise MesimqttError(f"{where}: rates.{key.name}: {error}") from None
    # What a file does not say of the broker is our default, not amqtt's, which would let anybody in.
    broker = {**_default_broker(), **settings.broker}
    known = {"default", "ws", *(broker["listeners"] or ())}
    for name in settings.listeners:  # options of a name that is misspelt would protect nothing
        if name not in known:
            raise MesimqttError(f"{where}: listeners.{name}: broker.listeners has no listener of that name")
    return replace(settings, broker=broker)
