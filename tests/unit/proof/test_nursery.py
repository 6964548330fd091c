"""Processes that are forked for trials: as much like those of `subprocess` as a server needs."""

from __future__ import annotations

import signal
import socket
import subprocess

from mesimqtt.testing.nursery import Forked


def test_a_signal_to_a_process_that_has_just_ended_is_nothing():
    """Between the end of a process and the word of it, a signal finds nobody, and that is no error."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        forked = Forked(ended.pid, ours)
        forked.send_signal(signal.SIGTERM)
        forked.kill()

        assert forked.poll() is None
