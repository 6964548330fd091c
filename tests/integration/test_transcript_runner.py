"""The runner of the transcripts itself, against mosquitto: it must see what is wrong, not only what is right."""

from __future__ import annotations

import re
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from integration.server import Server, wait_until
from mesimqtt.testing.ports import KeptPort
from scenarios.language import parse
from scenarios.matching import Names
from scenarios.stage import Stage, Venue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MID = "0123456789abcdef"
HEAD = """# A title
[users]
alice bob
[clients]
alice's phone is mosquitto_sub on m/alice/in/# at QoS 1, will m/bob/in/u/alice/0123456789abcdee/seq=9 "gone"
alice's tv is paho on m/alice/in/# at QoS 1, client id tv
alice's tv-again is paho on m/alice/in/# at QoS 1, client id tv
bob's laptop is mosquitto_pub
bob's phone is paho on m/bob/in/# at QoS 1, client id bobs, keeps its session, acknowledges nothing
bob's lock is a 128-byte device on m/bob/in/# at QoS 1
[story]
"""


class Mosquitto(Server):
    """Debian's broker in the place of our server: open to everybody, without a command line."""

    def start(self, *, port: int | None = None) -> None:
        if port is None:
            self._kept = KeptPort(self.host)
            port = self._kept.number
        config = self.data / "mosquitto.conf"
        config.write_text(f"listener {port} {self.host}\nallow_anonymous true\n", encoding="utf-8")
        self._process = subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL, text=True)
        self.port = port
        wait_until(self._answers, what="mosquitto listens")

    def run(self, *arguments: str) -> str:
        return f"ran {' '.join(arguments)}"

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.port)) == 0


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as server:
        yield server


def play(mosquitto: Mosquitto, story: str) -> Stage:
    """Play a story on mosquitto, where every client is let in."""
    names = Names(frozenset({"alice", "bob"}), "~1~")
    stage = Stage(parse(HEAD + story), Venue(mosquitto, names, {"alice": "x", "bob": "x"}))
    stage.play()
    return stage


@pytest.mark.tools("mosquitto", "mosquitto_pub")
def test_a_story_that_comes_true(mosquitto: Mosquitto) -> None:
    """Three kinds of clients each get what is listed; placeholders carry a mid from one to the next."""
    stage = play(
        mosquitto,
        f"""alice's phone connects
        alice's tv connects
        bob's lock connects
        bob's laptop publishes m/alice/in/u/bob/{MID}/seq=1 "hi"
        alice's phone receives m/alice/in/u/bob/{{mid}}/seq=1 "hi"
        alice's tv receives m/alice/in/u/bob/{{mid}}/seq=1 "hi"
        alice's tv publishes m/bob/in/u/alice/{{mid}}/seq=1 "<={{mid}}" at QoS 2
        bob's lock receives m/bob/in/u/alice/{{mid}}/seq=1 "<={MID}"
        the operator runs: status {{mid}} alice and sees "ran status {MID} alice"
        alice's phone disconnects
        alice's phone connects
        """,
    )

    assert MID == stage.bindings["mid"]
    assert 11 == len(stage.played)


@pytest.mark.tools("mosquitto", "mosquitto_pub")
def test_a_will_a_lost_link_and_a_take_over_are_seen(mosquitto: Mosquitto) -> None:
    """A lost link fires the will; a connection that the server ends is noticed."""
    stage = play(
        mosquitto,
        """bob's lock connects
        alice's phone connects
        alice's phone loses its link
        bob's lock receives m/bob/in/u/alice/{mid}/seq=9 "gone"
        alice's tv connects
        alice's tv-again connects
        alice's tv is disconnected within 1 s
        """,
    )

    assert not stage.actors["alice's tv"].is_open


