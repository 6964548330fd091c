"""How a command is done: by the server that holds the data folder, or, where none does, on the data itself."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import time
from pathlib import Path
from typing import Any

from mesimqtt.api.names import SOCKET_NAME, with_short_name
from mesimqtt.domain.errors import InUseError, MesimqttError, OperationError
from mesimqtt.files import read_regular
from mesimqtt.store.layout import CONFIG_NOTE, RESTORING_NAME

HELLO_S = 5.0
ANSWER_S = 120.0
_CREATING = frozenset({"user_add", "user_import", "group_add"})  # what may begin a data folder

Answer = dict[str, Any]


class NoServerError(MesimqttError):
    """No server answers on the data folder."""


class RefusedError(OperationError):
    """The server's refusal, with the exit code it gave."""

    def __init__(self, code: str, message: str, exit_code: int) -> None:
        super().__init__(code, message)
        self.exit_code = exit_code


class Control:
    """A connection to the control socket of a running server."""

    def __init__(self, data: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(HELLO_S)
        try:
            with_short_name(data / SOCKET_NAME, self._socket.connect)
            self._lines = self._socket.makefile("rb")
            self.ask("ping", {})
        except RefusedError:
            self.close()
            raise
        except OSError:
            self._socket.close()
            start = f"start one with: mesimqtt serve --data {shlex.quote(str(data))}"
            raise NoServerError(f"no server answers on {data.absolute()}; {start}") from None
        self._socket.settimeout(ANSWER_S)

    def ask(self, op: str, arguments: Answer, user: str = "") -> Answer:
        """Return the answer of one operation, done as `user` may do it; raise what the server refused it with."""
        question = {"op": op, "args": arguments} | ({"as": user} if user else {})
        # In ASCII, so that an argument which is no UTF-8 arrives as such and is refused, not turned into another.
        with contextlib.suppress(BrokenPipeError):  # a server that is busy says so and hangs up without listening
            self._socket.sendall(json.dumps(question).encode() + b"\n")
        text = self._lines.readline()
        if not text:
            raise ConnectionResetError
        answer = json.loads(text)
        if answer.get("ok"):
            result: Answer = answer["result"]
            return result
        raise RefusedError(str(answer["code"]), str(answer["message"]), int(answer["exit"]))

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()


def perform(data: Path, op: str, **arguments: object) -> Answer:
    """Do one operation on a running server and on a stopped one alike.

    Raises:
        OperationError: it was refused.
        MesimqttError: neither the server nor the data could be reached; the text says what to do.

    """
    return perform_all(data, [(op, arguments)])[0]


def perform_all(data: Path, calls: list[tuple[str, Answer]], *, user: str = "") -> list[Answer]:
    """Do several operations in order, through one connection or with the data opened once.

    They are done as the operator, or as `user` may do them.
    """
    deadline = time.monotonic() + HELLO_S
    while True:
        try:
            control = Control(data)
        except NoServerError:
            if not _is_held(data):
                with contextlib.suppress(InUseError):  # a server or command was faster: ask again
                    return _offline(data, calls, user)
            if time.monotonic() >= deadline:
                raise MesimqttError(
                    f"a process holds {data}, but does not answer within {HELLO_S:.0f} s: stop it and start again"
                ) from None
            time.sleep(0.05)  # it is starting or ending
            continue
        return _online(control, calls, user)


def _online(control: Control, calls: list[tuple[str, Answer]], user: str) -> list[Answer]:
    try:
        return [control.ask(op, arguments, user) for op, arguments in calls]
    except (OSError, ValueError) as error:
        raise MesimqttError("the server ended before it answered; look whether it was done, then try again") from error
    finally:
        control.close()


def _is_held(data: Path) -> bool:
    if not data.is_dir():
        return False
    from mesimqtt.store.database import is_locked

    try:
        return is_locked(data)
    except OSError as error:
        raise MesimqttError(f"cannot look into the data folder {data}: {error.strerror}") from None


def _offline(data: Path, calls: list[tuple[str, Answer]], user: str) -> list[Answer]:
    import asyncio

    from mesimqtt.app import running
    from mesimqtt.store.database import FILE_NAME

    # A folder of something else must not be filled by a command that only looks.
    if not (data / FILE_NAME).exists() and not any(op in _CREATING for op, _ in calls):
        raise no_data(data)

    settings = remembered_settings(data)

    async def work() -> list[Answer]:
        async with running(settings, data, listen=False) as app:
            return [await app.perform(op, arguments, user) for op, arguments in calls]

    before = os.umask(0o077)
    try:
        return asyncio.run(work())
    finally:
        os.umask(before)


def no_data(data: Path) -> MesimqttError:
    """Return the error that a folder holds no data of ours, with what to do."""
    if (data / RESTORING_NAME).exists():
        from mesimqtt.store.database import interrupted

        return MesimqttError(interrupted(data))
    what = "no data of mesimqtt in" if data.exists() else "no data folder"
    begin = f"begin with: mesimqtt user add alice --data {shlex.quote(str(data))}"
    return MesimqttError(f"there is {what} {data.absolute()}; {begin}, or name the right one: --data DIR")


def remembered_settings(data: Path) -> Any:  # noqa: ANN401 - Settings, whose import costs too much at the top
    """Load the settings that the last server of this folder had, so that its tokens are signed alike."""
    from mesimqtt.configuration import load_settings
    from mesimqtt.store.notes import configuration_of

    config = configuration_of(data)
    if config is not None and not config.is_file():
        again = f"start the server once: mesimqtt serve --data {shlex.quote(str(data))} --config FILE"
        raise MesimqttError(
            f"cannot read the configuration {config}, which {data / CONFIG_NOTE} names as the server's; put it back, "
            f"or {again}"
        )
    return load_settings(config)


def _holds(path: Path, content: bytes) -> bool:
    with contextlib.suppress(OSError):
        return read_regular(path, size_max=len(content)) == content
    return False


def remember_config(data: Path, config: Path | None) -> None:
    """Note which configuration a server of this folder has."""
    note = data / CONFIG_NOTE
    text = json.dumps({"config": str(config.resolve()) if config else None}) + "\n"
    try:
        if not _holds(note, text.encode()):
            note.write_text(text, encoding="utf-8")
    except OSError as error:  # a full disk must not keep a server from starting
        import logging

        logging.getLogger(__name__).warning("cannot write %s: %s", note, error.strerror)
