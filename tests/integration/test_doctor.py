"""`mesimqtt doctor` on a real server, and beside a program that has its port."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

from integration.server import Server


def doctor(data, *options):
    """Run it; return its exit code and findings by check."""
    command = [sys.executable, "-m", "mesimqtt", "doctor", "--data", str(data), "--json", *options]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    found = json.loads(done.stdout)["findings"]
    return done.returncode, {each["check"]: each for each in found}


def test_a_running_server_is_tried(tmp_path):
    """Its store commits and its listeners answer; the same folder without it says that none runs."""
    with Server(tmp_path / "data") as server:
        code, found = doctor(server.data)

        assert "ok" == found["server"]["level"], found
        assert "listeners answer" in found["server"]["what"]
        assert (0, "ok") == (code, found["data"]["level"]), found
    _, found = doctor(tmp_path / "data")

    assert found["server"]["what"].startswith("none runs on this folder")


def test_what_an_option_opened_is_seen(tmp_path):
    """A running server that an option opened to the network is told so, whatever its configuration says."""
    config = tmp_path / "c.yaml"
    config.write_text('rates: {messages: "60:30"}\n')
    opened = ("--http", "0.0.0.0:0", "--insecure")
    with Server(tmp_path / "data", config=config, options=opened) as server:
        _, found = doctor(server.data)

    assert "warning" == found["listeners"]["level"], found
    assert "'http' is open to the network at 0.0.0.0:" in found["listeners"]["what"]


def test_a_port_that_somebody_else_has(tmp_path):
    """The failure names the listener and the command that shows whose it is."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config = tmp_path / "c.yaml"
        config.write_text(f"broker:\n  listeners:\n    default:\n      type: tcp\n      bind: 127.0.0.1:{port}\n")
        code, found = doctor(tmp_path / "data", "--config", str(config))

    assert (1, "failure") == (code, found["ports"]["level"])
    assert f":{port}" in found["ports"]["mend"]


def test_a_configuration_that_cannot_be_read(tmp_path):
    """It is a finding like any other."""
    (tmp_path / "c.yaml").write_text("limits: {nonsense: 1}\n")
    code, found = doctor(tmp_path / "data", "--config", str(tmp_path / "c.yaml"))

    assert (1, True) == (code, "limits.nonsense" in found["configuration"]["what"])
