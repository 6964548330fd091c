"""Settings: defaults, the file, the environment, and one sentence for every mistake."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mesimqtt.configuration import load_settings
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.settings import Settings


def load(tmp_path, text):
    path = tmp_path / "mesimqtt.yaml"
    path.write_text(text)
    return load_settings(path)


def test_without_a_file_the_defaults_hold():
    """Nothing has to be configured."""
    assert Settings() == load_settings(None)


def test_the_defaults_are_those_of_the_contract():
    """Root, sizes and times that the contract names."""
    settings = Settings()
    messaging, limits = settings.messaging, settings.limits

    assert ("m", 262_144, 31_536_000, 100_000, 2**30) == (
        settings.root, limits.payload_max, messaging.expiry_default_s, messaging.inbox_messages_max,
        messaging.inbox_bytes_max,
    )  # fmt: skip
    assert (20, 90 * 86_400, 7 * 86_400, 100, 1_000, 10.0, 30.0, 60.0) == (
        messaging.devices_max, messaging.device_unseen_s, messaging.status_kept_s, messaging.group_status_max,
        messaging.read_upto_max, messaging.offline_answer_s, messaging.verdict_grace_s, messaging.expiry_zero_kept_s,
    )  # fmt: skip
    assert ("", "900:10", 60) == (settings.rates.messages, settings.rates.failed_logins, settings.tokens.warning_s)


def test_a_file_changes_what_it_names_and_no_more(tmp_path):
    """The rest keeps its default."""
    settings = load(tmp_path, "root: chat\nlimits:\n  payload_max: 10\nmessaging:\n  devices_max: 60\n")

    assert ("chat", 10, 60, 200) == (
        settings.root, settings.limits.payload_max, settings.messaging.devices_max, settings.limits.filters_max,
    )  # fmt: skip


def test_an_empty_file_is_the_defaults(tmp_path):
    """As if there were none."""
    assert Settings() == load(tmp_path, "# nothing\n")


def test_the_environment_outranks_the_file(tmp_path, monkeypatch):
    """`MESIMQTT_LIMITS__FILTERS_MAX=50`; what the file says beside it stays."""
    monkeypatch.setenv("MESIMQTT_LIMITS__FILTERS_MAX", "50")
    settings = load(tmp_path, "limits:\n  filters_max: 7\n  payload_max: 9\n")

    assert (50, 9) == (settings.limits.filters_max, settings.limits.payload_max)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limitz: {}\n", "unknown key 'limitz'"),
        ("limits:\n  payload_maxx: 1\n", "unknown key 'limits.payload_maxx'"),
        ("limits:\n  payload_max: many\n", "limits.payload_max"),
        ("limits: 3\n", "limits"),
        ("- a\n", "`key: value` lines"),
        ("a: [\n", "line 2 is not YAML (while parsing a flow node"),
        ("a: \x07\n", "is not YAML (control characters are not allowed)"),
        ("listeners:\n  default:\n    mode: 0660\n", 'in quotes: "0660"'),
        (
            "listeners:\n  default:\n    proxy_from: 10.0.0.0/8\n",
            "listeners.default.proxy_from: it is a list: [one",
        ),
        ("root: a/b\n", "root: one topic level"),
        ("root: $SYS\n", "root: one topic level"),
        ("root: ''\n", "root: one topic level"),
        ("root: '#'\n", "root: one topic level"),
        ("node: 256\n", "node: a number from 0 to 255"),
        ("node: -1\n", "node: a number from 0 to 255"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(tmp_path, text, words):
    """With the file, and without a traceback."""
    with pytest.raises(MesimqttError, match=re.escape(words)) as caught:
        load(tmp_path, text)

    assert "mesimqtt.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Missing, or not text."""
    with pytest.raises(MesimqttError, match="check --config"):
        load_settings(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MesimqttError, match="not UTF-8"):
        load_settings(tmp_path / "binary.yaml")


def test_a_wrong_value_in_the_environment_is_named(monkeypatch):
    """Like one in the file."""
    monkeypatch.setenv("MESIMQTT_NODE", "300")

    with pytest.raises(MesimqttError, match="the environment: node"):
        load_settings(None)


def test_what_a_file_does_not_say_of_the_broker_is_our_default(tmp_path):
    """A file with listeners alone keeps our plugins: amqtt's own default would let anybody in without a token."""
    only_listeners = load(tmp_path, "broker: {listeners: {default: {type: tcp, bind: 127.0.0.1:1999}}}")
    only_plugins = load(tmp_path, "broker: {plugins: {mesimqtt_plugins.auth.TokenAuth: {}}}")

    assert Settings().broker["plugins"] == only_listeners.broker["plugins"]
    assert "127.0.0.1:1999" == only_listeners.broker["listeners"]["default"]["bind"]
    assert Settings().broker["listeners"] == only_plugins.broker["listeners"]
    assert {"mesimqtt_plugins.auth.TokenAuth": {}} == only_plugins.broker["plugins"]


