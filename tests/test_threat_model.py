# SPDX-License-Identifier: Apache-2.0
"""docs/threat-model.md: each row says what holds, and the tests that it names are there."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
TEXT = (PROJECT / "docs" / "threat-model.md").read_text(encoding="utf-8")
HEADING = "| who controls | holds | does not hold | shown by |"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and line != HEADING
]
NAMED = sorted({name for row in ROWS for name in re.findall(r"`([^`]+)`", row[-1])})


def test_every_row_says_what_holds_and_names_tests() -> None:
    assert len(ROWS) > 20
    for who, holds, _, shown_by in ROWS:
        assert who
        assert holds
        assert re.search(r"`[^`]+::[^`]+`", shown_by), who


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_is_there(name: str) -> None:
    file, _, test = name.partition("::")
    path = PROJECT / (file if file.startswith("js/") else f"tests/{file}")
    text = path.read_text(encoding="utf-8")
    assert (f'test("{test}"' if path.suffix == ".mjs" else f"\ndef {test}(") in text


def test_every_rule_that_a_row_refers_to_is_in_the_list() -> None:
    rules = re.findall(r"^(\d)\. ", TEXT, re.MULTILINE)
    assert rules == [str(number) for number in range(1, 10)]
    referred = {
        rule for row in ROWS for cell in row[1:3] for rule in re.findall(r"[( ](\d)[,)]", cell)
    }
    assert referred <= set(rules)
