"""The blocking client: `Client`, thread-safe, for programs without an event loop."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from mesimqtt_client._errors import ClientClosed, ConnectionDenied
from mesimqtt_client._events import Received
from mesimqtt_client._handlers import Handlers, ReturnT
from mesimqtt_client._network import Network
from mesimqtt_client._options import TokenSource, Tuning, make_options
from mesimqtt_client._questions import Questions
from mesimqtt_client._sent import Sent
from mesimqtt_client._status import State, Status, parse_step
from mesimqtt_client._topics import NO_STUB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Unpack

    from mesimqtt_client._outbox import OutMessage
    from mesimqtt_client._protocol import Delivery
    from mesimqtt_client._topics import SendOptions

_log = logging.getLogger("mesimqtt_client")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Received):
    """A received message."""

    client: Client = field(repr=False, compare=False)

    def mark_read(self) -> None:
        """Tell the sender that this message was read (status READ), and the user's other devices too."""
        self.client.mark_read(self)


class SentMessage(Sent):
    """A message on its way. Its fields grow as statuses come in; `wait` waits for one."""

    __slots__ = ("_changed", "_client")

    def __init__(self, client: Client, record: OutMessage, changed: threading.Condition) -> None:
        super().__init__(record)
        self._client = client
        self._changed = changed
        record.watch = changed.notify_all

    def wait(
        self, step: str | Status = Status.DELIVERED, *, timeout: float | None = None, member: str | None = None
    ) -> Status:
        """Wait until the message is at least sent, delivered or read; return how far it is.

        For a group say whose copy: `member="bob"`. Do not wait inside a handler for long: the connection lets 64
        unacknowledged packets through, and the status may stand behind the messages that wait for that handler.

        Raises:
            MessageFailed: the verdict is a failure, e.g. expired or inbox-full.
            TimeoutError: nothing of the kind within `timeout` seconds.
            ConnectionDenied, ClientClosed: nothing can come any more.

        """
        wanted = parse_step(step)
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                reached = self._record.outcome(wanted, member)
                if reached is not None:
                    return reached
                self._client._core.check_alive()  # noqa: SLF001 - the same shell
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(self._describe_wait(wanted, timeout, self._client._core))  # noqa: SLF001 - likewise
                self._changed.wait(left)

    def edit(self, payload: bytes | str, **options: Unpack[SendOptions]) -> SentMessage:
        """Replace the text of this message; a scheduled one is changed unseen. Raises ValueError before SENT."""
        return self._client._send(  # noqa: SLF001 - the same shell
            self.to, payload, is_group=self.is_group, options={**options, "edit": self._known_mid()}
        )

    def recall(self, *, stub: bool = True) -> SentMessage:
        """Take this message back, with a stub or without a trace; a scheduled one is cancelled. As `edit`."""
        options: SendOptions = {"recall": self._known_mid(), **({} if stub else NO_STUB)}
        return self._client._send(self.to, b"", is_group=self.is_group, options=options)  # noqa: SLF001 - likewise


