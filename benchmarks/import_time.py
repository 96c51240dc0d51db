# SPDX-License-Identifier: Apache-2.0
"""Time `import atlas12288` beside `import hashlib`, each time in a fresh process.

    python benchmarks/import_time.py [ROUNDS]

The processes take turns, so that all statements meet the same machine, and each runs once before
the first round, so that its bytecode is there. Prints, for each statement, the median of its
milliseconds above a process that imports nothing, and the milliseconds above `import hashlib`.
"""

import subprocess
import sys
from statistics import median
from time import perf_counter
from typing import Final

_NOTHING: Final = "pass"
_HASHLIB: Final = "import hashlib"
_STATEMENTS: Final = (
    _NOTHING,
    _HASHLIB,
    "import atlas12288",
    # What the package does without:
    "import atlas12288, typing",
    "import atlas12288, dataclasses",
    "import atlas12288, inspect",
)


def milliseconds(statement: str) -> float:
    """Return the time of a fresh interpreter that runs the statement, from its start to its end."""
    started = perf_counter()
    # -I: as users start it, whatever the environment says about bytecode.
    subprocess.run([sys.executable, "-I", "-c", statement], check=True)
    return (perf_counter() - started) * 1e3


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    for statement in _STATEMENTS:
        milliseconds(statement)
    times: dict[str, list[float]] = {statement: [] for statement in _STATEMENTS}
    for _ in range(rounds):
        for statement in _STATEMENTS:
            times[statement].append(milliseconds(statement))
    # Differences of one round: what slows the machine slows both.
    print("| statement | ms | above `import hashlib` |")
    print("|---|---|---|")
    for statement in _STATEMENTS[1:]:
        above = [
            [ours - theirs for ours, theirs in zip(times[statement], times[other], strict=True)]
            for other in (_NOTHING, _HASHLIB)
        ]
        print(f"| `{statement}` | {median(above[0]):.1f} | {median(above[1]):.1f} |")


if __name__ == "__main__":
    main()
