# SPDX-License-Identifier: Apache-2.0
"""Time `import atlas12288` and the start of commands, each time in a fresh process.

    python benchmarks/start.py [ROUNDS]

The processes take turns, so that all meet the same machine, and each runs once before the first
round, so that its bytecode is there. Prints two tables of medians: what a statement takes beyond
`import hashlib` in the same round, and what a command takes that reads one small file or none.
Milliseconds, and milliseconds of a processor, which other programs disturb less.
"""

import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final, NamedTuple

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
_FILE: Final = "FILE"
_COMMANDS: Final = (
    "python -c pass",
    "python -c 'import click'",
    "atlas12288 --version",
    f"atlas12288 sum {_FILE}",
    f"atlas12288 witness {_FILE}",
    f"sha256sum {_FILE}",
    f"openssl dgst -sha256 {_FILE}",
    f"b3sum {_FILE}",
)


class Times(NamedTuple):
    """What a process took, in milliseconds: until it ended, and of a processor."""

    elapsed: float
    used: float


def run(command: tuple[str, ...]) -> Times:
    """Return how long a fresh process takes."""
    with Path(os.devnull).open("wb") as nowhere:
        started = perf_counter()
        outputs = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1)]
        process = os.posix_spawn(command[0], command, os.environ, file_actions=outputs)
        _, status, used = os.wait4(process, 0)
        elapsed = perf_counter() - started
    if status != 0:
        raise SystemExit(f"{' '.join(command)}: failed")
    return Times(elapsed * 1e3, (used.ru_utime + used.ru_stime) * 1e3)


def statement_command(statement: str) -> tuple[str, ...]:
    """Return the command that runs a statement as users start it: -I, because what the environment
    says about bytecode does not count."""
    return (sys.executable, "-I", "-c", statement)


def program_command(words: str, file: str) -> tuple[str, ...]:
    """Return the command of a row; empty if the program is not installed."""
    program, *arguments = (file if word == _FILE else word for word in shlex.split(words))
    if program == "python":
        return (sys.executable, "-I", *arguments)
    # Ours is the script of this interpreter; `python -m` takes some ms more.
    folder = sysconfig.get_path("scripts") if program == "atlas12288" else None
    found = shutil.which(program, path=folder)
    return () if found is None else (found, *arguments)


def in_turns(
    commands: Iterable[tuple[str, ...]], rounds: int
) -> dict[tuple[str, ...], list[Times]]:
    """Run all commands in each round, and once before it."""
    times: dict[tuple[str, ...], list[Times]] = {command: [] for command in commands}
    for command in times:
        run(command)
    for _ in range(rounds):
        for command, found in times.items():
            found.append(run(command))
    return times


def medians(times: Iterable[Times]) -> tuple[float, ...]:
    """Return the medians of both columns."""
    return tuple(median(column) for column in zip(*times, strict=True))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    statements = {each: statement_command(each) for each in _STATEMENTS}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        file.write_bytes(b"atlas")
        programs = {words: program_command(words, str(file)) for words in _COMMANDS}
        chosen = [each for each in (*statements.values(), *programs.values()) if each]
        times = in_turns(chosen, rounds)
    print("| statement | ms above `import hashlib` | processor ms above it |")
    print("| --- | ---: | ---: |")
    base = times[statements[_HASHLIB]]
    for name in _STATEMENTS[1:]:
        pairs = zip(times[statements[name]], base, strict=True)
        elapsed, used = medians(
            Times(ours.elapsed - theirs.elapsed, ours.used - theirs.used) for ours, theirs in pairs
        )
        print(f"| `{name}` | {elapsed:.1f} | {used:.1f} |")
    print("\n| command | ms | processor ms |")
    print("| --- | ---: | ---: |")
    for words, command in programs.items():
        if command:
            elapsed, used = medians(times[command])
            print(f"| `{words}` | {elapsed:.1f} | {used:.1f} |")
        else:
            print(f"| `{words}` | not installed | |")


if __name__ == "__main__":
    main()
