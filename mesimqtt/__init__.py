"""mesimqtt: a self-hosted messaging server on MQTT that tells the truth about every message."""

import importlib

__version__ = "0.1.0"
__all__ = ["CONSUMED", "FAIL", "PASS", "App", "__version__"]

_PLACES = {"App": "mesimqtt.embed", "CONSUMED": "mesimqtt.hooks", "FAIL": "mesimqtt.hooks", "PASS": "mesimqtt.hooks"}


def __getattr__(name: str) -> object:
    """Import what embedding needs when it is asked for: a command needs none of it (types: `__init__.pyi`)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
