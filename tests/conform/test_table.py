"""Every sentence of the contract is in the table of the kit; whatever binds has a check, or the reason why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mesimqtt.proof.conform import page
from mesimqtt.proof.conform.table import Level, check, checks, statements

HOME = Path(__file__).resolve().parents[2]
CONTRACT = (HOME / "docs/contract.md").read_text("utf-8")


def words(text: str) -> str:
    """Return a text without its spaces, headings and lines between the head and the body of a table."""
    text = re.sub(r"^## .*$|^\|[-|]+\|$", "", text, flags=re.MULTILINE)
    return "".join(text.split())


def test_the_statements_are_the_contract():
    """Put one behind the other, the statements are sections 1 to 6 of docs/contract.md, word for word."""
    contract = "## 1. " + CONTRACT.partition("## 1. ")[2].partition("## 7. ")[0]

    assert words(contract) == words("".join(each.words for each in statements().values()))


@pytest.mark.parametrize("section", "123456")
def test_numbers_are_counted(section):
    """The statements of a section are numbered from 1 without a gap: a number in a report is found in the page."""
    found = [each.number for each in statements().values() if each.section == section]

    assert [f"C{section}.{number}" for number in range(1, len(found) + 1)] == found


def test_what_binds_is_checked():
    """A statement that must or may hold has a check, or says why not; a note says why there is nothing to see."""
    silent = [each.number for each in statements().values() if each.number not in checks() and not each.why]
    both = [each.number for each in statements().values() if each.number in checks() and each.why]
    notes = [number for number in checks() if statements()[number].level is Level.NOTE]

    assert ([], [], []) == (silent, both, notes)


def test_a_check_says_how():
    """Each check tells in a sentence of its own what is done and what must be seen."""
    vague = [number for number, each in checks().items() if len(each.how) < 30 or not each.how.endswith(".")]

    assert [] == vague


def test_no_statement_has_two_checks():
    """A second check of a statement, and one of a statement that is not there, are refused when they are registered."""
    checks()  # all of them are there, whichever test runs first
    for number in ("C2.6", "C9.1"):
        with pytest.raises(ValueError, match=number):
            check(number)(test_no_statement_has_two_checks)


def test_the_page_is_the_table():
    """docs/conformance.md has the statements as they are: python -m mesimqtt.proof.conform.page docs/conformance.md."""
    text = (HOME / "docs/conformance.md").read_text("utf-8")

    assert page.renewed(text) == text


def test_the_kit_knows_nothing_of_the_server():
    """No module of the kit but the one that starts our own server imports what the server is made of."""
    inner = re.compile(r"from mesimqtt\.(app|broker|embed|engine|messaging|services|store|tokens|topics|settings)\b")
    found = [
        path.name for path in (HOME / "mesimqtt/proof/conform").rglob("*.py") if inner.search(path.read_text("utf-8"))
    ]

    assert [] == found
