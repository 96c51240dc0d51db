# SPDX-License-Identifier: Apache-2.0
"""Time `import atlas12288` beside `import hashlib`, each time in a fresh process.

    python benchmarks/import_time.py [ROUNDS]

The processes take turns, so that all statements meet the same machine, and each runs once before
the first round, so that its bytecode is there. Prints, for each statement, medians of the time that
it takes beyond `import hashlib` in the same round: milliseconds, and milliseconds of a processor,
which other programs disturb less.
"""

import os
import sys
from statistics import median
from time import perf_counter
from typing import Final

_HASHLIB: Final = "import hashlib"
_STATEMENTS: Final = (
    _HASHLIB,
    "pass",
    "import atlas12288",
    "import atlas12288; atlas12288.TreeHash",
    "import atlas12288; atlas12288.Manifest",
    # What the package does without:
    "import atlas12288, typing",
    "import atlas12288, dataclasses",
    "import atlas12288, inspect",
)


def milliseconds(statement: str) -> tuple[float, float]:
    """Return how long a fresh interpreter takes for the statement: milliseconds, processor's."""
    # -I: as users start it; what the environment says about bytecode does not count.
    command = (sys.executable, "-I", "-c", statement)
    started = perf_counter()
    _, status, used = os.wait4(os.posix_spawn(sys.executable, command, os.environ), 0)
    elapsed = perf_counter() - started
    if status != 0:
        raise SystemExit(f"{statement}: failed")
    return elapsed * 1e3, (used.ru_utime + used.ru_stime) * 1e3


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    for statement in _STATEMENTS:
        milliseconds(statement)
    times: dict[str, list[tuple[float, float]]] = {statement: [] for statement in _STATEMENTS}
    for _ in range(rounds):
        for statement in _STATEMENTS:
            times[statement].append(milliseconds(statement))
    print("| statement | ms above `import hashlib` | processor ms above it |")
    print("| --- | ---: | ---: |")
    for statement in _STATEMENTS[1:]:
        pairs = zip(times[statement], times[_HASHLIB], strict=True)
        extra = [[ours - theirs for ours, theirs in zip(*pair, strict=True)] for pair in pairs]
        elapsed, used = (median(column) for column in zip(*extra, strict=True))
        print(f"| `{statement}` | {elapsed:.1f} | {used:.1f} |")


if __name__ == "__main__":
    main()