@pytest.mark.tools("mosquitto", "mosquitto_pub")
def test_a_repeat_is_asked_for_by_name(mosquitto: Mosquitto) -> None:
    """What is not acknowledged comes again with DUP once the link was lost, and `again` wants just that."""
    stage = play(
        mosquitto,
        f"""bob's phone connects
        bob's laptop publishes m/bob/in/u/alice/{MID}/seq=1 "hi"
        bob's phone receives m/bob/in/u/alice/{{mid}}/seq=1 "hi"
        bob's phone loses its link
        bob's phone connects
        bob's phone receives m/bob/in/u/alice/{{mid}}/seq=1 "hi" again
        bob's phone acknowledges what it has
        bob's phone loses its link
        bob's phone connects
        """,
    )

    assert 2 == len(stage.actors["bob's phone"].received)


HI = f'bob\'s laptop publishes m/alice/in/u/bob/{MID}/seq=1 "hi"\n'
FAILURES = {
    "what no line lists": ("alice's tv connects\n" + HI, "no line lists it: .*hi"),
    "what does not come": (
        "alice's tv connects\nalice's tv receives m/alice/in/u/bob/{mid}/seq=1 \"hi\" within 0.2 s",
        r"story.chat:13: .*\n  not received: not within 0.2 s",
    ),
    "another payload": (
        "alice's tv connects\n" + HI + 'alice\'s tv receives m/alice/in/u/bob/{mid}/seq=1 "ho" within 0.2 s',
        "not received.*|\n.*hi",
    ),
    "a repeat that was none": (
        "alice's tv connects\n" + HI + 'alice\'s tv receives m/alice/in/u/bob/{mid}/seq=1 "hi" again within 0.2 s',
        "not received",
    ),
    "a disconnection that no line tells": (
        "alice's tv connects\nalice's tv-again connects\n2 seconds pass",
        "alice's tv was disconnected, and no line says so",
    ),
    "a law broken at the end": (
        "alice's tv connects\n" + HI + HI + 'alice\'s tv receives m/alice/in/u/bob/{mid}/seq=1 "hi"\n' * 2,
        "alice's tv: twice on one connection",
    ),
    "a client let in": ("alice's tv connects and is refused with 5", "it was let in"),
    "a filter granted": ("alice's tv connects\nalice's tv subscribes to m/bob/# and is refused", "SUBACK grants 0x1"),
    "a packet over 128 bytes": (
        f"""bob's lock connects
        bob's laptop publishes m/bob/in/u/alice/{MID}/seq=1 "{"x" * 100}"
        bob's lock receives m/bob/in/u/alice/{{mid}}/seq=1 (anything)""",
        "bob's lock: a packet of 15. bytes came",
    ),
    "a packet over 128 bytes sent": (
        f"bob's lock connects\nbob's lock publishes m/bob/out/u/alice/1 \"{'x' * 120}\"",
        "this device cannot send 1.. bytes",
    ),
    "a server that is not the story's own": (
        "alice's tv connects\nthe server is killed",
        r"needs a \[server of its own\]",
    ),
    "a command that says something else": ('the operator runs: status and sees "happy"', "ran status"),
    "a placeholder never bound": ('bob\'s laptop publishes m/bob/out/read/u/alice/{mid} "x"', r"\{mid\} is not bound"),
}


@pytest.mark.tools("mosquitto", "mosquitto_pub")
@pytest.mark.parametrize(("story", "complaint"), FAILURES.values(), ids=FAILURES)
def test_a_story_that_does_not_come_true(story: str, complaint: str, mosquitto: Mosquitto) -> None:
    """The runner fails with the line, the reason and the transcript so far."""
    with pytest.raises(AssertionError) as failure:
        play(mosquitto, story)

    assert re.search(complaint.replace("story", "transcript"), str(failure.value))
    assert "so far:" in str(failure.value)


@pytest.mark.tools("mosquitto")
def test_the_helper_leaves_no_process_behind(tmp_path: Path) -> None:
    """A server that was started is gone when its block ends, whatever happened inside."""
    server = Mosquitto(tmp_path)
    with pytest.raises(ZeroDivisionError), server:
        _ = server.is_running and 1 // 0

    assert not server.is_running
