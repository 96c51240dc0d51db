# SPDX-License-Identifier: Apache-2.0
"""The conformance kit: run the clauses of the contract against any implementation of it.

`CLAUSES` says what is tried, `judge` tries it and gives a verdict, `run` gives the outcomes one by
one; `atlas12288 conformance` is the kit on the command line. docs/conformance.md says how to read
the result.
"""

from ._clauses import CLAUSES, Clause
from ._kit import LoadError, judge, own_library, run, with_parts
from ._outcome import Kind, Outcome, Status
from ._report import ConformanceReport

__all__ = [
    "CLAUSES",
    "Clause",
    "ConformanceReport",
    "Kind",
    "LoadError",
    "Outcome",
    "Status",
    "judge",
    "own_library",
    "run",
    "with_parts",
]
