"""`mesimqtt replay`: a recording once more, every byte of the server's output compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesimqtt.cli.options import NOT_GIVEN, Data, Json, UsageError
from mesimqtt.cli.output import OutputEndedError, emit, line

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesimqtt.replay.player import Played
    from mesimqtt.replay.shown import Shown
    from mesimqtt.replay.streams import Difference


def register(root: typer.Typer) -> None:
    """Add the commands of this file."""
    root.command("replay", epilog="Example: mesimqtt replay tuesday.rec --show 3")(replay)


def replay(
    file: Annotated[Path, typer.Argument(help="What `mesimqtt serve --record FILE` wrote.")],
    until: Annotated[
        float, typer.Option("--until", metavar="SECONDS", min=0, help="Stop after so long; 0: at its end.")
    ] = 0.0,
    trace: Annotated[bool, typer.Option("--trace", help="Print every packet, in and out.")] = False,
    show: Annotated[
        int | None, typer.Option("--show", metavar="N", min=1, help="Print the packets of connection N.")
    ] = None,
    data: Data = NOT_GIVEN,  # noqa: ARG001 - as every command has it: a replay has a folder of its own
    json: Json = False,
) -> None:
    """Run the server on what a recording says came in, in no time, and compare every byte that it puts out.

    Exit code 0: identical. 1: it differs; the first difference is told with its place. 2: it cannot be replayed.
    """
    import logging
    import math
    import tempfile

    from mesimqtt.replay.player import Player

    if not math.isfinite(until):
        raise UsageError("--until takes a number of seconds")
    logging.basicConfig(level=logging.ERROR)  # what the server logged then it would log again
    with tempfile.TemporaryDirectory(prefix="mesimqtt-replay-") as folder:
        follow = _follower(0 if trace else show or 0, as_json=json) if trace or show else None
        played = Player(file, Path(folder), until_s=until, follow=follow).play()
    if show and show > played.connections:
        there = f"1 to {played.connections}" if played.connections else "none"
        raise UsageError(f"--show: there is no connection {show} {'until then' if until else 'in it'}, but {there}")
    if json:
        emit(_as_json(played))
    else:
        for text in told(played):
            line(text)
    if played.difference is not None:
        raise typer.Exit(1)


def told(played: Played) -> list[str]:
    """Return what came of a replay, as lines."""
    counts = f"{played.connections} connections, {played.bytes_in} bytes in, {played.bytes_out} bytes out"
    found = played.difference
    if found is None:
        return [f"identical: {counts}", f"the recording ends after {played.seconds:.3f} s: {played.end}"]
    lines = [f"different: {found.what}", f"  after {counts}"]
    lines.append(f"  at {played.seconds:.6f} s" + _place(found))
    if found.now:
        lines += _shown("now ", found.now)
    if found.then:
        lines += _shown("then", found.then)
    elif found.now:
        lines.append("  then: only its hash is known; record with record.output: true to see the bytes")
    return lines


def _place(found: Difference) -> str:
    return f", connection {found.connection}, byte {found.offset} of its output" if found.connection else ""


def _shown(when: str, data: bytes) -> list[str]:
    from mesimqtt.replay.shown import Shown

    shown = Shown(is_mqtt=True)
    return [f"  {when}: {text}" for text in shown.lines(data)] or [f"  {when}: {data[:64].hex()}"]


def _as_json(played: Played) -> dict[str, Any]:
    found = played.difference
    answer: dict[str, Any] = {
        "identical": found is None, "connections": played.connections, "operations": played.operations,
        "bytes_in": played.bytes_in, "bytes_out": played.bytes_out, "seconds": played.seconds, "end": played.end,
    }  # fmt: skip
    if found is not None:
        answer["difference"] = {"what": found.what, "connection": found.connection, "offset": found.offset}
    return answer


def _follower(only: int, *, as_json: bool) -> Callable[[str, int, int, bytes], None]:
    """Return what prints everything that happens, or what happens on one connection."""
    from mesimqtt.replay.shown import Shown

    ways: dict[tuple[int, str], Shown] = {}

    def show(what: str, number: int, at_us: int, data: bytes) -> None:
        if what not in ("in", "out"):
            _print(at_us, number, what, data.decode("utf-8", "replace"), as_json=as_json)
            return
        shown = ways.setdefault((number, what), Shown())
        if what == "out" and (number, "in") in ways:
            shown.version = ways[number, "in"].version
        for text in shown.lines(data):
            _print(at_us, number, what, text, as_json=as_json)

    def follow(what: str, number: int, at_us: int, data: bytes) -> None:
        if only and number != only:
            return
        try:
            show(what, number, at_us, data)
        except BrokenPipeError:  # within the server, which would take it for one of its own
            raise OutputEndedError from None

    return follow


def _print(at_us: int, number: int, what: str, text: str, *, as_json: bool) -> None:
    if as_json:
        emit({"at": at_us / 1_000_000, "connection": number, "what": what, "text": text})
    else:
        arrow = {"in": "->", "out": "<-"}.get(what, "--")
        line(f"{at_us / 1_000_000:12.6f} {number:5} {arrow} {text if what in ('in', 'out') else f'{what} {text}'}")
