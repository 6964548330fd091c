"""Compiled modules beside their sources: a source that changed since is never silently left unused."""

from __future__ import annotations

import json
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

from mesimqtt.broker.compiled import RECORD, is_compiled
from mesimqtt.domain.errors import MesimqttError

NAMES = ("mesimqtt/engine/publish.py", "mesimqtt/broker/wire.py")


def extension_of(home, name):
    return (home / name).with_suffix(EXTENSION_SUFFIXES[0])


@pytest.fixture
def home(tmp_path):
    """A tree with two compiled modules, as `make compile` leaves it."""
    for name in NAMES:
        source = tmp_path / name
        source.parent.mkdir(parents=True)
        source.write_text("hot = 1\n")
        extension_of(tmp_path, name).write_bytes(b"code")
    extension_of(tmp_path, "mesimqtt/compiled__mypyc.py").write_bytes(b"code")
    digest = sha256(b"hot = 1\n").hexdigest()
    (tmp_path / RECORD).write_text(json.dumps(dict.fromkeys(NAMES, digest)))
    return tmp_path


def test_a_compiled_tree_is_told(home) -> None:
    """With every module compiled from the source beside it, the answer is yes."""
    answer = is_compiled(home)

    assert answer


def test_a_plain_tree_is_told(home) -> None:
    """Without compiled modules the answer is no, also if a record of another Python's is left."""
    for path in home.rglob(f"*{EXTENSION_SUFFIXES[0]}"):
        path.unlink()

    assert not is_compiled(home)


def test_a_source_that_changed_since_is_named(home) -> None:
    """A changed source beside older code is an error that names it and says what to do."""
    (home / NAMES[0]).write_text("hot = 2\n")

    with pytest.raises(MesimqttError, match=r": mesimqtt/engine/publish\.py; run `make compile`, or `make uncompile`"):
        is_compiled(home)


@pytest.mark.parametrize("suffix", [".py", EXTENSION_SUFFIXES[0]])
def test_half_a_build_is_no_build(home, suffix) -> None:
    """A module whose source or whose code is gone is named like a changed one."""
    (home / NAMES[1]).with_suffix(suffix).unlink()

    with pytest.raises(MesimqttError, match=r": mesimqtt/broker/wire\.py; run"):
        is_compiled(home)


def test_code_without_a_record_is_not_trusted(home) -> None:
    """Where nothing says what the code was compiled from, every module is named."""
    (home / RECORD).unlink()

    with pytest.raises(MesimqttError, match=r": mesimqtt/broker/wire\.py, mesimqtt/engine/publish\.py; run"):
        is_compiled(home)
