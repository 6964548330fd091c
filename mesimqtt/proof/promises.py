"""What the server promises, by number: the words of PROOF.md and of every report."""

from __future__ import annotations

PROMISES: dict[str, str] = {
    "P1": "An accepted message survives kill -9.",
    "P2": "An accepted message survives a power cut.",
    "P3": "Every device gets every message at least once, and its user sees it once.",
    "P4": "Sending the same message again is not a second message.",
    "P5": "A conversation has one order, the same for everybody in it, without gaps.",
    "P6": "A receipt only moves forward, and nobody can forge one.",
    "P7": "What is expired is never delivered; what is not is never dropped.",
    "P8": "Memory is bounded, whatever clients do.",
    "P9": "A bad client does not hurt the others.",
    "P10": "A stop in good order loses nothing and is quick.",
    "P11": "A full disk refuses, never lies, and recovers by itself.",
    "P12": "After a failed sync nothing is acknowledged; a disk that keeps failing stops the server.",
    "P13": "A clock that jumps does no harm.",
    "P14": "Ten thousand devices come back after a restart, quickly and each with what waited.",
    "P15": "Altered bytes are found, and never delivered.",
    "P16": "A backup made while the server runs can be restored, every time.",
    "P17": "An upgrade of the data happens whole or not at all.",
    "P18": "What is revoked is out within a second.",
    "P19": "A push reaches nobody but its user.",
    "P20": "A connection that is silently dead is found in time.",
    "N2": "Every accepted message ends in exactly one visible verdict.",
    "N12": "Recorded input gives the same output again, byte for byte.",
    "N14": "The contract can be held against any server, from outside.",
}

# Promises that no trial can break here, and why.
UNTRIED: dict[str, str] = {
    "P19": "there is no push yet, so nothing can leak by it",
}
