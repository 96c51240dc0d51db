# SPDX-License-Identifier: Apache-2.0
"""The verdict on a library from the outcomes of its clauses, also as JUnit XML."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .._files import shown
from .._words import counted
from ._clauses import Clause
from ._outcome import Outcome, Status

SUITE: Final = "atlas12288 conformance"
_SPEED: Final = "Performance Characteristics"

Row = tuple[Clause, Outcome]


@dataclass(frozen=True)
class ConformanceReport:
    """The verdict on a library from the outcomes of clauses; str() gives it in words.

    Args:
        rows: the clauses that were run, with their outcomes.
        performance: require the contract's speeds too.
    """

    rows: tuple[Row, ...]
    performance: bool = False

    def is_required(self, clause: Clause) -> bool:
        """Return whether the library must pass a clause to be conformant."""
        return clause.required or (self.performance and clause.section == _SPEED)

    def _required(self, status: Status) -> tuple[Clause, ...]:
        return tuple(
            clause
            for clause, outcome in self.rows
            if outcome.status is status and self.is_required(clause)
        )

    @property
    def broken(self) -> tuple[Clause, ...]:
        """The required clauses that fail."""
        return self._required(Status.FAIL)

    @property
    def not_checked(self) -> tuple[Clause, ...]:
        """The required clauses that could not be tried."""
        return self._required(Status.NOT_CHECKED)

    @property
    def not_shown(self) -> tuple[Clause, ...]:
        """The required clauses that nothing breaks but nothing shows."""
        return self._required(Status.NOT_SHOWN)

    @property
    def _is_tried(self) -> bool:
        return any(outcome.status in (Status.PASS, Status.FAIL) for _, outcome in self.rows)

    @property
    def holds(self) -> bool | None:
        """Whether the library is conformant; None if that could not be decided."""
        if self.broken:
            return False
        return None if self.not_checked or not self._is_tried else True

    def __bool__(self) -> bool:
        return self.holds is True

    def counts(self) -> dict[str, int]:
        """Return the number of clauses with each status."""
        return {
            str(status): sum(outcome.status is status for _, outcome in self.rows)
            for status in Status
        }

    def summary(self) -> str:
        """Return the number of clauses and of each status in words."""
        counts = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        return f"{counted(len(self.rows), 'clause')}: {counts}"

    def __str__(self) -> str:
        more = f"; not checked: {_ids(self.not_checked)}" if self.not_checked else ""
        if self.broken:
            text = f"not conformant: {_ids(self.broken)}{more}"
        elif self.not_checked:
            text = f"could not be decided{more}"
        else:
            text = "conformant" if self._is_tried else "nothing was checked"
        return text + "".join(f"; not shown: {each.id}, {each.words}" for each in self.not_shown)

    def to_fields(self) -> dict[str, object]:
        """Return the report as the fields of a JSON object."""
        return {
            "holds": self.holds,
            "counts": self.counts(),
            "not_shown": [clause.id for clause in self.not_shown],
            "clauses": [self._row_to_fields(clause, outcome) for clause, outcome in self.rows],
        }

    def _row_to_fields(self, clause: Clause, outcome: Outcome) -> dict[str, object]:
        return clause_to_fields(clause, self.is_required(clause)) | {
            "status": outcome.status,
            "evidence": outcome.evidence,
            "seconds": round(outcome.seconds, 3),
        }

    def to_junit(self, library: str) -> bytes:
        """Return the report as JUnit XML; failing clauses that are not required are skipped.

        Args:
            library: name of the library.
        """
        suite = _suite(library)
        failures = errors = skipped = 0
        for clause, outcome in self.rows:
            seconds = f"{outcome.seconds:.3f}"
            case = ET.SubElement(
                suite, "testcase", classname=clause.section, name=clause.id, time=seconds
            )
            message = shown(outcome.evidence)  # XML allows no control characters
            if outcome.status is Status.FAIL and self.is_required(clause):
                failures += 1
                ET.SubElement(case, "failure", message=message).text = clause.words
            elif outcome.status is Status.NOT_CHECKED and self.is_required(clause):
                errors += 1
                ET.SubElement(case, "error", message=message).text = clause.words
            elif outcome.status is not Status.PASS:
                skipped += 1
                ET.SubElement(case, "skipped", message=f"{outcome.status}: {message}")
            else:
                ET.SubElement(case, "system-out").text = message
        return _document(suite, len(self.rows), failures, errors, skipped)


def clause_to_fields(clause: Clause, required: bool) -> dict[str, object]:
    """Return the fields of a clause, without its outcome, for a JSON object."""
    return {
        "id": clause.id,
        "section": clause.section,
        "words": clause.words,
        "shows": clause.shows,
        "required": required,
    }


def junit_of_error(library: str, error: str) -> bytes:
    """Return the JUnit XML of a run in which no clause could be tried."""
    suite = _suite(library)
    case = ET.SubElement(suite, "testcase", classname=SUITE, name="load")
    ET.SubElement(case, "error", message=shown(error))
    return _document(suite, 1, 0, 1, 0)


def _ids(clauses: Sequence[Clause]) -> str:
    return ", ".join(clause.id for clause in clauses)


def _suite(library: str) -> ET.Element:
    return ET.Element("testsuite", name=f"{SUITE} {shown(library)}")


def _document(suite: ET.Element, tests: int, failures: int, errors: int, skipped: int) -> bytes:
    suite.set("tests", str(tests))
    suite.set("failures", str(failures))
    suite.set("errors", str(errors))
    suite.set("skipped", str(skipped))
    ET.indent(suite)
    document: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document + b"\n"
