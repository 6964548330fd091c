"""A wire whose engine, transports and loop are fakes, turned by hand."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from mesimqtt.broker.protocol import Listener
from mesimqtt.broker.wire import Wire
from mesimqtt.settings import Limits


class FakeConnection:
    """The engine's connection as far as the wire knows it: it echoes what it receives."""

    def __init__(self, engine, address):
        self.engine = engine
        self.remote_address = address
        self.out = []
        self.closing = False
        self.is_done = False
        self.paused = False
        self.congested = []
        self.observed = False
        self.lost_at = None
        self.close_reason = ""
        self.cost_s = 0.0

    def receive(self, data, now):
        self.engine.spend(self.cost_s)
        self.send(b"<" + data + b">")

    def send(self, data):
        if not self.out:
            if not self.engine.dirty:
                self.engine.wake()
            self.engine.dirty.append(self)
        self.out.append(data)

    def lost(self, now):
        self.lost_at = now

    def close(self, reason):
        self.close_reason = reason

    def set_congested(self, value):
        self.congested.append(value)


class FakeEngine:
    """Opens echoing connections."""

    def __init__(self):
        self.dirty = []
        self.counters = SimpleNamespace(bytes_out=0)
        self.opened = []
        self.wake = lambda: None
        self.spend = lambda seconds: None
        self.replays = {}
        self.portions = 0

    def go_on(self):
        self.portions += 1

    def open(self, remote_address, listener, now):
        self.opened.append(FakeConnection(self, remote_address))
        return self.opened[-1]


class FakeTransport(asyncio.Transport):
    """A transport over one end of a socket pair; what it cannot write at once it keeps."""

    def __init__(self, sock=None):
        super().__init__({"peername": ("192.0.2.7", 4711), "socket": sock})
        self.limits = None
        self.written = []
        self.kept = 0
        self.is_closed = self.is_aborted = self.is_ended = self.is_reading_paused = False

    def write(self, data):
        self.written.append(bytes(data))
        self.kept += len(data)

    def get_write_buffer_size(self):
        return self.kept

    def set_write_buffer_limits(self, high=None, low=None):
        self.limits = (high, low)

    def is_closing(self):
        return self.is_closed or self.is_aborted

    def pause_reading(self):
        self.is_reading_paused = True

    def resume_reading(self):
        self.is_reading_paused = False

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.is_ended = True

    def close(self):
        self.is_closed = True

    def abort(self):
        self.is_aborted = True


class World:
    """A wire with a loop whose turns are taken by hand."""

    def __init__(self, **limits):
        self.now = 10.0
        self.turns = []
        self.later = []
        self.engine = FakeEngine()
        self.wire = Wire(self.engine, Limits(**limits), self, lambda: self.now)
        self.engine.wake = self.wire.wake
        self.engine.spend = self.spend
        self.listener = Listener("default", self.wire, connections_max=0, is_plain=False)

    def spend(self, seconds):
        self.now += seconds

    def call_soon(self, callback):
        self.turns.append(callback)

    def call_later(self, seconds, callback):
        self.later.append((seconds, callback))

    def turn(self):
        turns, self.turns = self.turns, []
        for callback in turns:
            callback()

    def connect(self, transport=None, listener=None):
        protocol = (listener or self.listener).protocol()
        protocol.connection_made(transport or FakeTransport())
        return protocol
