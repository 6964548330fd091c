"""A port that stays with who has it: while nobody listens on it, this machine gives it to nobody else."""

from __future__ import annotations

import os
import socket
import sys
import weakref


class KeptPort:
    """A TCP port without a listener: connections to it are refused, and a server may come to listen on it.

    Whoever wants any free port is given another one meanwhile; a server must set SO_REUSEADDR, as ours and most do.
    Only Linux can keep a port in this way. Elsewhere it is free at once, and somebody else may be quicker.
    """

    def __init__(self, host: str, number: int = 0) -> None:
        """Take a port, 0 for any. Raises OSError: somebody else has it."""
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((host, number))
        except OSError:
            taken.close()
            raise
        self.number: int = taken.getsockname()[1]
        self._end = weakref.finalize(self, os.close, taken.detach())
        if sys.platform != "linux":
            self._end()

    def release(self) -> None:
        """Let anybody have it."""
        self._end()
