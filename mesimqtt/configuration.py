"""Loading of `mesimqtt.yaml`: what differs from the defaults of settings.py, checked, with a sentence for each mistake.

A value comes from the command line, else from the environment (`MESIMQTT_LIMITS__FILTERS_MAX=50`),
else from the file, else from settings.py. Nothing else in the project reads the environment.
"""

from __future__ import annotations

import os
import re
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.errors import MesimqttError, RateError
from mesimqtt.domain.keeping import parse_keep_types
from mesimqtt.domain.policies import PolicyError, check_policy
from mesimqtt.domain.rates import parse_windows
from mesimqtt.files import irregular, is_named_pipe
from mesimqtt.settings import Settings, default_broker, default_policies

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_FROM_ONE = frozenset({  # at 0 no line of the log is kept; nobody gets in; nothing is accepted, or nothing delivered
    *("log.files", "log.size_max", "log.waiting_max"),
    *("limits.packet_max", "limits.packet_max_before_connect", "limits.password_max"),
    *("limits.root_topic_max", "limits.filters_max", "limits.inflight_max"),
    *("store.batch_max", "store.pending_max", "store.page_messages"),
})  # fmt: skip
_NUMBER_MAX = 2**53
_SINGLE = {"root": str, "node": int, "log_level": str, "log_format": str}  # what no section holds
_PREFIX = "MESIMQTT_"
_APP_NAME = re.compile(r"[a-z0-9_-]{1,32}")
# Kubernetes sets these in every container, for a service of our name; COMPILE is the build's (hatch_build.py).
_NOT_OURS = re.compile(r"MESIMQTT_(COMPILE|SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)")


def load_settings(path: Path | None, *, is_app: bool = False) -> Settings:
    """Read the YAML file at `path` (None: defaults and environment only).

    `is_app`: it is one of several applications on this server, for which the environment, being one, says nothing.

    Raises:
        MesimqttError: the file cannot be read, is not YAML, or has an unknown key or a wrong value;
            the text names the key.

    """
    # Imported here: pydantic costs 0.3 s, and only `serve` reads a configuration.
    from pydantic import TypeAdapter, ValidationError, create_model  # noqa: PLC0415 - as said
    from pydantic_settings import BaseSettings, EnvSettingsSource  # noqa: PLC0415 - as said

    # Sections of a fixed form, and single values: `listeners` and `broker` are too deep for a variable's name.
    known: dict[str, Any] = {name: (kind, kind()) for name, kind in _SINGLE.items()}
    known |= {name: (dict[str, Any], {}) for name in _sections(Settings())}
    environment = create_model("Environment", __base__=BaseSettings, **known)

    values = _read_yaml(path) if path is not None else {}
    values = {
        key: value for key, value in values.items() if value is not None
    }  # a section with all lines commented out
    _check_names(environment.model_fields)
    source = EnvSettingsSource(environment, env_prefix=_PREFIX, env_nested_delimiter="__")
    for key, value in source().items() if not is_app else ():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    try:
        settings = TypeAdapter(Settings).validate_python(values)
    except RecursionError:
        raise MesimqttError(f"{path}: it is nested too deeply; compare it with config/default.yaml") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        where = path or "the environment"
        if first["type"] == "unexpected_keyword_argument":
            raise MesimqttError(f"{where}: unknown key {key!r}; see config/default.yaml for all keys") from None
        hint = ""
        if first["type"] == "tuple_type":  # pydantic's word for what YAML calls a list
            raise MesimqttError(f"{where}: {key}: it is a list: [one, another]") from None
        if first["type"] == "string_type":
            hint = '; in quotes: "60:30"' if key.startswith("rates.") else ""
            hint = '; in quotes: "0660"' if key.endswith(".mode") else hint
        raise MesimqttError(f"{where}: {key}: {first['msg']}{hint}") from None
    return _checked(settings, path)


class Supervision(NamedTuple):
    """What systemd says in the environment: where to tell it things, and how often it wants a sign of life."""

    socket: str = ""
    watchdog_s: float = 0.0


