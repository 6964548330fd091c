"""What exists is documented, and what is documented exists: commands, settings, topics, codes, plugins."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from typer.main import get_command

from mesimqtt.api.routes import all_routes
from mesimqtt.cli import app
from mesimqtt.configuration import load_settings
from mesimqtt.domain.rates import parse_windows
from mesimqtt.domain.status import Status
from mesimqtt.settings import Settings
from mesimqtt.topics import IN_CLASSES, Kind, Params

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = Path(__file__).resolve().parent.parent


@cache
def read(name: str) -> str:
    """Return the text of a file of the tree."""
    return (HOME / name).read_text(encoding="utf-8")


def commands(command: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    """Give each command of the command line with its full name, such as `user add`."""
    command = command or get_command(app)
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for key, child in children.items():
        if not child.hidden:
            yield from commands(child, f"{name} {key}".strip())


def section_of(command: str) -> str:
    """Return the part of docs/commands.md that a command's heading opens."""
    found = re.search(
        rf"^### `{re.escape(command)}\b[^`]*`\n(.*?)(?=^#|\Z)", read("docs/commands.md"), re.MULTILINE | re.DOTALL
    )
    return found[0] if found else ""


def test_every_command_has_its_section() -> None:
    """docs/commands.md has a heading for each command, and for no other."""
    existing = {name for name, _ in commands()}
    documented = set()
    for heading in re.findall(r"^### `([^`]+)`", read("docs/commands.md"), re.MULTILINE):
        words = heading.split()
        documented.add(" ".join(words[:2]) if " ".join(words[:2]) in existing else words[0])

    assert existing == documented


def test_every_option_is_documented_beside_its_command() -> None:
    """Each option stands in the section of its command; `--json`, `--data` and `--help` in the introduction."""
    common = {"--json", "--data", "--help"}
    missing = [
        f"{name} {option}"
        for name, command in commands()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option not in common and option not in section_of(name)
    ]

    assert [] == missing
    assert [] == [option for option in common if option not in read("docs/commands.md").split("\n## ", 1)[0]]


def test_every_command_shows_an_example() -> None:
    """`--help` of each command says what it does and shows a line to copy."""
    silent = [name for name, command in commands() if f"mesimqtt {name}" not in f"{command.help} {command.epilog}"]

    assert [] == silent


def test_every_command_has_json_and_data() -> None:
    """Every command that touches the data takes `--json` and `--data` (contract section 7)."""
    without_data = {"bench", "demo", "selftest"}
    missing = []
    for name, command in commands():
        options = {option for parameter in command.params for option in parameter.opts}
        wanted = {"--json"} if name in without_data else {"--json", "--data"}
        missing += [f"{name} {option}" for option in sorted(wanted - options)]

    assert [] == missing


def test_every_route_has_its_line() -> None:
    """docs/http.md names each operation beside the request that asks for it, in the order of the server's table."""
    rows = re.findall(r"^\| `([A-Z]+) (/v1/[^`]*)` \| `(\w+)` \|", read("docs/http.md"), re.MULTILINE)

    assert [(each.method, each.path, each.operation.name) for each in all_routes()] == rows


def setting_names(value: Any, prefix: str = "") -> Iterator[str]:
    """Give the dotted name of every setting; `broker` is amqtt's own and ends there."""
    for each in fields(value):
        inner = getattr(value, each.name)
        if is_dataclass(inner):
            yield from setting_names(inner, f"{prefix}{each.name}.")
        else:
            yield f"{prefix}{each.name}"


def test_every_setting_has_an_effect() -> None:
    """Each setting is read somewhere: a setting that nothing obeys is a lie."""
    files = [path for folder in ("mesimqtt", "plugins") for path in (HOME / folder).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files if path.name != "settings.py")
    unread = [name for name in setting_names(Settings()) if not re.search(rf"\.{name.rpartition('.')[2]}\b", code)]

    assert [] == unread


def test_the_default_configuration_names_every_setting() -> None:
    """config/default.yaml has each setting with its default, so that loading it changes nothing."""
    written = yaml.safe_load(read("config/default.yaml"))
    missing = []
    for name in setting_names(Settings()):
        inner = written
        for part in name.split("."):
            inner = inner.get(part, {}) if isinstance(inner, dict) else {}
        if inner == {} and name not in ("broker", "apps"):
            missing.append(name)

    assert [] == missing
    assert Settings() == load_settings(HOME / "config/default.yaml")


def test_the_production_configuration_switches_the_limits_on() -> None:
    """config/production.yaml loads, with the rates of contract section 7."""
    settings = load_settings(HOME / "config/production.yaml")

    (window,) = parse_windows(settings.rates.messages)
    assert (60, 200) == (round(window.most / window.seconds, 2), window.most)
    assert settings.limits.connections_per_address == 100


def test_every_setting_says_why() -> None:
    """Each line of config/default.yaml that sets something has a comment, on it or above it."""
    bare = []
    above = ""
    for line in read("config/default.yaml").split("\nbroker:", 1)[0].splitlines():
        if re.match(r"\s*\w+:", line) and "#" not in line and not above.lstrip().startswith("#"):
            bare.append(line.strip())
        above = line

    assert [] == bare


def test_every_status_has_its_line() -> None:
    """README.md explains each status by its number and its name."""
    missing = [
        status.title
        for status in Status
        if not re.search(rf"^\| {status.value}\b.*`{status.title}`", read("README.md"), re.MULTILINE)
    ]

    assert [] == missing


def test_every_kind_of_topic_is_shown() -> None:
    """README.md shows each topic that may be published, each class that arrives, and each parameter."""
    text = read("README.md")
    missing = [kind for kind in Kind if f"/out/{kind.value}/" not in text]
    missing += [cls for cls in sorted(IN_CLASSES) if f"/in/{cls}/" not in text]
    keys = {"age_from": "age-from", "has_stub": "stub"}
    names = [keys.get(each.name, each.name) for each in fields(Params) if each.name != "raw"]
    missing += [name for name in names if f"`{name}`" not in text]

    assert [] == missing


def test_every_plugin_is_listed() -> None:
    """README.md lists each file of plugins/mesimqtt_plugins, and the default configuration names what it lists."""
    files = sorted(path.stem for path in (HOME / "plugins/mesimqtt_plugins").glob("[a-z]*.py"))
    listed = re.findall(r"`mesimqtt_plugins\.(\w+)\.\w+`", read("README.md"))

    assert files == sorted(set(listed))
    named = set(re.findall(r"`(mesimqtt_plugins\.\w+\.\w+)`", read("README.md")))
    assert {"mesimqtt_plugins.http_auth.HttpAuth"} == named - set(Settings().broker["plugins"])


def test_papers_link_only_to_what_exists() -> None:
    """No link of a paper into the tree is dead."""
    papers = [*HOME.glob("*.md"), *HOME.glob("docs/*.md"), *HOME.glob("clients/*/*.md")]
    dead = [
        f"{paper.name}: {target}"
        for paper in papers
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", paper.read_text(encoding="utf-8"))
        if not (paper.parent / target).exists()
    ]

    assert [] == dead
