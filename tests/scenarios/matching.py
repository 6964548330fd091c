"""How a line of a transcript is compared with what came: placeholders, topics, payloads, JSON fields."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

PLACEHOLDER = re.compile(r"\{([a-z]\w*)\}")
_FIELD = re.compile(r'([\w.-]+)=("[^"]*"|\S+)')
_SAFE = "@"


class Bindings(dict[str, str]):
    """What the placeholders of a transcript stand for so far."""

    def fill(self, text: str) -> str:
        """Put in what is bound; the rest stays as it is written."""
        return PLACEHOLDER.sub(lambda match: self.get(match[1], match[0]), text)

    def fill_all(self, text: str) -> str:
        """Put in everything. Raises LookupError for a placeholder that nothing has bound yet."""
        filled = self.fill(text)
        if (left := PLACEHOLDER.search(filled)) is not None:
            raise LookupError(f"{left[0]} is not bound yet")
        return filled

    def match(self, pattern: str, value: str, *, open_ended: str = r"[^/&]+") -> Bindings | None:
        """Return the bindings after `value` was matched against `pattern`; None if it does not fit.

        A placeholder whose name begins with mid fits 16 hex digits, any other fits `open_ended`; `*` fits one
        topic level or less. A bound placeholder fits what it is bound to.
        """
        expression, seen = "", set()
        for piece in re.split(r"(\{[a-z]\w*\}|\*)", pattern):
            name = piece[1:-1] if PLACEHOLDER.fullmatch(piece) else ""
            if piece == "*":
                expression += "[^/]*"
            elif name in self:
                expression += re.escape(self[name])
            elif name and name in seen:
                expression += f"(?P={name})"
            elif name:
                seen.add(name)
                expression += f"(?P<{name}>{'[0-9a-f]{16}' if name.startswith('mid') else open_ended})"
            else:
                expression += re.escape(piece)
        found = re.fullmatch(expression, value, re.DOTALL)
        return None if found is None else Bindings({**self, **found.groupdict()})


@dataclass(frozen=True, slots=True)
class Names:
    """How a transcript's users and groups are called on a server that many transcripts share.

    `alice` of the transcript is `alice~7` on the server; nothing of that shows in the transcript.
    """

    known: frozenset[str]
    suffix: str = ""

    def there(self, name: str) -> str:
        """Return the name on the server of a user or group of the transcript."""
        return name + self.suffix if name in self.known else name

    def topic_there(self, topic: str) -> str:
        """Return a topic or filter with the server's names; a level's own spelling stays."""
        return "/".join(self._level(level) for level in topic.split("/"))

    def here(self, text: str) -> str:
        """Return a topic or text of the server with the transcript's names."""
        return text.replace(self.suffix, "") if self.suffix else text

    def _level(self, level: str) -> str:
        name = unquote(level)
        if name not in self.known:
            return level
        return quote(self.there(name), safe=_SAFE) if quote(name, safe=_SAFE) == level else level + self.suffix


def payload_bytes(written: str, bindings: Bindings) -> bytes:
    """Return the payload that a transcript writes: "text", or (300 KiB) of a pattern that shows a shift."""
    if written.startswith('"'):
        return bindings.fill(written[1:-1]).encode()
    size = int(written[1:].split(maxsplit=1)[0]) * 1024
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def match_payload(written: str, payload: bytes, here: str, bindings: Bindings) -> Bindings | None:
    """Compare a payload (`here`: its text with the transcript's names) with what the transcript writes."""
    if written == "(anything)":
        return bindings
    if not written.startswith('"'):
        return bindings if payload_bytes(written, bindings) == payload else None
    return bindings.match(written[1:-1].replace("*", "\x00"), here.replace("*", "\x00"), open_ended=".+")


def parse_fields(written: str) -> dict[str, str]:
    """Return the `key=value` pairs of a sentence, quotes removed."""
    return {key: value.strip('"') for key, value in _FIELD.findall(written)}


def match_fields(fields: dict[str, str], text: str, bindings: Bindings) -> Bindings | None:
    """Compare a JSON object with `key=value` pairs: `*` is any value, `-` none; keys not written are free.

    `result.status.0.name` is a key inside, a number a place in a list.
    """
    try:
        tree = json.loads(text)
    except ValueError:
        return None
    if not isinstance(tree, dict):
        return None
    for key, wanted in fields.items():
        found = _inside(tree, key)
        if (found is None) is not (wanted == "-"):
            return None
        if wanted not in ("-", "*"):
            bound = bindings.match(wanted, _plain(found), open_ended=".+")
            if bound is None:
                return None
            bindings = bound
    return bindings


def json_payload(fields: dict[str, str], bindings: Bindings) -> bytes:
    """Return the JSON object that `key=value` pairs write: numbers, lists and objects are those, the rest is text."""
    filled = {key: bindings.fill_all(value) for key, value in fields.items()}
    return json.dumps({key: _json_value(value) for key, value in filled.items()}).encode()


def _json_value(value: str) -> object:
    if value.startswith(("[", "{")):
        return json.loads(value)
    return int(value) if value == value.lstrip("0") and value.isdecimal() else value


def _inside(tree: object, path: str) -> object:
    for key in path.split("."):
        if isinstance(tree, list) and key.isdecimal() and int(key) < len(tree):
            tree = tree[int(key)]
        elif isinstance(tree, dict) and key in tree:
            tree = tree[key]
        else:
            return None
    return tree


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