class Client(Handlers[Message], Questions):
    """A user's device on a mesimqtt server.

    Use it as a context manager; `start` and `close` do the same. It connects in the background and reconnects by
    itself; `send` never waits for the network. Handlers run one after another in one thread of their own, in the
    order of arrival. A handler that raises is logged and its message acknowledged all the same: held back it would
    take one of the device's 64 places, come again at every reconnect and fail again.
    """

    def __init__(
        self,
        url: str,
        *,
        token: TokenSource,
        user: str | None = None,
        device: str | None = None,
        **tuning: Unpack[Tuning],
    ) -> None:
        super().__init__()
        self._options = make_options(url, token, user, device, **tuning)
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._core = self._options.make_core()
        self._network: Network | None = None
        self._thread = threading.Thread(target=self._handle, name=f"mesimqtt-handlers-{self.device}", daemon=True)
        self._is_closing = False

    def __repr__(self) -> str:
        return f"<Client {self.user} device={self.device} {self.state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- life

    @property
    def user(self) -> str:
        """The address of this client's user."""
        return self._options.user

    @property
    def device(self) -> str:
        """The name of this device, which is the MQTT client id."""
        return self._options.device

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._core.state

    @property
    def state_reason(self) -> str:
        """Why the connection is not online; '' if it is."""
        return self._core.reason

    def start(self) -> None:
        """Begin to connect, in the background."""
        with self._lock:
            if self._network is not None or self._is_closing:
                raise ClientClosed("a client starts once: make a new one")
            self._network = Network(self._core, self._options, self._news)
        self._network.start()
        self._thread.start()

    def wait_online(self, timeout: float | None = None) -> None:
        """Wait for a connection. Raises TimeoutError, ConnectionDenied or ClientClosed."""
        self._wait_for(lambda: self._core.state is State.ONLINE, timeout)
        if self._core.state is not State.ONLINE:
            raise TimeoutError(f"not online within {timeout:g} s: {self._core.state} {self._core.reason}".rstrip())

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything sent has left the outbox (SENT or refused); return whether it has."""
        return self._wait_for(lambda: not self._core.outbox, timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Wait up to `timeout` seconds for the outbox, then for the running handler; disconnect and end the threads.

        Returns whether the outbox was empty. What was received and not handled comes again to this device.
        """
        with self._lock:
            network, was_closing = self._network, self._is_closing
            is_started = network is not None and not was_closing
        if is_started:
            with contextlib.suppress(ConnectionDenied, ClientClosed):  # then nothing can leave any more
                self.flush(timeout)
        with self._lock:
            unsent = len(self._core.outbox)
            self._is_closing = True
            self._core.close()
            self._news.notify_all()
        if network is None or was_closing:
            return unsent == 0
        if unsent:
            _log.warning("closed with %d unacknowledged in the outbox: they are lost", unsent)
        if threading.current_thread() is not self._thread:  # a handler may close its client
            self._thread.join(timeout)
            if self._thread.is_alive():
                _log.error("a handler did not return within %g s: its message will come again", timeout)
        network.stop()
        return unsent == 0

    # ---- verbs

    def send(self, peer: str, payload: bytes | str, **options: Unpack[SendOptions]) -> SentMessage:
        """Send a message to a user; at once, the network follows. Options: `SendOptions`.

        Raises:
            ValueError: the address, an option or the size of the payload is wrong.
            OutboxFull: too much is unacknowledged.
            ConnectionDenied, ClientClosed: it could never leave.

        """
        return self._send(peer, payload, is_group=False, options=options)

    def send_group(self, group: str, payload: bytes | str, **options: Unpack[SendOptions]) -> SentMessage:
        """Send a message to all other members of a group; `message.recipients` has each one's status."""
        return self._send(group, payload, is_group=True, options=options)

    def mark_read(self, message: Received) -> None:
        """Mark one received message as read."""
        self._do(lambda: self._core.mark_read(message, is_upto=False))

    def mark_read_upto(self, message: Received) -> None:
        """Mark all of a conversation as read, up to this message."""
        self._do(lambda: self._core.mark_read(message, is_upto=True))

    def presence(self, peer: str, payload: bytes | str) -> bool:
        """Signal something of the moment (typing …) to a user who is online now; False if this client is not."""
        return self._do(lambda: self._core.signal(peer, payload, is_group=False))

    def presence_group(self, group: str, payload: bytes | str) -> bool:
        """Signal something of the moment to the members of a group who are online now."""
        return self._do(lambda: self._core.signal(group, payload, is_group=True))

    def rpc(self, operation: str, arguments: Mapping[str, Any] | None = None, timeout: float = 10.0) -> Any:  # noqa: ANN401 - JSON
        """Ask the server (`history`, `status` …) and return the result: JSON.

        Raises:
            RpcError: the server refused, with its code.
            ConnectionLost: the connection went after the question had left; it may have been done.
            TimeoutError: no answer within `timeout` seconds.

        """
        changed = threading.Condition(self._lock)
        with self._lock:
            call = self._core.call(operation, arguments)
            call.watch = changed.notify_all
            self._wake()
            deadline = time.monotonic() + timeout
            try:
                while not call.is_done:
                    self._core.check_alive()
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise TimeoutError(f"no answer to rpc {operation!r} within {timeout:g} s (it is {self.state})")
                    changed.wait(left)
            finally:
                self._core.outbox.settle(call.key)
        if call.error is not None:
            raise call.error
        return call.answer

    # ---- helpers

    def _add(self, kind: str, handler: Callable[..., Any]) -> None:
        with self._lock:
            self._handlers.setdefault(kind, []).append(handler)
            self._core.want(kind)
            self._news.notify_all()
            self._wake()

    def _send(self, address: str, payload: bytes | str, *, is_group: bool, options: SendOptions) -> SentMessage:
        with self._lock:
            record = self._core.send(address, payload, is_group=is_group, now=time.monotonic(), options=options)
            message = SentMessage(self, record, threading.Condition(self._lock))
        self._wake()
        return message

    def _do(self, act: Callable[[], ReturnT]) -> ReturnT:
        with self._lock:
            result = act()
        self._wake()
        return result

    def _wake(self) -> None:
        if self._network is not None and not self._is_closing:
            self._network.wake()

    def _wait_for(self, is_so: Callable[[], bool], timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._news:
            while not is_so():
                self._core.check_alive()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._news.wait(left)
        return True

    def _handle(self) -> None:
        """Run the handlers, in a thread of their own: they may send, and ask, without stopping the network."""
        while (delivery := self._next_delivery()) is not None:
            arguments = self._arguments(delivery)
            for handler in list(self._handlers.get(delivery.kind, ())):
                try:
                    handler(*arguments)
                except Exception:  # noqa: BLE001 - the edge: a handler is not ours
                    _log.exception("a handler of on_%s failed", delivery.kind)
            with self._lock:
                self._core.handled(delivery)
                if self._network is not None:
                    self._network.wake()

    def _next_delivery(self) -> Delivery | None:
        with self._news:
            while not self._is_closing:
                delivery = self._core.next_delivery(self._handlers)
                if delivery is not None:
                    return delivery
                self._news.wait()
        return None

    def _arguments(self, delivery: Delivery) -> tuple[Any, ...]:
        if delivery.kind == "state":
            return tuple(delivery.event)
        if isinstance(delivery.event, Received):
            values = {item.name: getattr(delivery.event, item.name) for item in fields(delivery.event)}
            return (Message(client=self, **values),)
        return (delivery.event,)
