"""The language of the transcripts: what README.md beside this file describes, as steps to play."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEADLINE_S = 60.0

# What contract section 4 calls the codes, written down here once more: a test does not ask the server what is right.
STATUS_CODES = {
    "sent": 1,
    "delivered": 2,
    "read": 3,
    "deleted": 0x21,
    "wiped": 0x22,
    "failed": 0x80,
    "user-offline": 0x81,
    "inbox-full": 0x82,
    "invalid-destination": 0x83,
    "expired": 0x84,
    "bad-request": 0x85,
    "blocked": 0x88,
    "rate-limited": 0x8C,
    "denied": 0x8D,
    "group-paused": 0x90,
    "not-member": 0x91,
}


class TranscriptError(ValueError):
    """A line that the language does not know; the text names file and line."""


class Kind(StrEnum):
    """What a client is, by the words of its declaration."""

    SUB = "mosquitto_sub"
    PUB = "mosquitto_pub"
    PAHO = "paho"
    TINY = "a 128-byte device"
    APP = "our Python client"


class Verb(StrEnum):
    """What a sentence of the story does."""

    CONNECT = "connects"
    REFUSED = "connects and is refused"
    SUBSCRIBE = "subscribes"
    SUBSCRIBE_REFUSED = "subscribes and is refused"
    DISCONNECT = "disconnects"
    LOSE_LINK = "loses its link"
    CLOSED = "is disconnected"
    RECONNECTED = "reconnects by itself"
    PUBLISH = "publishes"
    RECEIVE = "receives"
    STATUS = "receives status"
    ACKNOWLEDGE = "acknowledges"
    SEND = "sends"
    SEE = "sees"
    GET = "gets"
    MARK_READ = "marks read"
    SILENCE = "nobody receives anything else"
    SERVER_KILL = "the server is killed"
    SERVER_STOP = "the server stops"
    SERVER_START = "the server starts"
    PASS = "seconds pass"
    OPERATOR = "the operator runs"
    REVOKE = "the operator revokes"
    NEW_TOKEN = "gets a new token"


@dataclass(frozen=True, slots=True)
class Will:
    """A last will as a client declares it."""

    topic: str
    payload: bytes
    qos: int = 1


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """A declared client. `filters` are (filter, QoS) pairs that it subscribes to as it connects."""

    name: str
    user: str
    client_id: str
    kind: Kind
    filters: tuple[tuple[str, int], ...] = ()
    keeps_session: bool = False
    password: str | None = None
    user_name: bool = True
    own_token: bool = False
    token_ttl_s: int | None = None
    acknowledges: bool = True
    keep_alive_s: int = 60
    will: Will | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One sentence of the story. `words` holds what the sentence says, by the name of its place."""

    line: int
    text: str
    verb: Verb
    client: str = ""
    words: dict[str, str] = field(default_factory=dict)

    def seconds(self, default: float = DEADLINE_S) -> float:
        """Return the deadline or duration that the sentence gives."""
        return float(self.words.get("seconds") or default)


@dataclass(frozen=True, slots=True)
class Transcript:
    """A parsed .chat file."""

    name: str
    title: str
    users: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]
    clients: dict[str, ClientSpec]
    settings: dict[str, str]
    own_server: bool
    steps: tuple[Step, ...]


_CLIENT = r"(?P<client>\S+'s [\w-]+)"
_PAYLOAD = r'(?P<payload>"[^"]*"|\(\d+ KiB\)|\(anything\))'
_CALLED = r"(?P<name>\{\w+\})"
_WITHIN = r"(?: within (?P<seconds>[\d.]+) s)?"
_FIELDS = r'(?P<fields>(?: [\w.-]+=(?:"[^"]*"|\S+))*)'
_STATUS_NAMES = "|".join(STATUS_CODES)

