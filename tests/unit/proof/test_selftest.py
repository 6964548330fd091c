"""The self-test: each trial as often as asked, whatever another one does, and a report that says what was seen."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

from mesimqtt.proof import page
from mesimqtt.proof.__main__ import main as alone
from mesimqtt.proof.page import BEGIN, END
from mesimqtt.proof.promises import PROMISES, UNTRIED
from mesimqtt.proof.report import Report, Result, read, together
from mesimqtt.proof.selftest import Plan, selftest
from mesimqtt.proof.trial import Failure, Outcome
from mesimqtt.proof.trials import TRIALS, Listed, trial
from unit.proof.fakes import Breaking, Fake, Finding, Halfway, Interrupted, Lacking, Quiet

FACTS = {"date": "2026-01-01"}


def run(tmp_path, *trials, minutes=0.0):
    show = Quiet()
    plan = Plan({each.name: 2 for each in trials}, seed=5, minutes=minutes, folder=tmp_path)
    return selftest(plan, show, make={each.name: each for each in trials}.__getitem__), show


def test_each_trial_runs_in_a_folder_of_its_own_that_goes(tmp_path):
    """A trial is given its count, its seed and a folder, which is gone afterwards."""
    fake = Fake()
    report, show = run(tmp_path, fake)

    assert [(2, 5, True)] == fake.runs
    assert [] == list(tmp_path.iterdir())
    assert [("fake", 1, 2), ("fake", 2, 2), ("fake", 0)] == show.told
    assert 0 == report.failed


def test_while_there_is_time_the_trials_go_on_with_new_seeds(tmp_path):
    """With minutes given, rounds follow each other, no seed is used twice, and the outcomes are one."""
    fake = Fake()
    report, _ = run(tmp_path, fake, minutes=0.005)

    seeds = [seed for _, seed, _ in fake.runs]
    assert [5 + 2 * n for n in range(len(seeds))] == seeds
    assert len(seeds) > 1
    assert 2 * len(seeds) == report.results[0].outcome.tried
    assert 20 * len(seeds) == report.results[0].outcome.figures["messages"]  # a count adds up
    assert seeds[-1] == report.results[0].outcome.figures["worst_ms"]  # of a measurement the worst counts


def test_a_broken_promise_is_told_with_what_repeats_it(tmp_path):
    """A failure stands in the report in full, and the promise is called broken."""
    report, _ = run(tmp_path, Fake(), Finding())
    text = report.markdown()

    assert 2 == report.failed
    assert "**2 tries failed** in finding." in text
    assert "- **finding**: lost: 1 of alice\n  again: `python -m mesimqtt.proof finding`" in text
    assert "| P1 An accepted message survives kill -9. | 2 tries, 2 tries | BROKEN |" in text


def test_a_trial_that_breaks_itself_is_a_failure_and_holds_up_no_other(tmp_path):
    """A mistake in a trial shows nothing, so nothing is called held by it, and the next trial runs."""
    after = Fake()
    report, _ = run(tmp_path, Breaking(), after)

    assert 1 == len(after.runs)
    (broken, held) = report.results
    assert "BROKEN" == broken.verdict
    assert "held" == held.verdict
    assert re.match(
        r"the trial itself broke: RuntimeError: no such thing \(fakes\.py:\d+\)", broken.outcome.failures[0].what
    )


def test_a_promise_is_broken_where_its_trial_broke_by_itself():
    """What tried nothing because it broke has not held, and one failure is one try, not tries."""
    outcome = Outcome(0, "1", (Failure("the trial itself broke", "again"),), 1)
    text = Report(FACTS, [Result("kills", "kill -9", ("P1",), "kills", outcome, 1.0)]).markdown()

    assert "1 trials, 0 minutes: **1 try failed** in kills." in text
    assert "| P1 An accepted message survives kill -9. | 0 kills | BROKEN |" in text


def test_a_trial_that_tried_nothing_has_not_held():
    """Nothing tried, nothing failed and no reason: it is not tried, and neither is its promise."""
    result = Result("kills", "kill -9", ("P1",), "kills", Outcome(0, "1"), 1.0)
    text = Report(FACTS, [result]).markdown()

    assert "not tried" == result.verdict
    assert "0 trials, 0 minutes: **nothing was tried.**" in text
    assert "| P1 An accepted message survives kill -9. | - | not tried |" in text
    assert "| **kills**: kill -9 | 0 kills | 1 | 0 | 1 s | not tried |" in text


def test_a_trial_that_was_skipped_in_part_shows_what_it_counted():
    """The reason stands beside the figures, not in their place."""
    outcome = Outcome(3, "1", figures={"messages": 7.0}, skipped="no disk")
    text = Report(FACTS, [Result("kills", "kill -9", ("P1",), "kills", outcome, 1.0)]).markdown()

    assert "| messages 7, skipped: no disk |" in text


def test_what_could_not_be_tried_is_not_called_held(tmp_path):
    """A trial whose tool is missing is skipped with the reason, and its promise is not tried."""
    report, _ = run(tmp_path, Lacking())

    assert "skipped" == report.results[0].verdict
    assert "skipped: strace is not installed" in report.markdown()
    assert "**nothing was tried.** Skipped, with the reason below: " in report.markdown()
    assert "| P1 An accepted message survives kill -9. | - | not tried |" in report.markdown()


def test_an_interrupted_run_reports_what_was_done(tmp_path):
    """Ctrl-C ends the run; the report holds what was over by then and says that it was interrupted."""
    report, _ = run(tmp_path, Fake(), Interrupted(), Finding())

    assert [("fake", "held"), ("interrupted", "interrupted")] == [(each.name, each.verdict) for each in report.results]
    assert "yes: interrupted after 0" == report.facts["interrupted"]
    assert "It was interrupted: of the trial that ran, what was over counts." in report.markdown()


def test_what_a_trial_had_tried_counts_and_is_not_called_held(tmp_path):
    """Half of what was asked is in the report, in Markdown and in JSON; its promises are not held by it."""
    report, show = run(tmp_path, Fake(), Halfway(), Finding())
    (_, half) = report.results
    text = report.markdown()

    assert (1, True, {"messages": 10, "worst_ms": 5.0}) == (
        half.outcome.tried, half.outcome.interrupted, half.outcome.figures,
    )  # fmt: skip
    assert ["fake", "halfway"] == list(dict.fromkeys(name for name, *_ in show.told))
    assert "| P1 An accepted message survives kill -9. | 2 tries, 1 tries | interrupted |" in text
    assert re.search(r"\| 1 tries \| 5\.\.5 \| 0 \| \d+ s \| messages 10, worst_ms 5, \*\*interrupted\*\* \|", text)
    again = read(json.loads(json.dumps(report.as_json())))
    assert [each.outcome for each in report.results] == [each.outcome for each in again]
    assert "interrupted" == report.as_json()["trials"][1]["verdict"]
    assert [] == list(tmp_path.iterdir())


def test_a_report_of_before_says_nothing_of_interruptions():
    """One that an older version wrote can be read: then nobody could interrupt a trial and have it counted."""
    document = Report(FACTS, [Result("kills", "kill -9", ("P1",), "kills", Outcome(3, "1..3"), 1.0)]).as_json()
    del document["trials"][0]["interrupted"]

    assert [False] == [each.outcome.interrupted for each in read(document)]


def test_the_page_takes_nothing_that_was_interrupted(tmp_path, capsys):
    """PROOF.md shows what was tried in full, and stays as it was."""
    report, _ = run(tmp_path, Halfway())
    path, file = tmp_path / "PROOF.md", tmp_path / "half.json"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    file.write_text(json.dumps(report.as_json()))

    assert 2 == page.main([str(path), str(file)])
    assert "old" in path.read_text()
    assert "show less than was asked: halfway; run them again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fake", "words"), [(Halfway, "halfway: 1 tries, seeds 5..5: 0 failed"), (Interrupted, "")], ids=["half", "nothing"]
)
def test_one_trial_alone_that_is_interrupted(monkeypatch, capsys, fake, words):
    """It prints what was tried until then, and its exit code says that this is not all."""
    monkeypatch.setitem(TRIALS, "kills", Listed(f"{fake.__module__}:{fake.__name__}", 1, 1, 1))

    assert 130 == alone(["kills", "--count", "2", "--seed", "5"])
    out, err = capsys.readouterr()
    assert words in out
    assert "interrupted" in err


def test_a_terminated_trial_is_an_interrupted_one():
    """SIGTERM is as Ctrl-C while trials run, and what it was before and behind."""
    code = (
        "import signal\nfrom mesimqtt.proof.trial import terminable\n"
        "try:\n    with terminable():\n        signal.raise_signal(signal.SIGTERM)\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
        "signal.raise_signal(signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ("interrupted\n", -signal.SIGTERM) == (done.stdout, done.returncode)


def test_a_report_in_json_can_be_read_back():
    """What was written for programs yields the same results again, so that reports can be put together."""
    outcome = Outcome(3, "1..3", (Failure("lost", "again"),), 1, {"messages": 7.0}, "")
    result = Result("kills", "kill -9", ("P1", "N2"), "kills", outcome, 1.5)
    report = Report(FACTS, [result])

    assert [result] == list(read(json.loads(json.dumps(report.as_json()))))


def test_of_rounds_the_skipped_and_the_failed_are_kept():
    """Several rounds as one: tries and failures add up, and a reason to skip is not forgotten."""
    found = together([Outcome(1, "1", (Failure("a", "b"),), 1), Outcome(0, "", skipped="no disk")])

    assert Outcome(1, "1", (Failure("a", "b"),), 1, {}, "no disk") == found


def test_figures_of_rounds_are_sums_worst_or_the_same():
    """Counts add up, a measurement is the worst, below nothing too; what a trial says is the same stays the same."""
    rounds = [
        Outcome(
            1, "1", figures={"targets": 60.0, "messages": 2.0, "grown_max_mb": each}, largest=frozenset({"targets"})
        )
        for each in (-5.0, -3.0)
    ]
    found = together([*rounds, Outcome(1, "1", figures={"targets": 60.0})])

    assert {"targets": 60.0, "messages": 4.0, "grown_max_mb": -3.0} == found.figures
    assert frozenset({"targets"}) == found.largest


@pytest.mark.parametrize("name", ["parsers", "conformance"])
def test_what_is_the_same_in_every_round_is_not_added_up(name, tmp_path):
    """Trials declare such figures: two rounds say what one says."""
    (tmp_path / "a").mkdir()
    once = trial(name).run(1, seed=1, folder=tmp_path / "a", progress=lambda _: None)

    assert once.figures == together([once, once]).figures


def test_every_trial_says_what_it_is():
    """A listed trial has the name it is listed under, a sentence, a unit, and promises that exist."""
    for name, listed in TRIALS.items():
        found = trial(name)
        assert name == found.name
        assert found.title
        assert found.title[0].islower()
        assert found.unit
        assert [] == [number for number in found.promises if number not in PROMISES]
        assert 0 < listed.short <= listed.usual <= listed.long


def test_the_page_takes_the_figures_of_several_reports(tmp_path):
    """Reports of long runs are put between the marks of the page; what stood there goes, the rest stays."""
    (tmp_path / "page.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for name, tried in (("kills", 1), ("cuts", 2)):
        report = Report(FACTS, [Result(name, "x", ("P1",), "tries", Outcome(tried, "1"), 1.0)])
        (tmp_path / f"{name}.json").write_text(json.dumps(report.as_json()))

    code = page.main([str(tmp_path / each) for each in ("page.md", "kills.json", "cuts.json")])

    text = (tmp_path / "page.md").read_text()
    assert 0 == code
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "2 trials" in text


def test_every_promise_is_tried_or_says_why_not():
    """Each promise is named by a trial, or stands among those that no trial can break, with the reason."""
    named = {number for name in TRIALS for number in trial(name).promises}

    assert PROMISES.keys() - named == UNTRIED.keys()
    assert all(UNTRIED.values())


@pytest.mark.parametrize("option", [["--count", "0"], ["--count", "-3"], ["--seed", "0"], ["--count", "many"]])
def test_one_trial_alone_is_tried_at_least_once(option, capsys):
    """`python -m mesimqtt.proof` says what it takes, and never that nothing failed where nothing was tried."""
    with pytest.raises(SystemExit) as ended:
        alone(["cuts", *option])

    assert 2 == ended.value.code
    assert option[0] in capsys.readouterr().err


def test_the_page_says_when_each_of_its_parts_was_tried():
    """What is the same for all reports is said once; date and commit, where they differ, for the trials of each."""
    documents = []
    for names, date, commit in ((("kills", "cuts"), "Monday", "a1"), (("cuts", "seeds"), "Tuesday", "b2")):
        results = [Result(name, "x", ("P1",), "tries", Outcome(1, "1"), 1.0) for name in names]
        facts = {"date": date, "version": f"mesimqtt 1, commit {commit}", "cpu": "one", "room": date}
        documents.append(Report(facts, results).as_json())
    text = page.merged(documents).markdown()

    assert [
        "- cpu: one",
        "- kills: Monday; mesimqtt 1, commit a1; room: Monday",
        "- cuts, seeds: Tuesday; mesimqtt 1, commit b2; room: Tuesday",
    ] == [line for line in text.splitlines() if line.startswith("- ")]
    assert page.merged(documents[:1]).facts == documents[0]["facts"]


def test_the_page_takes_the_planted_bugs():
    """How many of them the suite noticed, which not, and of which commit and date; that is no trial."""
    bugs = [{"bug": "blind", "by": []}, {"bug": "seen", "by": ["tests/x.py::test"]}]
    document = {"facts": {"date": "Monday", "version": "mesimqtt 1"}, "planted": 2, "killed": 1, "bugs": bugs}
    report = page.merged([document])

    assert {"planted bugs": "1 of 2 noticed by the suite; not: blind; Monday; mesimqtt 1"} == report.facts
    assert [] == report.results
