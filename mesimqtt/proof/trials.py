"""Every trial by its name: the one list that `mesimqtt selftest`, `make proof` and the suite go through."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from mesimqtt.proof.trial import Trial

# In the order in which they are run: name -> where its class stands. Loaded when it is wanted: some are heavy.
TRIALS: dict[str, str] = {}


def trial(name: str) -> Trial:
    """Return a trial by its name. Raises KeyError."""
    module, _, cls = TRIALS[name].partition(":")
    return cast("Trial", getattr(import_module(module), cls)())
