# SPDX-License-Identifier: Apache-2.0
"""The process that runs checks: `python -m atlas12288.conformance._worker KIND PATH SECONDS ID...`.

Each check runs in a process of its own, which loads the library anew: no check sees what another
did to the heap, and a crash or a hang ends that check alone. Standard output gets a line of JSON
for each, the first one for loading the library.
"""

import json
import mmap
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from . import _process
from ._clauses import BY_ID
from ._outcome import (
    LOAD,
    BrokenClauseError,
    Kind,
    NotCheckedError,
    NotOfferedError,
    Status,
    require,
)
from ._subjects import native
from ._subjects.library import CONTRACT, Library, Need, Note
from ._subjects.native import NativeLibrary

MEMORY_BYTES: Final = 2**30  # over ten times the memory that any check needs
HANGS_MAX: Final = 3  # then the rest is not run

_LAST_WORDS_BYTES: Final = 4096  # of standard error, which may be long
_WORK_BYTES: Final = 4 * 2**20  # enough for all clauses except the ones about sums beyond 32 bits
_WASM_MAGIC: Final = b"\0asm"

Check = Callable[[Library], str]


@dataclass(frozen=True)
class Subject:
    """The library or module to judge.

    Args:
        load: loads a new instance; raises OSError.
        lacks: features that it cannot have, with the reason; clauses that need one do not apply.
    """

    load: Callable[[Note], Library]
    lacks: Mapping[Need, str] = field(default_factory=dict)


def subject(kind: Kind, path: str) -> Subject:
    """Return the subject for a file.

    Raises:
        OSError: the file cannot be judged.
    """
    if kind is Kind.LIBRARY:
        return Subject(partial(NativeLibrary, path), native.lacks())
    code = Path(path).read_bytes()
    if not code.startswith(_WASM_MAGIC):
        raise OSError("is not a WebAssembly module")
    try:
        from ._subjects.wasm import LACKS, Compiled
    except ImportError as error:
        if error.name != "wasmtime":
            raise
        raise OSError(
            "WebAssembly modules need wasmtime: pip install 'atlas12288[wasm]'"
        ) from error
    return Subject(Compiled(code).open, LACKS)


class _Note:
    """Records what a check is doing, in memory that its parent can read after a crash."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 512)

    def write(self, text: str) -> None:
        line = text.encode(errors="replace")[:511]
        self._shared[: len(line) + 1] = line + b"\0"

    def calls(self, text: str) -> None:
        """Record the call of a function, as described by `Library.note`."""
        self.write(f"in {text}")

    def read(self) -> str:
        return self._shared[:].split(b"\0")[0].decode(errors="replace")


def _judge(check: Check, judged: Subject, note: _Note) -> tuple[Status, str]:
    """Run a check in this process; return the verdict and its evidence."""
    try:
        limited = _limit_memory()
        note.write("while it was loaded")
        try:
            library = judged.load(note.calls)
        except OSError as error:
            return Status.FAIL, _reason(error)
        note.write("")
        return Status.PASS, check(library)
    except BrokenClauseError as evidence:
        return Status.FAIL, str(evidence)
    except NotOfferedError as reason:
        return Status.NOT_OFFERED, str(reason)
    except NotCheckedError as reason:
        return Status.NOT_CHECKED, str(reason)
    except MemoryError:
        needed = f"needs more than {MEMORY_BYTES >> 20} MiB of memory"
        return (Status.NOT_CHECKED, limited) if limited else (Status.FAIL, needed)
    except OSError as error:  # for example, the check could not allocate its own data
        return Status.NOT_CHECKED, _reason(error)
    except Exception:  # a mistake in the kit is not a verdict; report its cause
        return Status.NOT_CHECKED, f"the kit itself failed: {traceback.format_exc()}"


def _limit_memory() -> str | None:
    """Limit the memory of this process; return the reason if an existing limit is too low."""
    most = _data_bytes() + MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    known = hard if hard != resource.RLIM_INFINITY else most
    resource.setrlimit(resource.RLIMIT_DATA, (min(most, known), min(most, known)))
    if known < most or resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return f"memory is limited here to less than the {MEMORY_BYTES >> 20} MiB that it may take"
    return None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _life(check: Check, judged: Subject, note: _Note, err: BinaryIO, out: int) -> None:
    """Run a check in its own process; write verdict and evidence to `out`."""
    os.dup2(err.fileno(), sys.stderr.fileno())
    err.close()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = json.dumps(_judge(check, judged, note))
    with os.fdopen(out, "w", encoding="utf-8") as pipe:
        pipe.write(answer)


def _data_bytes() -> int:
    """Return the bytes of this process that RLIMIT_DATA counts.

    Without the GIL, Python's allocator reserves a GiB of addresses.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _ended(ending: _process.Ending, note: _Note, seconds: float, err: BinaryIO) -> str:
    """Return evidence about a process that ended without a verdict."""
    place = f" {note.read()}" if note.read() else ""
    if ending.overdue:
        return f"no answer after {seconds:g} s{place}"
    if os.WIFSIGNALED(ending.status):
        size = err.seek(0, os.SEEK_END)
        err.seek(max(size - _LAST_WORDS_BYTES, 0))
        said = err.read().decode(errors="replace").strip().splitlines()
        last_words = f" ({said[-1]})" if said else ""
        return f"killed by {signal.Signals(os.WTERMSIG(ending.status)).name}{place}{last_words}"
    if ending.answer:
        return f"what its process answered cannot be read: {ending.answer[:60]!r}"
    code = os.waitstatus_to_exitcode(ending.status)
    return f"the process ended with exit code {code}{place}"


