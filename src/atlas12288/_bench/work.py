# SPDX-License-Identifier: Apache-2.0
"""What can be timed: operations of C, statements of Python, the memory of a command."""

import importlib
import mmap
import random
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from .._native import WINDOW_BYTES, fixup, time_operation

MIB_BYTES: Final = 2**20
LARGE_BYTES: Final = 256 * MIB_BYTES  # far more than the caches hold


class BenchError(Exception):
    """Something could not be measured; `str()` is the reason."""


Work = Callable[[int], float]  # repeats -> nanoseconds of all of them; bytes for `PeakMemory`


@dataclass(frozen=True)
class Arena:
    """Two page-aligned buffers of one size; the source is conserved."""

    dst: memoryview
    src: memoryview

    @property
    def size(self) -> int:
        return len(self.src)


class Memory:
    """The memory of all arenas, touched beforehand, so that no page fault is timed.

    Args:
        most: bytes of the largest arena.
    """

    def __init__(self, most: int) -> None:
        # One extra window between the buffers: addresses that differ by a power of two can look
        # alike to a CPU's cache, and the buffers of a real program seldom do.
        self._src = -(-most // mmap.PAGESIZE) * mmap.PAGESIZE + WINDOW_BYTES
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        try:
            self._bytes = memoryview(mmap.mmap(-1, self._src + most, flags))
        except OSError as error:
            raise MemoryError(error.strerror) from error
        pattern = random.Random(WINDOW_BYTES).randbytes(WINDOW_BYTES)  # the same in every run
        for start in range(0, len(self._bytes), WINDOW_BYTES):
            part = pattern[: len(self._bytes) - start]
            self._bytes[start : start + len(part)] = part

    def arena(self, size: int) -> Arena:
        """Return the arena of a size up to `most`; all arenas share the same memory."""
        arena = Arena(self._bytes[:size], self._bytes[self._src : self._src + size])
        fixup(arena.src)
        return arena


class Timed(Protocol):
    """Something that can be measured on an arena."""

    def missing(self) -> str | None:
        """Return why the work cannot run here; None if it can."""

    def on(self, arena: Arena) -> Work:
        """Return the work on an arena; everything that it needs is made before the clock starts."""


@dataclass(frozen=True)
class InC:
    """An operation of `timing.c` of the binding."""

    operation: str

    def missing(self) -> None:
        return None

    def on(self, arena: Arena) -> Work:
        return partial(time_operation, self.operation, arena.dst, arena.src)


@dataclass(frozen=True)
class InPython:
    """A Python statement on `buf`, the source.

    Args:
        statement: what is timed.
        names: what else the statement may use, made for an arena before the clock starts.
        module: the module that it imports; "" if only the standard library is needed.
    """

    statement: str
    names: Callable[[Arena], dict[str, Any]]
    module: str = ""

    def missing(self) -> str | None:
        try:
            if self.module:
                importlib.import_module(self.module)
        except ImportError:
            return f"{self.module} is not installed"
        return None

    def on(self, arena: Arena) -> Work:
        module = {"module": importlib.import_module(self.module)} if self.module else {}
        timer = timeit.Timer(
            self.statement, globals={"buf": arena.src} | module | self.names(arena)
        )
        return lambda repeats: timer.timeit(repeats) * 1e9


def run_for_peak(program: str, *arguments: str) -> tuple[str, int]:
    """Return what a Python program printed, and its peak memory in bytes.

    Args:
        program: its text; `sys` is imported.
        arguments: `sys.argv[1:]`.

    Raises:
        BenchError: it failed.
    """
    # VmHWM, not getrusage, because getrusage also counts the parent as it was before exec.
    report = (
        "import re\n"
        "found = re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())\n"
        "print(found[1], file=sys.stderr)"
    )
    done = subprocess.run(
        (sys.executable, "-c", f"import sys\n{program}\n{report}", *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout, int(done.stderr) * 1024


@dataclass(frozen=True)
class PeakMemory:
    """The peak memory of a command, less the peak of an interpreter that does nothing.

    Args:
        arguments: the command; the name of a sparse file of `LARGE_BYTES` follows.
    """

    arguments: tuple[str, ...]

    def missing(self) -> str | None:
        return None if Path("/proc/self/status").exists() else "there is no /proc/self/status"

    def on(self, arena: Arena) -> Work:
        return lambda repeats: float(sum(self._peak() for _ in range(repeats)))

    def _peak(self) -> int:
        with tempfile.NamedTemporaryFile(prefix="atlas12288-") as file:
            file.truncate(LARGE_BYTES)
            program = "from atlas12288._cli import main\nif main(sys.argv[1:]): sys.exit(1)"
            return run_for_peak(program, *self.arguments, file.name)[1] - run_for_peak("")[1]
