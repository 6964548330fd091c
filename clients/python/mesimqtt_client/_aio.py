"""The asyncio client: `AsyncClient`, the same verbs as `Client`, for one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from mesimqtt_client._aio_network import AsyncNetwork
from mesimqtt_client._errors import ClientClosed, ConnectionDenied
from mesimqtt_client._events import Received
from mesimqtt_client._handlers import Handlers
from mesimqtt_client._options import TokenSource, Tuning, make_options
from mesimqtt_client._questions import AsyncQuestions
from mesimqtt_client._sent import Sent
from mesimqtt_client._status import State, Status, parse_step
from mesimqtt_client._topics import NO_STUB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Unpack

    from mesimqtt_client._outbox import OutMessage
    from mesimqtt_client._protocol import Core, Delivery
    from mesimqtt_client._topics import SendOptions

_log = logging.getLogger("mesimqtt_client")


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncMessage(Received):
    """A received message."""

    client: AsyncClient = field(repr=False, compare=False)

    async def mark_read(self) -> None:
        """Tell the sender that this message was read (status READ), and the user's other devices too."""
        await self.client.mark_read(self)


class AsyncSentMessage(Sent):
    """A message on its way. Its fields grow as statuses come in; `wait` waits for one."""

    __slots__ = ("_changed", "_client", "_core")

    def __init__(self, client: AsyncClient, core: Core, record: OutMessage) -> None:
        super().__init__(record)
        self._client, self._core = client, core
        self._changed = asyncio.Event()
        record.watch = self._changed.set

    async def wait(
        self,
        step: str | Status = Status.DELIVERED,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the same verb as Client's
        member: str | None = None,
    ) -> Status:
        """Wait until the message is at least sent, delivered or read; return how far it is.

        For a group say whose copy: `member="bob"`. Cancelling the wait changes nothing.

        Raises:
            MessageFailed: the verdict is a failure, e.g. expired or inbox-full.
            TimeoutError: nothing of the kind within `timeout` seconds.
            ConnectionDenied, ClientClosed: nothing can come any more.

        """
        wanted = parse_step(step)
        try:
            async with asyncio.timeout(timeout):
                while (reached := self._record.outcome(wanted, member)) is None:
                    self._core.check_alive()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(self._describe_wait(wanted, timeout, self._core)) from None
        return reached

    async def edit(self, payload: bytes | str, **options: Unpack[SendOptions]) -> AsyncSentMessage:
        """Replace the text of this message; a scheduled one is changed unseen. Raises ValueError before SENT."""
        return self._client._send(  # noqa: SLF001 - the same shell
            self.to, payload, is_group=self.is_group, options={**options, "edit": self._known_mid()}
        )

    async def recall(self, *, stub: bool = True) -> AsyncSentMessage:
        """Take this message back, with a stub or without a trace; a scheduled one is cancelled. As `edit`."""
        options: SendOptions = {"recall": self._known_mid(), **({} if stub else NO_STUB)}
        return self._client._send(self.to, b"", is_group=self.is_group, options=options)  # noqa: SLF001 - likewise


