"""Errors that carry a sentence for a person and, where one exists, a code for a program."""


class MesimqttError(Exception):
    """Something the user can mend; the text says what to do. Exit code 2 on the command line."""

    exit_code = 2


class OperationError(MesimqttError):
    """An operation (rpc, HTTP, CLI) was refused. `code` is a stable word, e.g. `no-such-user`.

    `retry_after` is after how many seconds it may be tried again; 0: that is not what stands in the way.
    """

    exit_code = 1

    def __init__(self, code: str, message: str, *, retry_after: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class StoreError(MesimqttError):
    """The store cannot be opened or written; nothing was acknowledged."""


class InUseError(StoreError):
    """Another process has the data folder."""


class AddressError(ValueError):
    """A user or group address, or its spelling in a topic, breaks contract section 1."""


class RateError(ValueError):
    """A rate limit is not written as windows; the text says how."""
