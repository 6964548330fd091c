"""`mesimqtt trace` for a person: a message that waits for its time, and one that was sent."""

from __future__ import annotations

import pytest

from mesimqtt.cli.main import run


@pytest.fixture
def say(tmp_path, capsys):
    """Run a command on a folder with alice and bob; return what it prints."""

    def call(*words):
        capsys.readouterr()
        assert 0 == run([*words, "--data", str(tmp_path / "data")])
        return capsys.readouterr().out

    call("user", "add", "alice", "bob")
    return call


def test_the_story_of_a_message(say):
    """What waits says when it is due and lists no device; what was sent says when it ends and who could have it."""
    later = say("trace", say("send", "--from", "alice", "--to", "bob", "--when", "3600", "later").strip())
    now = say("trace", say("send", "--from", "alice", "--to", "bob", "now").strip())

    facts = {line.split()[0] for line in later.partition("\n\n")[0].splitlines()}
    assert ({"due", "params", "from", "to"}, set()) == (facts & {"due", "params", "from", "to"}, facts & {"expires_at"})
    assert ["sent", "1", "bob"] == later.split("\n\n")[1].splitlines()[1].split()[2:]
    assert 1 == later.count("RECIPIENT")  # of the steps; a list of devices there is none
    assert "expires_at" in now
    assert "no-device" in now
