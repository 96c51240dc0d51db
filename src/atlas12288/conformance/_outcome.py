# SPDX-License-Identifier: Apache-2.0
"""The results of a check, and the values that the parts of the kit exchange."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LOAD: Final = "load"  # id of the outcome that says whether the library could be loaded


class Status(StrEnum):
    """The verdict on a clause."""

    PASS = "pass"
    FAIL = "fail"
    NOT_OFFERED = "not offered"
    NOT_APPLICABLE = "not applicable"
    NOT_CHECKED = "not checked"
    NOT_SHOWN = "not shown"


class Kind(StrEnum):
    """What can be judged."""

    LIBRARY = "library"
    WASM = "wasm"


class BrokenClauseError(Exception):
    """The library breaks the clause; `str()` is the evidence."""


class NotOfferedError(Exception):
    """The library lacks the function that would show it; `str()` is the reason."""


class NotCheckedError(Exception):
    """The kit could not try it, which says nothing of the library; `str()` is the reason."""


def require(condition: object, evidence: str) -> None:
    """Raise `BrokenClauseError` with the evidence unless the condition holds."""
    if not condition:
        raise BrokenClauseError(evidence)


@dataclass(frozen=True)
class Outcome:
    """What came out for one clause.

    Args:
        id: of the clause.
        status: the verdict.
        evidence: a sentence with the values.
        seconds: how long it took.
    """

    id: str
    status: Status
    evidence: str
    seconds: float
