"""Fuzzing guided by coverage: `python -m mesimqtt.proof.fuzz [TARGET…] --seconds 30`, with atheris (`make fuzz`)."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesimqtt.proof.trial import quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

INSTALL = "atheris is not installed: pip install 'mesimqtt[fuzz]', or make fuzz"
_INPUT_S = 30  # of the wall clock: what libFuzzer calls a hang
_MEMORY_MB = 2_048
_INPUT_MAX = 4_096
_MODULES = ["mesimqtt", "mesimqtt_client"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz targets one after the other, each in a process of its own; return 1 if one of them has a finding."""
    parser = argparse.ArgumentParser(prog="python -m mesimqtt.proof.fuzz", description="Fuzz parsers, with atheris.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them, if none is named")
    parser.add_argument("--seconds", type=int, default=30, help="for each target (default: 30)")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="where inputs with findings are kept")
    parser.add_argument("--corpus", type=Path, help="folder that keeps what was interesting, for the next time")
    parser.add_argument("--list", action="store_true", help="name the targets and what holds of each")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        _fuzz(asked.targets[0], asked.seconds, asked.found, asked.corpus)
    table = import_module("mesimqtt.proof.fuzz.targets").TARGETS
    if asked.list:
        print("\n".join(f"{target.name:15} {target.about}" for target in table.values()))
        return 0
    unknown = set(asked.targets) - table.keys()
    if unknown or find_spec("atheris") is None:
        print(f"no target {', '.join(sorted(unknown))}; there are {', '.join(table)}" if unknown else INSTALL)
        return 2
    bad = [name for name in asked.targets or table if not _is_clean(name, asked)]
    print(f"findings: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


def _is_clean(name: str, asked: argparse.Namespace) -> bool:
    """Run one target in a child, which libFuzzer ends."""
    command = [sys.executable, "-m", "mesimqtt.proof.fuzz", name, "--one", "--seconds", str(asked.seconds)]
    command += ["--found", str(asked.found), *(["--corpus", str(asked.corpus)] if asked.corpus else [])]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    lines = done.stderr.splitlines()
    stat = next((line for line in reversed(lines) if "cov:" in line), "").strip()
    print(f"{name:15} {'ok' if not done.returncode else 'FINDING'}  {stat[:100]}", flush=True)
    if done.returncode:
        told = [line for line in lines if "Error" in line or "Test unit written" in line or "ERROR" in line]
        print("\n".join(f"    {line[:400]}" for line in told[-6:]))
    return not done.returncode


def _quoted(word: bytes) -> str:
    """Return a word as a line of libFuzzer's dictionary."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'


def _fuzz(name: str, seconds: int, found: Path, corpus: Path | None) -> None:
    """Fuzz one target in this process; libFuzzer exits when its time is over or something is found."""
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=_MODULES):
        target = import_module("mesimqtt.proof.fuzz.targets").TARGETS[name]
        bounds = import_module("mesimqtt.proof.fuzz.bounds")
    found.mkdir(parents=True, exist_ok=True)

    def one(data: bytes) -> None:
        wrong = bounds.try_input(target, data)
        if wrong:
            raise bounds.FindingError(wrong)

    with tempfile.TemporaryDirectory(prefix="mesimqtt-fuzz-") as folder, quiet():
        words, seeds = Path(folder) / "words", Path(folder) / "seeds"
        words.write_text("".join(_quoted(word) for word in target.words))
        seeds.mkdir()
        for number, seed in enumerate(target.seeds):
            (seeds / str(number)).write_bytes(seed)
        kept = corpus / name if corpus else Path(folder) / "new"
        kept.mkdir(parents=True, exist_ok=True)
        options = (f"-max_total_time={seconds}", f"-timeout={_INPUT_S}", f"-rss_limit_mb={_MEMORY_MB}")
        bounded = [f"-max_len={_INPUT_MAX}", f"-artifact_prefix={found / name}-"]
        if target.words:
            bounded.append(f"-dict={words}")
        atheris.Setup([sys.argv[0], *options, *bounded, str(kept), str(seeds)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
