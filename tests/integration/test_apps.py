"""Several applications on one server: each has its own people, tokens, data and listeners, and nothing crosses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from attacks.attacker import Attacker, publish
from mesimqtt.cli.serve import app_settings, server_settings
from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from pathlib import Path

OWN = "broker:\n  listeners:\n    default:\n      type: tcp\n      bind: 127.0.0.1:0\n"


def mesimqtt(*arguments: str) -> str:
    """Run a command that must succeed; return what it prints."""
    ended = subprocess.run(
        [sys.executable, "-m", "mesimqtt", *arguments], capture_output=True, text=True, check=True, timeout=180
    )
    return ended.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two configurations: the main one names the other as the application `shop`."""
    (tmp_path / "main.yaml").write_text(f"apps: {{shop: shop.yaml}}\nhttp:\n  bind: 'off'\n{OWN}")
    (tmp_path / "shop.yaml").write_text(f"root: m\n{OWN}    second:\n      type: tcp\n      bind: 127.0.0.1:0\n")
    return tmp_path


def test_nothing_crosses(folder: Path) -> None:
    """The same names in both are two people each; a token of one is none in the other; commands go where they say."""
    data = folder / "data"
    command = [sys.executable, "-m", "mesimqtt", "serve", "--config", str(folder / "main.yaml"), "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ready = [server.stdout.readline().split() for _ in range(3)]
        try:
            assert [[], ["app=shop"], ["app=shop"]] == [line[3:] for line in ready]
            ports = [int(line[2].rpartition(":")[2]) for line in ready]
            tokens = {}
            for app in (data, data / "apps" / "shop"):
                mesimqtt("user", "add", "alice", "bob", "--data", str(app))
                tokens[app] = mesimqtt("token", "issue", "alice", "--data", str(app))
            codes = [
                Attacker(port).enter("alice", token, "phone").code for token in tokens.values() for port in ports[:2]
            ]
            assert [0, 5, 5, 0] == codes
            alice = Attacker(ports[0]).enter("alice", tokens[data], "phone").listen()
            alice.send(publish("m/alice/out/u/bob/1", "in the main one", 1))
            assert 1 == alice.status()["status"]
            waiting = [json.loads(mesimqtt("inbox", "bob", "--json", "--data", str(app)))["messages"] for app in tokens]
            assert [1, 0] == waiting
        finally:
            server.send_signal(signal.SIGTERM)

    assert 0 == server.returncode
    secrets = {(app / "token.secret").read_bytes() for app in tokens}
    assert 2 == len(secrets)
    assert 0o700 == (data / "apps" / "shop").stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("main", "shop", "why"),
    [
        ("apps: {'a/b': shop.yaml}", OWN, "apps.a/b: a name is 1 to 32"),
        ("apps: {shop: none.yaml}", OWN, "cannot read the configuration"),
        ("apps: {shop: shop.yaml}", "root: m\n", "names listeners of its own"),
        ("apps: {shop: shop.yaml}", f"apps: {{x: y.yaml}}\n{OWN}", "apps stand in the main configuration"),
        ("apps: {shop: shop.yaml}", OWN.replace("127.0.0.1", "0.0.0.0"), "beyond loopback"),  # noqa: S104 - refused
    ],
)
def test_a_wrong_application_is_refused(tmp_path: Path, main: str, shop: str, why: str) -> None:
    """Before anything starts, with the file and the reason."""
    (tmp_path / "main.yaml").write_text(f"{main}\nhttp:\n  bind: 'off'\n{OWN}")
    (tmp_path / "shop.yaml").write_text(shop)
    with pytest.raises(MesimqttError, match=why):
        app_settings(
            server_settings(tmp_path / "main.yaml", mqtt=None, open_=False, insecure=False),
            tmp_path / "main.yaml",
            insecure=False,
        )
