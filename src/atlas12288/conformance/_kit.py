# SPDX-License-Identifier: Apache-2.0
"""Runs clauses against a library or a module in separate processes, to protect this one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from .._words import counted
from ._clauses import BY_ID, CLAUSES, Clause
from ._outcome import LOAD, Kind, Outcome, Status
from ._report import ConformanceReport

TIME_LIMIT_S: Final = 60.0
_LOST: Final = "the process that runs the checks ended without an answer"
_ENDING_S: Final = 5.0  # for the worker to end its processes


class LoadError(Exception):
    """The library cannot be loaded or has none of the contract's functions; `str()` says why."""


def own_library() -> str:
    """Return the path of this package's library: the binding, which exports the whole C API."""
    from .. import _native

    return str(_native.__file__)


def with_parts(ids: Iterable[str]) -> list[Clause]:
    """Return the clauses with these ids and all their parts, in the order of `CLAUSES`."""
    wanted: set[str] = set()
    for id in ids:
        wanted |= {id, *BY_ID[id].parts, *BY_ID[id].shown_by}
    return [clause for clause in CLAUSES if clause.id in wanted]


def run(
    path: str,
    clauses: Sequence[Clause] = CLAUSES,
    time_limit: float = TIME_LIMIT_S,
    kind: Kind = Kind.LIBRARY,
) -> Iterator[Outcome]:
    """Run clauses, and yield their outcomes.

    Args:
        path: the library or module to judge.
        clauses: the clauses to run, with their parts, as `with_parts` returns them.
        time_limit: seconds for each check; one that takes longer fails.
        kind: kind of the file; a WebAssembly module needs the package `wasmtime`.

    Yields:
        The outcome of each clause, in order, as soon as it is known.

    Raises:
        LoadError: the file cannot be loaded.
    """
    command = [sys.executable, "-P", "-m", f"{__package__}._worker", kind, path, str(time_limit)]
    command += [clause.id for clause in clauses if clause.check is not None]
    try:
        worker = _start(command)
    except OSError as error:
        raise LoadError(f"no process can be started here: {error.strerror}") from error
    with worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            loaded = _answer(worker.stdout, LOAD)
            if loaded is None:
                raise LoadError(_LOST)
            if loaded.status is not Status.PASS:
                raise LoadError(loaded.evidence)
            done: dict[str, Outcome] = {}
            for clause in clauses:
                if clause.check is None:
                    outcome = _from_parts(clause, done)
                else:
                    found = _answer(worker.stdout, clause.id)
                    outcome = found or Outcome(clause.id, Status.NOT_CHECKED, _LOST, 0.0)
                done[clause.id] = outcome
                yield outcome
        finally:
            worker.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                worker.wait(_ENDING_S)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(worker.pid, signal.SIGKILL)


def judge(
    path: str,
    clauses: Sequence[Clause] = CLAUSES,
    time_limit: float = TIME_LIMIT_S,
    kind: Kind = Kind.LIBRARY,
    *,
    performance: bool = False,
) -> ConformanceReport:
    """Run clauses, and return the verdict.

    Args:
        path, clauses, time_limit, kind: as for `run`.
        performance: require the contract's speeds too.

    Raises:
        LoadError: the file cannot be loaded.
    """
    outcomes = run(path, clauses, time_limit, kind)
    return ConformanceReport(tuple(zip(clauses, outcomes, strict=True)), performance)


def _start(command: Sequence[str]) -> "subprocess.Popen[str]":
    """Start the worker process; raises OSError."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # the worker ends when this closes, also if this process dies
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that Ctrl-C does not reach it
    )


def _answer(lines: Iterator[str], id: str) -> Outcome | None:
    """Return the worker's outcome of one clause; None if the worker has ended."""
    line = next(lines, None)
    if line is None:
        return None
    try:
        found, status, evidence, seconds = json.loads(line)
        if found == id:
            return Outcome(id, Status(status), evidence, seconds)
    except (ValueError, TypeError):
        pass
    return Outcome(id, Status.FAIL, f"what its process answered cannot be read: {line[:60]!r}", 0.0)


def _from_parts(clause: Clause, done: dict[str, Outcome]) -> Outcome:
    """Return the outcome of a clause from its parts: it passes if all applicable parts pass."""
    by_status: dict[Status, list[str]] = {}
    for id in clause.parts:
        by_status.setdefault(done[id].status, []).append(id)
    shown = len(by_status.pop(Status.PASS, []))
    failed = by_status.pop(Status.FAIL, [])
    # The evidence names each part that was not shown, even if the clause passes.
    left = [f"{len(ids)} {status}: {', '.join(ids)}" for status, ids in by_status.items()]
    if failed:
        status, evidence = Status.FAIL, f"broken by {', '.join(failed)}"
    elif Status.NOT_CHECKED in by_status:
        status, evidence = Status.NOT_CHECKED, f"{shown} of {len(clause.parts)} clauses pass"
    elif shown:
        status, evidence = (
            Status.PASS,
            f"{counted(shown, 'clause')} {'passes' if shown == 1 else 'pass'}",
        )
        unseen = [id for id in clause.shown_by if done[id].status is not Status.PASS]
        if unseen:
            status = Status.NOT_SHOWN
            left += [f"{id} is {done[id].status}: {done[id].evidence}" for id in unseen]
    else:
        status, evidence = Status.NOT_OFFERED, "none of its clauses could be tried"
    return Outcome(clause.id, status, "; ".join([evidence, *left]), 0.0)