def test_a_section_with_all_lines_commented_out_is_the_defaults(tmp_path):
    """`limits:` with nothing under it changes nothing."""
    assert Settings() == load(tmp_path, "limits:\nmessaging:\n")


@pytest.mark.parametrize(
    "line", ["limits: {payload_max: -5}", "messaging: {ack_delay_s: -1.0}", "store: {batch_max: 1e300}"]
)
def test_a_number_below_zero_is_named(tmp_path, line):
    """A bound that makes no sense is refused at the start, with its key."""
    with pytest.raises(MesimqttError, match=re.escape(line.split("{")[1].split(":")[0])):
        load(tmp_path, line)


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("log", ("files", "size_max", "waiting_max")),
        (
            "limits",
            (
                *("packet_max", "packet_max_before_connect", "password_max"),
                *("root_topic_max", "filters_max", "inflight_max"),
            ),
        ),
        ("store", ("batch_max", "pending_max", "page_messages")),
    ],
)
def test_what_is_good_for_nothing_at_zero(tmp_path, section, keys):
    """A log that keeps no line, a server that lets nobody in, accepts nothing, or accepts and never delivers."""
    for key in keys:
        with pytest.raises(MesimqttError, match=f"{section}.{key}: a number from 1 up"):
            load(tmp_path, f"{section}: {{{key}: 0}}")
        load(tmp_path, f"{section}: {{{key}: 1}}")


def test_options_belong_to_a_listener(tmp_path):
    """Options of a listener are read by its name; a name that no listener has, and a key that is none, are errors."""
    far = "broker: {listeners: {default: {bind: '127.0.0.1:0'}, far: {bind: '127.0.0.1:0'}}}\nlisteners: {%s: {%s: %s}}"
    settings = load(tmp_path, far % ("far", "proxy_from", "[10.0.0.0/8]"))

    assert ("10.0.0.0/8",) == settings.listeners["far"].proxy_from
    for words, told in (
        (("fra", "proxy_from", "[10.0.0.0/8]"), "listeners.fra: broker.listeners has no listener of that name"),
        (("far", "proxy", "[]"), "proxy"),
        (("far", "certificate_user", "email"), "certificate_user"),
    ):
        with pytest.raises(MesimqttError, match=told):
            load(tmp_path, far % words)


@pytest.mark.parametrize(
    "name",
    ["MESIMQTT_LIMIT__FILTERS_MAX", "MESIMQTT_LIMITS__FILTER_MAX", "MESIMQTT_LIMITS_FILTERS_MAX", "MESIMQTT_ROOT__X",
     "mesimqtt_rates__logins", "MESIMQTT_"],
)  # fmt: skip
def test_a_misspelt_variable_is_an_error_that_names_it(monkeypatch, name):
    """An environment variable of ours that sets nothing is no silent nothing."""
    monkeypatch.setenv(name, "5")

    with pytest.raises(MesimqttError, match=f"{name} is no setting"):
        load_settings(None)


@pytest.mark.parametrize(
    "name", ["MESIMQTT_SERVICE_HOST", "MESIMQTT_SERVICE_PORT_MQTT", "MESIMQTT_PORT", "MESIMQTT_PORT_1883_TCP_ADDR"]
)
def test_what_kubernetes_sets_is_not_ours(monkeypatch, name):
    """A service named mesimqtt sets these in every container beside it."""
    monkeypatch.setenv(name, "tcp://10.0.0.1:1883")

    assert Settings() == load_settings(None)


def test_rates_are_read_once_and_an_error_says_what_to_write(tmp_path, monkeypatch):
    """A window that is none, and one that YAML took for a time of day, are errors that name the key."""
    monkeypatch.setenv("MESIMQTT_RATES__RPC", "10:20")
    assert ("60:30,600:60", "10:20") == (
        (settings := load(tmp_path, 'rates:\n  messages: "60:30,600:60"\n')).rates.messages, settings.rates.rpc,
    )  # fmt: skip
    with pytest.raises(MesimqttError, match=r"rates\.messages: '60' is not SECONDS:COUNT; write for example"):
        load(tmp_path, 'rates:\n  messages: "60"\n')
    with pytest.raises(MesimqttError, match=r'rates\.messages: .*; in quotes: "60:30"'):
        load(tmp_path, "rates:\n  messages: 60:30\n")


def test_a_pipe_is_no_configuration_unless_a_shell_made_it(tmp_path):
    """A named pipe is refused at once, as nobody may ever write to it; `--config <(…)` is read like a file."""
    pipe = tmp_path / "server.yaml"
    os.mkfifo(pipe)
    with pytest.raises(MesimqttError, match=r"server.yaml is no regular file, but a pipe; check --config"):
        load_settings(pipe)
    reader, writer = os.pipe()
    os.write(writer, b"node: 7\n")
    os.close(writer)
    settings = load_settings(Path(f"/dev/fd/{reader}"))
    os.close(reader)

    assert 7 == settings.node
