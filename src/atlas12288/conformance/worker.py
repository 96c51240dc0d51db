# SPDX-License-Identifier: Apache-2.0
"""The process that runs checks: `python -m atlas12288.conformance.worker KIND PATH SECONDS ID...`.

Each check runs in a fork of its own, which loads what is judged anew: whatever one check did to the
heap, no other one sees, and a crash or a hang ends that check alone. Standard output gets a line of
JSON for each, the first one for loading the library.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from .clauses import BY_ID
from .library import CONTRACT, Library, Need, Note
from .native import NativeLibrary
from .outcome import LOAD, BrokenClauseError, Kind, NotOfferedError, Status, require

MEMORY_BYTES: Final = 2**30  # more than ten times what any check needs
HANGS_MAX: Final = 3  # then the rest is not run

_WORK_BYTES: Final = 4 * 2**20  # more than any clause needs but those of sums beyond 32 bits
_WASM_MAGIC: Final = b"\0asm"

Check = Callable[[Library], str]


@dataclass(frozen=True)
class Subject:
    """What is judged.

    Args:
        load: loads it anew; raises OSError.
        lacks: what it cannot have, with the reason: clauses that need it are not applicable.
    """

    load: Callable[[Note], Library]
    lacks: Mapping[Need, str] = field(default_factory=dict)


def subject(kind: Kind, path: str) -> Subject:
    """A file as a subject.

    Raises:
        OSError: it cannot be one.
    """
    if kind is Kind.LIBRARY:
        return Subject(partial(NativeLibrary, path))
    code = Path(path).read_bytes()
    if not code.startswith(_WASM_MAGIC):
        raise OSError("is not a WebAssembly module")
    try:
        from .wasm import LACKS, Compiled
    except ImportError as error:
        if error.name != "wasmtime":
            raise
        raise OSError(
            "WebAssembly modules need wasmtime: pip install 'atlas12288[wasm]'"
        ) from error
    return Subject(Compiled(code).open, LACKS)


class _Note:
    """What a check is doing, in memory that its parent sees after a crash."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 512)

    def write(self, text: str) -> None:
        line = text.encode(errors="replace")[:511]
        self._shared[: len(line) + 1] = line + b"\0"

    def read(self) -> str:
        return self._shared[:].split(b"\0")[0].decode(errors="replace")


def _judge(check: Check, judged: Subject, note: _Note) -> tuple[Status, str]:
    """Runs a check in this process."""
    try:
        return Status.PASS, check(judged.load(note.write))
    except BrokenClauseError as evidence:
        return Status.FAIL, str(evidence)
    except NotOfferedError as reason:
        return Status.NOT_OFFERED, str(reason)
    except OSError as error:
        return Status.FAIL, _reason(error)
    except MemoryError:
        return Status.FAIL, f"needs more than {MEMORY_BYTES >> 20} MiB of memory"
    except Exception:  # a mistake in the kit must not pass as a verdict without its cause
        return Status.FAIL, f"the kit itself failed: {traceback.format_exc()}"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _child(
    check: Check, judged: Subject, note: _Note, seconds: float, out: int, err: BinaryIO
) -> None:
    """The life of a fork. The default action of SIGALRM ends it wherever it hangs."""
    os.dup2(err.fileno(), sys.stderr.fileno())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = _data_bytes() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    with os.fdopen(out, "w", encoding="utf-8") as pipe:
        json.dump(_judge(check, judged, note), pipe)


def _data_bytes() -> int:
    """What this process has of the memory that RLIMIT_DATA counts. Without the GIL, Python's
    allocator keeps a GiB of addresses."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _ended(status: int, note: _Note, seconds: float, err: BinaryIO) -> str:
    """Evidence of a fork that ended without a verdict."""
    place = f" in {note.read()}" if note.read() else ""
    err.seek(0)
    said = err.read().decode(errors="replace").strip().splitlines()
    last_words = f" ({said[-1]})" if said else ""
    if not os.WIFSIGNALED(status):
        return f"the process ended with exit code {os.waitstatus_to_exitcode(status)}{place}"
    number = os.WTERMSIG(status)
    if number == signal.SIGALRM:
        return f"no answer after {seconds:g} s{place}"
    return f"killed by {signal.Signals(number).name}{place}{last_words}"


def run(check: Check, judged: Subject, seconds: float) -> tuple[Status, str, bool]:
    """Runs a check in a fork.

    Args:
        check: what to run.
        judged: what it judges.
        seconds: its time limit.

    Returns:
        Verdict, evidence, and whether the check was ended by the time limit.
    """
    note = _Note()
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as err, os.fdopen(reader, "rb") as pipe:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(reader)
                _child(check, judged, note, seconds, writer, err)
                code = 0
            finally:
                os._exit(code)  # nothing of the parent's is flushed, no destructor runs
        os.close(writer)
        answer = pipe.read()
        _, status = os.waitpid(child, 0)
        try:
            verdict, evidence = json.loads(answer)
            return Status(verdict), evidence, False
        except ValueError:  # nothing, or a part
            hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
            return Status.FAIL, _ended(status, note, seconds, err), hung


def _load(library: Library) -> str:
    found = sum(map(library.offers, CONTRACT))
    require(found > 0, "exports none of the contract's functions")
    library.region(_WORK_BYTES)  # where there is none, no clause could be tried
    return f"{found} of the contract's {len(CONTRACT)} functions"


def main() -> None:
    """Runs the checks whose ids are the arguments."""
    kind, path, limit, *ids = sys.argv[1:]
    protocol = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())  # the library may print

    def tell(id: str, status: Status, evidence: str, seconds: float) -> None:
        print(json.dumps([id, status, evidence, seconds]), file=protocol, flush=True)

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
        status, evidence, hung = run(check, judged, float(limit))
        tell(id, status, evidence, time.perf_counter() - start)
        hangs += hung
        if id == LOAD and status is not Status.PASS:
            break


if __name__ == "__main__":
    main()
