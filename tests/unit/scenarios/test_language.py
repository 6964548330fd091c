"""The language of the transcripts: what it takes, what it says of a mistake, and that its README is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scenarios.language import Kind, TranscriptError, Verb, parse, parse_file

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
HEAD = """# A title: in one line
[users]
alice bob
[clients]
alice's phone is paho on m/alice/in/# and m/alice/in/s/# at QoS 1, keeps its session, client id p1, will m/a/out/u/b "x"
alice's app is our Python client
[story]
"""


def test_declarations_say_who_a_client_is() -> None:
    """A declaration gives kind, filters with their QoS, and options."""
    transcript = parse(HEAD + "alice's phone connects")

    phone = transcript.clients["alice's phone"]
    assert (Kind.PAHO, "alice", "p1", True) == (phone.kind, phone.user, phone.client_id, phone.keeps_session)
    assert (("m/alice/in/#", 1), ("m/alice/in/s/#", 1)) == phone.filters
    assert phone.will is not None
    assert ("m/a/out/u/b", b"x") == (phone.will.topic, phone.will.payload)
    assert Kind.APP is transcript.clients["alice's app"].kind


def test_a_step_knows_its_line_and_its_words() -> None:
    """A sentence becomes a step with what stands in its places."""
    step = parse(
        HEAD + "\n# why\nalice's phone receives status 42 delivered again mid={mid} peer=bob within 2 s"
    ).steps[0]

    assert (10, Verb.STATUS, "alice's phone") == (step.line, step.verb, step.client)
    assert {
        "cid": "42",
        "name": "delivered",
        "again": " again",
        "fields": " mid={mid} peer=bob",
        "seconds": "2",
    } == step.words
    assert 2.0 == step.seconds()


def test_settings_and_groups() -> None:
    """A server of its own may have settings; a group lists members."""
    text = HEAD.replace("[clients]", "[groups]\nteam: alice bob\n[clients]", 1)
    transcript = parse(
        text.replace("[users]", "[server of its own]\nmessaging.x_max = 3\n[users]", 1) + "the server is killed"
    )

    assert transcript.own_server
    assert {"messaging.x_max": "3"} == transcript.settings
    assert {"team": ("alice", "bob")} == transcript.groups


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("alice's phone explodes", "not a sentence"),
        ("alice's phone receives status 42 happy", "not a sentence"),
        ("bob's phone connects", "not among the [clients]"),
        ("alice's phone connect", "not a sentence"),
    ],
)
def test_a_mistake_is_told_with_its_line(line: str, complaint: str) -> None:
    """A line that is no sentence fails with the file's name, the line's number and the reason."""
    with pytest.raises(TranscriptError, match=rf"story\.chat:8: .*{re.escape(complaint)}"):
        parse(HEAD + line, "story")


@pytest.mark.parametrize(
    "text",
    [
        "no title",
        HEAD,
        HEAD.replace("alice bob", "alice bob\n[groups]\nteam: alice nemo") + "alice's phone connects",
        HEAD.replace("alice's app is our Python client", "carol's app is our Python client") + "alice's phone connects",
        HEAD.replace("keeps its session", "keeps its promise") + "alice's phone connects",
        HEAD.replace("is paho", "is telepathy") + "alice's phone connects",
    ],
)
def test_a_broken_head_is_refused(text: str) -> None:
    """Unknown users, options and kinds, and missing parts, are mistakes too."""
    with pytest.raises(TranscriptError):
        parse(text)


def readme_sentences() -> list[str]:
    """Return the sentences of the README's blocks under Sentences."""
    text = (SCENARIOS / "README.md").read_text(encoding="utf-8").split("## Sentences", 1)[1]
    return [line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines() if line]


@pytest.mark.parametrize("sentence", readme_sentences())
def test_every_sentence_of_the_readme_is_one(sentence: str) -> None:
    """What README.md shows can be written in a transcript."""
    transcript = parse(HEAD + sentence)

    assert [sentence] == [step.text for step in transcript.steps]


def test_the_readme_shows_every_verb() -> None:
    """Nothing that the language knows is missing from README.md."""
    shown = {parse(HEAD + sentence).steps[0].verb for sentence in readme_sentences()}

    assert set(Verb) == shown


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.chat")), ids=lambda path: path.stem)
def test_every_transcript_explains_itself(path: Path) -> None:
    """Each transcript parses, has a title that says what must happen, and a comment before its first act."""
    transcript = parse_file(path)
    story = path.read_text(encoding="utf-8").split("[story]\n", 1)[1]

    assert re.match(r"[^:]+: \S.* \S+ \S+|.{40,}", transcript.title)
    assert story.startswith("# ")


def test_no_user_name_is_understood() -> None:
    """A client may leave the user name out: the token says who it is."""
    text = HEAD.replace(
        "keeps its session", 'no user name, own token, acknowledges nothing, keep alive 5 s, password "x"'
    )
    phone = parse(text + "alice's phone connects").clients["alice's phone"]

    assert (False, True, False, 5, "x") == (
        phone.user_name, phone.own_token, phone.acknowledges, phone.keep_alive_s, phone.password,
    )  # fmt: skip
