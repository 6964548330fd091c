"""The AsyncAPI document before the reference parser."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

VALIDATOR = Path(__file__).resolve().parent / "js/asyncapi.mjs"


@pytest.mark.tools("node", "mqtt.js")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_reference_parser_finds_nothing_to_say(form):
    """`mesimqtt spec`, as YAML and as JSON, is a valid document of the newest AsyncAPI without a single remark."""
    spec = subprocess.run([sys.executable, "-m", "mesimqtt", "spec", *form], capture_output=True, check=True).stdout
    told = subprocess.run(["node", str(VALIDATOR)], input=spec, capture_output=True, check=True).stdout.decode()

    count = len(json.loads(spec)["channels"]) if form else int(told.split()[-1])
    assert f"channels {count}" == told.strip()
    assert count > 20
