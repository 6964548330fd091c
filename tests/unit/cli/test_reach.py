"""What `serve` refuses before it listens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer

from mesimqtt.cli.serve import is_loopback, server_settings
from mesimqtt.domain.errors import MesimqttError

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


def test_open_goes_with_loopback_only(tmp_path: Path) -> None:
    """Not even --insecure lets everybody in from everywhere."""
    with pytest.raises(MesimqttError, match="--open lets anybody in"):
        settings_from(tmp_path, "open: true", mqtt="0.0.0.0:1883", insecure=True)

    assert is_loopback("::1")


def test_mqtt_cannot_be_switched_off_yet() -> None:
    """With MQTT off nothing would listen."""
    with pytest.raises(typer.BadParameter, match="nothing that listens"):
        server_settings(None, mqtt="off", open_=False, insecure=False)
