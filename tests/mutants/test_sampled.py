"""Small changes at random: what is changed, what is left alone, and that a number says which."""

from __future__ import annotations

import ast

import pytest

from mutants.copies import HOME, Run
from mutants.planted import noticed
from mutants.sampled import FILES, Change, Covers, drawn
from mutants.sites import Site, sites

SOURCE = '''"""Nothing at module level, no docstring and no log line is changed."""
LIMIT = 64


def taken(queue: deque[int], é: int = 3) -> bool:
    """Take what fits."""
    log.info("é %d", 5)
    if é < len(queue) and not queue.closed:
        return True
    queue.append(é + 1)
    return min(é, 7) == 7
'''


def changes_of(source: str) -> list[str]:
    """Return what each site of a text says of itself."""
    return [site.what for site in sites(source)]


def test_every_small_change_of_a_text() -> None:
    """Comparisons, operators, constants, conditions and statements are changed, each alone."""
    expected = [
        "without not queue.closed", "without é < len(queue)", "é < len(queue) -> é <= len(queue)",
        "not: é < len(queue) and (not queue.closed)", "without not: queue.closed", "return False", "True -> False",
        "without queue.append(é + 1)", "é + 1 -> é - 1", "1 -> 2", "min(é, 7) == 7 -> min(é, 7) != 7", "min -> max",
        "7 -> 8", "7 -> 8",
    ]  # fmt: skip

    assert sorted(expected) == sorted(changes_of(SOURCE))


def test_a_change_is_at_its_place() -> None:
    """The text around a change stays as it is, also behind characters of two bytes."""
    (site,) = [site for site in sites(SOURCE) if site.what == "é + 1 -> é - 1"]

    assert 10 == site.line
    assert SOURCE.replace("é + 1", "(é - 1)") == site.changed(SOURCE)


def test_what_is_changed_is_python() -> None:
    """A change of the real sources is another text that can be run."""
    for change in drawn(40, 1, FILES):
        text = (HOME / change.file).read_text(encoding="utf-8")
        changed = change.site.changed(text)
        ast.parse(changed)

        assert text != changed


def test_a_number_says_which_changes() -> None:
    """The same seed draws the same changes, another one others."""
    first, again, other = (drawn(20, seed, FILES) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_the_quickest_test_is_asked_first() -> None:
    """Of the tests that run a line the quick ones come first; what runs elsewhere is not asked."""
    covers = Covers({"tests": [["slow", 2.0], ["quick", 0.1], ["other", 0.0]], "lines": {"a.py": {"3": [0, 1]}}})
    change = Change("a.py", Site(3, 0, 1, "", "x"))

    assert ["quick", "slow"] == covers.of(change)
    assert [] == covers.of(Change("a.py", Site(4, 0, 1, "", "x")))


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (Run(0, 1.0, passed=[("a", 0.1)]), ((), "")),
        (Run(1, 1.0, failed=[("a", 0.1), ("a", 0.1)]), (("a",), "")),
        (Run(-1, 9.0, passed=[("a", 0.1)], last="b"), (("b (never ended)",), "")),
        (Run(1, 9.0, passed=[("a", 0.1)], last="b"), (("b (never ended)",), "")),
        (Run(2, 1.0, broken=["a.py: SyntaxError"]), ((), "a.py: SyntaxError")),
        (Run(4, 1.0, output="no such test"), ((), "pytest ended with 4:\nno such test")),
    ],
)
def test_who_noticed_is_told_from_what_is_no_run_at_all(run, expected) -> None:
    """A failure and a test that never ends are noticed; tests that cannot be run prove nothing."""
    assert expected == noticed(run)