# The whole grammar of a story: the first sentence that fits a whole line is meant.
SENTENCES: tuple[tuple[Verb, re.Pattern[str]], ...] = tuple(
    (verb, re.compile(pattern))
    for verb, pattern in (
        (Verb.CONNECT, f"{_CLIENT} connects"),
        (Verb.REFUSED, rf"{_CLIENT} connects and is refused with (?P<code>\d)"),
        (Verb.SUBSCRIBE, rf"{_CLIENT} subscribes to (?P<filter>\S+) at QoS (?P<qos>[012])"),
        (Verb.SUBSCRIBE_REFUSED, rf"{_CLIENT} subscribes to (?P<filter>\S+) and is refused"),
        (Verb.DISCONNECT, f"{_CLIENT} disconnects"),
        (Verb.LOSE_LINK, f"{_CLIENT} loses its link"),
        (Verb.CLOSED, f"{_CLIENT} is disconnected{_WITHIN}"),
        (Verb.RECONNECTED, f"{_CLIENT} reconnects by itself{_WITHIN}"),
        (
            Verb.PUBLISH,
            rf"{_CLIENT} publishes (?P<topic>\S+) {_PAYLOAD}(?: at QoS (?P<qos>[012]))?(?P<retained>, retained)?",
        ),
        (Verb.PUBLISH, rf"{_CLIENT} publishes (?P<topic>\S+) with{_FIELDS}"),
        (
            Verb.STATUS,
            rf"{_CLIENT} receives status (?P<cid>\S+) (?P<name>{_STATUS_NAMES})(?P<again> again)?{_FIELDS}{_WITHIN}",
        ),
        (Verb.RECEIVE, rf"{_CLIENT} receives (?P<topic>\S+) {_PAYLOAD}(?P<again> again)?{_WITHIN}"),
        (Verb.RECEIVE, rf"{_CLIENT} receives (?P<topic>\S+) with{_FIELDS}{_WITHIN}"),
        (Verb.ACKNOWLEDGE, f"{_CLIENT} acknowledges what it has"),
        (
            Verb.SEND,
            rf'{_CLIENT} sends "(?P<payload>[^"]*)" to (?P<group>group )?(?P<to>\S+) as {_CALLED}(?: with{_FIELDS})?',
        ),
        (Verb.SEE, rf"{_CLIENT} sees {_CALLED} (?P<status>{_STATUS_NAMES})(?: for (?P<member>\S+))?"),
        (
            Verb.GET,
            rf'{_CLIENT} gets "(?P<payload>[^"]*)" from (?P<peer>\S+)(?: in (?P<group>\S+))? as (?P<name>\{{\w+\}})',
        ),
        (Verb.MARK_READ, rf"{_CLIENT} marks (?P<name>\{{\w+\}}) read"),
        (Verb.SILENCE, "nobody receives anything else"),
        (Verb.SERVER_KILL, "the server is killed"),
        (Verb.SERVER_STOP, "the server stops"),
        (Verb.SERVER_START, "the server starts again"),
        (Verb.PASS, r"(?P<seconds>[\d.]+) seconds? pass(?:es)?"),
        (Verb.OPERATOR, r'the operator runs: (?P<command>.+?)(?: and sees "(?P<output>[^"]*)")?'),
        (Verb.REVOKE, f"the operator revokes the token of {_CLIENT}"),
        (Verb.NEW_TOKEN, r"(?P<user>\S+) gets a new token"),
    )
)

_DECLARATION = re.compile(rf"(?P<user>\S+)'s (?P<device>[\w-]+) is (?P<kind>{'|'.join(Kind)})(?P<rest>.*)")
_FILTERS = re.compile(r" on (?P<filters>\S+(?: and \S+)*) at QoS (?P<qos>[012])")
_OPTIONS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "keeps_session": "keeps its session",
        "client_id": r"client id ([^\s,]+)",
        "password": r'password "([^"]*)"',
        "no_user_name": "no user name",
        "own_token": "own token",
        "token_ttl_s": r"token for (\d+) s",
        "silent": "acknowledges nothing",
        "keep_alive_s": r"keep alive (\d+) s",
        "will": r'will ([^\s,]+) "([^"]*)"',
    }.items()
}
_GROUP = re.compile(r"(\S+): (.+)")
_SETTING = re.compile(r"([a-z_.]+) = (\S+)")


def parse_file(path: Path) -> Transcript:
    """Parse a .chat file."""
    return parse(path.read_text(encoding="utf-8"), path.stem)


def parse(text: str, name: str = "transcript") -> Transcript:
    """Parse a transcript. Raises TranscriptError, whose text names the line."""
    return _Parser(name).parse(text)


