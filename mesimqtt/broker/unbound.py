"""Listeners without sockets: who connects is called in, and where they were bound is what was seen then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mesimqtt.broker.listeners import Listeners

if TYPE_CHECKING:
    import socket

    from amqtt.contexts import ListenerConfig

    from mesimqtt.broker.acceptor import Network
    from mesimqtt.broker.protocol import Listener
    from mesimqtt.broker.tls import Tls
    from mesimqtt.broker.wire import Wire
    from mesimqtt.record.outside import Outside
    from mesimqtt.settings import ListenerOptions, Settings

_TLS = object()  # stands for the TLS of a listener: what comes is decrypted already


class UnboundListeners(Listeners):
    """The listeners of a replay. `tls_names` are those that had TLS, of which nothing but that is left."""

    def __init__(self, wire: Wire, settings: Settings, outside: Outside, *, tls_names: frozenset[str]) -> None:
        super().__init__(wire, settings, outside)
        self._tls_names = tls_names

    @staticmethod
    def _check_fit(name: str, config: ListenerConfig, options: ListenerOptions) -> None:
        """Check nothing: it was good then."""

    def _tls(self, name: str, config: ListenerConfig, options: ListenerOptions) -> Tls | None:  # noqa: ARG002 - its signature
        return cast("Tls", _TLS) if name in self._tls_names else None

    def _bind(
        self,
        name: str,
        config: ListenerConfig,  # noqa: ARG002 - its signature
        options: ListenerOptions,  # noqa: ARG002 - likewise
        kind: str,  # noqa: ARG002 - likewise
    ) -> tuple[list[socket.socket], bool]:
        where: list[Any] = self._outside.see(list)
        is_loopback, addresses = where
        self.bound += [(name, host, port) for host, port in addresses]
        return [], bool(is_loopback)

    async def _listen(
        self, listener: Listener, bound: socket.socket, tls: Tls | None, proxies: tuple[Network, ...]
    ) -> None:
        """Listen nowhere."""