def run(
    check: Check, judged: Subject, seconds: float, owner: int, private: Sequence[int]
) -> tuple[Status, str, bool]:
    """Run a check in a process of its own.

    Args:
        check: the check to run.
        judged: the library or module that it judges.
        seconds: time limit.
        owner, private: as for `_process.run`.

    Returns:
        Verdict, evidence, and whether the check was ended by the time limit.
    """
    try:
        note = _Note()
        with tempfile.TemporaryFile() as err:
            life = partial(_life, check, judged, note, err)
            ending = _process.run(life, seconds, owner, private)
            return *_verdict(ending, note, seconds, err), ending.overdue
    except OSError as error:
        return Status.NOT_CHECKED, f"no process can be started here: {_reason(error)}", False


def _verdict(
    ending: _process.Ending, note: _Note, seconds: float, err: BinaryIO
) -> tuple[Status, str]:
    """Return verdict and evidence from a process that has ended."""
    if ending.status == 0:
        with suppress(ValueError, TypeError):  # if `_life` did not write it
            verdict, evidence = json.loads(ending.answer)
            return Status(verdict), evidence
    return Status.FAIL, _ended(ending, note, seconds, err)


def _load(library: Library) -> str:
    found = sum(map(library.offers, CONTRACT))
    require(found > 0, "exports none of the contract's functions")
    library.region(_WORK_BYTES)  # without this memory no clause could be tried
    return f"{found} of the contract's {len(CONTRACT)} functions"


def main() -> None:
    """Run the checks whose ids are the arguments.

    Ends, with all that it started, when the other end of its standard input is closed: this tells
    it that the process that reads its standard output is gone.
    """
    kind, path, limit, *ids = sys.argv[1:]
    owner = os.dup(sys.stdin.fileno())
    protocol = os.dup(sys.stdout.fileno())
    devnull = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdin, sys.stdout):  # the library may print
        os.dup2(devnull, stream.fileno())
    os.close(devnull)
    _process.adopt_orphans()

    def tell(id: str, status: Status, evidence: str, seconds: float) -> None:
        os.write(protocol, f"{json.dumps([id, status, evidence, seconds])}\n".encode())

    try:
        judged = subject(Kind(kind), path)
    except OSError as error:
        tell(LOAD, Status.FAIL, _reason(error), 0.0)
        return
    hangs = 0
    for id in (LOAD, *ids):
        check = _load if id == LOAD else BY_ID[id].check
        if check is None:
            raise ValueError(f"{id} has no check of its own")
        needs = None if id == LOAD else BY_ID[id].needs
        if needs is not None and needs in judged.lacks:
            tell(id, Status.NOT_APPLICABLE, judged.lacks[needs], 0.0)
            continue
        if hangs == HANGS_MAX:
            tell(id, Status.FAIL, f"not run: {HANGS_MAX} checks before it had no answer", 0.0)
            continue
        start = time.perf_counter()
        status, evidence, hung = run(check, judged, float(limit), owner, (protocol,))
        tell(id, status, evidence, time.perf_counter() - start)
        hangs += hung
        if id == LOAD and status is not Status.PASS:
            break


if __name__ == "__main__":
    with suppress(_process.OwnerGoneError, BrokenPipeError):
        main()