class _Parser:
    def __init__(self, name: str) -> None:
        self.name = name
        self.title = ""
        self.users: list[str] = []
        self.groups: dict[str, tuple[str, ...]] = {}
        self.clients: dict[str, ClientSpec] = {}
        self.settings: dict[str, str] = {}
        self.own_server = False
        self.steps: list[Step] = []

    def parse(self, text: str) -> Transcript:
        sections: dict[str, Callable[[int, str], None]] = {
            "[server of its own]": self._setting,
            "[users]": self._users,
            "[groups]": self._group,
            "[clients]": self._client,
            "[story]": self._sentence,
        }
        take: Callable[[int, str], None] | None = None
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.strip()
            if line.startswith("#"):
                self.title = self.title or line.lstrip("# ")
            elif line in sections:
                take = sections[line]
                self.own_server |= line == "[server of its own]"
            elif line:
                if take is None:
                    self._fail(number, f"a line before the first section; sections are {', '.join(sections)}")
                else:
                    take(number, line)
        if not (self.title and self.users and self.clients and self.steps):
            self._fail(0, "a transcript has a title, [users], [clients] and a [story]")
        return Transcript(
            self.name,
            self.title,
            tuple(self.users),
            self.groups,
            self.clients,
            self.settings,
            self.own_server,
            tuple(self.steps),
        )

    def _fail(self, number: int, why: str) -> None:
        raise TranscriptError(f"{self.name}.chat:{number}: {why}")

    def _users(self, _number: int, line: str) -> None:
        self.users += line.split()

    def _setting(self, number: int, line: str) -> None:
        if match := _SETTING.fullmatch(line):
            self.settings[match[1]] = match[2]
        else:
            self._fail(number, f"a setting is written `messaging.inbox_messages_max = 3`, not {line!r}")

    def _group(self, number: int, line: str) -> None:
        match = _GROUP.fullmatch(line)
        if match is None:
            self._fail(number, f"a group is written `team: alice bob`, not {line!r}")
            return
        members = tuple(match[2].split())
        if strangers := set(members) - set(self.users):
            self._fail(number, f"not among the [users]: {', '.join(sorted(strangers))}")
        self.groups[match[1]] = members

    def _client(self, number: int, line: str) -> None:
        match = _DECLARATION.fullmatch(line)
        if match is None:
            self._fail(number, f"a client is written `alice's phone is paho on m/alice/in/# at QoS 1`, not {line!r}")
            return
        name = f"{match['user']}'s {match['device']}"
        if match["user"] not in self.users:
            self._fail(number, f"{match['user']} is not among the [users]")
        if name in self.clients:
            self._fail(number, f"{name} is declared twice")
        rest = match["rest"]
        filters: tuple[tuple[str, int], ...] = ()
        if found := _FILTERS.match(rest):
            filters = tuple((each, int(found["qos"])) for each in found["filters"].split(" and "))
            rest = rest[found.end() :]
        spec = ClientSpec(name, match["user"], match["device"], Kind(match["kind"]), filters)
        self.clients[name] = self._with_options(number, spec, rest)

    def _with_options(self, number: int, spec: ClientSpec, rest: str) -> ClientSpec:
        given: dict[str, re.Match[str]] = {}
        while rest:
            for option, pattern in _OPTIONS.items():
                if found := re.compile(", " + pattern.pattern).match(rest):
                    given[option] = found
                    rest = rest[found.end() :]
                    break
            else:
                self._fail(number, f"not understood: {rest!r}")
        will = given.get("will")
        return ClientSpec(
            spec.name,
            spec.user,
            given["client_id"][1] if "client_id" in given else spec.client_id,
            spec.kind,
            spec.filters,
            keeps_session="keeps_session" in given,
            password=given["password"][1] if "password" in given else None,
            user_name="no_user_name" not in given,
            own_token="own_token" in given,
            token_ttl_s=int(given["token_ttl_s"][1]) if "token_ttl_s" in given else None,
            acknowledges="silent" not in given,
            keep_alive_s=int(given["keep_alive_s"][1]) if "keep_alive_s" in given else 60,
            will=Will(will[1], will[2].encode()) if will else None,
        )

    def _sentence(self, number: int, line: str) -> None:
        for verb, pattern in SENTENCES:
            if match := pattern.fullmatch(line):
                words = {name: value for name, value in match.groupdict().items() if value}
                client = words.pop("client", "")
                if client and client not in self.clients:
                    self._fail(number, f"{client} is not among the [clients]")
                self.steps.append(Step(number, line, verb, client, words))
                return
        self._fail(number, f"not a sentence of the language (see README.md): {line!r}")
