# SPDX-License-Identifier: Apache-2.0
"""Outcomes of checks, and the errors that checks raise."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LOAD: Final = "load"  # id of the outcome of loading the library


class Status(StrEnum):
    """The verdict on a clause."""

    PASS = "pass"
    FAIL = "fail"
    NOT_OFFERED = "not offered"
    NOT_APPLICABLE = "not applicable"
    NOT_CHECKED = "not checked"
    NOT_SHOWN = "not shown"


class Kind(StrEnum):
    """The kind of file that is judged."""

    LIBRARY = "library"
    WASM = "wasm"


class BrokenClauseError(Exception):
    """The library breaks the clause; `str()` is the evidence."""


class NotOfferedError(Exception):
    """The library lacks the function that would show the clause; `str()` is the reason."""


class NotCheckedError(Exception):
    """The kit could not try the clause, which says nothing about the library; `str()` says why."""


def require(condition: object, evidence: str) -> None:
    """Raise `BrokenClauseError` with the evidence unless the condition holds."""
    if not condition:
        raise BrokenClauseError(evidence)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one clause.

    Args:
        id: id of the clause.
        status: the verdict.
        evidence: a sentence with the values found.
        seconds: duration of the check.
    """

    id: str
    status: Status
    evidence: str
    seconds: float
