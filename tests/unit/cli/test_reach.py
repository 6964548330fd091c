"""What `serve` refuses before it listens."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
import typer

from mesimqtt.cli.serve import server_settings
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.domain.hosts import is_loopback

if TYPE_CHECKING:
    from pathlib import Path


def settings_from(path: Path, text: str, **options: object) -> object:
    file = path / "mesimqtt.yaml"
    file.write_text(text)
    wanted: dict[str, object] = {"mqtt": None, "open_": False, "insecure": False, **options}
    return server_settings(file, **wanted)


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:1883", "localhost:1883", "127.9.9.9:1"])
def test_loopback_needs_no_permission(bind: str) -> None:
    """On loopback neither TLS nor --insecure is asked for, and --open is fine."""
    settings = server_settings(None, mqtt=bind, open_=True, insecure=False)

    assert bind == settings.broker["listeners"]["default"]["bind"]
    assert settings.open


@pytest.mark.parametrize("bind", ["0.0.0.0:1883", "[::]:1883", ":1883", "192.0.2.1:1883", "example.org:1883"])
def test_beyond_loopback_needs_insecure_and_says_why(bind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without TLS the refusal names the danger and both ways out; --insecure is obeyed and says it too."""
    with pytest.raises(MesimqttError, match="others can read tokens and messages; configure ssl, or say --insecure"):
        server_settings(None, mqtt=bind, open_=False, insecure=False)
    settings = server_settings(None, mqtt=bind, open_=False, insecure=True)

    assert bind == settings.broker["listeners"]["default"]["bind"]
    assert "others can read tokens and messages" in capsys.readouterr().err


def test_tls_needs_no_insecure(tmp_path: Path) -> None:
    """A listener with TLS may be anywhere; one without beside it may not."""
    listeners = "broker: {listeners: {default: {bind: '127.0.0.1:1883'}, far: {bind: '0.0.0.0:8883', ssl: true}%s}}"
    settings_from(tmp_path, listeners % "")
    with pytest.raises(MesimqttError, match="listener 'plain'"):
        settings_from(tmp_path, listeners % ", plain: {bind: '0.0.0.0:1883'}")

    assert not is_loopback("0.0.0.0")  # noqa: S104 - named, not bound


def test_websocket_is_there_by_default_and_obeys_its_option(tmp_path: Path) -> None:
    """`--ws` moves the WebSocket listener, adds one, or takes it away; a file that has none gets none."""

    def listeners(text: str = "", **options: object) -> dict[str, dict[str, object]]:
        found = settings_from(tmp_path, text, **options).broker["listeners"]
        return {name: listener for name, listener in found.items() if listener.get("type") == "ws"}

    none = "broker: {listeners: {default: {bind: '127.0.0.1:1883'}}}"
    named = "broker: {listeners: {default: {bind: '127.0.0.1:1883'}, page: {type: ws, bind: '127.0.0.1:1'}}}"
    moved = {"type": "ws", "bind": "127.0.0.1:9001"}

    assert {"ws": {"type": "ws", "bind": "127.0.0.1:8083"}} == listeners("root: m")
    assert [{"ws": moved}, {"ws": moved}] == [listeners(text, ws="127.0.0.1:9001") for text in ("root: m", none)]
    assert {"page": moved} == listeners(named, ws="127.0.0.1:9001")
    assert [{}, {}, {}] == [listeners("root: m", ws="off"), listeners(named, ws="off"), listeners(none)]
    with pytest.raises(typer.BadParameter, match="'9001' is not ADDR:PORT"):
        listeners(ws="9001")


def test_a_default_that_is_taken_is_told_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Where somebody has port 8083 a server without a configuration starts without WebSocket, and says so."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # another server has it: just as good
            other.bind(("127.0.0.1", 8083))
            other.listen()
        settings = server_settings(None, mqtt="127.0.0.1:0", open_=False, insecure=False)

    assert "ws" not in settings.broker["listeners"]
    assert (
        "127.0.0.1:8083 is in use, so there is no WebSocket; choose another: --ws ADDR:PORT" in capsys.readouterr().err
    )


def test_websocket_and_unix_sockets_have_the_same_rules(tmp_path: Path) -> None:
    """`ws` beyond loopback needs --insecure, `wss` does not; a Unix socket and an external listener need nothing."""
    with pytest.raises(MesimqttError, match=r"listener 'ws': 0\.0\.0\.0:8083 is beyond loopback"):
        settings_from(tmp_path, "root: m", ws="0.0.0.0:8083")
    with pytest.raises(MesimqttError, match="--open lets anybody in"):
        settings_from(tmp_path, "open: true", ws="0.0.0.0:8083", insecure=True)
    fine = "broker: {listeners: {default: {bind: 'unix:/run/x.sock'}, %s}}"
    settings_from(tmp_path, fine % "page: {type: ws, bind: '0.0.0.0:8084', ssl: true}, out: {type: external}")
    settings_from(tmp_path, "open: true", mqtt="unix:/run/x.sock", ws="unix:/run/y.sock")

    assert not is_loopback("0.0.0.0")  # noqa: S104 - named, not bound


def test_open_goes_with_loopback_only(tmp_path: Path) -> None:
    """Not even --insecure lets everybody in from everywhere."""
    with pytest.raises(MesimqttError, match="--open lets anybody in"):
        settings_from(tmp_path, "open: true", mqtt="0.0.0.0:1883", insecure=True)

    assert is_loopback("::1")


def test_mqtt_can_be_switched_off_if_something_is_left() -> None:
    """`--mqtt off` leaves the WebSocket alone; with both off nothing would listen."""
    settings = server_settings(None, mqtt="off", ws="127.0.0.1:0", open_=False, insecure=False)

    assert {"default": "off", "ws": "127.0.0.1:0"} == {
        name: listener["bind"] for name, listener in settings.broker["listeners"].items()
    }
    with pytest.raises(typer.BadParameter, match="nothing that listens"):
        server_settings(None, mqtt="off", ws="off", http="off", open_=False, insecure=False)
