# SPDX-License-Identifier: Apache-2.0
"""Memory that shows what a kernel must not do: unreadable pages beside a buffer, buffers at a
chosen alignment, regions beyond 4 GiB that cost 4 MiB, and a child process that may die of it."""

import ctypes
import faulthandler
import mmap
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAGE = mmap.PAGESIZE
ALIGNMENTS = range(64)  # 64 bytes: a cache line, and the widest vector register of any target

_PROT_NONE = 0
_MAP_FIXED = 0x10  # the same on every Linux architecture that we build for
_MAP_NORESERVE = 0x4000
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.mmap.restype = ctypes.c_void_p
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def address_of(view: memoryview) -> int:
    """Address of the first byte of a writable, not empty view."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def region_at(alignment: int, length: int) -> memoryview:
    """`length` writable zero bytes whose address is `alignment` mod 64."""
    block = memoryview(bytearray(length + 2 * len(ALIGNMENTS)))
    start = (alignment - address_of(block)) % len(ALIGNMENTS)
    return block[start : start + length]


class Guarded:
    """`size` bytes (whole pages of them) with an unreadable page right before and right behind."""

    def __init__(self, size: int) -> None:
        self.size = -(-size // PAGE) * PAGE
        whole = memoryview(mmap.mmap(-1, self.size + 2 * PAGE))
        first = address_of(whole)
        for guard in (first, first + PAGE + self.size):
            if _libc.mprotect(guard, PAGE, _PROT_NONE) != 0:
                raise OSError(ctypes.get_errno(), "mprotect failed")
        self._bytes = whole[PAGE : PAGE + self.size]

    def ending_at_guard(self, length: int) -> memoryview:
        """The last `length` bytes: one byte behind them is unreadable."""
        return self._bytes[self.size - length :]

    def behind_guard(self, length: int) -> memoryview:
        """The first `length` bytes: one byte before them is unreadable."""
        return self._bytes[:length]

    def both(self, length: int) -> Iterator[memoryview]:
        yield self.ending_at_guard(length)
        yield self.behind_guard(length)


@contextmanager
def repeated(chunk: bytes, length: int) -> Iterator[memoryview]:
    """A region of `length` bytes, to be read only, that repeats `chunk` (whole pages); it takes the
    memory of one chunk, however long it is. Linux only."""
    size = len(chunk)
    assert size % PAGE == 0
    file = os.memfd_create("repeated")
    os.write(file, chunk)
    total = -(-length // size) * size
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    base = _libc.mmap(None, total, _PROT_NONE, private, -1, 0)
    if base == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), "mmap failed")
    try:
        for offset in range(0, total, size):
            shared = mmap.MAP_SHARED | _MAP_FIXED
            if _libc.mmap(base + offset, size, mmap.PROT_READ, shared, file, 0) == _MAP_FAILED:
                raise OSError(ctypes.get_errno(), "mmap failed")
        view = memoryview((ctypes.c_ubyte * length).from_address(base)).cast("B")
        yield view
    finally:
        _libc.munmap(base, total)
        os.close(file)


def run_in_child(work: Callable[[], None]) -> None:
    """Runs `work` in a forked process. Raises AssertionError with the child's traceback when it
    raised, or with the signal's name when it died: a touched guard page is SIGSEGV (SIGBUS on
    some systems), which would otherwise end the whole test run."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            faulthandler.enable(writer, all_threads=False)
            work()
            code = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        report = stream.read().decode(errors="replace")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        raise AssertionError(f"killed by {signal.Signals(-code).name}\n{report}")
    if code:
        raise AssertionError(report)
