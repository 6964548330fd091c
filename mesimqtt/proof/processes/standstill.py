"""A server under trial that stops its own process (SIGSTOP) when a client asks: amid a turn of its loop, each time.

Whoever stops a server from outside mostly finds it waiting for its sockets. From there it goes on with what they hold,
and all is well whatever it does; stopped amid its work it looks at the time first.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mesimqtt.hooks import Decision
from mesimqtt.settings import default_broker
from mesimqtt_plugins.acl import FolderAccess

if TYPE_CHECKING:
    from mesimqtt.hooks import Action, Identity

ASKED: Final = "stand-still/"  # a topic below it; a new one each time, as decisions are remembered
OPEN: Final = "flood/#"  # free for everybody
_SHIPPED: Final = "mesimqtt_plugins.acl.FolderAccess"


class StandsStill(FolderAccess):
    """The rules as shipped, and one topic more."""

    def check_access(self, identity: Identity, client_id: str, action: Action, topic: str) -> Decision | None:
        """Stand still until SIGCONT if that is asked for."""
        if topic.startswith(ASKED):
            os.kill(os.getpid(), signal.SIGSTOP)
            return Decision(allow=True, rule="stand-still")
        return super().check_access(identity, client_id, action, topic)


def plugins() -> str:
    """Return the lines of the configuration with which a server can be asked."""
    found = default_broker()["plugins"]
    path = f"{StandsStill.__module__}.{StandsStill.__name__}"
    named = {path if name == _SHIPPED else name: options for name, options in found.items()}
    named[path] = {"rules": [{"allow": "all", "topic": OPEN}]}
    return f"broker: {json.dumps({'plugins': named})}\n"


def is_still(pid: int) -> bool:
    """Tell whether a process stands still."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T"
