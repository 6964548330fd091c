"""What a webhook costs: the same messaging load without and with one on the same server, in turn."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mesimqtt.api.names import SOCKET_NAME, with_short_name
from mesimqtt.bench.loop import BenchError
from mesimqtt.bench.messaging import measure_messaging

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mesimqtt.bench.figures import Figures, Periods
    from mesimqtt.bench.servers import Target

ENVIRONMENT = {"MESIMQTT_WEBHOOKS": '{"private_hosts": ["127.0.0.1"]}'}
_NAME = "bench"
_STALL_S = 20.0


def measure_webhooks(target: Target, periods: Periods, *, events: Sequence[str], window: int) -> Figures:
    """Measure without, with and without a webhook; `slower by %` is the middle one against the mean of the others."""
    if target.data is None:
        raise BenchError("webhooks are measured on a server of ours")
    before = _load(target, periods, window)
    with _receiver() as port:
        ask(target.data, "webhook_add", name=_NAME, url=f"http://127.0.0.1:{port}/", events=list(events))
        ask(target.data, "webhook_test", name=_NAME)  # the first request loads the HTTP client
        told = _load(target, periods, window)
        ended = time.perf_counter()
        wanted = int(told.extra["sent"]) * len(events)
        found = requests = 0
        while found < wanted and time.perf_counter() < ended + _STALL_S:
            found, requests = _counted(port)
            time.sleep(0.02)
        behind_s = time.perf_counter() - ended
        ask(target.data, "webhook_delete", name=_NAME)
    after = _load(target, periods, window)
    base = (before.rate + after.rate) / 2
    extra = {
        **told.extra,
        "rate without": base,
        "CPU without": ((before.broker_us or 0.0) + (after.broker_us or 0.0)) / 2,
        "slower by %": 100 * (1 - told.rate / base) if base else 0.0,
        "events told": float(found),
        "requests": float(requests),
        "told after s": behind_s,
    }
    lost = told.lost + before.lost + after.lost + max(0, wanted - found)
    return replace(told, lost=lost, duplicates=told.duplicates + max(0, found - wanted), extra=extra)


def _load(target: Target, periods: Periods, window: int) -> Figures:
    return measure_messaging(target.address, target.process, target.tokens, periods, window=window)


@contextmanager
def _receiver() -> Iterator[int]:
    """Run a receiver in a process of its own, beside the generator; give its port."""
    command = [sys.executable, "-m", "mesimqtt.bench.receiver"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise BenchError("the receiver has no output")
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _counted(port: int) -> tuple[int, int]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        events, requests = connection.getresponse().read().split()
    finally:
        connection.close()
    return int(events), int(requests)


def ask(data: Path, op: str, **arguments: Any) -> None:  # noqa: ANN401 - JSON
    """Do one operation on the server that holds `data`."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(30)
        with_short_name(data / SOCKET_NAME, control.connect)
        control.sendall(json.dumps({"op": op, "args": arguments}).encode() + b"\n")
        answer = json.loads(control.makefile("rb").readline())
    if not answer.get("ok"):
        raise BenchError(f"{op}: {answer.get('message')}")
