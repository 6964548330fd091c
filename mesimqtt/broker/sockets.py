"""Listening sockets: bound here, so that what stands in the way is said in one line that tells what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
from typing import TYPE_CHECKING

from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    from pathlib import Path

BACKLOG = 2048
# What the system takes at most for a peer who reads slowly or not at all, and is not on the wire yet. By itself it
# takes 2.5 MB for each: beside a thousand who did not read, all others' p99 was 100 ms, with this bound it is 5. And
# who pings behind a large message waits for less of it.
UNSENT_MAX = 256 * 1024
UNIX = "unix:"
_PATH_MAX = 107  # bytes of a path that a Unix socket's address has room for
_MODE = re.compile(r"0?[0-7]{3}")


def bind_tcp(name: str, kind: str, host: str | None, port: int) -> list[socket.socket]:
    """Return a listening socket for each address of `host` (None: all of this machine). Raises MesimqttError.

    Done here and not by the loop, which would start threads to resolve even a literal address: in a process
    of one thread every system call on a socket is cheaper.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, type_, protocol, _name, address in dict.fromkeys(found):
            if family == socket.AF_INET6 and not socket.has_ipv6:
                continue
            bound = socket.socket(family, type_, protocol)
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # connections inherit it
                bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_MAX)
            bound.bind((address[0], port or sockets[0].getsockname()[1], *address[2:]))
            bound.listen(BACKLOG)  # here, so that a port in use is found before anything is started
            bound.setblocking(False)
    except OSError as error:
        for bound in sockets:
            bound.close()
        raise MesimqttError(_explain(error, name, kind, f"{host or '*'}:{port}")) from None
    return sockets


def bind_unix(name: str, path: Path, mode: str) -> socket.socket:
    """Return a listening Unix socket that only `mode` may reach; one that a dead server left is replaced.

    Raises:
        MesimqttError: it cannot be there; the text says what to do.

    """
    where = f"listener {name!r}: the Unix socket {path}"
    if not _MODE.fullmatch(mode):
        raise MesimqttError(f"listener {name!r}: mode {mode!r} is not three octal digits, for example mode: '0660'")
    if len(os.fsencode(path)) > _PATH_MAX:
        raise MesimqttError(f"{where}: a path has at most {_PATH_MAX} bytes; choose a shorter one")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # nobody gets in between bind and chmod
    try:
        _remove_stale(where, path)
        bound.bind(str(path))
        path.chmod(int(mode, 8))
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise MesimqttError(f"{where}: {error.strerror}; choose a folder that this user may write to") from None
    except MesimqttError:
        bound.close()
        raise
    finally:
        os.umask(before)
    return bound


def remove_unix(path: Path, inode: int) -> None:
    """Remove the socket at the end, unless another server has taken its place."""
    with contextlib.suppress(OSError):
        if path.stat().st_ino == inode:
            path.unlink()


def _remove_stale(where: str, path: Path) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise MesimqttError(
                f"{where}: a link of that name leads nowhere; remove it or choose another path"
            ) from None
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise MesimqttError(f"{where}: there is a file of that name; choose another path or remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # somebody's queue of newcomers is full
    raise MesimqttError(f"{where} is in use; stop the other server there or choose another path")


def _explain(error: OSError, name: str, kind: str, where: str) -> str:
    if error.errno == errno.EADDRINUSE:
        how = f"--{kind} ADDR:PORT" if name in ("default", "ws", "http") else "its bind in the configuration"
        return f"listener {name!r}: {where} is in use; stop the other server there or choose another port: {how}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"listener {name!r}: not allowed to listen on {where}; choose a port above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"listener {name!r}: {where} is not an address of this machine; choose another"
    return f"listener {name!r}: cannot listen on {where}: {error.strerror or error}; check its bind"