def supervision() -> Supervision:
    """Return where and how often this process is to tell that it is well; nowhere if nobody wants to know."""
    told = dict(os.environ)
    place = told.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return Supervision()
    usec, pid = told.get("WATCHDOG_USEC", ""), told.get("WATCHDOG_PID", str(os.getpid()))
    is_ours = usec.isascii() and usec.isdigit() and pid == str(os.getpid())
    return Supervision(place, int(usec) / 1_000_000 if is_ours else 0.0)


def settings_from(values: dict[str, Any], path: Path) -> Settings:
    """Return settings that were written down as plain values. Raises MesimqttError: they are of another form."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - as above

    try:
        return TypeAdapter(Settings).validate_python(values)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise MesimqttError(f"{path}: the settings in it are not of this version: {key}") from None


def _sections(settings: Settings) -> list[str]:
    return [each.name for each in fields(settings) if is_dataclass(getattr(settings, each.name))]


def _check_names(known: Iterable[str]) -> None:
    """Refuse an environment variable of ours that sets nothing: somebody believes that it does."""
    sections = _sections(Settings())
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
    if is_named_pipe(path):
        raise MesimqttError(f"cannot read the configuration: {irregular(path, 'a pipe')}; check --config")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise MesimqttError(f"cannot read the configuration {path}: {reason}; check --config") from None
    values = parse_yaml(text, f"{path}", "; compare it with config/default.yaml") or {}
    if not isinstance(values, dict):
        raise MesimqttError(f"{path}: a configuration is `key: value` lines; see config/default.yaml")
    return values


def parse_yaml(text: str, where: str, hint: str = "") -> object:
    """Return what a YAML text says. Raises MesimqttError, which names `where`, the line and what is wrong there."""
    import yaml  # noqa: PLC0415 - only `serve` needs it

    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise MesimqttError(f"{where}: line {line} is not YAML{_problem(error)}{hint}") from None
    except (ValueError, OverflowError) as error:  # `2001-99-99` looks like a date
        raise MesimqttError(f"{where}: a value in it is none of YAML's: {error!s:.200}; quote texts") from None
    except RecursionError:
        raise MesimqttError(f"{where}: it is nested too deeply{hint}") from None


def _problem(error: Exception) -> str:
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
    for section in _sections(settings):
        for key in fields(getattr(settings, section)):
            value = getattr(getattr(settings, section), key.name)
            least = int(f"{section}.{key.name}" in _FROM_ONE)
            if isinstance(value, (int, float)) and not least <= value < _NUMBER_MAX:
                raise MesimqttError(f"{where}: {section}.{key.name}: a number from {least} up")
    windows = {f"rates.{key.name}": getattr(settings.rates, key.name) for key in fields(settings.rates)}
    del windows["rates.loopback"]
    for name, text in (*windows.items(), ("bots.answers", settings.bots.answers)):
        try:
            parse_windows(text)
        except RateError as error:
            raise MesimqttError(f"{where}: {name}: {error}") from None
    for name, policy in settings.policies.items():
        try:
            check_policy(policy)
        except PolicyError as error:
            raise MesimqttError(f"{where}: policies.{name}: {error}") from None
    try:
        parse_keep_types(settings.history.keep_types)
    except ValueError as error:
        raise MesimqttError(f"{where}: history.keep_types: {error}") from None
    for name in settings.apps:
        if not _APP_NAME.fullmatch(name):
            raise MesimqttError(f"{where}: apps.{name}: a name is 1 to 32 of a-z 0-9 - _")
    # What a file does not say of the broker is our default, not amqtt's, which would let anybody in.
    broker = {**default_broker(), **settings.broker}
    known = {"default", "ws", "http", *(broker["listeners"] or ())}
    for name in settings.listeners:  # options of a name that is misspelt would protect nothing
        if name not in known:
            raise MesimqttError(f"{where}: listeners.{name}: broker.listeners has no listener of that name")
    return replace(settings, broker=broker, policies={**default_policies(), **settings.policies})
