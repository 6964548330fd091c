"""The fuzz targets: clean on all that is known, each finding is seen as one, and what was found stays mended."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from mesimqtt.proof.fuzz import bounds, oracles
from mesimqtt.proof.fuzz.mutate import make_input
from mesimqtt.proof.fuzz.target import FindingError, Target, check_equal
from mesimqtt.proof.fuzz.targets import TARGETS
from mesimqtt.proof.fuzz.trial import Parsers, input_of
from mesimqtt.proof.trial import quiet

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
CASES = json.loads((VECTORS / "fuzz.json").read_text())["cases"]
TRIED = 1_400


def streams():
    """Yield the wire vectors as the stream target takes them: a mark for the version, then what a client sends."""
    for name, version in (("mqtt311", 4), ("mqtt5", 5)):
        for vector in json.loads((VECTORS / f"{name}.json").read_text())["vectors"]:
            marks = {(4, True): "80", (4, False): "ff", (5, True): "00", (5, False): "7f"}
            yield bytes.fromhex(marks[version, vector.get("connected", True)] + vector["in"])


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_known_is_clean(name):
    """Every seed of a target is taken, or refused as the target says."""
    target = TARGETS[name]
    with quiet():
        wrong = [(seed, found) for seed in target.seeds if (found := bounds.try_input(target, seed))]

    assert [] == wrong


def test_wire_vectors_have_one_outcome():
    """The vectors of both versions come out alike, however they are cut."""
    target = TARGETS["stream"]
    wrong = [(data.hex(), found) for data in islice(streams(), 0, None, 5) if (found := bounds.try_input(target, data))]

    assert [] == wrong


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["target"])
def test_what_was_found_stays_mended(case):
    """Inputs that once broke a parser do so no more."""
    target = TARGETS[case["target"]]
    with quiet():
        found = bounds.try_input(target, bytes.fromhex(case["hex"]))

    assert "" == found


def test_inputs_from_a_seed(tmp_path):
    """The trial, short: no parser does what it must not, and the same seed makes the same inputs."""
    targets = list(TARGETS.values())
    outcome = Parsers().run(TRIED, seed=1, folder=tmp_path, progress=lambda _: None)

    assert () == outcome.failures
    assert (TRIED, 0, f"1..{TRIED}") == (outcome.tried, outcome.failed, outcome.seeds)
    assert [input_of(number, targets) for number in range(200)] == [input_of(number, targets) for number in range(200)]
    assert {target.name for target, _ in (input_of(number, targets) for number in range(TRIED))} == set(TARGETS)


def broken(check, **values):
    return Target("broken", "what is wrong is found", check, (b"seed",), **values)


def raises(error):
    def check(data):
        raise error

    return check


def works(_data):
    sum(range(300_000))


def hoards(_data):
    """Take memory until the process is larger than it ever was."""
    before, taken = bounds.largest(), []
    while bounds.largest() < before + 8 * 1024 * 1024:
        taken.append(b"x" * 1024 * 1024)


def test_a_finding_is_seen_as_one():
    """An error that is not allowed, one that derives from an allowed one, an oracle's doubt, time and memory."""

    class DerivedError(KeyError):
        pass

    def differs(data):
        check_equal(1, 2, "the value")

    def goes_on(data):
        for _ in range(10**6):
            works(data)

    strict = bounds.Bounds(seconds=1e-6, hang_s=0.1, memory=1024 * 1024)
    assert "" == bounds.try_input(broken(raises(KeyError("k")), allowed=(KeyError,)), b"")
    assert "ValueError: v" == bounds.try_input(broken(raises(ValueError("v")), allowed=(KeyError,)), b"")
    assert "DerivedError: 'd'" == bounds.try_input(broken(raises(DerivedError("d")), allowed=(KeyError,)), b"")
    assert "the value: expected 1, found 2" == bounds.try_input(broken(differs), b"")
    assert bounds.try_input(broken(works), b"", strict).startswith("it took 0.")
    assert "it goes on after 0.1 s" == bounds.try_input(broken(goes_on), b"", strict)
    assert bounds.try_input(broken(hoards), b"", replace(strict, seconds=60, hang_s=60)).endswith("KB")


def test_changes_stay_within_bounds():
    """Whatever is changed, an input has at most its bound, and most differ from each other."""
    target = TARGETS["json"]
    made = [make_input(target, Random(number), target.seeds) for number in range(300)]

    assert max(map(len, made)) <= 65_536
    assert len(set(made)) > 200


def test_the_naive_matcher_knows_the_rules():
    """The oracle of the filters, by the examples of the specification [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.2-1]."""
    yes = ["sport/# sport", "sport/# sport/a/b", "# a/b", "+ finance", "+/+ /finance", "/+ /finance", "$SYS/# $SYS/a"]
    no = ["sport/+ sport", "sport/+ sport/a/b", "+ /finance", "# $SYS/a", "+/a $SYS/a", "a/#/b a/x/b", "A a"]
    filters = ["a", "+", "#", "a/+/b", "a/#", "/", "+/#", "a//b"]
    others = ["", "a#", "a+", "#/a", "a/#/b", "a/+b", "++", "+#", "##"]

    assert [True] * len(yes) == [oracles.matches(*(part.split("/") for part in pair.split(" "))) for pair in yes]
    assert [False] * len(no) == [oracles.matches(*(part.split("/") for part in pair.split(" "))) for pair in no]
    assert [True] * len(filters) == [oracles.is_filter(text) for text in filters]
    assert [False] * len(others) == [oracles.is_filter(text) for text in others]


def test_an_oracle_raises_what_a_finding_is():
    """A check that finds something says so by FindingError, with what it expected."""
    with pytest.raises(FindingError, match="the sum: expected 3, found 4"):
        check_equal(3, 4, "the sum")