class Messages:
    """The received messages, one by one: `async for message in client.messages()`.

    A message is acknowledged when the next one is asked for or the loop is left. It is not when an exception leaves the
    client's `async with`: then it comes again to this device.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._current: Delivery | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AsyncMessage:
        current, self._current = self._current, None
        self._client._finish(current)  # noqa: SLF001 - the same shell
        self._current = await self._client._next_message()  # noqa: SLF001 - likewise
        message: AsyncMessage = self._client._arguments(self._current)[0]  # noqa: SLF001 - likewise
        return message

    def __del__(self) -> None:
        self._client._finish_soon(self._current)  # noqa: SLF001 - likewise


class AsyncClient(Handlers[AsyncMessage], AsyncQuestions):
    """A user's device on a mesimqtt server, in one event loop and without threads of its own.

    Handlers may be coroutine functions; they run one after another in one task. What `Client` says of handlers,
    reconnecting and the outbox holds here too. Only the opening of a connection (name look-up, TCP, TLS) runs in the
    loop's executor, because paho has no other way; everything else is `add_reader` and `add_writer`, so on Windows it
    needs the SelectorEventLoop.
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
        self._core = self._options.make_core()
        self._network = AsyncNetwork(self._core, self._options)
        self._handling: asyncio.Task[None] | None = None
        self._held: list[Delivery] = []  # handed out by messages() and not yet handled
        self._is_streaming = False
        self._is_pulling = False
        self._has_failed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<AsyncClient {self.user} device={self.device} {self.state}>"

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._has_failed = kind is not None
        await self.close()

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
        """Begin to connect, in the running loop."""
        if self._handling is not None or self._core.is_closed:
            raise ClientClosed("a client starts once: make a new one")
        self._loop = asyncio.get_running_loop()
        self._network.start()
        self._handling = asyncio.create_task(self._handle(), name=f"mesimqtt-handlers-{self.device}")

    async def wait_online(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the same verb as Client's
        """Wait for a connection. Raises TimeoutError, ConnectionDenied or ClientClosed."""
        if not await self._wait_for(lambda: self.state is State.ONLINE, timeout):
            raise TimeoutError(f"not online within {timeout or 0:g} s: {self.state} {self.state_reason}".rstrip())

    async def flush(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the same verb as Client's
        """Wait until everything sent has left the outbox (SENT or refused); return whether it has."""
        return await self._wait_for(lambda: not self._core.outbox, timeout)

    async def close(self, timeout: float = 5.0) -> bool:  # noqa: ASYNC109 - the same verb as Client's
        """Wait up to `timeout` seconds for the outbox, then for the running handler; disconnect and end the tasks.

        Returns whether the outbox was empty. What was received and not handled comes again to this device.
        """
        if self._handling is None or self._core.is_closed:
            self._core.close()
            return not self._core.outbox
        try:
            with contextlib.suppress(ConnectionDenied, ClientClosed):  # then nothing can leave any more
                await self.flush(timeout)
            for delivery in list(self._held):
                self._finish(delivery)
        finally:
            unsent = len(self._core.outbox)
            self._core.close()
            self._network.notify()
            try:
                await self._end_handling(timeout)
            finally:
                await self._network.stop()
        if unsent:
            _log.warning("closed with %d unacknowledged in the outbox: they are lost", unsent)
        return unsent == 0

    # ---- verbs

    async def send(self, peer: str, payload: bytes | str, **options: Unpack[SendOptions]) -> AsyncSentMessage:
        """Send a message to a user; at once, the network follows. Options: `SendOptions`.

        Raises:
            ValueError: the address, an option or the size of the payload is wrong.
            OutboxFull: too much is unacknowledged.
            ConnectionDenied, ClientClosed: it could never leave.

        """
        return self._send(peer, payload, is_group=False, options=options)

    async def send_group(self, group: str, payload: bytes | str, **options: Unpack[SendOptions]) -> AsyncSentMessage:
        """Send a message to all other members of a group; `message.recipients` has each one's status."""
        return self._send(group, payload, is_group=True, options=options)

    async def mark_read(self, message: Received) -> None:
        """Mark one received message as read."""
        self._core.mark_read(message, is_upto=False)
        self._network.wake()

    async def mark_read_upto(self, message: Received) -> None:
        """Mark all of a conversation as read, up to this message."""
        self._core.mark_read(message, is_upto=True)
        self._network.wake()

    async def presence(self, peer: str, payload: bytes | str) -> bool:
        """Signal something of the moment (typing …) to a user who is online now; False if this client is not."""
        return self._signal(peer, payload, is_group=False)

    async def presence_group(self, group: str, payload: bytes | str) -> bool:
        """Signal something of the moment to the members of a group who are online now."""
        return self._signal(group, payload, is_group=True)

    async def rpc(
        self,
        operation: str,
        arguments: Mapping[str, Any] | None = None,
        timeout: float = 10.0,  # noqa: ASYNC109 - the same verb as Client's
    ) -> Any:  # noqa: ANN401 - JSON
        """Ask the server (`history`, `status` …) and return the result: JSON.

        Raises:
            RpcError: the server refused, with its code.
            ConnectionLost: the connection went after the question had left; it may have been done.
            TimeoutError: no answer within `timeout` seconds.

        """
        changed = asyncio.Event()
        call = self._core.call(operation, arguments)
        call.watch = changed.set
        self._network.wake()
        try:
            async with asyncio.timeout(timeout):
                while not call.is_done:
                    self._core.check_alive()
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            raise TimeoutError(f"no answer to rpc {operation!r} within {timeout:g} s (it is {self.state})") from None
        finally:
            self._core.outbox.settle(call.key)
        if call.error is not None:
            raise call.error
        return call.answer

    def messages(self) -> Messages:
        """Return the stream of received messages, for one consumer."""
        if "message" in self._handlers:
            raise RuntimeError("messages go to on_message already: use one of the two")
        self._is_streaming = True
        self._core.want("message")
        self._network.wake()
        return Messages(self)

    # ---- helpers

    def _add(self, kind: str, handler: Callable[..., Any]) -> None:
        if kind == "message" and self._is_streaming:
            raise RuntimeError("messages go to messages() already: use one of the two")
        self._handlers.setdefault(kind, []).append(handler)
        self._core.want(kind)
        self._network.wake()
        self._network.notify()

    def _send(self, address: str, payload: bytes | str, *, is_group: bool, options: SendOptions) -> AsyncSentMessage:
        record = self._core.send(address, payload, is_group=is_group, now=time.monotonic(), options=options)
        self._network.wake()
        return AsyncSentMessage(self, self._core, record)

    def _signal(self, address: str, payload: bytes | str, *, is_group: bool) -> bool:
        has_left = self._core.signal(address, payload, is_group=is_group)
        self._network.wake()
        return has_left

    async def _wait_for(self, is_so: Callable[[], bool], timeout: float | None) -> bool:  # noqa: ASYNC109 - as its callers
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not is_so():
                    self._core.check_alive()
                    await self._network.wait_news()
                return True
        return False

    async def _handle(self) -> None:
        """Run the handlers, in a task of their own: they may send, and ask, without stopping the network."""
        while not self._core.is_closed:
            delivery = self._core.next_delivery(self._handlers)
            if delivery is None:
                await self._network.wait_news()
                continue
            for handler in list(self._handlers[delivery.kind]):
                try:
                    result = handler(*self._arguments(delivery))
                    if inspect.isawaitable(result):
                        await result
                except Exception:  # noqa: BLE001 - the edge: a handler is not ours
                    _log.exception("a handler of on_%s failed", delivery.kind)
            self._core.handled(delivery)
            self._network.wake()

    async def _end_handling(self, timeout: float) -> None:  # noqa: ASYNC109 - as its caller
        task = self._handling
        if task is None or task is asyncio.current_task():  # a handler may close its client
            return
        try:
            _, pending = await asyncio.wait([task], timeout=timeout)
            if pending:
                _log.error("a handler did not return within %g s: its message will come again", timeout)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _next_message(self) -> Delivery:
        if self._is_pulling:
            raise RuntimeError("messages() has one consumer: another task is waiting for the next one already")
        self._is_pulling = True
        try:
            while (delivery := self._core.next_delivery(("message",))) is None:
                if self._core.is_closed:
                    raise StopAsyncIteration
                self._core.check_alive()
                await self._network.wait_news()
        finally:
            self._is_pulling = False
        self._held.append(delivery)
        return delivery

    def _finish(self, delivery: Delivery | None) -> None:
        """Acknowledge a message of the stream, unless an exception is ending the client: then it shall come again."""
        if delivery in self._held and not self._has_failed:
            self._held.remove(delivery)
            self._core.handled(delivery)
            self._network.wake()

    def _finish_soon(self, delivery: Delivery | None) -> None:
        """Acknowledge after a loop was left; one turn later, when an exception would have reached `__aexit__`."""
        if delivery is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: too late for anything
                self._loop.call_soon_threadsafe(self._finish, delivery)

    def _arguments(self, delivery: Delivery) -> tuple[Any, ...]:
        if delivery.kind == "state":
            return tuple(delivery.event)
        if isinstance(delivery.event, Received):
            values = {item.name: getattr(delivery.event, item.name) for item in fields(delivery.event)}
            return (AsyncMessage(client=self, **values),)
        return (delivery.event,)
