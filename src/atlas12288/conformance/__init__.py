# SPDX-License-Identifier: Apache-2.0
"""The conformance kit: runs the clauses of the contract against any implementation of it.

`clauses` says what is tried, `kit.run` tries it; `atlas12288 conformance` is both on the command
line. docs/conformance.md says how to read the result.
"""

from ._clauses import CLAUSES, Clause
from ._kit import LoadError, own_library, run, with_parts
from ._outcome import Kind, Outcome, Status

__all__ = [
    "CLAUSES",
    "Clause",
    "Kind",
    "LoadError",
    "Outcome",
    "Status",
    "own_library",
    "run",
    "with_parts",
]
